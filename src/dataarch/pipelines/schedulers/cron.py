"""Cron expressions in a time zone; the times are computed by cronsim.

A fixed time of the day, as ``30 2 * * *``, that the clocks skip comes once, right after they have jumped; one that they
show twice comes the first time alone. What has ``*`` as its minute or its hour goes on by the time that has passed.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta, tzinfo
from importlib import import_module
from itertools import takewhile
from typing import Any
from zoneinfo import ZoneInfo

from dataarch.clock import aware
from dataarch.errors import DependencyMissing, InvalidValue, shown

__all__ = ["Cron"]

NAMES = {
    "@yearly": "0 0 1 1 *",
    "@annually": "0 0 1 1 *",
    "@monthly": "0 0 1 * *",
    "@weekly": "0 0 * * 0",
    "@daily": "0 0 * * *",
    "@midnight": "0 0 * * *",
    "@hourly": "0 * * * *",
}
SOME_DAY = datetime(2000, 1, 1, tzinfo=UTC)
SECOND = timedelta(seconds=1)


@dataclass(frozen=True, slots=True)
class Cron:
    """When something is due.

    Attributes:
        expression: minute, hour, day of the month, month and day of the week, or a name such as ``@daily``.
        zone: the time zone whose clocks it goes by, by its IANA name.

    Raises:
        DependencyMissing: cronsim is not installed.
        InvalidValue: the expression is none, or never comes, or there is no such zone.

    All times that it gives are in UTC.
    """

    expression: str
    zone: str = "UTC"

    def __post_init__(self) -> None:
        _zone(self.zone)
        try:
            self.after(SOME_DAY)
        except _cronsim().CronSimError as wrong:
            raise self._refused(str(wrong)) from None
        except (ValueError, AssertionError, StopIteration):
            raise self._refused("it never comes") from None

    def times(self, after: datetime) -> Iterator[datetime]:
        """Give the times after an instant, without end."""
        last = after = aware(after)
        for found in self._simulated(after):
            instant = found.astimezone(UTC)
            # where clocks jump, two times can fall on one, or on one that was
            if instant > last:
                yield instant
                last = instant

    def after(self, instant: datetime) -> datetime:
        """Return the first time after an instant."""
        return next(self.times(instant))

    def latest(self, instant: datetime) -> datetime:
        """Return the last time that has come: at an instant, or before it."""
        instant = aware(instant)
        before: datetime = next(self._simulated(instant.replace(microsecond=0) + SECOND, reverse=True))
        # by UTC: a second before the clocks have jumped, they show what they never show; backwards, the first of two
        # hours with one name is passed over
        begin = before.astimezone(UTC) - SECOND
        *_, last = takewhile(lambda time: time <= instant, self.times(begin))
        return last

    def _simulated(self, instant: datetime, *, reverse: bool = False) -> Any:
        fields = NAMES.get(self.expression.strip().lower(), self.expression)
        if len(fields.split()) != len(("minute", "hour", "day", "month", "weekday")):
            raise self._refused("it has not five fields")
        return _cronsim().CronSim(fields, instant.astimezone(_zone(self.zone)), reverse=reverse)

    def _refused(self, why: str) -> InvalidValue:
        return InvalidValue(
            f"{shown(self.expression)} is no cron expression: {why}.",
            hint="Write minute, hour, day, month and weekday, for example '15 * * * *', or @hourly, @daily, @weekly …",
            value=self.expression,
        )


def _zone(name: str) -> tzinfo:
    if name == "UTC":
        return UTC
    try:
        return ZoneInfo(name)
    except (KeyError, ValueError, OSError):
        raise InvalidValue(
            f"There is no time zone {shown(name)} on this machine.",
            hint="Name one as Europe/Berlin or UTC; where the system has none, `pip install tzdata`.",
            value=name,
        ) from None


def _cronsim() -> Any:
    try:
        return import_module("cronsim")
    except ImportError as missing:
        raise DependencyMissing(
            f"Cron expressions are read by cronsim, which cannot be loaded: {missing}.",
            hint="Install it with `pip install 'dataarch[schedules]'`.",
        ) from missing
