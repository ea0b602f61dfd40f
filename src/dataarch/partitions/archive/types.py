"""What an archive is of, and what it holds."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from dataarch.clock import aware

__all__ = ["FORMAT", "Archive", "ArchiveOf", "ArchivedColumn"]

FORMAT = 1
"""The version of the format; a file of another version is refused."""


@dataclass(frozen=True, slots=True)
class ArchiveOf:
    """Which partition an archive is of.

    Attributes:
        parent: name of the partitioned table.
        partition: name that the partition had.
        lower: its first instant; None where the partition had no lower bound.
        upper: the first instant after it; None where the partition had no upper bound.

    Raises:
        NaiveDatetime: a bound has no zone.
    """

    parent: str
    partition: str
    lower: datetime | None = None
    upper: datetime | None = None

    def __post_init__(self) -> None:
        for name in ("lower", "upper"):
            bound = getattr(self, name)
            if bound is not None:
                object.__setattr__(self, name, aware(bound))


@dataclass(frozen=True, slots=True)
class ArchivedColumn:
    """One column of an archive.

    Attributes:
        name: as the table has it.
        type: its type in PostgreSQL, as ``format_type`` writes it, for example ``numeric(12,2)``.
        stored: what it is in the file: ``bool``, ``int64``, ``timestamptz``, ``decimal(12,2)``, ``uuid``, ``bytes``, …;
            ``text`` where it is PostgreSQL's own text form.
        because: why the column is text although its type has a form of its own, for example a date of infinity;
            empty otherwise.
    """

    name: str
    type: str
    stored: str
    because: str = ""


@dataclass(frozen=True, slots=True)
class Archive:
    """A file, and what it says of itself.

    Attributes:
        path: where it lies.
        of: the partition that it was.
        rows: how many it holds.
        checksum: over all rows and archived columns, in any order; the same for the table.
        size_bytes: of the file.
        columns: in the table's order; generated columns are not archived.
        primary_key: names of its columns, in order; empty where there was none.
        archived_at: when it was written.
        dataarch_version: of the library that wrote it.
    """

    path: Path
    of: ArchiveOf
    rows: int
    checksum: str
    size_bytes: int
    columns: tuple[ArchivedColumn, ...]
    primary_key: tuple[str, ...]
    archived_at: datetime
    dataarch_version: str
