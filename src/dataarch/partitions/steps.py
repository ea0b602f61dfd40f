"""The words in which partitions are planned: what there is of a table, and the steps that change it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import date, datetime
from typing import Any

from dataarch.errors import DataArchError
from dataarch.partitions.catalog import Partition
from dataarch.partitions.layout import Range

__all__ = ["Attach", "CleanUp", "Detached", "Piece", "Plan", "Replace", "Retire", "Step", "Stray", "Survey"]


@dataclass(frozen=True, slots=True)
class Stray:
    """Rows that lie in a catch-all or in a DEFAULT partition, and belong to a period."""

    partition: str
    first_day: date
    rows: int


@dataclass(frozen=True, slots=True)
class Detached:
    """A table that was a partition and whose retirement was begun."""

    name: str
    mark: dict[str, Any]


@dataclass(frozen=True, slots=True)
class Survey:
    """What there is of one partitioned table, at one moment.

    Attributes:
        table: the parent, without its schema.
        now: the server's clock.
        partitions: all of them, in any order.
        strays: rows that lie outside a period of their own.
        rows: how many rows each catch-all and a DEFAULT partition hold.
        lively: names of partitions that hold a row.
        detached: retirements that were begun.
        leftovers: tables of a replacement that was begun and not finished.
        kept: names of tables that were partitions, and were kept.
    """

    table: str
    now: datetime
    partitions: tuple[Partition, ...] = ()
    strays: tuple[Stray, ...] = ()
    rows: Mapping[str, int] = field(default_factory=dict)
    lively: frozenset[str] = frozenset()
    detached: tuple[Detached, ...] = ()
    leftovers: tuple[str, ...] = ()
    kept: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True)
class Piece:
    """A partition to be made; ``mark`` is noted about it once it is there."""

    name: str
    range: Range
    rows: int = 0
    mark: Mapping[str, str] | None = field(default=None, hash=False)


@dataclass(frozen=True, slots=True)
class CleanUp:
    """Remove what a replacement left behind that was killed; the rows are still where they were."""

    tables: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Attach:
    """Make partitions where there is none: readers and writers of the table go on."""

    pieces: tuple[Piece, ...]


@dataclass(frozen=True, slots=True)
class Replace:
    """Put partitions in the place of catch-alls, rows included, in one moment under a bounded exclusive lock."""

    sources: tuple[str, ...]
    pieces: tuple[Piece, ...]
    rows: int


@dataclass(frozen=True, slots=True)
class Retire:
    """Detach a partition concurrently, archive it, and drop or keep it, as the policy says."""

    partition: str
    range: Range
    archive: bool
    drop: bool
    begun: bool = False


Step = CleanUp | Attach | Replace | Retire


@dataclass(frozen=True, slots=True)
class Plan:
    """Steps in the order in which they are done, and what stands in the way of others."""

    steps: tuple[Step, ...]
    problems: tuple[DataArchError, ...] = ()
