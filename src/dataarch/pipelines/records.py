"""What travels through a pipeline: records of a source, how far it was read, and what was rejected on the way.

A record is a dict by the names of fields, as the source has them; steps give new ones, and never change one in place:
what is rejected is kept as it was extracted.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from enum import StrEnum
from hashlib import sha256
from typing import Any, NamedTuple

from dataarch.errors import DataArchError, InvalidValue

__all__ = ["Batch", "Position", "Reject", "Row", "Source", "Stage", "accounted", "each", "rejected", "without"]

Row = Mapping[str, Any]

NOTHING_READ = sha256(b"").hexdigest()


class Stage(StrEnum):
    """Where in a pipeline something happened."""

    EXTRACT = "extract"
    VALIDATE = "validate"
    TRANSFORM = "transform"
    LOAD = "load"


class Source(NamedTuple):
    """One thing that is read from its beginning to its end: a file, or the result of a query.

    ``name`` is what it is known by from run to run, 1 to 1000 characters that can be printed; ``place`` is where the
    extractor finds it.
    """

    name: str
    place: Any


@dataclass(frozen=True, slots=True)
class Position:
    """How far a source was read.

    Attributes:
        records: records read, rejected ones included.
        bytes: bytes read, of what a compressed file holds; 0 where a source has none.
        checksum: SHA-256 of these bytes, in hexadecimal.
        state: what else its extractor needs to go on from there; JSON.
        end: whether its end was reached.
    """

    records: int = 0
    bytes: int = 0
    checksum: str = NOTHING_READ
    state: Mapping[str, Any] = field(default_factory=dict)
    end: bool = False


@dataclass(frozen=True, slots=True)
class Reject:
    """A record that goes no further.

    Attributes:
        number: which record of its source it is, from 1.
        stage: where it was rejected.
        reason: what is wrong with it, as a sentence.
        record: as it was extracted; text, where no record could be made of it.
        field: the field it is about; empty where it is about none, or all.
        constraint: the constraint of the database that refused it; empty where none did.
        hint: what to do about it; may be empty.
    """

    number: int
    stage: Stage
    reason: str
    record: Row | str
    field: str = ""
    constraint: str = ""
    hint: str = ""

    @property
    def told(self) -> str:
        """What is wrong and what to do about it, as it is stored and counted."""
        return f"{self.reason} {self.hint}".strip()


@dataclass(frozen=True, slots=True)
class Batch:
    """Some records of one source, that were read together.

    Attributes:
        source: where they come from.
        before: how far the source was read when they were not.
        after: how far it is read with them.
        rows: the records that are still on their way.
        numbers: which record of the source each of them is, from 1.
        originals: each as it was extracted.
        rejects: those that go no further.
    """

    source: Source
    before: Position
    after: Position
    rows: list[Row]
    numbers: list[int]
    originals: list[Row]
    rejects: list[Reject] = field(default_factory=list)

    @property
    def read(self) -> int:
        """How many records were read."""
        return self.after.records - self.before.records

    def part(self, places: Sequence[int]) -> Batch:
        """Return some of the records that are still on their way, without rejects."""
        return replace(
            self,
            rows=[self.rows[at] for at in places],
            numbers=[self.numbers[at] for at in places],
            originals=[self.originals[at] for at in places],
            rejects=[],
        )


def accounted(batch: Batch) -> Batch:
    """Return a batch of all records that were read; raises :class:`InvalidValue` where one is missing or too much."""
    told = len(batch.rows) + len(batch.rejects)
    if batch.read != told or not len(batch.rows) == len(batch.numbers) == len(batch.originals):
        raise InvalidValue(
            f"Records of {batch.source.name} are unaccounted for: {batch.read} were read, {len(batch.rows)} go on and"
            f" {len(batch.rejects)} are rejected.",
            hint="A step gives a record for each that it takes, or rejects it.",
        )
    return batch


def each(batch: Batch, stage: Stage, step: Callable[[Row], Row]) -> Batch:
    """Return a batch with what a function makes of each record.

    A record for which it raises :class:`InvalidValue` is rejected, with the error's ``column`` as the field; whatever
    else it raises is a mistake in the function, and stops the run.
    """
    rows: list[Row] = []
    wrong: dict[int, InvalidValue] = {}
    for at, row in enumerate(batch.rows):
        try:
            rows.append(step(row))
        except InvalidValue as error:
            # its frames would be kept with all that they hold
            wrong[at] = error.with_traceback(None)
    return without(batch, rows, wrong, stage)


def without(batch: Batch, rows: list[Row], wrong: Mapping[int, DataArchError], stage: Stage) -> Batch:
    """Return a batch with these rows in place of those that were not wrong; ``wrong`` says why, by place."""
    if not wrong:
        return replace(batch, rows=rows)
    rejects = [rejected(batch, at, stage, error) for at, error in wrong.items()]
    kept = [at for at in range(len(batch.rows)) if at not in wrong]
    return replace(
        batch,
        rows=rows,
        numbers=[batch.numbers[at] for at in kept],
        originals=[batch.originals[at] for at in kept],
        rejects=[*batch.rejects, *rejects],
    )


def rejected(batch: Batch, at: int, stage: Stage, error: DataArchError) -> Reject:
    """Return the reject that an error makes of a batch's record at this place."""
    return Reject(
        number=batch.numbers[at],
        stage=stage,
        reason=error.message,
        record=batch.originals[at],
        field=error.column or "",
        constraint=error.constraint or "",
        hint=error.hint,
    )
