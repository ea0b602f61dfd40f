"""Rows that take the place of all that is there of a slice: a day, a region, what another system owns."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, cast
from uuid import UUID

from sqlalchemy import CursorResult, delete

from dataarch.database.unit_of_work import TenantSession
from dataarch.models import Base
from dataarch.pipelines.loaders.append import append
from dataarch.pipelines.pipeline import Loaded
from dataarch.pipelines.records import Row
from dataarch.repositories.bulk.prepared import Prepared, prepare

__all__ = ["Replace"]


@dataclass(frozen=True)
class Replace:
    """Replaces a slice of a tenant's rows by those of a source, in one transaction: nobody sees it half done.

    Attributes:
        model: what the rows are.
        slice: the values that all rows of the slice have, by attribute; empty is all rows of the tenant. Rows get them.

    A source that has changed is read from its beginning. Of several sources of one run the last one stays.
    """

    model: type[Base]
    slice: Mapping[str, Any]
    whole: ClassVar[bool] = True

    def begin(self, session: TenantSession) -> int:
        """Remove what is there of the slice; return how many rows that were."""
        of_slice = [getattr(self.model, name) == value for name, value in self.slice.items()]
        gone = cast("CursorResult[Any]", session.execute(delete(self.model).where(*of_slice)))
        return gone.rowcount

    def prepare(self, rows: Sequence[Row], tenant_id: UUID) -> Sequence[Row]:
        """Give rows the values of the slice, and encode them."""
        return prepare(self.model, self._of_slice(rows), tenant_id=tenant_id)

    def load(self, session: TenantSession, rows: Sequence[Row]) -> Loaded:
        """Add rows to the slice."""
        return append(session, self.model, rows if isinstance(rows, Prepared) else self._of_slice(rows))

    def _of_slice(self, rows: Sequence[Row]) -> Sequence[Row]:
        return [{**row, **self.slice} for row in rows]
