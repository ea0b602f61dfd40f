"""Rows that are only added; the months of the activity log are made before they are needed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar
from uuid import UUID

from dataarch.database.unit_of_work import TenantSession
from dataarch.models import Base
from dataarch.pipelines.pipeline import Loaded, Written
from dataarch.pipelines.records import Row
from dataarch.repositories.bulk.months import Months
from dataarch.repositories.bulk.outcome import WrittenIds
from dataarch.repositories.bulk.prepared import prepare
from dataarch.repositories.bulk.upsert import insert_many
from dataarch.repositories.bulk.wire import Wire

__all__ = ["Append", "append"]


@dataclass(frozen=True)
class Append:
    """Adds rows of a model; one whose id, or another unique value, is taken is rejected with that constraint."""

    model: type[Base]
    whole: ClassVar[bool] = False

    def begin(self, session: TenantSession) -> int:  # noqa: ARG002
        """Do nothing."""
        return 0

    def prepare(self, rows: Sequence[Row], tenant_id: UUID) -> Sequence[Row]:
        """Encode rows."""
        return prepare(self.model, rows, tenant_id=tenant_id)

    def load(self, session: TenantSession, rows: Sequence[Row]) -> Loaded:
        """Write rows; of those that want the same value the earlier one has it."""
        return append(session, self.model, rows)


def append(session: TenantSession, model: type[Base], rows: Sequence[Row]) -> Loaded:
    """Add rows of a model within a unit of work of their tenant."""
    table = Base.metadata.tables[model.__tablename__]
    Months(Wire(session), table, session.unit.origin).foresee(rows)
    written = WrittenIds()
    result = insert_many(session, model, rows, written=written)
    return Loaded(result, (Written(model.__tablename__, written),))
