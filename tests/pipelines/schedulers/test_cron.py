"""When a cron expression is due in a time zone, also where its clocks jump."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from itertools import islice, pairwise, takewhile
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dataarch.errors import InvalidValue, NaiveDatetime
from dataarch.pipelines.schedulers.cron import Cron

pytestmark = pytest.mark.pipeline

BERLIN = ZoneInfo("Europe/Berlin")


def local(cron: Cron, after: datetime, number: int) -> list[str]:
    """Return the next times on the clocks of the schedule's zone, with their offsets."""
    zone = ZoneInfo(cron.zone)
    return [f"{time.astimezone(zone):%d. %H:%M %z}" for time in islice(cron.times(after), number)]


def test_an_hourly_schedule_comes_every_hour() -> None:
    cron = Cron("15 * * * *")
    after = datetime(2026, 11, 26, 3, 15, tzinfo=UTC)
    assert cron.after(after) == datetime(2026, 11, 26, 4, 15, tzinfo=UTC)
    assert cron.after(after - timedelta(microseconds=1)) == after
    assert cron.latest(after) == after
    assert cron.latest(after - timedelta(microseconds=1)) == datetime(2026, 11, 26, 2, 15, tzinfo=UTC)


def test_times_are_those_of_the_zones_clocks_and_given_in_utc() -> None:
    found = Cron("30 6 * * mon-fri", "America/New_York").after(datetime(2026, 11, 27, 12, tzinfo=UTC))
    assert (found, found.tzinfo) == (datetime(2026, 11, 30, 11, 30, tzinfo=UTC), UTC)


@pytest.mark.parametrize(
    ("expression", "times"),
    [
        ("30 2 * * *", ["28. 02:30 +0100", "29. 03:00 +0200", "30. 02:30 +0200"]),
        ("0,30 2 * * *", ["28. 02:00 +0100", "28. 02:30 +0100", "29. 03:00 +0200", "30. 02:00 +0200"]),
        ("30 2,3 * * *", ["28. 02:30 +0100", "28. 03:30 +0100", "29. 03:00 +0200", "29. 03:30 +0200"]),
    ],
)
def test_a_time_of_the_day_that_the_clocks_skip_comes_once_when_they_have_jumped(
    expression: str, times: list[str]
) -> None:
    cron = Cron(expression, "Europe/Berlin")
    assert local(cron, datetime(2026, 3, 27, 12, tzinfo=BERLIN), len(times)) == times


@pytest.mark.parametrize(
    ("expression", "times"),
    [
        ("30 2 * * *", ["24. 02:30 +0200", "25. 02:30 +0200", "26. 02:30 +0100"]),
        ("30 2,3 * * *", ["24. 02:30 +0200", "24. 03:30 +0200", "25. 02:30 +0200", "25. 03:30 +0100"]),
    ],
)
def test_a_time_of_the_day_that_comes_twice_counts_the_first_time(expression: str, times: list[str]) -> None:
    cron = Cron(expression, "Europe/Berlin")
    assert local(cron, datetime(2026, 10, 23, 12, tzinfo=BERLIN), len(times)) == times


def test_in_the_second_of_two_hours_with_one_name_its_times_have_been() -> None:
    cron, first = Cron("45 2 * * *", "Europe/Berlin"), datetime(2026, 10, 25, 0, 45, tzinfo=UTC)
    for now in (datetime(2026, 10, 25, 1, 10, tzinfo=UTC), datetime(2026, 10, 25, 1, 50, tzinfo=UTC)):
        assert cron.latest(now) == first
        assert cron.after(now) == datetime(2026, 10, 26, 1, 45, tzinfo=UTC)


def test_right_when_the_clocks_have_jumped_over_a_time_it_has_come() -> None:
    cron, jump = Cron("30 2 * * *", "Europe/Berlin"), datetime(2026, 3, 29, 1, tzinfo=UTC)
    assert [cron.latest(jump + timedelta(seconds=passed)) for passed in (0, 1, 3600)] == [jump] * 3
    assert cron.latest(jump - timedelta(seconds=1)) == datetime(2026, 3, 28, 1, 30, tzinfo=UTC)


def test_what_comes_every_hour_or_every_few_minutes_goes_by_what_has_passed_and_not_by_the_clocks() -> None:
    hourly = Cron("30 * * * *", "Europe/Berlin")
    spring, autumn = datetime(2026, 3, 29, 0, tzinfo=BERLIN), datetime(2026, 10, 25, 1, tzinfo=BERLIN)
    assert local(hourly, spring, 3) == ["29. 00:30 +0100", "29. 01:30 +0100", "29. 03:30 +0200"]
    assert local(hourly, autumn, 4) == ["25. 01:30 +0200", "25. 02:30 +0200", "25. 02:30 +0100", "25. 03:30 +0100"]
    few = list(
        takewhile(lambda time: time < autumn + timedelta(hours=4), Cron("*/20 * * * *", "Europe/Berlin").times(autumn))
    )
    assert {later - earlier for earlier, later in pairwise(few)} == {timedelta(minutes=20)}


EXPRESSIONS = [
    "30 2 * * *",
    "0,30 2 * * *",
    "10-50/20 1-3 * * *",
    "15 * * * *",
    "*/20 * * * *",
    "0 0 * * sun",
    "59 1 * * *",
]
ZONES = ["UTC", "Europe/Berlin", "America/New_York", "Australia/Lord_Howe", "Asia/Kathmandu"]
JUMPS = [
    datetime(2026, month, day, tzinfo=UTC)
    for month, day in ((3, 8), (3, 29), (4, 4), (10, 3), (10, 25), (11, 1), (7, 1))
]


@given(
    st.sampled_from(EXPRESSIONS),
    st.sampled_from(ZONES),
    st.sampled_from(JUMPS),
    st.integers(-90_000, 90_000),
)
def test_times_grow_and_the_latest_is_the_last_of_those_that_have_come(
    expression: str, zone: str, jump: datetime, seconds: int
) -> None:
    cron, now = Cron(expression, zone), jump + timedelta(seconds=seconds, microseconds=seconds % 2)
    begin = now - timedelta(days=15)
    times = list(takewhile(lambda time: time <= now, cron.times(begin)))
    assert times == sorted(set(times))
    assert times[0] > begin
    assert cron.latest(now) == times[-1]
    assert cron.after(now) > now
    assert cron.after(times[-2]) == times[-1]


@pytest.mark.parametrize(
    ("name", "fields"),
    [("@hourly", "0 * * * *"), ("@daily", "0 0 * * *"), ("@Weekly", "0 0 * * 0"), ("@monthly", "0 0 1 * *")],
)
def test_the_names_of_cron_are_known(name: str, fields: str) -> None:
    now = datetime(2026, 11, 26, 3, 20, tzinfo=UTC)
    assert Cron(name).after(now) == Cron(fields).after(now)


@pytest.mark.parametrize(
    "expression",
    [
        "",
        "* * * *",
        "61 * * * *",
        "0 0 30 2 *",
        "@reboot",
        "every hour",
        "0 * * * * *",
        "0 0 31 2 *",
        "*/0 * * * *",
        "- * * * *",
        "1-L * * * *",
    ],
)
def test_what_is_no_expression_of_five_fields_or_never_comes_is_refused(expression: str) -> None:
    with pytest.raises(InvalidValue, match="cron") as refused:
        Cron(expression)
    assert refused.value.hint


@pytest.mark.parametrize(
    "zone", ["Europe/Berlim", "", "Europe", "../../etc/passwd", "/etc/localtime", "a\0b", "ü" * 300]
)
def test_a_time_zone_that_is_not_there_is_refused(zone: str) -> None:
    with pytest.raises(InvalidValue, match="time zone"):
        Cron("15 * * * *", zone)


def test_a_naive_time_is_refused() -> None:
    with pytest.raises(NaiveDatetime):
        Cron("15 * * * *").after(datetime(2026, 1, 1))  # noqa: DTZ001


def test_without_the_library_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "cronsim", None)
    from dataarch.errors import DependencyMissing

    with pytest.raises(DependencyMissing, match=r"pip install 'dataarch\[schedules\]'"):
        Cron("15 * * * *")
