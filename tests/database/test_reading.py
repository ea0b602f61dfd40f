"""Units of work that only read: what the server refuses, and a COMMIT that nobody waits for."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from contextlib import suppress
from datetime import timedelta
from typing import Any

import psycopg
import pytest
from sqlalchemy import delete, func, insert, select, text, update

from dataarch.clock import utcnow
from dataarch.database.driver import Connection
from dataarch.database.tenancy import Isolation
from dataarch.database.unit_of_work import AsyncDatabase, Database, TenantSession
from dataarch.errors import (
    DataArchError,
    ReadOnlyUnit,
    ServerUnreachable,
    StatementTimeout,
    TenantNotSet,
    TenantSwitchRefused,
)
from dataarch.models import User
from database.opening import OpenDatabase
from database.wire import Proxy
from fixtures.servers import libpq
from fixtures.tenants import Inhabited

FAR_AHEAD = (utcnow() + timedelta(days=2000)).date()


def read(db: Database, tenant: Inhabited) -> None:
    with db.reading(tenant.id) as session:
        assert session.scalars(select(User.tenant_id)).all() == [tenant.id]


def write(db: Database, tenant: Inhabited, name: str) -> None:
    with db.tenant(tenant.id) as session:
        session.execute(update(User).values(full_name=name))


def driver_of(db: Database) -> Connection:
    """Return the connection that the pool gives next, as it lies there."""
    raw = db.engine.raw_connection()
    driver = raw.driver_connection
    raw.close()
    assert isinstance(driver, Connection)
    return driver


def added(session: TenantSession) -> None:
    session.add(User(email="new@example.com", full_name="New"))


def changed(session: TenantSession) -> None:
    session.scalars(select(User)).one().full_name = "Changed"


WRITES: dict[str, Callable[[TenantSession], object]] = {
    "an object that is added": added,
    "an object that is changed": changed,
    "INSERT": lambda session: session.execute(insert(User).values(tenant_id=session.tenant_id, full_name="New")),
    "UPDATE": lambda session: session.execute(update(User).values(full_name="Changed")),
    "DELETE": lambda session: session.execute(delete(User)),
    "raw SQL": lambda session: session.execute(text("UPDATE users SET full_name = 'Changed'")),
    "a WITH that writes": lambda session: session.execute(
        text("WITH one AS (DELETE FROM users RETURNING id) SELECT * FROM one")
    ),
    "a function that writes": lambda session: session.scalar(select(func.create_activity_partition(FAR_AHEAD))),
    "a lock": lambda session: session.execute(select(User.id).with_for_update()),
}


@pytest.mark.parametrize("write_it", WRITES.values(), ids=WRITES)
def test_the_server_refuses_to_write(
    write_it: Callable[[TenantSession], object], open_db: OpenDatabase, home: Inhabited
) -> None:
    db = open_db(pool_size=1)
    for _ in range(3):  # begun by itself, and together with the statement
        with suppress(DataArchError):
            read(db, home)
        with pytest.raises(ReadOnlyUnit) as refused, db.reading(home.id) as session:
            write_it(session)
        assert refused.value.sqlstate == "25006"
        assert "db.tenant" in refused.value.hint
    with db.tenant(home.id) as session:
        assert session.scalar(select(func.count()).select_from(User)) == 1
        assert session.scalar(select(User.full_name)) != "Changed"


@pytest.mark.parametrize(
    "statement",
    ["SET TRANSACTION READ WRITE", "SET LOCAL transaction_read_only = off", "SET transaction_read_only = 0"],
)
@pytest.mark.parametrize("earlier", [0, 2], ids=["begun by itself", "begun with the statement"])
def test_it_cannot_be_made_to_write(statement: str, earlier: int, open_db: OpenDatabase, home: Inhabited) -> None:
    db = open_db(pool_size=1)
    for _ in range(earlier):
        read(db, home)
    with pytest.raises(psycopg.errors.ActiveSqlTransaction), db.reading(home.id) as session:
        driver = session.connection().connection.driver_connection
        assert isinstance(driver, psycopg.Connection)
        driver.execute(statement.encode())


def test_the_tenants_border_is_the_same(open_db: OpenDatabase, home: Inhabited, abroad: Inhabited) -> None:
    db = open_db(pool_size=1)
    for tenant in (home, abroad) * 3:
        read(db, tenant)
        with db.reading(tenant.id) as session:
            assert session.scalars(text("SELECT tenant_id FROM users")).all() == [tenant.id]
    with pytest.raises(TenantSwitchRefused), db.reading(home.id) as session:
        session.execute(select(func.set_tenant(abroad.id)))
    with pytest.raises(TenantNotSet), db.reading("nobody") as session:
        pass


def test_all_of_its_reads_may_be_as_of_one_moment(open_db: OpenDatabase, home: Inhabited) -> None:
    db = open_db()
    for _ in range(2):
        with db.reading(home.id, isolation=Isolation.REPEATABLE_READ) as session:
            before = session.scalars(select(User.full_name)).one()
            write(db, home, before + "!")
            assert session.scalars(select(User.full_name)).one() == before


def test_of_a_serializable_one_the_commit_is_waited_for(open_db: OpenDatabase, wire: Proxy, home: Inhabited) -> None:
    db = open_db(database_url=wire.url())
    wire.patience = 0.2
    for _ in range(2):
        with db.reading(home.id, isolation=Isolation.SERIALIZABLE) as session:
            session.scalars(select(User.id)).all()
    assert wire.waited == 2


# ── the answer that nobody waited for ─────────────────────────────────────────────────────────────────────────────


def test_the_next_use_of_the_connection_finds_no_transaction(open_db: OpenDatabase, home: Inhabited) -> None:
    db = open_db(pool_size=1)
    read(db, home)
    driver = driver_of(db)
    unanswered = [driver.unanswered]
    query = "SELECT current_setting('dataarch.tenant_id', true), current_setting('transaction_read_only')"
    assert driver.execute(query).fetchall() == [("", "off")]
    unanswered.append(driver.unanswered)
    assert unanswered == [True, False]
    assert driver.info.transaction_status == psycopg.pq.TransactionStatus.IDLE


def test_what_is_written_next_is_written_and_waited_for(open_db: OpenDatabase, wire: Proxy, home: Inhabited) -> None:
    db = open_db(database_url=wire.url(), pool_size=1)
    wire.patience = 0.2
    for name in ("One", "Two", "Three"):
        read(db, home)
        waited = wire.waited
        write(db, home, name)
        assert wire.waited == waited + 1
        with db.reading(home.id) as session:
            assert session.scalars(select(User.full_name)).one() == name


def test_a_unit_of_work_without_a_statement_leaves_nothing(open_db: OpenDatabase, home: Inhabited) -> None:
    db = open_db(pool_size=1)
    read(db, home)
    for _ in range(2):
        with db.reading(home.id) as session:
            session.connection()
    driver = driver_of(db)
    assert driver.beginning is None
    assert not driver.unwaited
    write(db, home, "Ada")


def test_a_unit_of_work_that_fails_leaves_nothing(open_db: OpenDatabase, home: Inhabited) -> None:
    db = open_db(pool_size=1)
    for _ in range(3):
        read(db, home)
        with pytest.raises(ZeroDivisionError), db.reading(home.id) as session:
            session.scalars(select(User.id)).all()
            raise ZeroDivisionError
        assert not driver_of(db).unwaited
        with pytest.raises(StatementTimeout), db.reading(home.id) as session:
            session.execute(text("SET LOCAL statement_timeout = 1"))
            session.execute(text("SELECT pg_sleep(5)"))
    write(db, home, "Ada")


def test_a_statement_time_out_holds_for_the_first_statement(open_db: OpenDatabase, home: Inhabited) -> None:
    db = open_db(pool_size=1, statement_timeout=0.3)
    for opens in (db.reading, db.tenant):
        read(db, home)
        with pytest.raises(StatementTimeout), opens(home.id) as session:
            session.execute(select(func.pg_sleep(20)))


def test_a_server_that_went_away_afterwards_fails_nobody(open_db: OpenDatabase, wire: Proxy, home: Inhabited) -> None:
    db = open_db(database_url=wire.url(), pool_size=1)
    for _ in range(3):
        read(db, home)
        wire.cut()
        read(db, home)
        write(db, home, "Ada")


def test_a_server_process_that_was_killed_afterwards_fails_nobody(open_db: OpenDatabase, home: Inhabited) -> None:
    db = open_db(pool_size=1)
    for _ in range(2):
        read(db, home)
        pid = driver_of(db).info.backend_pid
        with psycopg.connect(libpq(db.settings.application), autocommit=True) as connection:
            connection.execute("SELECT pg_terminate_backend(%s, 5000)", [pid])
        read(db, home)
        assert driver_of(db).info.backend_pid != pid


def test_a_server_process_that_is_killed_meanwhile_is_unreachable(open_db: OpenDatabase, home: Inhabited) -> None:
    db = open_db(pool_size=1)
    read(db, home)
    with pytest.raises(ServerUnreachable), db.reading(home.id) as session:
        pid = session.scalar(select(func.pg_backend_pid()))
        with psycopg.connect(libpq(db.settings.application), autocommit=True) as connection:
            connection.execute("SELECT pg_terminate_backend(%s, 5000)", [pid])
        session.scalars(select(User)).all()
    read(db, home)


def test_a_pool_is_closed_while_answers_are_under_way(open_db: OpenDatabase, home: Inhabited) -> None:
    db = open_db(application_name="closing")
    for _ in range(3):
        with db.reading(home.id) as one, db.reading(home.id) as two:
            for session in (one, two):
                session.scalars(select(User.id)).all()
        db.close()
    read(db, home)


def test_an_answer_that_is_late_is_read_before_anything_else(
    open_db: OpenDatabase, wire: Proxy, home: Inhabited
) -> None:
    db = open_db(database_url=wire.url(), pool_size=1)
    read(db, home)
    wire.patience = 0.3
    read(db, home)
    with db.tenant(home.id) as session:
        driver = session.connection().connection.driver_connection
        assert isinstance(driver, Connection)
        assert driver.unanswered
        with driver.cursor("named") as cursor:
            assert len(cursor.execute("SELECT tenant_id FROM users").fetchall()) == 1


def test_many_threads_read_and_write_through_few_connections(
    open_db: OpenDatabase, home: Inhabited, abroad: Inhabited
) -> None:
    db = open_db(pool_size=2, pool_overflow=0, pool_timeout=60)
    failed: list[BaseException] = []

    def work(tenant: Inhabited) -> None:
        try:
            for each in range(25):
                read(db, tenant)
                write(db, tenant, f"Ada {each}")
                with suppress(ZeroDivisionError), db.reading(tenant.id) as session:
                    session.scalars(select(User.id)).all()
                    1 / 0  # noqa: B018
        except BaseException as error:  # noqa: BLE001  # shown by the test
            failed.append(error)

    threads = [threading.Thread(target=work, args=[tenant]) for tenant in (home, abroad) * 3]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failed == []


async def test_a_task_that_is_cancelled_leaves_a_sound_pool(
    open_db: OpenDatabase, home: Inhabited, abroad: Inhabited
) -> None:
    async with AsyncDatabase(open_db(pool_size=2, pool_overflow=0).settings) as db:

        async def slow(opens: Callable[..., Any]) -> None:
            async with opens(home.id) as session:
                await session.execute(select(func.pg_sleep(0.5)))

        async def quick(tenant: Inhabited) -> None:
            async with db.reading(tenant.id) as session:
                assert (await session.scalars(select(User.tenant_id))).all() == [tenant.id]

        for pause in (0.0, 0.001, 0.003, 0.01, 0.03, 0.1):
            for opens in (db.reading, db.tenant):
                await quick(home)
                task = asyncio.create_task(slow(opens))
                await asyncio.sleep(pause)
                task.cancel()
                # SQLAlchemy 2.0 may lose a wish to cancel; then the task ends by itself
                with suppress(asyncio.CancelledError):
                    await task
                await asyncio.gather(*(quick(tenant) for tenant in (home, abroad, home, abroad)))


@pytest.mark.parametrize(("threshold", "answered"), [(None, True), (1, False)])
def test_behind_an_old_pooler_no_commit_is_left_unanswered(
    open_db: OpenDatabase, home: Inhabited, threshold: int | None, answered: bool
) -> None:
    db = open_db(pool_size=1, prepare_threshold=threshold)
    read(db, home)
    read(db, home)
    assert (driver_of(db).pgconn.pipeline_status == psycopg.pq.PipelineStatus.OFF) is answered
