"""The owner's way: COPY into the table itself, and through the stage only what the server refuses."""

from __future__ import annotations

from collections.abc import Iterator

from dataarch.clock import Month
from dataarch.errors import ConstraintError
from dataarch.models.declared import qualified
from dataarch.repositories.bulk.batches import Batch, Plan
from dataarch.repositories.bulk.outcome import BulkResult
from dataarch.repositories.bulk.stage import framed

__all__ = ["copy_directly"]

SAVEPOINT = "dataarch_copy"


class _NotYet(Exception):  # no error: it ends a COPY
    """Rows need months that are not there, or an answer that COPY does not give."""

    def __init__(self, months: set[Month]) -> None:
        self.months = months


def copy_directly(plan: Plan, batches: Iterator[Batch]) -> BulkResult:
    """Write batches, each by one COPY whose rows are encoded while the server takes those before."""
    result = BulkResult(0)
    for batch in batches:
        result += _written(plan, batch)
    return result


def _written(plan: Plan, batch: Batch) -> BulkResult:
    table = plan.encoder.table
    columns = ", ".join(qualified(column.name) for column in plan.encoder.columns)
    target = qualified(table.name, table.schema or "public")
    try:
        with plan.wire.savepoint(SAVEPOINT):
            plan.wire.copy(f"COPY {target} ({columns}) FROM STDIN (FORMAT binary)", framed(_pieces(plan, batch)))
    except _NotYet as found:
        # the savepoint gave back the lock that would be in their way
        plan.months.make(found.months)
        return _through_stage(plan, batch) if batch.by_id else _written(plan, batch)
    except ConstraintError:
        return _through_stage(plan, batch)
    return batch.result(batch.good)


def _pieces(plan: Plan, batch: Batch) -> Iterator[bytes]:
    for piece in batch.encoded(plan.encoder):
        missing = plan.months.missing(plan.instants(piece))
        if missing or batch.by_id:
            raise _NotYet(missing)
        yield piece.data


def _through_stage(plan: Plan, batch: Batch) -> BulkResult:
    missing: set[Month] = set()

    def pieces() -> Iterator[bytes]:
        for piece in batch.encoded(plan.numbered):
            missing.update(plan.months.missing(plan.instants(piece)))
            yield piece.data

    plan.stage.fill(pieces())
    plan.months.make(missing)
    return plan.sift(batch)
