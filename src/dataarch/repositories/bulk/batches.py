"""What both ways of writing share: a batch of rows, what it is written with, and the way for one that clashes."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from dataarch.repositories.bulk.encoding import Encoded, Encoder
from dataarch.repositories.bulk.months import Months
from dataarch.repositories.bulk.outcome import BulkResult, Refused
from dataarch.repositories.bulk.stage import Errors, Stage
from dataarch.repositories.bulk.wire import Wire

__all__ = ["Batch", "Plan"]

PIECE = 500
"""Rows that are encoded together: few enough to stay in the processor's cache."""


@dataclass
class Batch:
    """Some rows, and what is known of them so far.

    Attributes:
        start: the position of the first one.
        rows: as they were given.
        refused: those that a type refuses.
        good: how many others there are.
        by_id: whether one has an id and no instant of its own, so that only its id tells whether it is there already.
    """

    start: int
    rows: Sequence[Any]
    refused: list[Refused] = field(default_factory=list)
    good: int = 0
    by_id: bool = False

    def encoded(self, encoder: Encoder) -> Iterator[Encoded]:
        """Give the rows as bytes, piece by piece, and note what is found out about them."""
        self.refused, self.good, self.by_id = [], 0, False
        for at in range(0, len(self.rows), PIECE):
            piece = encoder.encode(self.rows[at : at + PIECE], self.start + at)
            self.refused.extend(piece.refused)
            self.good += piece.rows
            named = len(piece.refused) + piece.rows - piece.defaulted.get("id", 0)
            self.by_id |= bool(piece.defaulted.get("created_at")) and named > 0
            yield piece

    def result(self, inserted: int, errors: Errors | None = None) -> BulkResult:
        """Return what became of the rows, once so many were inserted; the errors are by position."""
        found = [Refused(at, self.rows[at - self.start], error) for at, error in (errors or {}).items()]
        refused = sorted([*self.refused, *found], key=lambda one: one.position)
        duplicate = self.good - inserted - len(found)
        return BulkResult(len(self.rows), inserted, duplicate=duplicate, refused=tuple(refused))


@dataclass
class Plan:
    """What batches are written with.

    Attributes:
        wire: the connection.
        months: those that are known to be there.
        encoder: of rows as the table has them.
        numbered: of rows as the stage has them.
    """

    wire: Wire
    months: Months
    encoder: Encoder
    numbered: Encoder

    @cached_property
    def stage(self) -> Stage:
        """The stage, made when it is first needed."""
        return Stage(self.wire, self.encoder.table, self.numbered)

    def instants(self, piece: Encoded) -> Sequence[int]:
        """Return the instants that decide in which months the rows of a piece lie."""
        return piece.instants.get(self.months.column or "", ())

    def sift(self, batch: Batch) -> BulkResult:
        """Write the good rows of the batch that is on the stage, and say what is wrong with the others."""
        if batch.by_id:
            columns = self.encoder.table.primary_key.columns
            self.stage.drop_known([column for column in columns if column.name != "created_at"])
        return batch.result(*self.stage.sift())
