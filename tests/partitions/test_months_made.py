"""M12, M13: which months are made, and where rows lie."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from dataarch.clock import Month, utcnow
from dataarch.database.settings import Settings
from dataarch.database.unit_of_work import Database
from dataarch.errors import InvalidMonth
from dataarch.models import UserActivity
from dataarch.partitions.catalog import partitions_of
from dataarch.partitions.maintain import ensure_months
from fixtures.months import add_writer, all_rows, assert_contiguous, bounds, make_month, owner, write

pytestmark = pytest.mark.schema

THIS_MONTH = Month.of(utcnow())


def test_m12_rows_of_different_months_lie_in_different_partitions(settings: Settings) -> None:
    with owner(settings) as connection:
        writer = add_writer(connection)
        months = [THIS_MONTH.plus(ahead) for ahead in range(13)]
        lie_in = write(connection, writer, *(month.start for month in months))
        assert lie_in == [f"user_activity_log_{month}" for month in months]
        assert write(connection, writer, *(month.end - timedelta(microseconds=1) for month in months)) == lie_in


def test_m13_an_upgrade_makes_this_month_and_the_twelve_that_follow(settings: Settings) -> None:
    with owner(settings) as connection:
        names = {name for name, _, _ in bounds(connection)}
        assert_contiguous(connection)
    assert names == {
        *(f"user_activity_log_{THIS_MONTH.plus(ahead)}" for ahead in range(13)),
        "user_activity_log_rest_min",
        f"user_activity_log_rest_{THIS_MONTH.plus(13)}",
    }


def test_m13_the_function_makes_the_coming_month_where_it_is_missing(settings: Settings) -> None:
    with owner(settings) as connection:
        connection.execute(f"DROP TABLE user_activity_log_{THIS_MONTH.plus(1)}")
        assert make_month(connection) == [f"user_activity_log_{THIS_MONTH.plus(1)}"]
        assert make_month(connection) == []
        assert_contiguous(connection)


def test_m13_the_coming_month_is_made_on_the_last_days_of_a_month_too(settings: Settings) -> None:
    last_days = [THIS_MONTH.plus(ahead).end - timedelta(days=1) for ahead in range(13, 40)]
    with owner(settings) as connection:
        for day in last_days:
            assert make_month(connection, day.date().isoformat()) == [f"user_activity_log_{Month.of(day)}"]
        assert_contiguous(connection)


@pytest.mark.parametrize(
    "months", [["2010-12-31"], ["1970-01-01"], ["2010-12-01", "1970-01-31", "2001-07-04", "2010-11-09"]]
)
def test_m13_a_month_of_the_past_is_made_for_any_of_its_days(settings: Settings, months: list[str]) -> None:
    with owner(settings) as connection:
        for month in months:
            assert make_month(connection, month) == [f"user_activity_log_{month[:7].replace('-', '_')}"]
            assert make_month(connection, month) == []
            assert_contiguous(connection)


def test_m13_making_a_month_keeps_every_row_of_the_catch_all(settings: Settings) -> None:
    with owner(settings) as connection:
        writer = add_writer(connection)
        instants = [
            Month(2010, 1).plus(at).start - timedelta(microseconds=back) for at in range(-5, 12) for back in (0, 1)
        ]
        write(connection, writer, *instants)
        rows = all_rows(connection)
        for month in ("2010-03-01", "2010-12-01", "2010-04-01", "2009-10-01"):
            make_month(connection, month)
            assert all_rows(connection) == rows
        assert write(connection, writer, "2010-04-30 23:59:59.999999+00") == ["user_activity_log_2010_04"]


@pytest.mark.parametrize(
    ("instant", "lies_in"),
    [
        ("0001-01-01", "rest_min"),
        ("0044-03-15 BC", "rest_min"),
        ("-infinity", "rest_min"),
        ("1969-12-31 23:59:59.999999+00", "rest_min"),
        ("9999-12-31 23:59:59.999999+00", "rest_after"),
        ("infinity", "rest_after"),
    ],
)
def test_m13_a_row_of_any_date_is_accepted(settings: Settings, instant: str, lies_in: str) -> None:
    expected = f"user_activity_log_{lies_in}".replace("after", str(THIS_MONTH.plus(13)))
    with owner(settings) as connection:
        assert write(connection, add_writer(connection), instant) == [expected]


@pytest.mark.parametrize("month", [Month(1969, 12), Month(1, 1), THIS_MONTH.plus(121), Month(9999, 1)])
def test_a_month_before_1970_or_more_than_ten_years_ahead_is_refused(db: Database, month: Month) -> None:
    with pytest.raises(InvalidMonth):
        ensure_months(db, [month])


def test_the_earliest_and_the_latest_month_are_made(db: Database) -> None:
    assert len(ensure_months(db, [Month(1970, 1), THIS_MONTH.plus(120)])) == 2


@pytest.mark.parametrize("month", ["infinity", "-infinity"])
def test_a_month_that_never_comes_is_refused(db: Database, month: str) -> None:
    with pytest.raises(InvalidMonth), db.owner() as session:
        session.connection().exec_driver_sql(f"SELECT create_activity_partition('{month}')")


@pytest.mark.parametrize("zone", ["Pacific/Kiritimati", "America/New_York", "UTC"])
@pytest.mark.parametrize("style", ["SQL, DMY", "German", "Postgres, MDY"])
def test_m12_zones_and_date_styles_of_a_session_do_not_matter(settings: Settings, zone: str, style: str) -> None:
    with owner(settings) as connection:
        writer = add_writer(connection)
        write(connection, writer, datetime(2011, 3, 1, tzinfo=UTC) - timedelta(microseconds=1))
        connection.execute(f"SET timezone = '{zone}'")
        connection.execute(f"SET datestyle = '{style}'")
        assert [*make_month(connection, "2011-02-01"), *make_month(connection, "2011-01-01")] == [
            "user_activity_log_2011_02",
            "user_activity_log_2011_01",
        ]
        assert make_month(connection) == []
        connection.execute("SET timezone = 'UTC'; SET datestyle = 'ISO'")
        assert_contiguous(connection)
        assert connection.execute("SELECT count(*) FROM user_activity_log_2011_02").fetchone() == (1,)


def test_the_list_of_partitions_is_in_order_and_in_utc_whatever_the_zone_of_the_session(db: Database) -> None:
    ensure_months(db, [Month(2010, 12), Month(2011, 2)])
    with db.owner() as session:
        connection = session.connection()
        listed = [(one.name, one.bounds) for one in partitions_of(connection, UserActivity.__tablename__)]
        connection.exec_driver_sql("SET LOCAL timezone = 'Asia/Kolkata'")
        connection.exec_driver_sql("SET LOCAL datestyle = 'SQL, DMY'")
        assert [(one.name, one.bounds) for one in partitions_of(connection, UserActivity.__tablename__)] == listed
        assert connection.exec_driver_sql("SHOW datestyle").scalar() == "SQL, DMY"
    assert [name for name, _ in listed][:4] == [
        "user_activity_log_rest_min",
        "user_activity_log_2010_12",
        "user_activity_log_rest_2011_01",
        "user_activity_log_2011_02",
    ]


def test_there_is_no_default_partition(settings: Settings) -> None:
    with owner(settings) as connection:
        make_month(connection, "2010-12-01")
        found = connection.execute(
            "SELECT partdefid FROM pg_partitioned_table WHERE partrelid = 'user_activity_log'::regclass"
        ).fetchone()
    assert found == (0,)
