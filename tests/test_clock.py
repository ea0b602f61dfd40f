"""Instants are aware and in UTC; months are half-open, and there are those of the years 1 to 9999."""

from __future__ import annotations

import copy
import pickle
from datetime import UTC, date, datetime, timedelta, timezone

import pytest
from hypothesis import assume, example, given
from hypothesis import strategies as st

from dataarch.clock import Month, aware, utcnow
from dataarch.errors import InvalidMonth, InvalidValue, NaiveDatetime

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
