"""Rows that are added, or brought up to date where they are there: twice the same key is one row, the newer one."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar
from uuid import UUID

from dataarch.database.unit_of_work import TenantSession
from dataarch.models import Base
from dataarch.pipelines.pipeline import Loaded, Written
from dataarch.pipelines.records import Row
from dataarch.repositories.bulk.outcome import WrittenIds
from dataarch.repositories.bulk.prepared import prepare
from dataarch.repositories.bulk.upsert import upsert_many

__all__ = ["Upsert"]


@dataclass(frozen=True)
class Upsert:
    """Upserts rows of a model.

    Attributes:
        model: what the rows are.
        key: the attributes that say which row is meant, beside the tenant; a unique constraint has just these.

    What only the server can judge is judged for all rows at once, and by halves where that is not enough: a bad row
    costs the good ones nothing (:func:`dataarch.repositories.bulk.upsert.upsert_many`).
    """

    model: type[Base]
    key: str | tuple[str, ...]
    whole: ClassVar[bool] = False

    def begin(self, session: TenantSession) -> int:  # noqa: ARG002
        """Do nothing."""
        return 0

    def prepare(self, rows: Sequence[Row], tenant_id: UUID) -> Sequence[Row]:
        """Encode rows."""
        return prepare(self.model, rows, key=self.key, tenant_id=tenant_id)

    def load(self, session: TenantSession, rows: Sequence[Row]) -> Loaded:
        """Write rows; of those with the same key the later one counts."""
        written = WrittenIds()
        result = upsert_many(session, self.model, rows, key=self.key, written=written)
        return Loaded(result, (Written(self.model.__tablename__, written),))
