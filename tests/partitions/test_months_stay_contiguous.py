"""M13: whatever months are made, in any order and time zone, each instant has one partition, each row its month."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from datetime import UTC, datetime

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dataarch.clock import Month, utcnow
from dataarch.database.unit_of_work import Database
from fixtures.months import Connection, Writer, add_writer, all_rows, assert_contiguous, make_month, owner, write

pytestmark = pytest.mark.schema

NEWEST = Month.of(utcnow()).plus(120)

months = st.builds(Month, st.integers(1970, NEWEST.year), st.integers(1, 12)).filter(lambda month: month <= NEWEST)
near = st.integers(-6, 20).map(Month.of(utcnow()).plus)
instants = st.datetimes(datetime(1, 1, 2), datetime(9999, 12, 30), timezones=st.just(UTC))  # noqa: DTZ001  # as Hypothesis asks
ends_of_the_earth = st.sampled_from(["Pacific/Kiritimati", "Pacific/Pago_Pago", "Asia/Kathmandu", "America/St_Johns"])
offsets = st.integers(-15, 15).map(lambda hours: f"<{hours:+03}>{-hours:+03}")
"""As POSIX writes them: with the sign turned round."""


@pytest.fixture(scope="module")
def connection(shared_db: Database) -> Iterator[Connection]:
    with owner(shared_db.settings) as opened:
        yield opened


@pytest.fixture(scope="module")
def writer(connection: Connection) -> Writer:
    return add_writer(connection)


class Undo(Exception):
    """Ends the transaction of one example."""


def assert_each_row_lies_in_its_month(connection: Connection) -> None:
    astray = connection.execute(
        """
        SELECT tableoid::regclass, created_at FROM user_activity_log
        WHERE tableoid <> coalesce(
            to_regclass('user_activity_log_' || to_char(created_at, 'YYYY_MM')), tableoid)
           OR (tableoid::regclass::text !~ '_rest_' AND
               tableoid::regclass::text <> 'user_activity_log_' || to_char(created_at, 'YYYY_MM'))
        """
    ).fetchall()
    assert astray == []


def make_month_in(zone: str, connection: Connection, month: Month) -> None:
    """Make a month in a session of that time zone; what is looked at afterwards is read in UTC."""
    connection.execute("SELECT set_config('timezone', %s, true)", [zone])
    make_month(connection, month.first_day.isoformat())
    connection.execute("SET LOCAL timezone = 'UTC'")


@settings(max_examples=30)
@given(st.lists(months | near, min_size=1, max_size=6), st.lists(instants, max_size=6), st.data())
def test_m13_partitions_have_no_gap_and_no_overlap_and_every_row_lies_in_its_month(
    connection: Connection, writer: Writer, made: list[Month], anywhere: list[datetime], data: st.DataObject
) -> None:
    edges = [edge for month in made for edge in (month.start, month.end)]
    chosen = data.draw(st.lists(st.sampled_from(edges), max_size=4))
    with contextlib.suppress(Undo), connection.transaction():
        write(connection, writer, *anywhere, *chosen)
        rows = all_rows(connection)
        for month in made:
            make_month_in(data.draw(ends_of_the_earth | offsets), connection, month)
            assert_contiguous(connection)
            assert_each_row_lies_in_its_month(connection)
            assert all_rows(connection) == rows
        raise Undo
