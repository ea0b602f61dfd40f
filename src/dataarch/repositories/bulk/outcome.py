"""What became of each of many rows."""

from __future__ import annotations

import sys
from array import array
from bisect import bisect_left
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from operator import le
from uuid import UUID

from dataarch.errors import DataArchError, InvalidValue

__all__ = ["BulkResult", "Refused", "WrittenIds"]


@dataclass(frozen=True, slots=True)
class Refused:
    """A row that was not written.

    Attributes:
        position: which of the rows that were given, counted from 0.
        row: the row as it was given.
        error: why, as the error that a single row would have raised.
    """

    position: int
    row: object
    error: DataArchError

    @property
    def column(self) -> str | None:
        """The column it is about, if it is about one."""
        return self.error.column

    @property
    def constraint(self) -> str | None:
        """The constraint that refused it, if one did."""
        return self.error.constraint

    @property
    def reason(self) -> str:
        """What happened, and why it is refused."""
        return self.error.message


@dataclass(frozen=True, slots=True)
class BulkResult:
    """What became of all rows.

    Attributes:
        read: rows that were given.
        inserted: rows that were not there before.
        updated: rows that were there and have new values.
        unchanged: rows that were there with the same values.
        duplicate: rows that were there already and may not change, or came again with the same key.
        refused: each row that was not written, in the order they were given.

    Raises:
        InvalidValue: the numbers do not add up, so a row would be unaccounted for.
    """

    read: int
    inserted: int = 0
    updated: int = 0
    unchanged: int = 0
    duplicate: int = 0
    refused: tuple[Refused, ...] = ()

    def __post_init__(self) -> None:
        numbers = (self.inserted, self.updated, self.unchanged, self.duplicate)
        told = sum(numbers) + len(self.refused)
        if told != self.read or min(numbers) < 0:
            raise InvalidValue(f"{self.read} rows were read, and {told} are accounted for: {self.counts}.")

    @property
    def counts(self) -> str:
        """The numbers in one line, without any row: fit for a log."""
        names = ("inserted", "updated", "unchanged", "duplicate")
        parts = {name: getattr(self, name) for name in names}
        return ", ".join(f"{number} {name}" for name, number in {**parts, "refused": len(self.refused)}.items())

    def __add__(self, other: BulkResult) -> BulkResult:
        """Return both together; positions stay what they are."""
        return BulkResult(
            read=self.read + other.read,
            inserted=self.inserted + other.inserted,
            updated=self.updated + other.updated,
            unchanged=self.unchanged + other.unchanged,
            duplicate=self.duplicate + other.duplicate,
            refused=self.refused + other.refused,
        )


class WrittenIds:
    """The ids of rows that were written, and for each, which of the rows that were given it is, counted from 0.

    They are kept as bytes: of a hundred thousand rows, nobody looks at more than a few.
    """

    def __init__(self) -> None:
        self._ids = bytearray()
        self.places = array("i")

    def __len__(self) -> int:
        return len(self.places)

    @property
    def ids(self) -> Sequence[UUID]:
        """The ids, in the order in which they were told."""
        return [UUID(bytes=bytes(self._ids[at : at + 16])) for at in range(0, len(self._ids), 16)]

    @property
    def texts(self) -> Sequence[str]:
        """The same as text."""
        digits = self._ids.hex()
        ids = (digits[at : at + 32] for at in range(0, len(digits), 32))
        return [f"{one[:8]}-{one[8:12]}-{one[12:16]}-{one[16:20]}-{one[20:]}" for one in ids]

    def parts(self, ends: Sequence[int]) -> Iterator[WrittenIds]:
        """Give those of the rows up to each of these places, counted from the place before."""
        rows = self._by_place()
        begin = first = 0
        for end in ends:
            last = bisect_left(rows.places, end, first)
            part = WrittenIds()
            part.places.extend([place - begin for place in rows.places[first:last]])
            part._ids += rows._ids[16 * first : 16 * last]
            yield part
            begin, first = end, last

    def add(self, ids: bytes, numbers: bytes, start: int, places: Sequence[int]) -> None:
        """Take ids of 16 bytes each, and what :attr:`places` to look up from ``start``, 4 bytes each, big end first."""
        found = array("i", numbers)
        if sys.byteorder == "little":
            found.byteswap()
        self._ids += ids
        same = isinstance(places, range) and not start
        self.places.extend(found if same else [start + places[at] for at in found])

    def _by_place(self) -> WrittenIds:
        if all(map(le, self.places, self.places[1:])):
            return self
        ordered = WrittenIds()
        for at in sorted(range(len(self.places)), key=self.places.__getitem__):
            ordered.places.append(self.places[at])
            ordered._ids += self._ids[16 * at : 16 * at + 16]
        return ordered
