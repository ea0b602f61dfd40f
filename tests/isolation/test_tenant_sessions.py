"""Units of work: none without a tenant, none on a role that the policies do not bind, none that shares with another."""

from __future__ import annotations

import asyncio
import os
from collections import defaultdict
from collections.abc import AsyncIterator, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from uuid import UUID

import psycopg
import pytest
from sqlalchemy import event, func, insert, select, text, update
from sqlalchemy.orm import Session

from dataarch.database.settings import APP_ROLE, Settings
from dataarch.database.unit_of_work import AsyncDatabase, Database
from dataarch.errors import (
    InvalidText,
    RoleBypassesRowSecurity,
    StatementTimeout,
    TenantNotSet,
    TenantSwitchRefused,
)
from dataarch.models import Base, User, UserActivity
from fixtures.servers import OWNER, Servers
from fixtures.tenants import Inhabited
from isolation.attack import through_session

pytestmark = pytest.mark.isolation


@pytest.fixture
def db(shared_db: Database) -> Database:
    """One database for all of this file: each test has tenants of its own."""
    return shared_db


@pytest.fixture
def settings(shared_db: Database) -> Settings:
    """How it is reached."""
    return shared_db.settings


USERS = Base.metadata.tables["users"]


# ── without a tenant ──────────────────────────────────────────────────────────────────────────────────────────────


@contextmanager
def sent(db: Database) -> Iterator[list[str]]:
    """Collect all that is sent on an engine, and each connection that it opens."""
    seen: list[str] = []

    def statement(connection: object, cursor: object, text: str, *rest: object) -> None:
        seen.append(text)

    def connected(*given: object) -> None:
        seen.append("connected")

    event.listen(db.engine, "before_cursor_execute", statement)
    event.listen(db.engine, "connect", connected)
    try:
        yield seen
    finally:
        event.remove(db.engine, "before_cursor_execute", statement)
        event.remove(db.engine, "connect", connected)


@pytest.mark.parametrize("garbage", [None, "", "acme", 42, 0, b"acme", "00000000-0000", object(), [], "' OR true --"])
def test_m01_a_tenant_that_is_no_uuid_is_refused_before_anything_connects(db: Database, garbage: object) -> None:
    with sent(db) as seen, pytest.raises(TenantNotSet), db.tenant(garbage):  # type: ignore[arg-type]  # the point
        pass
    assert seen == []


STATEMENTS: dict[str, Callable[[Session], object]] = {
    "the ORM": lambda session: session.scalars(select(User)).all(),
    "a primary key": lambda session: session.get(User, (UUID(int=1), UUID(int=2))),
    "a count": lambda session: session.scalar(select(func.count()).select_from(UserActivity)),
    "a sub-query": lambda session: session.scalar(select(select(User.id).exists())),
    "Core": lambda session: session.execute(insert(USERS).values(tenant_id=UUID(int=1), full_name="Eve")),
    "text": lambda session: session.execute(text("SELECT 1")),
    "text on the connection": lambda session: session.connection().execute(text("SELECT * FROM users")),
    "a string": lambda session: session.connection().exec_driver_sql("SELECT * FROM users"),
    "text inside a statement": lambda session: session.execute(select(text("* FROM users"))),
    "an object": lambda session: session.bulk_save_objects([User(email="eve@example.com", full_name="Eve")]),
}


@pytest.mark.parametrize("name", STATEMENTS)
def test_m01_a_session_without_a_tenant_refuses_a_statement_before_it_is_sent(db: Database, name: str) -> None:
    with sent(db) as seen, pytest.raises(TenantNotSet), db.session() as session:
        STATEMENTS[name](session)
    assert [
        statement for statement in seen if statement != "connected" and not statement.startswith("BEGIN ISOLATION ")
    ] == []


@pytest.mark.parametrize("name", STATEMENTS)
async def test_m01_an_asynchronous_session_without_a_tenant_refuses_a_statement(settings: Settings, name: str) -> None:
    async with AsyncDatabase(settings) as db:
        with pytest.raises(TenantNotSet):
            async with db.session() as session:
                await session.run_sync(STATEMENTS[name])


def test_m01_a_tenant_given_as_text_is_the_same_tenant(db: Database, acme: Inhabited) -> None:
    with db.tenant(str(acme.id)) as session:
        assert session.scalars(select(User.tenant_id)).all() == [acme.id]


def test_m01_a_tenant_that_does_not_exist_sees_nothing(db: Database, acme: Inhabited) -> None:
    with db.tenant(UUID(int=7)) as session:
        assert through_session(session, "SELECT * FROM users") == []


def test_m01_a_refused_value_rolls_the_unit_of_work_back_and_leaves_the_connection_clean(
    db: Database, acme: Inhabited, rival: Inhabited
) -> None:
    def rename(*names: str) -> None:
        with db.tenant(rival.id) as session:
            for name in names:
                session.execute(update(User).values(full_name=name))

    with pytest.raises(InvalidText):
        rename("a", "")
    with db.tenant(acme.id) as session:
        assert session.scalars(select(User.tenant_id)).all() == [acme.id]
    with db.tenant(rival.id) as session:
        assert session.scalars(select(User.full_name)).all() == ["Ada Lovelace"]


# ── many at the same time ─────────────────────────────────────────────────────────────────────────────────────────

Served = dict[int, set[UUID]]
"""Which tenants each server process has served."""


def work(session: Session, tenant: Inhabited, served: Served) -> None:
    """Write and read as a tenant, and find nothing but its own."""
    served[session.scalar(select(func.pg_backend_pid())) or 0].add(tenant.id)
    session.add(UserActivity(tenant_id=tenant.id, user_id=tenant.user_id, activity_type="test"))
    session.flush()
    assert set(session.scalars(select(UserActivity.tenant_id))) == {tenant.id}
    assert through_session(session, "SELECT DISTINCT tenant_id FROM user_activity_log") == [(tenant.id,)]
    assert through_session(session, "SELECT current_setting('dataarch.' || 'tenant_id')") == [(str(tenant.id),)]
    assert through_session(session, "SELECT DISTINCT tenant_id FROM find_activity('{}', max_rows => 10)") == [
        (tenant.id,)
    ]


def test_m01_threads_that_share_a_pool_share_no_rows(settings: Settings, acme: Inhabited, rival: Inhabited) -> None:
    served: Served = defaultdict(set)

    def worker(number: int) -> None:
        for turn in range(20):
            tenant = (acme, rival)[(number + turn) % 2]
            with pooled.tenant(tenant.id) as session:
                work(session, tenant, served)

    with (
        Database(settings.model_copy(update={"pool_size": 2, "pool_timeout": 60})) as pooled,
        ThreadPoolExecutor(8) as pool,
    ):
        list(pool.map(worker, range(8)))
        for tenant in (acme, rival):
            with pooled.tenant(tenant.id) as session:
                assert session.scalar(select(func.count()).select_from(UserActivity)) == 1 + 8 * 20 // 2
    # otherwise no connection was ever taken over, and nothing was tested
    assert {acme.id, rival.id} in served.values()


@pytest.fixture
async def adb(settings: Settings) -> AsyncIterator[AsyncDatabase]:
    """An asynchronous database of one connection at rest."""
    async with AsyncDatabase(settings.model_copy(update={"pool_size": 1, "pool_timeout": 60})) as database:
        yield database


async def test_m01_tasks_that_share_a_pool_share_no_rows(adb: AsyncDatabase, acme: Inhabited, rival: Inhabited) -> None:
    served: Served = defaultdict(set)

    async def worker(number: int) -> None:
        for turn in range(10):
            tenant = (acme, rival)[(number + turn) % 2]
            async with adb.tenant(tenant.id) as session:
                await session.run_sync(work, tenant, served)

    await asyncio.gather(*(worker(number) for number in range(8)))
    assert {acme.id, rival.id} in served.values()


@pytest.mark.parametrize("seconds", [0.0, 0.001, 0.003, 0.01, 0.05])
async def test_m01_a_task_cancelled_in_the_middle_gives_no_dirty_connection_back(
    adb: AsyncDatabase, acme: Inhabited, rival: Inhabited, seconds: float
) -> None:
    async def slow() -> None:
        async with adb.tenant(rival.id) as session:
            await session.execute(text("SELECT * FROM users"))
            await session.execute(text("SELECT pg_sleep(10)"))

    for _ in range(3):
        task = asyncio.create_task(slow())
        await asyncio.sleep(seconds)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        async with adb.tenant(acme.id) as session:
            assert (await session.execute(text("SELECT tenant_id FROM users"))).scalars().all() == [acme.id]


def test_m01_a_statement_that_ran_out_of_time_gives_a_clean_connection_back(
    settings: Settings, acme: Inhabited, rival: Inhabited
) -> None:
    with Database(settings.model_copy(update={"pool_size": 1, "statement_timeout": 0.05})) as db:
        with pytest.raises(StatementTimeout), db.tenant(rival.id) as session:
            session.execute(text("SELECT *, pg_sleep(10) FROM users"))
        with db.tenant(acme.id) as session:
            assert through_session(session, "SELECT tenant_id FROM users") == [(acme.id,)]


# ── on which role ─────────────────────────────────────────────────────────────────────────────────────────────────

BYPASSER = f"dataarch_test_bypasser_{os.getpid()}"
HEIR = f"dataarch_test_heir_{os.getpid()}"


@pytest.fixture(scope="module")
def roles(servers: Servers, template: str) -> Iterator[None]:
    """A role with BYPASSRLS and all that the application may, and one that inherits from the owner."""
    with servers.connect() as admin:
        admin.execute(f"CREATE ROLE {BYPASSER} LOGIN BYPASSRLS INHERIT IN ROLE {APP_ROLE}")
        admin.execute(f"CREATE ROLE {HEIR} LOGIN INHERIT IN ROLE {OWNER}")
        try:
            yield
        finally:
            admin.execute(f"DROP ROLE {BYPASSER}, {HEIR}")


@pytest.mark.parametrize(
    "role",
    ["a superuser", OWNER, BYPASSER, HEIR],
    ids=["a superuser", "the owner", "BYPASSRLS", "an heir"],
)
def test_m01_a_role_that_the_policies_do_not_bind_is_refused_each_time(
    servers: Servers, settings: Settings, roles: None, acme: Inhabited, role: str
) -> None:
    login = (servers.admin.username or "") if role == "a superuser" else role
    assert settings.owner.database is not None
    url = servers.login(login, settings.owner.database)
    with Database(settings.model_copy(update={"database_url": url})) as db:
        for _ in range(2):
            with sent(db) as seen, pytest.raises(RoleBypassesRowSecurity), db.tenant(acme.id) as session:
                session.scalars(select(User)).all()
            assert not any("users." in statement for statement in seen)


@pytest.fixture
def switched(servers: Servers, settings: Settings) -> Iterator[Database]:
    """A database reached as a superuser who becomes the application's role in each transaction."""
    assert settings.owner.database is not None
    url = servers.login(servers.admin.username or "", settings.owner.database)
    with Database(settings.model_copy(update={"database_url": url, "role": APP_ROLE, "pool_size": 1})) as db:
        yield db


def test_m01_a_superuser_that_switches_role_first_is_bound_by_the_policies(
    switched: Database, acme: Inhabited, rival: Inhabited
) -> None:
    with switched.tenant(acme.id) as session:
        assert session.scalar(select(func.current_user())) == APP_ROLE
        assert through_session(session, "SELECT tenant_id FROM users") == [(acme.id,)]


def test_m01_a_superuser_that_switches_role_does_so_again_after_an_error(
    switched: Database, acme: Inhabited, rival: Inhabited
) -> None:
    with pytest.raises(psycopg.errors.DivisionByZero), switched.tenant(rival.id) as session:
        session.connection().connection.cursor().execute("SELECT 1 / 0")
    with switched.tenant(acme.id) as session:
        assert through_session(session, "SELECT current_user::text, tenant_id FROM users") == [(APP_ROLE, acme.id)]


@pytest.mark.parametrize(
    "statement",
    ["RESET ROLE", "SET ROLE NONE", "reset  role", "RESET/**/ROLE", 'SET "role" TO none', "RESET ALL", "DISCARD ALL",
     "SET SESSION AUTHORIZATION DEFAULT", "SELECT set_config('role', 'none', true)", "COMMIT", "ROLLBACK", "END"],
)  # fmt: skip
def test_m01_a_superuser_that_switched_role_cannot_switch_back(
    switched: Database, acme: Inhabited, rival: Inhabited, statement: str
) -> None:
    with switched.tenant(acme.id) as session:
        with pytest.raises(TenantSwitchRefused):
            through_session(session, statement)
        assert through_session(session, "SELECT current_user::text, tenant_id FROM users") == [(APP_ROLE, acme.id)]
