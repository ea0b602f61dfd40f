"""What is in force inside a transaction, and that nothing of it stays on the connection."""

from __future__ import annotations

import threading
from collections.abc import Callable
from contextlib import suppress
from datetime import UTC, datetime
from typing import Any

import psycopg
import pytest
from sqlalchemy import event, select, text
from sqlalchemy.orm import Session

from dataarch.database.tenancy import Isolation
from dataarch.database.unit_of_work import Database
from dataarch.errors import (
    LockTimeout,
    NoConnectionFree,
    Retryable,
    RoleBypassesRowSecurity,
    ServerUnreachable,
    StatementTimeout,
)
from dataarch.models import User, UserActivity
from database.opening import OpenDatabase
from fixtures.servers import libpq
from fixtures.tenants import Inhabited

STATE = """
SELECT pg_backend_pid(), current_user::text, coalesce(nullif(current_setting('dataarch.tenant_id', true), ''), 'none'),
       current_setting('statement_timeout'), current_setting('lock_timeout'),
       current_setting('idle_in_transaction_session_timeout')
"""


def state_of(db: Database) -> tuple[Any, ...]:
    """Return what the pool's connection has outside of any transaction, asked of the driver itself."""
    connection = db.engine.raw_connection()
    try:
        driver = connection.driver_connection
        assert isinstance(driver, psycopg.Connection)
        assert driver.info.transaction_status == psycopg.pq.TransactionStatus.IDLE
        return driver.execute(STATE).fetchone() or ()
    finally:
        connection.close()


def test_time_outs_role_and_tenant_are_in_force_in_each_transaction(
    superuser_url: str, open_db: OpenDatabase, home: Inhabited
) -> None:
    db = open_db(
        database_url=superuser_url,
        role="dataarch_app",
        statement_timeout=1.5,
        lock_timeout=0.25,
        idle_in_transaction_timeout=7,
    )
    for _ in range(2):
        with db.tenant(home.id) as session:
            found = session.execute(
                text("SELECT name, setting FROM pg_settings WHERE name LIKE '%timeout' OR name = 'role'")
            )
            inside = {row.name: row.setting for row in found}
            assert session.scalar(text("SELECT current_user::text")) == "dataarch_app"
        assert (inside["statement_timeout"], inside["lock_timeout"]) == ("1500", "250")
        assert inside["idle_in_transaction_session_timeout"] == "7000"


@pytest.mark.parametrize(
    ("field", "setting"),
    [
        ("statement_timeout", "statement_timeout"),
        ("lock_timeout", "lock_timeout"),
        ("idle_in_transaction_timeout", "idle_in_transaction_session_timeout"),
    ],
)
def test_a_time_out_below_a_millisecond_is_not_rounded_to_never(
    field: str, setting: str, open_db: OpenDatabase
) -> None:
    db = open_db(**{field: 0.0004})
    sent: list[str] = []
    event.listen(db.engine, "before_cursor_execute", lambda *given: sent.append(given[2]))
    # after a millisecond without a statement the connection has ended, and the next may find it so
    with suppress(StatementTimeout, ServerUnreachable), db.session() as session:
        session.execute(select(1))
    assert f"SET LOCAL {setting} = 1" in sent[0].split("; ")


def committed(db: Database, tenant: Inhabited) -> None:
    with db.tenant(tenant.id) as session:
        session.scalars(select(User)).all()


def rolled_back(db: Database, tenant: Inhabited) -> None:
    with pytest.raises(ZeroDivisionError), db.tenant(tenant.id) as session:
        session.scalars(select(User)).all()
        raise ZeroDivisionError


def refused_by_the_server(db: Database, tenant: Inhabited) -> None:
    with pytest.raises(StatementTimeout), db.tenant(tenant.id) as session:
        session.execute(text("SET LOCAL statement_timeout = 1"))
        session.execute(text("SELECT pg_sleep(5)"))


def with_savepoints(db: Database, tenant: Inhabited) -> None:
    with db.tenant(tenant.id) as session:
        with pytest.raises(ZeroDivisionError), session.begin_nested():
            session.scalars(select(User)).all()
            raise ZeroDivisionError
        session.scalars(select(User)).all()


def of_no_tenant(db: Database, tenant: Inhabited) -> None:
    with db.session() as session:
        session.execute(select(1))


@pytest.mark.parametrize("use", [committed, rolled_back, refused_by_the_server, with_savepoints, of_no_tenant])
def test_nothing_of_a_transaction_stays_on_the_connection(
    use: Callable[[Database, Inhabited], None], superuser_url: str, open_db: OpenDatabase, home: Inhabited
) -> None:
    db = open_db(database_url=superuser_url, role="dataarch_app", pool_size=1, pool_overflow=0)
    before = state_of(db)
    assert before[2] == "none"
    assert before[1] != "dataarch_app"
    for _ in range(3):
        use(db, home)
        assert state_of(db) == before


def test_a_refused_role_leaves_nothing_on_the_connection(
    superuser_url: str, open_db: OpenDatabase, home: Inhabited
) -> None:
    db = open_db(database_url=superuser_url, pool_size=1, pool_overflow=0)
    before = state_of(db)
    for _ in range(2):
        with pytest.raises(RoleBypassesRowSecurity), db.tenant(home.id) as session:
            session.scalars(select(User)).all()
        assert state_of(db) == before


def test_a_statement_that_runs_too_long_is_ended_by_name(open_db: OpenDatabase, home: Inhabited) -> None:
    db = open_db(statement_timeout=0.05)
    with pytest.raises(StatementTimeout) as ended, db.tenant(home.id) as session:
        session.execute(text("SELECT pg_sleep(30)"))
    assert ended.value.sqlstate == "57014"
    assert isinstance(ended.value, Retryable)
    committed(db, home)


def test_a_lock_that_is_not_granted_ends_the_wait_by_name(
    shared_db: Database, open_db: OpenDatabase, home: Inhabited
) -> None:
    db = open_db(lock_timeout=0.05)
    with shared_db.tenant(home.id) as holder:
        holder.scalars(select(User).with_for_update()).all()
        with pytest.raises(LockTimeout) as ended, db.tenant(home.id) as session:
            session.scalars(select(User).with_for_update()).all()
    assert ended.value.sqlstate == "55P03"
    committed(db, home)


def test_a_transaction_left_idle_is_ended_by_name_and_the_pool_recovers(open_db: OpenDatabase, home: Inhabited) -> None:
    db = open_db(idle_in_transaction_timeout=0.05, pool_size=1, pool_overflow=0)
    with pytest.raises(StatementTimeout) as ended, db.tenant(home.id) as session:
        pid = session.scalar(text("SELECT pg_backend_pid()"))
        wait_for_the_end_of(pid, db)
        session.execute(text("SELECT 1"))
    assert ended.value.sqlstate == "25P03"
    committed(db, home)
    assert db.engine.pool.status().count("Current Checked out connections: 0") == 1


def wait_for_the_end_of(pid: int | None, db: Database) -> None:
    """Wait until a server process is gone."""
    with psycopg.connect(libpq(db.settings.owner), autocommit=True) as watcher:
        for _ in range(400):
            if not watcher.execute("SELECT FROM pg_stat_activity WHERE pid = %s", [pid]).fetchall():
                return
            watcher.execute("SELECT pg_sleep(0.01)")
    raise AssertionError(f"The server process {pid} is still there.")


def test_the_application_name_is_shown_by_the_server(open_db: OpenDatabase, home: Inhabited) -> None:
    query = text("SELECT application_name FROM pg_stat_activity WHERE pid = pg_backend_pid()")
    with open_db(application_name="web-7").tenant(home.id) as session:
        assert session.scalar(query) == "web-7"
    with open_db(application_name="web-7").owner() as session:
        assert session.scalar(query) == "web-7"


def test_a_parameter_of_the_url_comes_before_the_setting(
    shared_db: Database, open_db: OpenDatabase, home: Inhabited
) -> None:
    url = shared_db.settings.application.update_query_dict({"application_name": "from-url"})
    db = open_db(database_url=url.render_as_string(hide_password=False))
    with db.tenant(home.id) as session:
        query = text("SELECT application_name FROM pg_stat_activity WHERE pid = pg_backend_pid()")
        assert session.scalar(query) == "from-url"


def test_a_pool_with_no_connection_free_says_so_by_name(open_db: OpenDatabase, home: Inhabited) -> None:
    db = open_db(pool_size=1, pool_overflow=0, pool_timeout=0.05)
    with db.tenant(home.id) as outer:
        outer.scalars(select(User)).all()
        with pytest.raises(NoConnectionFree) as empty, db.tenant(home.id) as inner:
            inner.scalars(select(User)).all()
    assert isinstance(empty.value, Retryable)
    assert "DATAARCH_POOL_SIZE" in empty.value.hint
    committed(db, home)


def test_no_more_connections_are_open_than_the_settings_allow(open_db: OpenDatabase, home: Inhabited) -> None:
    db = open_db(pool_size=1, pool_overflow=1, application_name="counted")
    pids: list[int] = []

    def work() -> None:
        for _ in range(5):
            with db.tenant(home.id) as session:
                pids.extend(session.scalars(text("SELECT pg_backend_pid()")))
                together(session)

    def together(session: Session) -> None:
        query = text("SELECT count(*) FROM pg_stat_activity WHERE application_name = 'counted'")
        assert (session.scalar(query) or 0) <= 2

    threads = [threading.Thread(target=work) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(pids) == 30


def test_a_transaction_is_read_committed_whatever_the_servers_default(
    shared_db: Database, open_db: OpenDatabase, home: Inhabited
) -> None:
    url = shared_db.settings.application.update_query_dict({"options": "-c default_transaction_isolation=serializable"})
    db = open_db(database_url=url.render_as_string(hide_password=False))
    with db.tenant(home.id) as session:
        assert session.scalar(text("SHOW transaction_isolation")) == "read committed"
    with db.tenant(home.id, isolation=Isolation.REPEATABLE_READ) as session:
        assert session.scalar(text("SHOW transaction_isolation")) == "repeatable read"


def test_times_are_read_back_from_the_first_year_to_the_last_whatever_the_servers_zone(
    shared_db: Database, open_db: OpenDatabase, home: Inhabited
) -> None:
    url = shared_db.settings.application.update_query_dict({"options": "-c timezone=Pacific/Kiritimati"})
    db = open_db(database_url=url.render_as_string(hide_password=False))
    edges = [datetime(1, 1, 1, tzinfo=UTC), datetime(9999, 12, 31, 23, 59, tzinfo=UTC)]
    with db.tenant(home.id) as session:
        for edge in edges:
            session.add(UserActivity(user_id=home.user_id, activity_type="edge", created_at=edge))
    with db.tenant(home.id) as session:
        query = select(UserActivity.created_at).where(UserActivity.activity_type == "edge")
        assert sorted(session.scalars(query)) == edges
