"""Time as dataarch keeps it: aware, in UTC, in half-open months ``[start, end)``, or days, weeks and years.

Every instant that enters the library passes :func:`aware`, so that no later line has to ask what zone it is in.
"""

from __future__ import annotations

from calendar import monthrange
from dataclasses import dataclass
from datetime import MAXYEAR, MINYEAR, UTC, date, datetime, time, timedelta
from enum import StrEnum

from dataarch.errors import InvalidMonth, InvalidPeriod, InvalidValue, NaiveDatetime, shown

__all__ = ["Grain", "Month", "Period", "aware", "utcnow"]


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


class Grain(StrEnum):
    """How long a period is. Weeks begin on Monday (ISO 8601), as in PostgreSQL's ``date_trunc``."""

    DAY = "day"
    WEEK = "week"
    MONTH = "month"
    YEAR = "year"

    def first_day(self, day: date) -> date:
        """Return the first day of the period that holds a day."""
        match self:
            case Grain.DAY:
                return day
            case Grain.WEEK:
                return day - timedelta(days=day.weekday())
            case Grain.MONTH:
                return day.replace(day=1)
            case Grain.YEAR:
                return day.replace(month=1, day=1)

    def step(self, first_day: date, periods: int) -> date:
        """Return the first day of the period that lies ``periods`` later; OverflowError beyond the years 1 to 9999."""
        match self:
            case Grain.DAY:
                return first_day + timedelta(days=periods)
            case Grain.WEEK:
                return first_day + timedelta(weeks=periods)
            case Grain.MONTH | Grain.YEAR:
                months = periods * (12 if self is Grain.YEAR else 1)
                years, zero_based = divmod(first_day.year * 12 + first_day.month - 1 + months, 12)
                if not MINYEAR <= years <= MAXYEAR:
                    raise OverflowError
                return date(years, zero_based + 1, 1)

    def label(self, first_day: date) -> str:
        """Return what a period is called in the name of its partition: 2026_11_23, 2026_w48, 2026_11 or 2026."""
        match self:
            case Grain.DAY:
                return f"{first_day.year:04d}_{first_day.month:02d}_{first_day.day:02d}"
            case Grain.WEEK:
                year, week, _ = first_day.isocalendar()
                return f"{year:04d}_w{week:02d}"
            case Grain.MONTH:
                return f"{first_day.year:04d}_{first_day.month:02d}"
            case Grain.YEAR:
                return f"{first_day.year:04d}"


@dataclass(frozen=True, slots=True, order=True)
class Period:
    """One day, week, month or year in UTC: the instants ``start <= t < end``.

    Raises:
        InvalidPeriod: ``first_day`` is not the first day of a period of this grain.
    """

    first_day: date
    grain: Grain

    def __post_init__(self) -> None:
        if self.grain.first_day(self.first_day) != self.first_day:
            raise InvalidPeriod(f"No {self.grain} begins on {self.first_day}.", value=self.first_day)

    @classmethod
    def of(cls, instant: datetime, grain: Grain) -> Period:
        """Return the period that holds an aware instant; raises :class:`NaiveDatetime` for a naive one."""
        return cls(grain.first_day(aware(instant).date()), grain)

    @property
    def start(self) -> datetime:
        """The first instant of the period, inclusive."""
        return datetime.combine(self.first_day, time(), tzinfo=UTC)

    @property
    def end(self) -> datetime:
        """The first instant after the period, exclusive; raises :class:`InvalidPeriod` for the last of year 9999."""
        return self.plus(1).start

    def plus(self, periods: int) -> Period:
        """Return the period that lies ``periods`` after this one (before it, when negative)."""
        try:
            return Period(self.grain.step(self.first_day, periods), self.grain)
        except OverflowError:
            raise InvalidPeriod(
                f"There is no {self.grain} {periods} after {self}.", hint="Years go from 1 to 9999.", value=periods
            ) from None

    def __contains__(self, instant: datetime) -> bool:
        # not by start and end: the last period has no end
        return Period.of(instant, self.grain) == self

    def __str__(self) -> str:
        return self.grain.label(self.first_day)
