"""Instants are aware and in UTC; months are half-open, and there are those of the years 1 to 9999."""

from __future__ import annotations

import copy
import pickle
from datetime import UTC, date, datetime, timedelta, timezone

import pytest
from hypothesis import assume, example, given
from hypothesis import strategies as st

from dataarch.clock import Grain, Month, Period, aware, utcnow
from dataarch.errors import InvalidMonth, InvalidPeriod, InvalidValue, NaiveDatetime

SMALLEST = timedelta(microseconds=1)
LAST = Month(9999, 12)
FIRST = Month(1, 1)

NAIVE_MIN, NAIVE_MAX = datetime.min, datetime.max  # noqa: DTZ901  # the strategy adds zones

months = st.builds(Month, st.integers(1, 9999), st.integers(1, 12))
offsets = st.integers(-24 * 60 + 1, 24 * 60 - 1).map(lambda minutes: timezone(timedelta(minutes=minutes)))
instants = st.datetimes(
    min_value=NAIVE_MIN + timedelta(days=1), max_value=NAIVE_MAX - timedelta(days=1), timezones=offsets
)


# ── instants ──────────────────────────────────────────────────────────────────────────────────────────────────────


def test_now_is_aware_and_in_utc() -> None:
    assert utcnow().tzinfo is UTC


@given(instants)
def test_an_aware_instant_stays_the_same_instant(instant: datetime) -> None:
    assert aware(instant) == instant
    assert aware(instant).tzinfo is UTC


@given(st.datetimes())
def test_a_naive_instant_is_refused(instant: datetime) -> None:
    with pytest.raises(NaiveDatetime) as refused:
        aware(instant)
    assert refused.value.value == instant
    with pytest.raises(NaiveDatetime):
        Month.of(instant)
    with pytest.raises(NaiveDatetime):
        _ = instant in Month(2026, 1)


@pytest.mark.parametrize(
    ("naive", "offset"),
    [(NAIVE_MAX, -1), (NAIVE_MIN, 1)],  # an hour on the wrong side of the calendar
)
def test_an_instant_that_utc_has_no_year_for_is_refused(naive: datetime, offset: int) -> None:
    instant = naive.replace(tzinfo=timezone(timedelta(hours=offset)))
    with pytest.raises(InvalidValue) as refused:
        aware(instant)
    assert refused.value.value == instant


# ── months ────────────────────────────────────────────────────────────────────────────────────────────────────────


@given(months)
@example(FIRST)
@example(Month(2024, 2))
def test_a_month_holds_its_start_and_not_its_end(month: Month) -> None:
    assume(month != LAST)
    assert month.start in month
    assert month.end not in month
    assert month.end - SMALLEST in month
    assert month == FIRST or month.start - SMALLEST not in month


@given(months)
def test_months_follow_each_other_without_gap_and_overlap(month: Month) -> None:
    assume(month != LAST)
    assert month.plus(1).start == month.end
    assert month.start + month.length == month.end


@given(instants)
@example(datetime(2026, 1, 31, 23, 30, tzinfo=timezone(timedelta(hours=-1))))
def test_an_instant_lies_in_its_month_and_in_no_neighbour(instant: datetime) -> None:
    month = Month.of(instant)
    assert instant in month
    assert month == FIRST or instant not in month.plus(-1)
    assert month == LAST or instant not in month.plus(1)
    assert (month.year, month.month) == (aware(instant).year, aware(instant).month)


@given(months, st.integers(-2000, 2000), st.integers(-2000, 2000))
def test_months_are_added_as_numbers_are(month: Month, some: int, more: int) -> None:
    count = month.year * 12 + month.month - 1
    assume(all(12 <= count + total <= 9999 * 12 + 11 for total in (some, more, some + more)))
    assert month.plus(0) == month
    assert month.plus(some).plus(-some) == month
    assert month.plus(some).plus(more) == month.plus(some + more)


@given(months, months)
def test_months_are_ordered_as_their_starts_and_as_their_names(one: Month, other: Month) -> None:
    assert (one < other) == (one.start < other.start) == (str(one) < str(other))
    assert (one == other) == (one.start == other.start)
    assert (hash(one) == hash(other)) or one != other


def test_a_month_has_a_name_a_first_day_and_a_length() -> None:
    month = Month(2024, 2)
    assert (str(month), month.first_day, month.length) == ("2024_02", date(2024, 2, 1), timedelta(days=29))
    assert str(Month(7, 1)) == "0007_01"


@pytest.mark.parametrize("wrong", [(2026, 0), (2026, 13), (0, 1), (10_000, 1), (-1, 5)])
def test_a_month_that_no_calendar_has_is_refused(wrong: tuple[int, int]) -> None:
    with pytest.raises(InvalidMonth) as refused:
        Month(*wrong)
    assert refused.value.value == wrong


def test_the_last_month_has_everything_but_an_end() -> None:
    assert datetime.max.replace(tzinfo=UTC) in LAST
    assert LAST.start in LAST
    assert LAST.start - SMALLEST not in LAST
    assert LAST.length == timedelta(days=31)
    with pytest.raises(InvalidMonth):
        _ = LAST.end
    with pytest.raises(InvalidMonth):
        LAST.plus(1)


def test_the_first_month_has_none_before_it() -> None:
    assert datetime.min.replace(tzinfo=UTC) in FIRST
    with pytest.raises(InvalidMonth):
        FIRST.plus(-1)


def test_a_month_does_not_change_and_can_be_copied() -> None:
    month = Month(2026, 7)
    with pytest.raises(AttributeError):
        month.year = 2027  # type: ignore[misc]  # what is tested
    assert pickle.loads(pickle.dumps(month)) == copy.copy(month) == month


# ── periods ───────────────────────────────────────────────────────────────────────────────────────────────────────

grains = st.sampled_from(Grain)
days = st.dates()
next_to_last = st.dates(date(1, 1, 8), date(9997, 12, 31))


@given(next_to_last, grains)
@example(date(2024, 2, 29), Grain.MONTH)
@example(date(2020, 12, 31), Grain.WEEK)
@example(date(1970, 1, 1), Grain.YEAR)
def test_a_period_holds_its_start_and_not_its_end_and_the_next_follows_at_once(day: date, grain: Grain) -> None:
    period = Period(grain.first_day(day), grain)
    assert period.start in period
    assert period.end not in period
    assert period.end - SMALLEST in period
    assert period.plus(1).start == period.end
    assert period.plus(1).plus(-1) == period == period.plus(0)


@given(instants, grains)
@example(datetime(2026, 1, 31, 23, 30, tzinfo=timezone(timedelta(hours=-1))), Grain.DAY)
@example(datetime(2021, 1, 3, 23, 59, tzinfo=UTC), Grain.WEEK)
def test_an_instant_lies_in_its_period_of_utc(instant: datetime, grain: Grain) -> None:
    period = Period.of(instant, grain)
    assert instant in period
    assert period.start <= instant
    assert period.first_day <= aware(instant).date()
    if grain is Grain.MONTH:
        assert str(period) == str(Month.of(instant))
    if grain is Grain.WEEK:
        assert period.first_day.isocalendar()[:2] == aware(instant).isocalendar()[:2]
        assert period.first_day.weekday() == 0


@given(next_to_last, grains, st.integers(-300, 300), st.integers(-300, 300))
def test_periods_are_added_as_numbers_are(day: date, grain: Grain, some: int, more: int) -> None:
    assume(400 < day.year < 9300)
    period = Period(grain.first_day(day), grain)
    assert period.plus(some).plus(more) == period.plus(some + more)
    assert (period.plus(some) < period.plus(more)) == (some < more)


@given(days, days, grains)
def test_two_days_have_one_label_exactly_where_they_have_one_period(one: date, other: date, grain: Grain) -> None:
    assume(min(one, other) > date(1, 1, 8))
    periods = [Period(grain.first_day(day), grain) for day in (one, other)]
    assert (str(periods[0]) == str(periods[1])) == (periods[0] == periods[1])
    assert (periods[0] < periods[1]) == (str(periods[0]) < str(periods[1]))


@pytest.mark.parametrize(
    ("day", "grain", "label", "ends"),
    [
        (date(2024, 2, 29), Grain.DAY, "2024_02_29", date(2024, 3, 1)),
        (date(2024, 2, 29), Grain.MONTH, "2024_02", date(2024, 3, 1)),
        (date(2021, 1, 3), Grain.WEEK, "2020_w53", date(2021, 1, 4)),
        (date(2024, 12, 30), Grain.WEEK, "2025_w01", date(2025, 1, 6)),
        (date(1970, 1, 1), Grain.WEEK, "1970_w01", date(1970, 1, 5)),
        (date(1999, 12, 31), Grain.YEAR, "1999", date(2000, 1, 1)),
    ],
)
def test_a_period_is_called_after_the_calendar(day: date, grain: Grain, label: str, ends: date) -> None:
    period = Period(grain.first_day(day), grain)
    assert (str(period), period.end.date()) == (label, ends)


@pytest.mark.parametrize("grain", Grain)
def test_the_last_period_of_the_calendar_holds_its_instants_and_has_no_end(grain: Grain) -> None:
    last = Period.of(datetime.max.replace(tzinfo=UTC), grain)
    assert datetime.max.replace(tzinfo=UTC) in last
    with pytest.raises(InvalidPeriod):
        _ = last.end
    with pytest.raises(InvalidPeriod):
        last.plus(10_000)
    with pytest.raises(InvalidPeriod):
        last.plus(-4_000_000)


@pytest.mark.parametrize("grain", [Grain.WEEK, Grain.MONTH, Grain.YEAR])
def test_a_day_that_begins_no_period_is_refused(grain: Grain) -> None:
    with pytest.raises(InvalidPeriod) as refused:
        Period(date(2026, 11, 24), grain)
    assert refused.value.value == date(2026, 11, 24)


@given(st.datetimes(), grains)
def test_a_naive_instant_has_no_period(instant: datetime, grain: Grain) -> None:
    with pytest.raises(NaiveDatetime):
        Period.of(instant, grain)
