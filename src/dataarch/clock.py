"""Time as dataarch keeps it: aware, in UTC, in half-open months ``[start, end)``.

Every instant that enters the library passes :func:`aware`, so that no later line has to ask what zone it is in.
"""

from __future__ import annotations

from calendar import monthrange
from dataclasses import dataclass
from datetime import MAXYEAR, MINYEAR, UTC, date, datetime, timedelta

from dataarch.errors import InvalidMonth, InvalidValue, NaiveDatetime, shown

__all__ = ["Month", "aware", "utcnow"]


def utcnow() -> datetime:
    """Return the present instant, aware, in UTC, to the microsecond that PostgreSQL keeps."""
    return datetime.now(UTC)


def aware(value: datetime) -> datetime:
    """Return the same instant in UTC.

    Args:
        value: any aware datetime.

    Raises:
        NaiveDatetime: the value has no UTC offset, so nobody can say which instant it means.
        InvalidValue: in UTC it lies outside the years 1 to 9999.
    """
    if value.tzinfo is None or value.utcoffset() is None:
        raise NaiveDatetime(value)
    try:
        return value.astimezone(UTC)
    except OverflowError:
        raise InvalidValue(f"The instant {shown(value)} is outside the years 1 to 9999 in UTC.", value=value) from None


@dataclass(frozen=True, slots=True, order=True)
class Month:
    """One calendar month in UTC: the instants ``start <= t < end``.

    Raises:
        InvalidMonth: the calendar of Python, which has the years 1 to 9999, has no such month.
    """

    year: int
    month: int

    def __post_init__(self) -> None:
        if not (MINYEAR <= self.year <= MAXYEAR and 1 <= self.month <= 12):
            raise InvalidMonth(
                f"There is no month {self.month} of the year {self.year}.",
                hint="Years go from 1 to 9999, months from 1 to 12.",
                value=(self.year, self.month),
            )

    @classmethod
    def of(cls, instant: datetime) -> Month:
        """Return the month that holds an aware instant; raises :class:`NaiveDatetime` for a naive one."""
        utc = aware(instant)
        return cls(utc.year, utc.month)

    @property
    def first_day(self) -> date:
        """The month's first day."""
        return date(self.year, self.month, 1)

    @property
    def start(self) -> datetime:
        """The first instant of the month, inclusive."""
        return datetime(self.year, self.month, 1, tzinfo=UTC)

    @property
    def end(self) -> datetime:
        """The first instant after the month, exclusive; raises :class:`InvalidMonth` for December 9999."""
        return self.plus(1).start

    def plus(self, months: int) -> Month:
        """Return the month that lies ``months`` after this one (before it, when negative)."""
        years, zero_based = divmod(self.year * 12 + self.month - 1 + months, 12)
        return Month(years, zero_based + 1)

    def __contains__(self, instant: datetime) -> bool:
        # not by start and end: the last month has no end
        return Month.of(instant) == self

    def __str__(self) -> str:
        return f"{self.year:04d}_{self.month:02d}"

    @property
    def length(self) -> timedelta:
        """How long the month lasts: 28 to 31 days."""
        return timedelta(days=monthrange(self.year, self.month)[1])
