"""Attacks through the first thing that is done with a connection: its transaction has not been begun until then.

Whatever a program does with the driver's own connection, it must find the transaction, the tenant and the role.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import replace
from typing import Any

import psycopg
import pytest
from psycopg import sql
from psycopg.pq import TransactionStatus
from psycopg.types import TypeInfo
from sqlalchemy import select, text

from dataarch.database.beginning import Prologue
from dataarch.database.driver import AsyncConnection, Connection
from dataarch.database.unit_of_work import AsyncDatabase, Database
from dataarch.errors import DataArchError, TenantNotSet, TenantSwitchRefused
from dataarch.models import User
from fixtures.tenants import inhabit
from isolation.attack import Target, driver, leaked
from isolation.conftest import mark

pytestmark = pytest.mark.isolation

QUERY = "SELECT tenant_id::text FROM users"
STATE = """
SELECT current_setting('dataarch.tenant_id', true), current_setting('statement_timeout'), now() < statement_timestamp()
"""

Driver = psycopg.Connection[Any]


@pytest.fixture
def target(shared_db: Database) -> Iterator[Target]:
    """Both tenants, new for each test, and a pool of one connection."""
    with Database(shared_db.settings.model_copy(update={"pool_size": 1, "statement_timeout": 7.0})) as db:
        acme, rival = inhabit(db, "acme"), inhabit(db, "rival")
        yield Target(db, acme, rival, mark(db, rival))


def copied(connection: Driver) -> object:
    with connection.cursor().copy(f"COPY ({QUERY}) TO STDOUT") as copy:
        return [bytes(part).decode().strip() for part in copy]


def copied_row_by_row(connection: Driver) -> object:
    with connection.cursor().copy(f"COPY ({QUERY}) TO STDOUT") as copy:
        return list(copy.rows())


def named_cursor(connection: Driver) -> object:
    with connection.cursor("spy") as cursor:
        return cursor.execute(QUERY).fetchall()


def scrolled_cursor(connection: Driver) -> object:
    with connection.cursor("spy", scrollable=True, withhold=True) as cursor:
        cursor.execute(QUERY)
        cursor.scroll(1)
        cursor.scroll(0, mode="absolute")
        return cursor.fetchone()


def streamed(connection: Driver) -> object:
    return list(connection.cursor().stream(QUERY))


def many(connection: Driver) -> object:
    cursor = connection.cursor()
    cursor.executemany(f"{QUERY} WHERE %s", [(True,), (False,)], returning=True)
    return cursor.fetchall()


def many_that_give_nothing(connection: Driver) -> object:
    cursor = connection.cursor()
    cursor.executemany("UPDATE users SET full_name = %s", [("Eve",), ("Eva",)])
    return cursor.rowcount


def in_a_transaction(connection: Driver) -> object:
    with connection.transaction():
        return connection.execute(QUERY).fetchall()


def in_a_pipeline(connection: Driver) -> object:
    with connection.pipeline():
        first, second = connection.execute(QUERY), connection.cursor().execute(QUERY)
    return [*first.fetchall(), *second.fetchall()]


def executed(connection: Driver) -> object:
    return connection.execute(QUERY).fetchall()


def executed_with_values(connection: Driver) -> object:
    return connection.execute(f"{QUERY} WHERE full_name <> %s", ["x"], prepare=True, binary=True).fetchall()


def executed_as_bytes(connection: Driver) -> object:
    return connection.execute(QUERY.encode()).fetchall()


def executed_as_composed_sql(connection: Driver) -> object:
    return connection.execute(sql.SQL("SELECT {} FROM users").format(sql.Identifier("full_name"))).fetchall()


def several_in_one(connection: Driver) -> object:
    cursor = connection.execute(f"SELECT 1; {QUERY}")
    cursor.nextset()
    return cursor.fetchall()


def other_cursors(connection: Driver) -> object:
    return [
        *psycopg.ClientCursor(connection).execute(QUERY).fetchall(),
        *psycopg.RawCursor(connection).execute(QUERY).fetchall(),
    ]


def plain_cursor(connection: Driver) -> object:
    return psycopg.Cursor(connection).execute(QUERY).fetchall()


def factory_replaced(connection: Driver) -> object:
    connection.cursor_factory = psycopg.ClientCursor
    try:
        return connection.execute(QUERY).fetchall()
    finally:
        connection.cursor_factory = psycopg.Cursor


def with_a_comment_in_front(connection: Driver) -> object:
    return connection.execute(f"/* spy */ {QUERY}").fetchall()


def types_asked_for(connection: Driver) -> object:
    return TypeInfo.fetch(connection, "uuid")


def notifies(connection: Driver) -> object:
    return list(connection.notifies(timeout=0))


def refused_before_it_is_sent(connection: Driver) -> object:
    with suppress(psycopg.ProgrammingError):
        connection.execute(f"{QUERY} WHERE full_name = %s", [object()])
    return connection.execute(QUERY).fetchall()


def mode_changed(connection: Driver) -> object:
    refused = []
    for name, value in (("autocommit", False), ("isolation_level", None), ("read_only", True), ("deferrable", True)):
        with pytest.raises(psycopg.ProgrammingError) as error:
            setattr(connection, name, value)
        refused.append(str(error.value))
    return refused


def two_phases(connection: Driver) -> object:
    with pytest.raises(psycopg.ProgrammingError):
        connection.tpc_begin("spy")
    return connection.execute(QUERY).fetchall()


USES: list[Callable[[Driver], object]] = [
    copied,
    copied_row_by_row,
    named_cursor,
    scrolled_cursor,
    streamed,
    many,
    many_that_give_nothing,
    in_a_transaction,
    in_a_pipeline,
    executed,
    executed_with_values,
    executed_as_bytes,
    executed_as_composed_sql,
    several_in_one,
    other_cursors,
    plain_cursor,
    factory_replaced,
    with_a_comment_in_front,
    types_asked_for,
    notifies,
    refused_before_it_is_sent,
    mode_changed,
    two_phases,
]


def read(target: Target) -> None:
    """Let the rival use the connection, so that the next transaction on it waits to be begun."""
    with target.db.reading(target.rival.id) as session:
        session.scalars(select(User.id)).all()


def committed(target: Target) -> None:
    with target.db.tenant(target.rival.id) as session:
        session.scalars(select(User.id)).all()


@pytest.mark.parametrize("before", [committed, read], ids=["after a commit", "while a commit is unanswered"])
@pytest.mark.parametrize("use", USES, ids=lambda use: use.__name__)
def test_m01_whatever_is_done_first_is_done_in_the_tenants_transaction(
    use: Callable[[Driver], object], before: Callable[[Target], None], target: Target
) -> None:
    before(target)
    with target.db.tenant(target.acme.id) as session:
        connection = driver(session)
        assert isinstance(connection, Connection)
        # nothing has been sent, and the use does come first
        assert connection.beginning is not None
        assert connection.unanswered is (before is read)
        came = use(connection)
        assert leaked(came, target, echoes=False) == []
        assert connection.info.transaction_status is not TransactionStatus.IDLE
        assert connection.execute(STATE).fetchall() == [(str(target.acme.id), "7s", True)]
    with target.db.owner() as session:
        names = session.scalars(select(User.full_name).where(User.tenant_id == target.rival.id)).all()
    assert names == [target.secret]


def test_m01_two_threads_that_share_a_connection_do_not_get_past_its_beginning(target: Target) -> None:
    came: list[object] = []
    for _ in range(30):
        read(target)
        with target.db.tenant(target.acme.id) as session:
            connection = driver(session)
            go = threading.Barrier(4)

            def ask(connection: Driver = connection, go: threading.Barrier = go) -> None:
                go.wait()
                with suppress(psycopg.Error):
                    came.append(psycopg.Cursor(connection).execute(QUERY).fetchall())
                with suppress(psycopg.Error):
                    came.append(connection.execute(QUERY).fetchall())

            threads = [threading.Thread(target=ask) for _ in range(4)]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()
    assert leaked(came, target, echoes=False) == []
    assert [(str(target.acme.id),)] in came


async def test_m01_it_is_the_same_under_asyncio(target: Target) -> None:
    async with AsyncDatabase(target.db.settings) as db:
        for use in ("execute", "cursor", "copy", "stream", "named", "many", "pipeline", "transaction"):
            for opens in (db.tenant, db.reading):
                async with opens(target.rival.id) as session:
                    await session.scalars(select(User.id))
                async with db.tenant(target.acme.id) as session:
                    raw = await session.connection()
                    connection = (await raw.get_raw_connection()).driver_connection
                    assert isinstance(connection, AsyncConnection)
                    waiting = connection.beginning is not None
                    came = await used(connection, use)
                    assert waiting
                    assert came
                    assert leaked(came, target, echoes=False) == []
                    state = await (await connection.execute(STATE)).fetchall()
                    assert state == [(str(target.acme.id), "7s", True)]


async def used(connection: AsyncConnection, use: str) -> object:  # noqa: PLR0911  # one for each use
    cursor = connection.cursor()
    if use == "execute":
        return await (await connection.execute(QUERY)).fetchall()
    if use == "cursor":
        return await (await psycopg.AsyncCursor(connection).execute(QUERY)).fetchall()
    if use == "copy":
        async with cursor.copy(f"COPY ({QUERY}) TO STDOUT") as copy:
            return [row async for row in copy.rows()]
    if use == "stream":
        return [row async for row in cursor.stream(QUERY)]
    if use == "named":
        async with connection.cursor("spy") as named:
            await named.execute(QUERY)
            return await named.fetchall()
    if use == "many":
        await cursor.executemany(f"{QUERY} WHERE %s", [(True,), (False,)], returning=True)
        return await cursor.fetchall()
    if use == "pipeline":
        async with connection.pipeline():
            await cursor.execute(QUERY)
        return await cursor.fetchall()
    async with connection.transaction():
        return await (await connection.execute(QUERY)).fetchall()


@pytest.mark.parametrize("use", [executed, copied, in_a_pipeline], ids=lambda use: use.__name__)
@pytest.mark.parametrize("refused", ["BEGIN", "the role"])
def test_m01_a_beginning_that_was_refused_lets_nothing_run_outside_of_it(
    refused: str, use: Callable[[Driver], object], target: Target
) -> None:
    committed(target)
    came: list[object] = []
    with pytest.raises(DataArchError), target.db.tenant(target.acme.id) as session:
        connection = driver(session)
        assert isinstance(connection, Connection)
        assert connection.beginning is not None
        nobody = Prologue(target.db.settings.model_copy(update={"role": "dataarch_nobody"}))
        changed: dict[str, Any] = {"BEGIN": {"isolation": "NONE"}, "the role": {"prologue": nobody}}
        connection.beginning = replace(connection.beginning, **changed[refused])
        for _ in range(3):
            with pytest.raises((psycopg.errors.SyntaxError, psycopg.DataError, psycopg.errors.InFailedSqlTransaction)):
                came.append(use(connection))
        raise TenantNotSet("leave")
    assert came == []
    # what it left behind is in nobody's way
    with target.db.tenant(target.acme.id) as session:
        assert session.scalars(select(User.tenant_id)).all() == [target.acme.id]


@pytest.mark.parametrize("name", ["begin_unit", "BEGIN_UNIT", 'public."begin_unit"'])
def test_m01_the_function_that_begins_a_unit_of_work_is_not_for_statements(name: str, target: Target) -> None:
    call = f"SELECT {name}('{target.rival.id}', NULL, 1000, 1000, 1000)"
    with pytest.raises(TenantSwitchRefused), target.db.tenant(target.acme.id) as session:
        session.execute(text(call))


TRAP = (
    "CREATE FUNCTION pg_temp.spy(given pg_catalog.uuid) RETURNS boolean LANGUAGE plpgsql"
    " AS $$ BEGIN RAISE EXCEPTION USING MESSAGE = given; END $$",
    "CREATE DOMAIN pg_temp.uuid AS pg_catalog.uuid CHECK (pg_temp.spy(VALUE))",
)


def test_a_type_that_raw_sql_has_left_behind_does_not_see_the_next_tenant(target: Target) -> None:
    with target.db.tenant(target.acme.id) as session:
        for statement in TRAP:
            session.connection().exec_driver_sql(statement)
    with target.db.tenant(target.rival.id) as session:
        assert session.scalar(select(User.tenant_id).limit(1)) == target.rival.id
        assert session.scalar(text("SELECT to_regtype('pg_temp.uuid')")) is None
