"""Whether the server's clock can be right, by what the rows say: pure reckoning.

A log writes at once what a wrong clock tells it, so the period of the present is no evidence. What a right clock has
behind it, and a wrong one does not, are the rows of the periods before.
"""

from __future__ import annotations

from collections.abc import Collection
from datetime import UTC, date, datetime

from dataarch.clock import Period
from dataarch.errors import ClockImplausible
from dataarch.partitions.catalog import Partition
from dataarch.partitions.layout import Range
from dataarch.partitions.naming import partition_name
from dataarch.partitions.steps import Survey

__all__ = ["EARLIEST", "ahead_of", "behind_of", "silence", "starting"]

EARLIEST = date(1970, 1, 1)
"""No clock was right before it, nor one that made a row of before it."""

NAMES_SHOWN = 6
"""Partitions that a hint names; who wants the others looks at the list."""


def starting(day: date) -> Range:
    """Return the first moment of a day."""
    at = datetime(day.year, day.month, day.day, tzinfo=UTC)
    return Range(at, at.replace(microsecond=1))


def silence(survey: Survey, present: Period, keep: int) -> Range | None:
    """Return the half of the periods that are kept in which no row lies; None where both halves have rows.

    Args:
        survey: what there is.
        present: the period that holds the server's clock.
        keep: whole periods that stay behind it; where it is none, the last one is looked at all the same.

    Rows of the newer half say that the clock has not leapt, rows of the older one that it did not do so some time ago.
    A partition that is not wholly in a half says nothing of it, nor does one that holds the present.
    """
    kept = max(keep, 1)
    half = (kept + 1) // 2
    newer = Range(present.plus(-half).start, present.start)
    older = Range(present.plus(-kept).start, present.plus(half - kept).start)
    return next((one for one in (newer, older) if not _lively(survey, one)), None)


def _lively(survey: Survey, within: Range) -> bool:
    fixed = (one for one in survey.partitions if one.name in survey.lively and not one.is_default)
    strays = (starting(stray.first_day) for stray in survey.strays)
    return any(within.covers(one.range) for one in fixed) or any(within.covers(one) for one in strays)


def ahead_of(survey: Survey, silent: Range, old: Collection[Partition]) -> ClockImplausible:
    """Return the problem that old partitions would be retired though the log does not go on behind the present."""
    table, names = survey.table, [one.name for one in old]
    listed = " ".join(names[:NAMES_SHOWN]) + (" …" if len(names) > NAMES_SHOWN else "")
    return ClockImplausible(
        f"By the server's clock it is {survey.now.date()}, but {table} has no row from {silent.low.date()} until "
        f"{silent.high.date()}, in periods that are kept: either the clock is wrong, or the log was silent. "
        f"{len(names)} old partitions would be retired, with the rows in them; none is.",
        hint="Check the server's clock, and look for rows that it has dated wrongly. If it is right, retire them by "
        f"name: dataarch partitions retire {listed}",
        table=table,
        value=survey.now,
    )


def behind_of(survey: Survey, present: Period, furthest: datetime) -> ClockImplausible | None:
    """Return the problem that the clock lies before anything that could have made the partitions that hold rows.

    Args:
        survey: what there is.
        present: the period that holds the server's clock.
        furthest: no partition of a later period would be made now.
    """
    if present.first_day < present.grain.first_day(EARLIEST):
        return _behind(survey, "no clock was right before 1970")
    newest = max(
        (one for one in survey.partitions if one.name in survey.lively and _is_period(survey.table, one, present)),
        key=lambda one: one.range.low,
        default=None,
    )
    if newest is None or newest.range.low <= furthest:
        return None
    return _behind(survey, f"the partition {newest.name} has rows, and would not be made before its time is near")


def _is_period(table: str, one: Partition, like: Period) -> bool:
    """Tell whether a partition is one that this library makes; somebody may have made one for the end of time."""
    if one.lower is None or one.is_default:
        return False
    period = Period.of(one.lower, like.grain)
    return (one.name, one.lower) == (partition_name(table, period), period.start)


def _behind(survey: Survey, why: str) -> ClockImplausible:
    return ClockImplausible(
        f"By the server's clock it is {survey.now.date()}, which cannot be: {why}. No partition of {survey.table} is "
        "made or retired by this clock.",
        hint="Set the server's clock right (NTP), then run it again.",
        table=survey.table,
        value=survey.now,
    )
