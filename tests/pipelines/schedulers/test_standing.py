"""What is due, what was missed and what comes next, from what was done before; without a database."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from dataarch.errors import InvalidValue
from dataarch.pipelines.schedulers.schedule import MOST_COUNTED, Missed, Past, Schedule, distinct, standing
from pipelines.listed import pipeline

pytestmark = pytest.mark.pipeline

NOW = datetime(2026, 11, 26, 12, 20, 30, tzinfo=UTC)
LATEST = datetime(2026, 11, 26, 12, 15, tzinfo=UTC)
NEXT = datetime(2026, 11, 26, 13, 15, tzinfo=UTC)
HOUR = timedelta(hours=1)


def hourly(missed: Missed = Missed.ONCE, **changed: Any) -> Schedule:
    return Schedule(pipeline(), "15 * * * *", tenant="acme", missed=missed, **changed)


def test_what_is_done_is_not_due_until_its_next_time() -> None:
    now = standing(hourly(), Past(done=LATEST), NOW)
    assert (now.due, now.missed, now.next) == (None, 0, NEXT)


def test_the_next_time_is_due_from_that_second_on() -> None:
    assert standing(hourly(), Past(done=LATEST), NEXT - timedelta(microseconds=1)).due is None
    assert standing(hourly(), Past(done=LATEST), NEXT).due == NEXT


def test_runs_that_were_missed_are_made_up_for_by_one() -> None:
    now = standing(hourly(), Past(done=LATEST - 3 * HOUR), NOW)
    assert (now.due, now.missed, now.next) == (LATEST, 2, NEXT)


def test_runs_that_were_missed_can_be_skipped() -> None:
    skipping, past = hourly(Missed.SKIP), Past(done=LATEST - 3 * HOUR)
    late = standing(skipping, past, NOW)
    assert (late.due, late.missed, late.next) == (None, 3, NEXT)
    assert standing(skipping, past, LATEST + timedelta(minutes=5)).due == LATEST
    assert standing(hourly(Missed.SKIP, grace=timedelta(minutes=10)), past, NOW).due == LATEST


@pytest.mark.parametrize("missed", Missed)
def test_a_run_that_was_killed_is_due_again_until_the_next_time_comes(missed: Missed) -> None:
    past = Past(done=LATEST - HOUR, killed=LATEST)
    again = standing(hourly(missed), past, NOW)
    assert (again.due, again.again, again.missed) == (LATEST, True, 0)
    later = standing(hourly(missed), past, NEXT)
    assert (later.due, later.again) == (NEXT, False)


def test_a_schedule_that_never_ran_is_due_at_once_unless_it_skips_what_it_missed() -> None:
    assert standing(hourly(), Past(), NOW).due == LATEST
    assert standing(hourly(), Past(), NOW).missed == 0
    assert standing(hourly(Missed.SKIP), Past(), NOW).due is None
    assert standing(hourly(Missed.SKIP), Past(), LATEST).due == LATEST


def test_a_clock_that_was_set_back_makes_nothing_due_twice() -> None:
    assert standing(hourly(), Past(done=LATEST), NOW - 5 * HOUR).due is None


def test_missed_runs_are_counted_up_to_a_bound() -> None:
    minutely = Schedule(pipeline(), "* * * * *", tenant="acme")
    now = standing(minutely, Past(done=NOW - timedelta(days=300)), NOW)
    assert now.missed == MOST_COUNTED


def test_two_schedules_of_one_pipeline_and_tenant_are_refused() -> None:
    other = Schedule(pipeline(), "0 3 * * *", tenant="globex")
    assert distinct([hourly(), other]) == [hourly(), other]
    with pytest.raises(InvalidValue, match="products is scheduled twice for acme"):
        distinct([hourly(), other, hourly(Missed.SKIP)])


@pytest.mark.parametrize(
    "changed", [{"cron": "15 *"}, {"zone": "Nowhere"}, {"tenant": "No Slug"}, {"grace": timedelta(-1)}]
)
def test_a_schedule_that_cannot_work_is_refused_where_it_is_written(changed: dict[str, str]) -> None:
    values = {"cron": "15 * * * *", "tenant": "acme", **changed}
    with pytest.raises(InvalidValue):
        Schedule(pipeline(), **values)  # type: ignore[arg-type]
