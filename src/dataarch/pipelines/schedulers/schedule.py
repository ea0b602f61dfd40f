"""When pipelines run, as values, and what is due: pure functions of what was done before, and of the time.

::

    SCHEDULES = [
        Schedule(PRODUCTS, "15 * * * *", given="incoming/products-*.csv", tenant="acme", zone="Europe/Berlin"),
    ]
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import KW_ONLY, dataclass
from datetime import datetime, timedelta
from enum import StrEnum
from itertools import islice, takewhile
from typing import Any

from sqlalchemy.engine.default import DefaultDialect

from dataarch.clock import aware
from dataarch.errors import InvalidValue
from dataarch.models.types import Slug
from dataarch.pipelines.pipeline import Pipeline
from dataarch.pipelines.schedulers.cron import Cron

__all__ = ["MOST_COUNTED", "Missed", "Past", "Schedule", "Standing", "distinct", "standing"]

MOST_COUNTED = 1_000
"""Runs that were missed are counted up to here."""


class Missed(StrEnum):
    """What becomes of runs that nobody began at their time."""

    ONCE = "once"
    SKIP = "skip"


@dataclass(frozen=True)
class Schedule:
    """A pipeline, and when it is to run.

    Attributes:
        pipeline: what to run.
        cron: when: minute, hour, day of the month, month and day of the week, or ``@hourly``, ``@daily`` …
        given: what its extractor takes: a path, a pattern …
        tenant: the slug of the tenant that it runs for.
        zone: the time zone whose clocks ``cron`` goes by.
        missed: whether one run makes up for all that were missed, or they are left out.
        grace: how late a run may begin, and is not missed yet; only where those are left out.

    Raises:
        InvalidValue: the expression, the zone or the slug is none, or the grace is negative.
    """

    pipeline: Pipeline
    cron: str
    _: KW_ONLY
    tenant: str
    given: Any = None
    zone: str = "UTC"
    missed: Missed = Missed.ONCE
    grace: timedelta = timedelta(minutes=5)

    def __post_init__(self) -> None:
        Cron(self.cron, self.zone)
        Slug().process_bind_param(self.tenant, DefaultDialect())
        if self.grace < timedelta(0):
            raise InvalidValue(f"A grace of {self.grace} is none.", hint="Give 0 or more.", value=self.grace)

    @property
    def times(self) -> Cron:
        """When it is due."""
        return Cron(self.cron, self.zone)


@dataclass(frozen=True, slots=True)
class Past:
    """What is known of the runs of a schedule.

    Attributes:
        done: the time of the last run that was not killed, whatever became of it.
        killed: the time of a later one that was, or is still under way.
        state: of the last run of all.
    """

    done: datetime | None = None
    killed: datetime | None = None
    state: str = ""


@dataclass(frozen=True, slots=True)
class Standing:
    """How a schedule stands.

    Attributes:
        due: the time that a run is due for now; None if none is.
        again: whether a run for this time was killed.
        missed: how many earlier times had no run, as far as they are counted.
        next: the first time that is still to come.
    """

    due: datetime | None
    again: bool
    missed: int
    next: datetime


def standing(schedule: Schedule, past: Past, now: datetime) -> Standing:
    """Return what is due of a schedule.

    However many times have passed since the last run, one run is due for the latest of them. A schedule that has never
    run is due at once, unless it leaves out what was missed.
    """
    now, times = aware(now), schedule.times
    latest, following = times.latest(now), times.after(now)
    if past.done is not None and latest <= past.done:
        return Standing(None, again=False, missed=0, next=following)
    again = past.killed == latest
    late = schedule.missed is Missed.SKIP and now - latest > schedule.grace
    due = None if late and not again else latest
    end = now if due is None else latest - timedelta(microseconds=1)
    return Standing(due, again, _number(times, past.done, end), following)


def distinct(schedules: Iterable[Schedule]) -> list[Schedule]:
    """Return schedules.

    Raises:
        InvalidValue: two are for one pipeline and tenant: what is stored of runs does not tell them apart.
    """
    found: dict[tuple[str, str], Schedule] = {}
    for one in schedules:
        if (one.pipeline.name, one.tenant) in found:
            raise InvalidValue(
                f"The pipeline {one.pipeline.name} is scheduled twice for {one.tenant}.",
                hint="Put both into one cron expression, or give one of the pipelines another name.",
                value=one.pipeline.name,
            )
        found[one.pipeline.name, one.tenant] = one
    return list(found.values())


def _number(times: Cron, after: datetime | None, until: datetime) -> int:
    if after is None:
        return 0
    passed = takewhile(lambda time: time <= until, times.times(after))
    return sum(1 for _ in islice(passed, MOST_COUNTED))
