"""What became of a run: every record that was read is loaded, updated, unchanged or rejected."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import NamedTuple
from uuid import UUID

from dataarch.errors import FeedError, InvalidValue
from dataarch.pipelines.records import Position, Reject, Source

__all__ = ["Counts", "Outcome", "Progress", "ReadFrom", "SourceFailed"]

MOST_REASONS = 1_000
"""Reasons that are told apart: one that names its line is as frequent as bad lines are."""

OTHER = "Other reasons."


@dataclass(frozen=True, slots=True)
class Counts:
    """What became of records.

    Attributes:
        read: how many were read.
        loaded: became new rows.
        updated: gave rows that were there new values.
        unchanged: changed nothing: the row was there with these values, or a later record has the same key.
        rejected: were not loaded; each is kept with its reason.
        removed: rows that were taken away to make room; none of the records.

    Raises:
        InvalidValue: the numbers do not add up, so a record would be unaccounted for.
    """

    read: int = 0
    loaded: int = 0
    updated: int = 0
    unchanged: int = 0
    rejected: int = 0
    removed: int = 0

    def __post_init__(self) -> None:
        if self.read != self.loaded + self.updated + self.unchanged + self.rejected:
            raise InvalidValue(f"Records are unaccounted for: {self}.")

    def __add__(self, other: Counts) -> Counts:
        """Return both together."""
        return Counts(
            self.read + other.read,
            self.loaded + other.loaded,
            self.updated + other.updated,
            self.unchanged + other.unchanged,
            self.rejected + other.rejected,
            self.removed + other.removed,
        )


class SourceFailed(NamedTuple):
    """A source that could not be read to its end; what was read before is loaded, and the next run goes on there."""

    source: str
    error: FeedError


class Progress(NamedTuple):
    """How far a run is: the source it is at, and what became of all records so far.

    ``first`` is the first of the sources that were committed together last; often it is the only one.
    """

    source: str
    bytes: int
    counts: Counts
    first: str


@dataclass(slots=True)
class ReadFrom:
    """How much was read from a source, and committed."""

    source: Source
    records: int = 0
    bytes: int = 0


@dataclass
class Outcome:
    """What became of a run.

    Attributes:
        run_id: the run's id, the same for all tenants.
        counts: over all of its sources and tenants.
        sources: how many sources had something new.
        seconds: how long it took.
        reasons: rejects by stage, field and reason with its hint; what comes after a thousand of them counts as others.
        failed: sources that could not be read to their end.
        inputs: how much was read from each source, by its name.
        outputs: how many rows were written, by the names of their tables.
    """

    run_id: UUID
    counts: Counts = field(default_factory=Counts)
    sources: int = 0
    seconds: float = 0.0
    reasons: Counter[tuple[str, str, str]] = field(default_factory=Counter)
    failed: list[SourceFailed] = field(default_factory=list)
    inputs: dict[str, ReadFrom] = field(default_factory=dict)
    outputs: Counter[str] = field(default_factory=Counter)

    @property
    def failure(self) -> str | None:
        """What is wrong with the run, as a sentence; None where all was read."""
        return f"{len(self.failed)} of its sources failed: {self.failed[0].error}" if self.failed else None

    def moved(self, source: Source, before: Position, after: Position) -> None:
        """Count how much of a source was read and committed."""
        read = self.inputs.setdefault(source.name, ReadFrom(source))
        read.records += after.records - before.records
        read.bytes += after.bytes - before.bytes

    def add(self, counts: Counts, rejects: Iterable[Reject], written: Mapping[str, int]) -> None:
        """Count what was committed."""
        self.counts += counts
        self.outputs.update(written)
        for reason, count in Counter((one.stage, one.field, one.told) for one in rejects).items():
            known = reason in self.reasons or len(self.reasons) < MOST_REASONS
            self.reasons[reason if known else (reason[0], "", OTHER)] += count
