"""What partitions are called."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta, timezone

import pytest

from dataarch.clock import Grain, Period
from dataarch.errors import NaiveDatetime
from dataarch.partitions.naming import LONGEST_NAME, catch_all_name, partition_name

NOVEMBER = datetime(2026, 11, 1, tzinfo=UTC)


@pytest.mark.parametrize(
    ("grain", "name"),
    [
        (Grain.DAY, "orders_2026_11_23"),
        (Grain.WEEK, "orders_2026_w48"),
        (Grain.MONTH, "orders_2026_11"),
        (Grain.YEAR, "orders_2026"),
    ],
)
def test_a_partition_is_called_after_its_table_and_its_period(grain: Grain, name: str) -> None:
    assert partition_name("orders", Period.of(datetime(2026, 11, 23, tzinfo=UTC), grain)) == name


def test_a_catch_all_is_called_after_its_lower_bound() -> None:
    assert catch_all_name("orders", None) == "orders_rest_min"
    assert catch_all_name("orders", NOVEMBER) == "orders_rest_2026_11"
    assert catch_all_name("orders", NOVEMBER, Grain.DAY) == "orders_rest_2026_11_01"
    assert catch_all_name("orders", datetime(2026, 11, 23, tzinfo=UTC), Grain.WEEK) == "orders_rest_2026_w48"
    assert catch_all_name("orders", datetime(2026, 1, 1, tzinfo=UTC), Grain.YEAR) == "orders_rest_2026"


def test_a_catch_all_that_begins_within_a_period_is_called_after_its_day_and_time() -> None:
    assert catch_all_name("orders", NOVEMBER + timedelta(days=14)) == "orders_rest_2026_11_15"
    assert catch_all_name("orders", NOVEMBER + timedelta(hours=13, seconds=5)) == "orders_rest_2026_11_01_130005"


def test_a_bound_is_named_by_its_day_in_utc() -> None:
    kolkata = timezone(timedelta(hours=5, minutes=30))
    assert catch_all_name("orders", datetime(2026, 11, 1, 5, 30, tzinfo=kolkata)) == "orders_rest_2026_11"
    with pytest.raises(NaiveDatetime):
        catch_all_name("orders", datetime(2026, 11, 1))  # noqa: DTZ001  # it is what is refused


@pytest.mark.parametrize("table", ["x" * 60, "x" * 63, "ü" * 31, "x" + "ü" * 31, "日" * 21])
def test_a_name_too_long_for_postgresql_keeps_its_period_and_loses_part_of_the_table(table: str) -> None:
    november, december = (partition_name(table, Period(date(2026, month, 1), Grain.MONTH)) for month in (11, 12))
    assert november.endswith("_2026_11")
    assert december == november.removesuffix("11") + "12"
    for name in (november, catch_all_name(table, None), catch_all_name(table, NOVEMBER)):
        assert LONGEST_NAME - 4 < len(name.encode()) <= LONGEST_NAME


def test_two_tables_whose_long_names_begin_alike_get_different_names() -> None:
    period = Period.of(NOVEMBER, Grain.MONTH)
    names = {partition_name(f"{'x' * 58}_{kind}", period) for kind in ("in", "out", "all")}
    assert len(names) == 3
    assert names == {partition_name(f"{'x' * 58}_{kind}", period) for kind in ("in", "out", "all")}


def test_a_name_that_just_fits_is_left_alone() -> None:
    assert partition_name("x" * 55, Period.of(NOVEMBER, Grain.MONTH)) == f"{'x' * 55}_2026_11"
    assert partition_name("x" * 56, Period.of(NOVEMBER, Grain.MONTH)) != f"{'x' * 56}_2026_11"
