"""A server that is down, dies, is too old, says nothing or is not migrated: named errors, and recovery."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import psycopg
import pytest
from sqlalchemy import select, text

from dataarch.database.settings import Settings
from dataarch.database.unit_of_work import AsyncDatabase, Database
from dataarch.errors import SchemaNotMigrated, ServerTooOld, ServerUnreachable
from dataarch.models import User
from dataarch.models.base import new_id
from database.opening import OpenDatabase
from database.wire import Proxy, closed_port, old_server, proxy, silent_server
from fixtures.servers import libpq
from fixtures.tenants import Inhabited


def read(db: Database, tenant: Inhabited) -> None:
    """Run the smallest unit of work."""
    with db.tenant(tenant.id) as session:
        assert session.scalars(select(User.id)).one() == tenant.user_id


def terminate(db: Database, pid: int | None) -> None:
    """End a server process as an administrator does, and wait until it is gone."""
    with psycopg.connect(libpq(db.settings.application), autocommit=True) as connection:
        connection.execute("SELECT pg_terminate_backend(%s, 5000)", [pid])


def pid_of(db: Database, tenant: Inhabited) -> int:
    with db.tenant(tenant.id) as session:
        return int(session.execute(text("SELECT pg_backend_pid()")).scalar_one())


def contexts(error: BaseException) -> Iterator[BaseException]:
    """Give what led to an error."""
    while (earlier := error.__cause__ or error.__context__) is not None:
        yield (error := earlier)


def of_a_tenant(db: Database) -> Any:
    return db.tenant(new_id())


def of_nobody(db: Database) -> Any:
    return db.session()


def of_the_owner(db: Database) -> Any:
    return db.owner()


EACH_KIND = pytest.mark.parametrize("kind", [of_a_tenant, of_nobody, of_the_owner])


@EACH_KIND
def test_a_server_that_is_down_is_unreachable(kind: Callable[[Database], Any]) -> None:
    with Database(Settings(database_url=closed_port())) as db:
        for _ in range(2):
            with pytest.raises(ServerUnreachable) as error, kind(db) as session:
                session.execute(select(1))
            assert "refused" in error.value.message
            assert error.value.hint


def test_a_server_that_never_answers_is_unreachable_after_the_connect_timeout() -> None:
    with (
        silent_server() as url,
        Database(Settings(database_url=url, connect_timeout=1)) as db,
        pytest.raises(ServerUnreachable),
        db.session() as session,
    ):
        session.execute(select(1))


@EACH_KIND
def test_a_server_older_than_15_is_refused_each_time_and_its_connection_closed(kind: Callable[[Database], Any]) -> None:
    with old_server() as server, Database(Settings(database_url=server.url())) as db:
        for _ in range(2):
            with pytest.raises(ServerTooOld) as error, kind(db) as session:
                session.execute(select(1))
            assert "14" in error.value.message
            assert server.left.acquire(timeout=10)


async def test_a_server_older_than_15_is_refused_under_asyncio_too() -> None:
    with old_server() as server:
        async with AsyncDatabase(Settings(database_url=server.url())) as db:
            with pytest.raises(ServerTooOld) as error:
                async with db.session() as session:
                    await session.execute(select(1))
            assert "14" in error.value.message
            assert server.left.acquire(timeout=10)


async def test_a_server_that_is_down_is_unreachable_under_asyncio_too() -> None:
    async with AsyncDatabase(Settings(database_url=closed_port())) as db:
        with pytest.raises(ServerUnreachable):
            async with db.tenant(new_id()) as session:
                await session.execute(select(User))


def test_a_database_without_the_tables_is_not_migrated(empty_database: Settings) -> None:
    owner_as_application = empty_database.model_copy(update={"database_url": empty_database.owner_url})
    with Database(owner_as_application) as db:
        with pytest.raises(SchemaNotMigrated) as tenant_error, db.tenant(new_id()) as session:
            session.scalars(select(User)).all()
        with pytest.raises(SchemaNotMigrated) as owner_error, db.owner() as session:
            session.scalars(select(User)).all()
    assert (tenant_error.value.sqlstate, owner_error.value.sqlstate) == ("42883", "42P01")
    for error in (tenant_error, owner_error):
        assert "alembic upgrade head" in error.value.hint


def test_a_role_that_cannot_log_in_is_unreachable_in_the_words_of_the_server(shared_db: Database) -> None:
    url = shared_db.settings.application.set(username="dataarch_nobody", password="hunter2")
    settings = Settings(database_url=url.render_as_string(hide_password=False))
    with Database(settings) as db, pytest.raises(ServerUnreachable) as error, db.session() as session:
        session.execute(select(1))
    assert "dataarch_nobody" in error.value.message
    assert "hunter2" not in f"{error.value}{error.value.__cause__}"


def test_a_database_that_does_not_exist_is_unreachable_in_the_words_of_the_server(shared_db: Database) -> None:
    url = shared_db.settings.application.set(database="dataarch_nowhere")
    settings = Settings(database_url=url.render_as_string(hide_password=False))
    with Database(settings) as db, pytest.raises(ServerUnreachable) as error, db.session() as session:
        session.execute(select(1))
    assert "dataarch_nowhere" in error.value.message


def test_the_second_of_several_hosts_is_used_when_the_first_is_down(
    shared_db: Database, wire: Proxy, home: Inhabited
) -> None:
    down, up = (url.split("@")[1].split("/")[0] for url in (closed_port(), wire.url()))
    url = wire.url().replace(up, f"{down},{up}")
    with Database(Settings(database_url=url)) as db:
        read(db, home)


# ── a connection that breaks ──────────────────────────────────────────────────────────────────────────────────────


def test_a_server_that_dies_in_the_middle_is_unreachable_and_the_next_unit_of_work_succeeds(
    shared_db: Database, open_db: OpenDatabase, home: Inhabited
) -> None:
    db = open_db()
    with pytest.raises(ServerUnreachable) as error, db.tenant(home.id) as session:
        terminate(shared_db, session.scalar(text("SELECT pg_backend_pid()")))
        session.execute(select(User))
    assert error.value.sqlstate == "57P01"
    read(db, home)


def test_a_server_that_dies_before_the_commit_is_unreachable_and_nothing_is_written(
    shared_db: Database, open_db: OpenDatabase, home: Inhabited
) -> None:
    db = open_db()
    with pytest.raises(ServerUnreachable), db.tenant(home.id) as session:
        session.add(User(email="lost@example.com", full_name="Lost"))
        session.flush()
        terminate(shared_db, session.scalar(text("SELECT pg_backend_pid()")))
    with db.tenant(home.id) as session:
        assert session.scalars(select(User).where(User.email == "lost@example.com")).all() == []


def test_an_error_after_the_connection_broke_is_the_context_of_the_unreachable_server(
    shared_db: Database, open_db: OpenDatabase, home: Inhabited
) -> None:
    db = open_db()
    with pytest.raises(ServerUnreachable) as error, db.tenant(home.id) as session:
        terminate(shared_db, session.scalar(text("SELECT pg_backend_pid()")))
        raise ZeroDivisionError
    assert any(isinstance(earlier, ZeroDivisionError) for earlier in contexts(error.value))
    read(db, home)


def test_a_connection_that_died_in_the_pool_fails_no_unit_of_work(
    shared_db: Database, open_db: OpenDatabase, home: Inhabited
) -> None:
    db = open_db(pool_size=1)
    before = pid_of(db, home)
    terminate(shared_db, before)
    after = pid_of(db, home)
    assert after != before


@pytest.mark.parametrize("kind", [of_a_tenant, of_nobody, of_the_owner])
def test_a_restart_of_the_server_fails_no_unit_of_work_afterwards(
    kind: Callable[[Database], Any], open_db: OpenDatabase, wire: Proxy, shared_db: Database
) -> None:
    with proxy(shared_db.settings.owner) as owner_wire:
        db = open_db(database_url=wire.url(), owner_url=owner_wire.url(), pool_size=3)
        with kind(db) as one, kind(db) as two, kind(db) as three:
            for session in (one, two, three):
                session.execute(select(1))
        wire.cut()
        owner_wire.cut()
        for _ in range(4):
            with kind(db) as session:
                assert session.execute(select(1)).scalar_one() == 1


async def test_a_connection_that_died_in_the_pool_fails_no_unit_of_work_under_asyncio(
    open_db: OpenDatabase, wire: Proxy, home: Inhabited
) -> None:
    settings = open_db(database_url=wire.url(), pool_size=1).settings
    async with AsyncDatabase(settings) as db:
        for _ in range(3):
            async with db.tenant(home.id) as session:
                assert (await session.scalars(select(User.id))).one() == home.user_id
            wire.cut()


def test_a_server_that_went_away_is_unreachable_and_found_again_when_it_is_back(
    shared_db: Database, open_db: OpenDatabase, home: Inhabited
) -> None:
    with proxy(shared_db.settings.application) as short_lived:
        db = open_db(database_url=short_lived.url())
        read(db, home)
    for _ in range(2):
        with pytest.raises(ServerUnreachable):
            read(db, home)
    with proxy(shared_db.settings.application, port=short_lived.port):
        read(db, home)
