"""The same under asyncio: units of work, errors, cancellation, and many tasks on few connections."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from uuid import uuid4

import psycopg
import pytest
from sqlalchemy import AsyncAdaptedQueuePool, event, func, insert, select, text
from sqlalchemy.exc import InvalidRequestError
from sqlalchemy.orm import Session, selectinload

from dataarch.database.unit_of_work import AsyncDatabase, Database, TenantSession
from dataarch.errors import (
    EmailTaken,
    LockTimeout,
    MissingValue,
    NoConnectionFree,
    ServerUnreachable,
    SlugTaken,
    StatementTimeout,
    TenantMismatch,
    TenantNotSet,
)
from dataarch.models import Product, Tenant, User
from database.opening import tuned
from fixtures.servers import libpq
from fixtures.tenants import Inhabited


@pytest.fixture
async def db(shared_db: Database) -> AsyncIterator[AsyncDatabase]:
    """The file's database under asyncio, with two connections at most."""
    async with AsyncDatabase(tuned(shared_db.settings, pool_size=2, pool_overflow=0)) as database:
        yield database


def person(name: str) -> User:
    return User(email=f"{uuid4().hex}@example.com", full_name=name)


async def names(db: AsyncDatabase, tenant: Inhabited) -> set[str]:
    async with db.tenant(tenant.id) as session:
        return set(await session.scalars(select(User.full_name)))


def in_use(db: AsyncDatabase) -> int:
    assert isinstance(db.engine.pool, AsyncAdaptedQueuePool)
    return db.engine.pool.checkedout()


async def test_it_commits_at_its_end_and_its_objects_can_be_used_afterwards(db: AsyncDatabase, home: Inhabited) -> None:
    made = person("Committed")
    async with db.tenant(home.id) as session:
        session.add(made)
    assert "Committed" in await names(db, home)
    assert (made.tenant_id, made.full_name) == (home.id, "Committed")


async def test_an_error_leaves_nothing_of_it(db: AsyncDatabase, home: Inhabited) -> None:
    with pytest.raises(ZeroDivisionError):
        async with db.tenant(home.id) as session:
            session.add(person("Lost"))
            await session.flush()
            raise ZeroDivisionError
    assert "Lost" not in await names(db, home)


async def test_an_error_of_the_database_has_its_name(db: AsyncDatabase, home: Inhabited) -> None:
    taken = person("First")
    async with db.tenant(home.id) as session:
        session.add(taken)
    with pytest.raises(EmailTaken) as refused:
        async with db.tenant(home.id) as session:
            session.add(User(email=taken.email, full_name="Again"))
    assert refused.value.constraint == "uq_users_tenant_id_email"


async def test_a_savepoint_keeps_what_came_before_it(db: AsyncDatabase, home: Inhabited) -> None:
    async with db.tenant(home.id) as session:
        session.add(person("Outside"))
        with pytest.raises(SlugTaken):
            async with session.begin_nested():
                session.add(Product(slug="tea-pot", name="Second", price=1, currency="EUR"))
    assert "Outside" in await names(db, home)


async def test_a_row_of_another_tenant_is_refused(db: AsyncDatabase, home: Inhabited, abroad: Inhabited) -> None:
    with pytest.raises(TenantMismatch):
        async with db.tenant(home.id) as session:
            session.add(User(tenant_id=abroad.id, email="eve@example.com", full_name="Eve"))


async def test_a_bulk_insert_without_a_tenant_is_a_missing_value(db: AsyncDatabase, home: Inhabited) -> None:
    with pytest.raises(MissingValue):
        async with db.tenant(home.id) as session:
            await session.execute(insert(User), [{"email": "x@example.com", "full_name": "X"}])


async def test_statements_name_the_tenant(db: AsyncDatabase, home: Inhabited) -> None:
    sent: list[str] = []
    event.listen(db.engine.sync_engine, "before_cursor_execute", lambda *given: sent.append(given[2]))
    async with db.tenant(home.id) as session:
        user = (await session.scalars(select(User).options(selectinload(User.profile)).limit(1))).one()
    assert user.tenant_id == home.id
    reads = [statement for statement in sent if "FROM user" in statement]
    assert len(reads) == 2
    assert all("tenant_id = %(" in statement for statement in reads)


async def test_synchronous_code_runs_on_the_same_session(db: AsyncDatabase, home: Inhabited) -> None:
    def lazy(session: Session) -> str | None:
        assert isinstance(session, TenantSession)
        user = session.get_one(User, (session.tenant_id, home.user_id))
        return user.profile.display_name if user.profile else None

    async with db.tenant(home.id) as session:
        assert await session.run_sync(lazy) == "Ada"


async def test_a_session_of_no_tenant_refuses_tenants_tables(db: AsyncDatabase, home: Inhabited) -> None:
    with pytest.raises(TenantNotSet):
        async with db.session() as session:
            await session.execute(select(User))
    async with db.session() as session:
        assert await session.scalar(select(func.find_tenant(home.slug))) == home.id


async def test_the_owner_sees_every_tenant(db: AsyncDatabase, home: Inhabited, abroad: Inhabited) -> None:
    async with db.owner() as session:
        assert {home.id, abroad.id} <= set(await session.scalars(select(Tenant.id)))


async def test_a_session_is_refused_after_its_block(db: AsyncDatabase, home: Inhabited) -> None:
    async with db.tenant(home.id) as session:
        await session.execute(select(User))
    with pytest.raises(InvalidRequestError):
        await session.execute(select(User))


async def test_twenty_tasks_share_two_connections_and_never_a_tenant(
    db: AsyncDatabase, home: Inhabited, abroad: Inhabited
) -> None:
    async def owners(tenant: Inhabited) -> bool:
        async with db.tenant(tenant.id) as session:
            await session.execute(text("SELECT pg_sleep(0.005)"))
            return set(await session.scalars(select(User.tenant_id))) == {tenant.id}

    assert all(await asyncio.gather(*(owners(tenant) for tenant in [home, abroad] * 10)))
    assert in_use(db) == 0


async def test_a_pool_with_no_connection_free_says_so_by_name(shared_db: Database, home: Inhabited) -> None:
    settings = tuned(shared_db.settings, pool_size=1, pool_overflow=0, pool_timeout=0.05)
    async with AsyncDatabase(settings) as db, db.tenant(home.id) as outer:
        await outer.execute(select(User))
        with pytest.raises(NoConnectionFree):
            async with db.tenant(home.id) as inner:
                await inner.execute(select(User))


async def test_a_cancelled_task_leaves_nothing_of_it_and_frees_its_connection(
    db: AsyncDatabase, home: Inhabited
) -> None:
    started = asyncio.Event()

    async def work() -> None:
        async with db.tenant(home.id) as session:
            session.add(person("Cancelled"))
            await session.flush()
            started.set()
            await asyncio.sleep(60)

    task = asyncio.create_task(work())
    await started.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert in_use(db) == 0
    assert "Cancelled" not in await names(db, home)


async def test_a_task_cancelled_while_it_waits_for_the_server_stops_its_statement_there(
    shared_db: Database, db: AsyncDatabase, home: Inhabited
) -> None:
    async def work() -> None:
        async with db.tenant(home.id) as session:
            session.add(person("Cancelled at the server"))
            await session.flush()
            await session.execute(text("SELECT pg_sleep(60), 'to be cancelled'"))

    query = "SELECT count(*) FROM pg_stat_activity WHERE query LIKE '%to be ' || 'cancelled%' AND state = 'active'"
    async with await psycopg.AsyncConnection.connect(libpq(shared_db.settings.application), autocommit=True) as watcher:

        async def wait_for(count: int) -> None:
            for _ in range(400):
                found = await (await watcher.execute(query)).fetchone()
                if found == (count,):
                    return
                await asyncio.sleep(0.01)
            raise AssertionError(f"There are not {count} such statements.")

        task = asyncio.create_task(work())
        await wait_for(1)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        await wait_for(0)
    assert in_use(db) == 0
    assert "Cancelled at the server" not in await names(db, home)


async def test_a_time_limit_of_asyncio_ends_the_unit_of_work(db: AsyncDatabase, home: Inhabited) -> None:
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.05), db.tenant(home.id) as session:
            await session.execute(text("SELECT pg_sleep(60)"))
    assert in_use(db) == 0
    assert await names(db, home)


async def test_time_outs_of_the_settings_are_in_force(shared_db: Database, home: Inhabited) -> None:
    settings = tuned(shared_db.settings, statement_timeout=0.5, lock_timeout=0.05)
    async with AsyncDatabase(settings) as db:
        with pytest.raises(StatementTimeout):
            async with db.tenant(home.id) as session:
                await session.execute(text("SELECT pg_sleep(60)"))
        with shared_db.tenant(home.id) as holder:
            holder.scalars(select(Product).with_for_update()).all()
            with pytest.raises(LockTimeout):
                async with db.tenant(home.id) as session:
                    await session.execute(select(Product).with_for_update())


async def test_a_server_that_dies_in_the_middle_is_unreachable_and_the_next_unit_of_work_succeeds(
    shared_db: Database, db: AsyncDatabase, home: Inhabited
) -> None:
    with pytest.raises(ServerUnreachable):
        async with db.tenant(home.id) as session:
            pid = await session.scalar(text("SELECT pg_backend_pid()"))
            with shared_db.tenant(home.id) as other:
                other.execute(text("SELECT pg_terminate_backend(:pid, 5000)"), {"pid": pid})
            await session.execute(select(User))
    assert await names(db, home)


async def test_closing_twice_does_no_harm_and_a_closed_database_connects_anew(
    db: AsyncDatabase, home: Inhabited
) -> None:
    before = await names(db, home)
    await db.close()
    await db.close()
    assert await names(db, home) == before
