"""A tenant's way: COPY into a stage, then INSERT with the policies in force, while the next rows are encoded."""

from __future__ import annotations

from collections.abc import Iterator

from dataarch.clock import Month
from dataarch.errors import ConstraintError
from dataarch.repositories.bulk.batches import Batch, Plan
from dataarch.repositories.bulk.outcome import BulkResult

__all__ = ["write_staged"]

SAVEPOINT = "dataarch_insert"


def write_staged(plan: Plan, batches: Iterator[Batch]) -> BulkResult:
    """Write batches, each by one COPY and one INSERT."""
    result = BulkResult(0)
    batch = next(batches, None)
    ready = None if batch is None else _encoded(plan, batch)
    while batch is not None and ready is not None:
        data, missing = ready
        # the stage is made after the model of the log, which then is locked
        plan.months.make(missing)
        plan.stage.fill(data)
        # read before the statement runs: whoever gives the rows may need the connection himself
        following = next(batches, None)
        written, ready = _written(plan, batch, following)
        result += written
        batch = following
    return result


def _encoded(plan: Plan, batch: Batch) -> tuple[list[bytes], set[Month]]:
    missing: set[Month] = set()
    data = []
    for piece in batch.encoded(plan.numbered):
        missing |= plan.months.missing(plan.instants(piece))
        data.append(piece.data)
    return data, missing


Ready = tuple[list[bytes], set[Month]]


def _written(plan: Plan, batch: Batch, following: Batch | None) -> tuple[BulkResult, Ready | None]:
    """Write the batch that is on the stage, and encode the next one meanwhile."""
    if batch.by_id:
        return plan.sift(batch), None if following is None else _encoded(plan, following)
    ready = None
    try:
        with plan.wire.savepoint(SAVEPOINT), plan.wire.meanwhile(plan.stage.insert) as inserted:
            ready = None if following is None else _encoded(plan, following)
            return batch.result(inserted()), ready
    except ConstraintError:
        return plan.sift(batch), ready
