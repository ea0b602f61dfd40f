"""Attacks through the pool: a connection serves many tenants, one after the other, and must carry nothing across.

The pool holds one connection, so that the attacker always takes over the rival's; each test proves that he did.
"""

# ruff: noqa: E501  # a statement reads best on one line

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from dataclasses import replace

import psycopg
import pytest
from sqlalchemy import func, select, text, update

from dataarch.database.settings import APP_ROLE
from dataarch.database.unit_of_work import Database, TenantSession
from dataarch.errors import ServerUnreachable, SlugTaken, TenantSwitchRefused
from dataarch.models import Tenant, User, UserProfile
from fixtures.servers import Servers
from fixtures.tenants import inhabit
from isolation.attack import Target, driver, leaked, through_driver, through_session
from isolation.conftest import mark

pytestmark = pytest.mark.isolation


@pytest.fixture
def target(shared_db: Database) -> Iterator[Target]:
    """Both tenants, new for each test, and a pool of one connection."""
    with Database(shared_db.settings.model_copy(update={"pool_size": 1})) as db:
        acme, rival = inhabit(db, "acme"), inhabit(db, "rival")
        yield Target(db, acme, rival, mark(db, rival))


def backend(session: TenantSession) -> int:
    """Return which server process serves a session."""
    return driver(session).info.backend_pid


def left_by_rival(target: Target, *statements: str) -> int:
    """Let the rival leave something on the connection; return which server process that is."""
    with target.db.tenant(target.rival.id) as session:
        for statement in statements:
            through_driver(session, target.fill(statement))
        return backend(session)


@pytest.mark.parametrize(
    "ending",
    ["SELECT * FROM users", "SELECT 1 / 0", "SAVEPOINT here; SELECT 1 / 0", "SELECT * FROM nothing"],
    ids=["committed", "failed", "failed in a savepoint", "refused"],
)
def test_m01_a_connection_taken_over_belongs_to_nobody(target: Target, ending: str) -> None:
    with suppress(psycopg.Error):  # that it fails is the point of three cases
        left_by_rival(target, ending)
    raw = target.db.engine.raw_connection()
    connection = raw.driver_connection
    assert isinstance(connection, psycopg.Connection)
    assert connection.info.transaction_status == psycopg.pq.TransactionStatus.IDLE
    assert connection.execute("SELECT current_setting('dataarch.tenant_id', true), current_user").fetchall() == [
        ("", "dataarch_app")
    ]
    assert connection.execute("SELECT * FROM users").fetchall() == []
    raw.close()


def test_m01_a_prepared_statement_left_behind_gives_the_new_tenants_rows(target: Target) -> None:
    before = left_by_rival(target, "PREPARE spy AS SELECT * FROM users", "EXECUTE spy")
    with target.db.tenant(target.acme.id) as session:
        came = through_driver(session, "EXECUTE spy")
        assert backend(session) == before
    assert isinstance(came, list)
    assert [row[0] for row in came] == [target.acme.id]


def test_m01_a_statement_that_the_driver_prepared_gives_the_new_tenants_rows(target: Target) -> None:
    """psycopg prepares a statement when it comes for the sixth time, whoever sends it."""
    for tenant in (target.rival, target.acme) * 10:
        with target.db.tenant(tenant.id) as session:
            assert session.connection().execute(select(User.__table__.c.tenant_id)).scalars().all() == [tenant.id]


def test_m01_a_cursor_of_the_transaction_ends_with_it(target: Target) -> None:
    left_by_rival(target, "DECLARE spy CURSOR FOR SELECT * FROM users")
    with pytest.raises(psycopg.errors.InvalidCursorName), target.db.tenant(target.acme.id) as session:
        through_driver(session, "FETCH ALL FROM spy")


def test_m01_a_plan_of_the_server_does_not_keep_the_tenant(target: Target) -> None:
    left_by_rival(target, "SET LOCAL plan_cache_mode = force_generic_plan; PREPARE spy AS SELECT count(*) FROM users WHERE tenant_id = current_setting('dataarch.tenant_id')::uuid; EXECUTE spy")  # fmt: skip
    with target.db.tenant(target.acme.id) as session:
        assert through_driver(session, "EXECUTE spy") == [(1,)]


def test_m01_a_savepoint_of_one_tenant_cannot_be_rolled_back_into_another(target: Target) -> None:
    with target.db.tenant(target.acme.id) as session:
        with pytest.raises(TenantSwitchRefused), session.begin_nested():
            session.execute(select(func.set_tenant(target.rival.id)))
        assert session.scalars(select(User.tenant_id)).all() == [target.acme.id]
        with session.begin_nested() as nested:
            session.add(UserProfile(user_id=target.acme.user_id))
            nested.rollback()
        assert session.scalars(select(User.tenant_id)).all() == [target.acme.id]
        with session.begin_nested():
            assert session.scalars(select(User.tenant_id)).all() == [target.acme.id]
        assert session.scalars(select(User.tenant_id)).all() == [target.acme.id]


def test_m01_a_session_that_caught_an_error_in_a_savepoint_still_belongs_to_its_tenant(target: Target) -> None:
    with target.db.tenant(target.acme.id) as session:
        with pytest.raises(SlugTaken), session.begin_nested():
            session.execute(update(Tenant).values(slug=target.rival.slug))
        assert through_session(session, "SELECT tenant_id FROM users") == [(target.acme.id,)]


def test_m01_a_connection_whose_server_process_was_killed_is_not_used_again(target: Target, servers: Servers) -> None:
    def cut_off() -> None:
        with target.db.tenant(target.rival.id) as session:
            with servers.connect() as admin:
                admin.execute("SELECT pg_terminate_backend(%s)", [backend(session)])
            session.scalars(select(User)).all()

    with pytest.raises(ServerUnreachable):
        cut_off()
    with target.db.tenant(target.acme.id) as session:
        assert through_session(session, "SELECT tenant_id FROM users") == [(target.acme.id,)]


def test_m01_a_connection_given_back_by_a_generator_that_was_closed_is_clean(target: Target) -> None:
    def read() -> Iterator[User]:
        with target.db.tenant(target.rival.id) as session:
            yield from session.scalars(select(User))

    stream = read()
    assert next(stream).tenant_id == target.rival.id
    stream.close()  # type: ignore[attr-defined]  # a generator is meant
    with target.db.tenant(target.acme.id) as session:
        assert through_session(session, "SELECT tenant_id FROM users") == [(target.acme.id,)]


# ── what lives as long as the connection ──────────────────────────────────────────────────────────────────────────

LEFTOVERS = {
    "a temporary table": ("CREATE TEMP TABLE spy AS SELECT * FROM users", "SELECT * FROM spy"),
    "a cursor with hold": ("DECLARE spy CURSOR WITH HOLD FOR SELECT * FROM users", "FETCH ALL FROM spy"),
    "a setting": ("SELECT set_config('spy.note', full_name, false) FROM users", "SELECT current_setting('spy.note', true)"),
    "a table that shadows": ("CREATE TEMP TABLE users AS SELECT * FROM public.users", "SELECT * FROM users"),
    "a temporary function": ("DO $$ BEGIN EXECUTE format('CREATE FUNCTION pg_temp.spy() RETURNS text LANGUAGE sql AS %L', (SELECT format('SELECT %L::text', full_name) FROM users)); END $$", "SELECT pg_temp.spy()"),
}  # fmt: skip


@pytest.mark.parametrize(("leave", "take"), LEFTOVERS.values(), ids=LEFTOVERS)
def test_m01_what_a_tenant_left_on_its_connection_is_gone(target: Target, leave: str, take: str) -> None:
    before = left_by_rival(target, leave)
    came: object = None
    try:
        with target.db.tenant(target.acme.id) as session:
            assert backend(session) == before
            came = through_driver(session, take)
    except psycopg.Error as error:
        came = error
    assert leaked(came, target, echoes=False) == []


def test_m01_a_table_that_shadows_does_not_catch_the_next_tenants_rows(target: Target) -> None:
    attacker = replace(target, acme=target.rival, rival=target.acme)
    left_by_rival(attacker, "CREATE TEMP TABLE user_profiles (LIKE public.user_profiles)")
    made = User(email="new@example.com", full_name="New")
    with target.db.tenant(target.rival.id) as session:
        session.add(made)
        session.flush()
        session.add(UserProfile(user_id=made.id, bio="caught"))
    with target.db.owner() as session:
        assert session.scalar(text("SELECT bio FROM user_profiles WHERE user_id = :id"), {"id": made.id}) == "caught"


def test_m01_a_search_path_left_behind_does_not_blind_the_next_tenant(target: Target) -> None:
    left_by_rival(target, "SET search_path = pg_catalog")
    with target.db.tenant(target.acme.id) as session:
        assert session.scalars(select(User.tenant_id)).all() == [target.acme.id]


def test_m01_a_tenant_set_for_the_session_does_not_stop_the_next_tenant(target: Target) -> None:
    left_by_rival(target, "SET SESSION dataarch.tenant_id = '<rival>'")
    with target.db.tenant(target.acme.id) as session:
        assert session.scalars(select(User.tenant_id)).all() == [target.acme.id]


def test_m01_a_channel_left_open_is_closed_when_the_next_tenant_commits(target: Target) -> None:
    """The server delivers messages between transactions, and so after that."""
    left_by_rival(target, "LISTEN spy")
    for _ in range(2):
        with target.db.tenant(target.acme.id) as session:
            heard = through_driver(session, "SELECT pg_listening_channels()")
    assert heard == []


def test_m01_a_lock_held_by_the_session_is_given_back(target: Target) -> None:
    left_by_rival(target, "SELECT pg_advisory_lock(42)")
    with target.db.tenant(target.acme.id) as session:
        held = through_driver(
            session, "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND pid = pg_backend_pid()"
        )
    assert held == [(0,)]


def test_m01_a_role_taken_for_the_session_is_given_back(target: Target, servers: Servers) -> None:
    """Where a superuser's login becomes the application's role in each transaction."""
    assert target.db.settings.owner.database is not None
    url = servers.login(servers.admin.username or "", target.db.settings.owner.database)
    update = {"database_url": url, "role": APP_ROLE, "pool_size": 1}
    with Database(target.db.settings.model_copy(update=update)) as db:
        left_by_rival(replace(target, db=db), "RESET ROLE; SET SESSION ROLE dataarch_owner")
        with db.tenant(target.acme.id) as session:
            assert through_session(session, "SELECT current_user::text, tenant_id FROM users") == [
                (APP_ROLE, target.acme.id)
            ]
