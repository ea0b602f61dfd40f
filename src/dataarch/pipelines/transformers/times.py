"""Times in one form: aware, in UTC.

What RFC 3339 allows is read, and a space for the T, which it mentions; docs/reference/steps.md says what that means
for leap seconds, offsets and fractions. A time that could be two instants, or none, is rejected.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from datetime import UTC, datetime, tzinfo
from typing import Literal
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from dataarch.clock import aware
from dataarch.errors import ConfigurationError, InvalidValue, NaiveDatetime, shown
from dataarch.pipelines.pipeline import Step
from dataarch.pipelines.records import Batch, Row, Stage, each

__all__ = ["instants_read", "normalised_time", "times"]

# what fromisoformat() takes is wider: week dates, hours alone, 24:00 from Python 3.13 on, offsets of seconds
DATE_AND_TIME = re.compile(
    r"[0-9]{4}-[0-9]{2}-[0-9]{2}[Tt ](?:[01][0-9]|2[0-3]):[0-5][0-9]:[0-5][0-9](?:\.[0-9]+)?"
    r"(?:[Zz]|[+-](?:[01][0-9]|2[0-3]):[0-5][0-9])?"
)
SECOND_60 = re.compile(r"(?<=[0-9][0-9]:[0-9][0-9]:)60")


def times(*fields: str, zone: tzinfo | str = UTC, fold: Literal[0, 1] | None = None) -> Step:
    """Return a step that turns fields into instants in UTC; one that is not given, None or empty stays so.

    Args:
        fields: their names.
        zone: where times without an offset are from, as a zone or by its name in the tz database.
        fold: of a time that clocks show twice, 0 for the first and 1 for the second; None rejects it.

    Raises:
        ConfigurationError: nobody knows the zone.
    """
    where = _zone(zone) if isinstance(zone, str) else zone

    def normalised(row: Row) -> Row:
        made = dict(row)
        for field in fields:
            value = made.get(field)
            if value is not None and not (isinstance(value, str) and not value):
                try:
                    made[field] = normalised_time(value, where, fold=fold)
                except InvalidValue as error:
                    error.column = field
                    raise
        return made

    def step(batch: Batch) -> Batch:
        return each(batch, Stage.TRANSFORM, normalised)

    return step


def normalised_time(value: object, zone: tzinfo | None = UTC, *, fold: Literal[0, 1] | None = None) -> datetime:
    """Return the instant of a text as RFC 3339 has it, or of a datetime.

    Args:
        value: as in ``2025-01-15T10:30:00Z``, ``2025-01-15 11:30:00.5+01:00`` or ``2025-01-15 10:30:00``.
        zone: where a time without an offset is from; None rejects it.
        fold: of a time that clocks show twice, 0 for the first and 1 for the second; None rejects it.

    Returns:
        The instant in UTC. What is finer than a microsecond is cut off: neither Python nor PostgreSQL has it.

    Raises:
        NaiveDatetime: it has no offset, and nobody said what zone it is from.
        InvalidValue: it is no such time, a leap second, one that its zone does not have or has twice, or it lies
            outside the years 1 to 9999 in UTC.
    """
    if isinstance(value, datetime):
        read = value
    elif isinstance(value, str):
        read = _read(value)
    else:
        raise InvalidValue(f"{shown(value)} is {type(value).__name__}, not a time.", hint="Give text.", value=value)
    return aware(read if read.tzinfo is not None else _local(read, zone, fold))


def instants_read(texts: Sequence[str]) -> list[datetime]:
    """Return the datetimes that texts say, each as it says it; raises ValueError where one takes a closer look."""
    if not all(map(DATE_AND_TIME.fullmatch, texts)):
        raise ValueError
    return list(map(datetime.fromisoformat, texts))


def _read(text: str) -> datetime:
    if DATE_AND_TIME.fullmatch(text):
        try:
            return datetime.fromisoformat(text.upper())
        except ValueError:
            # a day that its month does not have
            pass
    raise InvalidValue(f"{shown(text)} is {_whats_wrong(text)}.", hint="Write it as 2025-01-15T10:30:00Z.", value=text)


def _whats_wrong(text: str) -> str:
    before = SECOND_60.sub("59", text)
    if before != text and DATE_AND_TIME.fullmatch(before):
        try:
            last = normalised_time(before)
        except InvalidValue:
            last = None
        if last is not None and (last.hour, last.minute) == (23, 59):
            return "a leap second, which neither Python nor PostgreSQL has"
    return "no date and time as RFC 3339 has it"


def _local(read: datetime, zone: tzinfo | None, fold: Literal[0, 1] | None) -> datetime:
    if zone is None:
        raise NaiveDatetime(read.isoformat(" "))
    if zone is UTC:
        return read.replace(tzinfo=UTC)
    first, second = (read.replace(tzinfo=zone, fold=which) for which in (0, 1))
    before, after = first.utcoffset(), second.utcoffset()
    if before is None or after is None or before == after:
        return first
    # PEP 495: in a gap the offset grows, and where clocks are put back it shrinks
    if before < after:
        raise InvalidValue(
            f"The time {read} does not exist in {zone}: clocks were put forward over it.",
            hint="Correct it, or write it with its offset.",
            value=read,
        )
    if fold is None:
        raise InvalidValue(
            f"The time {read} exists twice in {zone}: clocks were put back.",
            hint="Write it with its offset, or say fold=0 for the first and fold=1 for the second.",
            value=read,
        )
    return second if fold else first


def _zone(name: str) -> ZoneInfo:
    try:
        return ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError, OSError):
        raise ConfigurationError(
            f"There is no time zone {shown(name)} here.",
            hint="Use a name such as Europe/London; where the system has no tz database, install tzdata.",
        ) from None
