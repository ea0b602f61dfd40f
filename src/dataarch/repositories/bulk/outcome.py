"""What became of each of many rows."""

from __future__ import annotations

from dataclasses import dataclass

from dataarch.errors import DataArchError, InvalidValue

__all__ = ["BulkResult", "Refused"]


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
