"""The windows in which the latest rows are looked for cover all of time once, the newest first."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dataarch.clock import Grain, Period
from dataarch.errors import InvalidPeriod, NaiveDatetime
from dataarch.partitions.windows import PERIODS, windows_back

instants = st.datetimes(max_value=datetime(9998, 12, 31), timezones=st.just(UTC))  # noqa: DTZ001  # as Hypothesis asks
grains = st.sampled_from(Grain)


@given(instants, grains)
def test_windows_leave_no_gap_and_do_not_overlap(now: datetime, grain: Grain) -> None:
    windows = list(windows_back(now, grain))
    assert windows[0][1] is None
    assert windows[-1][0] is None
    assert [lower for lower, _ in windows[:-1]] == [upper for _, upper in windows[1:]]
    assert all(lower < upper for lower, upper in windows if lower is not None and upper is not None)


@given(instants, grains)
def test_the_future_has_a_window_of_its_own_and_the_present_lies_in_the_second(now: datetime, grain: Grain) -> None:
    (beginning_of_future, _), (lower, upper), *_ = windows_back(now, grain)
    assert beginning_of_future == upper == Period.of(now, grain).end
    assert upper is not None
    assert (lower or now) <= now < upper


@given(instants, grains)
def test_every_bound_is_that_of_a_period(now: datetime, grain: Grain) -> None:
    bounds = [bound for window in windows_back(now, grain) for bound in window if bound is not None]
    assert all(Period.of(bound, grain).start == bound for bound in bounds)


def test_windows_of_months_double() -> None:
    assert PERIODS == (4, 8, 16)
    windows = list(windows_back(datetime(2026, 11, 23, tzinfo=UTC), Grain.MONTH))
    months = [datetime(*start, tzinfo=UTC) for start in ((2026, 12, 1), (2026, 8, 1), (2025, 12, 1), (2024, 8, 1))]
    assert windows == list(zip([*months, None], [None, *months], strict=True))


def test_before_the_year_1_there_is_only_the_open_window() -> None:
    windows = list(windows_back(datetime(3, 1, 1, tzinfo=UTC), Grain.YEAR))
    assert windows == [(datetime(4, 1, 1, tzinfo=UTC), None), (None, datetime(4, 1, 1, tzinfo=UTC))]


def test_a_naive_instant_and_the_end_of_the_calendar_are_refused() -> None:
    with pytest.raises(NaiveDatetime):
        next(windows_back(datetime(2026, 11, 23), Grain.MONTH))  # noqa: DTZ001  # the point of the test
    with pytest.raises(InvalidPeriod):
        next(windows_back(datetime(9999, 12, 31, tzinfo=UTC), Grain.MONTH))
