"""M13: months made while others read, write, and make months too."""

from __future__ import annotations

import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from datetime import timedelta
from threading import Event

import psycopg
import pytest

from dataarch.clock import Month
from dataarch.database.settings import APP_ROLE, Settings
from dataarch.database.unit_of_work import Database
from dataarch.errors import LockTimeout, PartitionRefused
from dataarch.models import UserActivity
from dataarch.models.partitioning import table_of
from dataarch.partitions import maintain
from dataarch.partitions.maintain import ensure_ahead, ensure_months
from dataarch.partitions.worker import working_on
from fixtures.months import Connection, add_writer, all_rows, assert_contiguous, bounds, make_month, owner, write
from fixtures.servers import Servers, libpq

pytestmark = pytest.mark.integrity

YEAR = [Month(2010, 1).plus(ahead) for ahead in range(12)]


def test_m13_eight_loaders_at_once_make_each_month_once(db: Database) -> None:
    with ThreadPoolExecutor(8) as pool:
        made = list(pool.map(lambda shift: ensure_months(db, [*YEAR[shift:], *YEAR[:shift]]), range(8)))
    assert sorted(name for names in made for name in names) == [f"user_activity_log_{month}" for month in YEAR]
    with owner(db.settings) as connection:
        assert_contiguous(connection)


def test_m13_a_reader_never_sees_a_row_missing_or_twice_while_months_are_made(settings: Settings) -> None:
    with owner(settings) as connection:
        writer = add_writer(connection)
        write(connection, writer, *(month.start + timedelta(days=day) for month in YEAR for day in range(20)))
        rows = all_rows(connection)
        done = Event()
        with ThreadPoolExecutor(2) as pool:
            readers = [pool.submit(_counts, settings, done) for _ in range(2)]
            try:
                for month in (*YEAR[6:], *YEAR[:6]):
                    make_month(connection, month.first_day.isoformat())
            finally:
                done.set()
            seen = [count for reader in readers for count in reader.result()]
        assert len(seen) > 10
        assert set(seen) == {rows[0]}
        assert all_rows(connection) == rows


def _counts(settings: Settings, done: Event) -> list[int]:
    seen = []
    with owner(settings) as connection:
        while not done.is_set():
            found = connection.execute("SELECT count(*) FROM user_activity_log").fetchone()
            assert found is not None
            seen.append(found[0])
    return seen


def test_m13_writers_lose_no_row_while_months_are_made(settings: Settings) -> None:
    with owner(settings) as connection:
        writer = add_writer(connection)
        done = Event()

        def write_all_the_time(offset: int) -> int:
            written = 0
            with owner(settings) as mine:
                while not done.is_set():
                    write(mine, writer, YEAR[written % 12].start + timedelta(seconds=offset))
                    mine.execute("UPDATE users SET full_name = 'Ada L.' WHERE id = %s", [writer.user_id])
                    written += 1
            return written

        with ThreadPoolExecutor(3) as pool:
            writers = [pool.submit(write_all_the_time, offset) for offset in range(3)]
            try:
                for month in YEAR:
                    make_month(connection, month.first_day.isoformat())
            finally:
                done.set()
            written = sum(one.result() for one in writers)
        assert written > 10
        assert all_rows(connection)[0] == written


LIMIT = 1000
"""Rows of a catch-all that are moved under its lock, so that nobody waits for longer than 50 ms."""

MANY = """
INSERT INTO user_activity_log (tenant_id, user_id, activity_type, created_at)
SELECT %s, %s, 'view', timestamptz '2010-12-01 00:00 UTC' + n * interval '1 minute' FROM generate_series(1, %s) AS n
"""

LOCKS = """
SELECT mode FROM pg_locks WHERE pid = pg_backend_pid() AND relation = 'user_activity_log'::regclass
"""


def test_m13_more_rows_than_a_short_lock_allows_are_left_where_they_are_and_said_to_be(settings: Settings) -> None:
    with owner(settings) as connection:
        writer = add_writer(connection)
        connection.execute(MANY, [writer.tenant_id, writer.user_id, LIMIT + 1])
        before, rows = bounds(connection), all_rows(connection)
        with noticing(connection) as notices:
            assert make_month(connection, "2010-12-01") == []
            assert make_month(connection, "2010-11-01") == []
        assert [one.split(":")[0] for one in notices] == [f"The month 2010-{month} is not made" for month in (12, 11)]
        assert all(f"holds more than {LIMIT} rows" in one for one in notices)
        assert (bounds(connection), all_rows(connection)) == (before, rows)
        connection.execute("DELETE FROM user_activity_log WHERE created_at = '2010-12-01 00:01 UTC'")
        rows = all_rows(connection)
        assert make_month(connection, "2010-12-01") == ["user_activity_log_2010_12"]
        assert all_rows(connection) == rows
        assert connection.execute("SELECT count(*) FROM user_activity_log_2010_12").fetchone() == (LIMIT,)


def test_m13_while_a_maintenance_is_at_work_no_month_is_made_and_that_is_said(db: Database) -> None:
    with owner(db.settings) as connection:
        with working_on(db, table_of(UserActivity)), noticing(connection) as notices:
            assert make_month(connection, "2010-12-01") == []
        assert notices == ["No month is made: a maintenance of the log is at work."]
        assert make_month(connection, "2010-12-01") == ["user_activity_log_2010_12"]


@pytest.mark.parametrize("free", [True, False], ids=["where nothing is", "out of a catch-all"])
def test_m13_only_a_month_that_is_carved_out_of_a_catch_all_locks_readers_out(
    settings: Settings, *, free: bool
) -> None:
    with owner(settings) as connection:
        if free:
            make_month(connection, "2010-12-01")
            connection.execute("DROP TABLE user_activity_log_2010_12")
        with connection.transaction():
            assert make_month(connection, "2010-12-01") == ["user_activity_log_2010_12"]
            held = {mode for (mode,) in connection.execute(LOCKS)}
        assert ("AccessExclusiveLock" in held) is not free
        assert "ShareUpdateExclusiveLock" in held


@contextmanager
def noticing(connection: Connection) -> Iterator[list[str]]:
    """Collect what the server tells beside its answers."""
    notices: list[str] = []

    def note(said: psycopg.errors.Diagnostic) -> None:
        notices.append(said.message_primary or "")

    connection.add_notice_handler(note)
    try:
        yield notices
    finally:
        connection.remove_notice_handler(note)


@pytest.mark.parametrize("isolation", [psycopg.IsolationLevel.REPEATABLE_READ, psycopg.IsolationLevel.SERIALIZABLE])
def test_m13_a_month_is_not_made_under_a_snapshot_that_would_leave_rows_behind(
    settings: Settings, isolation: psycopg.IsolationLevel
) -> None:
    with owner(settings) as connection, psycopg.connect(libpq(settings.owner)) as stale:
        writer = add_writer(connection)
        stale.isolation_level = isolation
        stale.execute("SELECT FROM tenants")
        write(connection, writer, YEAR[0].start)
        with pytest.raises(psycopg.Error) as refused:
            stale.execute("SELECT create_activity_partition(%s)", [YEAR[0].first_day])
        assert refused.value.sqlstate == "DA005"
        stale.rollback()
        assert all_rows(connection)[0] == 1


@pytest.mark.parametrize("role", [None, APP_ROLE])
def test_m13_loaders_make_months_whatever_the_default_isolation(
    settings: Settings, servers: Servers, role: str | None
) -> None:
    with owner(settings) as connection:
        connection.execute(
            "DO $$ BEGIN EXECUTE format('ALTER DATABASE %I SET default_transaction_isolation = ''repeatable read''',"
            " current_database()); END $$"
        )
    assert settings.owner.database
    url = servers.admin.set(database=settings.owner.database).render_as_string(hide_password=False)
    url = url if role else str(settings.database_url)
    with Database(settings.model_copy(update={"role": role, "database_url": url})) as db:
        assert ensure_months(db, YEAR[:1]) == ["user_activity_log_2010_01"]


def test_a_lock_held_by_a_reader_ends_the_wait_with_nothing_changed(settings: Settings) -> None:
    with psycopg.connect(libpq(settings.owner)) as reader, owner(settings) as connection:
        reader.execute("SELECT FROM user_activity_log")
        with pytest.raises(psycopg.errors.LockNotAvailable):
            make_month(connection, "2010-12-01")
        assert_contiguous(connection)
        reader.rollback()
        assert make_month(connection, "2010-12-01") == ["user_activity_log_2010_12"]


def test_making_a_month_never_brings_a_transaction_on_users_and_the_log_into_a_deadlock(settings: Settings) -> None:
    with psycopg.connect(libpq(settings.owner)) as busy, owner(settings) as connection, ThreadPoolExecutor(1) as pool:
        writer = add_writer(connection)
        busy.execute("UPDATE users SET full_name = 'Ada L.' WHERE id = %s", [writer.user_id])
        maker = pool.submit(make_month, connection, "2010-12-01")
        time.sleep(0.3)
        # the maker waits for users; a deadlock would be found after one second
        write(busy, writer, YEAR[0].start)
        busy.commit()
        assert maker.result() == ["user_activity_log_2010_12"]


def test_a_month_that_could_not_be_locked_is_tried_again(db: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(maintain, "PAUSE", 0.01)
    with psycopg.connect(libpq(db.settings.owner)) as reader, ThreadPoolExecutor(1) as pool:
        reader.execute("SELECT FROM user_activity_log")
        maker = pool.submit(ensure_months, db, YEAR[:1])
        time.sleep(2.3)
        assert not maker.done()
        reader.rollback()
        assert maker.result() == ["user_activity_log_2010_01"]


def test_after_its_last_try_the_lock_timeout_is_raised(db: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(maintain, "PAUSE", 0.01)
    monkeypatch.setattr(maintain, "TRIES", 2)
    with psycopg.connect(libpq(db.settings.owner)) as reader:
        reader.execute("SELECT FROM user_activity_log")
        with pytest.raises(LockTimeout):
            ensure_months(db, YEAR[:1])


def test_m13_the_months_ahead_are_made_as_the_application_role(db: Database) -> None:
    assert ensure_ahead(db) == []
    assert len(ensure_ahead(db, 15)) == 3
    assert ensure_ahead(db, 15) == []


def test_a_partition_made_by_hand_over_two_months_is_refused_by_name(db: Database) -> None:
    with owner(db.settings) as connection:
        make_month(connection, "2010-01-01")
        make_month(connection, "2010-02-01")
        connection.execute("DROP TABLE user_activity_log_2010_01, user_activity_log_2010_02")
        connection.execute(
            "CREATE TABLE winter PARTITION OF user_activity_log FOR VALUES FROM ('2010-01-01') TO ('2010-03-01')"
        )
        with pytest.raises(PartitionRefused, match="winter"):
            ensure_months(db, YEAR[:1])
        assert_contiguous(connection)


def test_a_table_that_has_the_name_of_a_month_and_is_no_partition_is_refused_by_name(db: Database) -> None:
    with owner(db.settings) as connection:
        connection.execute("CREATE TABLE user_activity_log_2010_01 (LIKE user_activity_log)")
        with pytest.raises(PartitionRefused, match="user_activity_log_2010_01"):
            ensure_months(db, YEAR[:1])
        assert_contiguous(connection)


def test_m13_a_month_that_was_dropped_is_made_again_in_its_gap(db: Database) -> None:
    with owner(db.settings) as connection:
        make_month(connection, "2010-01-01")
        connection.execute("DROP TABLE user_activity_log_2010_01")
        assert ensure_months(db, YEAR[:1]) == ["user_activity_log_2010_01"]
        assert_contiguous(connection)
