"""What isolation does not prevent, each stated as exactly what happens, so that the documentation can say it.

Isolation protects against mistakes and against ordinary injection: the policies bind every statement of the application's
role, and the client refuses SQL that names the tenant, the role or the end of the transaction. It does not protect against
somebody who runs SQL of his own composition, or Python in the application's process, **and** knows another tenant's id:
PostgreSQL lets every role set a parameter such as ``dataarch.tenant_id``, and no text guard sees SQL that is put together
while it runs. Nor does it hide figures about whole tables, or keep one tenant from standing in another's way.
"""

# ruff: noqa: E501  # a statement reads best on one line

from __future__ import annotations

from collections.abc import Iterator

import psycopg
import pytest
from sqlalchemy import func, select
from sqlalchemy.orm import Session

from dataarch.database.settings import APP_ROLE
from dataarch.database.unit_of_work import Database
from dataarch.errors import LockTimeout, ServerUnreachable, SlugTaken
from dataarch.models import Tenant
from fixtures.servers import Servers, libpq
from fixtures.tenants import inhabit
from isolation.attack import Target, driver, leaked, pieces, through_driver, through_session
from isolation.conftest import mark

pytestmark = pytest.mark.isolation


@pytest.fixture
def target(shared_db: Database) -> Iterator[Target]:
    """An attacker and an attacked, and connections that nobody uses afterwards."""
    acme, rival = inhabit(shared_db, "acme"), inhabit(shared_db, "rival")
    yield Target(shared_db, acme, rival, mark(shared_db, rival))
    shared_db.engine.dispose()


def rivals_users(session: Session, target: Target) -> object:
    """Return the names of the rival's users, as the session sees them."""
    return through_session(session, target.fill("SELECT full_name FROM users WHERE tenant_id = '<rival>'"))


# ── SQL that is put together while it runs ────────────────────────────────────────────────────────────────────────

COMPOSED = {
    "in a DO block": "DO $$ BEGIN EXECUTE 'SET LOCAL dataarch' || '.tenant' || '_id = ''<rival>'''; END $$",
    "in a DO block that calls a function": "DO $$ BEGIN EXECUTE 'SELECT set' || '_config(''dataarch'' || chr(46) || ''tenant_id'', ''<rival>'', true)'; END $$",
    "in a query given as text": "SELECT * FROM ts_stat('SELECT to_tsvector(set' || '_config(''dataarch'' || chr(46) || ''tenant_id'', ''<rival>'', true))')",
}  # fmt: skip


@pytest.mark.parametrize("statement", COMPOSED.values(), ids=COMPOSED)
def test_sql_composed_while_it_runs_switches_the_tenant_and_reads(target: Target, statement: str) -> None:
    with target.db.tenant(target.acme.id) as session:
        assert rivals_users(session, target) == []
        through_session(session, target.fill(statement))
        assert rivals_users(session, target) == [(target.secret,)]


def test_the_switch_ends_with_the_transaction(target: Target) -> None:
    with target.db.tenant(target.acme.id) as session:
        through_session(session, target.fill(COMPOSED["in a DO block"]))
    with target.db.tenant(target.acme.id) as session:
        assert rivals_users(session, target) == []


def test_after_such_a_switch_the_orm_still_reads_nothing_of_another_tenant(target: Target) -> None:
    """Its statements carry the session's own tenant beside the policy."""
    with target.db.tenant(target.acme.id) as session:
        through_session(session, target.fill(COMPOSED["in a DO block"]))
        assert session.scalars(select(Tenant)).all() == []


def test_such_a_switch_needs_the_id_of_the_other_tenant(target: Target) -> None:
    """Ids are random; the tables that hold them are out of reach as long as the tenant is one's own."""
    with target.db.tenant(target.acme.id) as session:
        seen = through_session(session, "SELECT id FROM tenants UNION ALL SELECT tenant_id FROM users")
    assert seen == [(target.acme.id,)] * 2


def test_the_drivers_own_connection_is_not_watched(target: Target) -> None:
    with target.db.tenant(target.acme.id) as session:
        through_driver(session, target.fill("SET LOCAL dataarch.tenant_id = '<rival>'"))
        assert rivals_users(session, target) == [(target.secret,)]


def test_set_tenant_obeys_in_a_transaction_that_begins_past_the_client(target: Target) -> None:
    with target.db.tenant(target.acme.id) as session:
        came = through_driver(
            session, target.fill("COMMIT; BEGIN; SELECT set_tenant('<rival>'); SELECT full_name FROM users")
        )
    assert came == [(target.secret,)]


# ── a login that may do more than the application's role ──────────────────────────────────────────────────────────

RESET_ROLE = "DO $$ BEGIN EXECUTE 'RESET ' || 'ROLE'; END $$"


def test_a_superuser_login_is_bound_only_as_long_as_nobody_composes_reset_role(
    target: Target, servers: Servers
) -> None:
    """So production logs in as the application's role itself, and DATAARCH_ROLE is for where that cannot be."""
    assert target.db.settings.owner.database is not None
    url = servers.login(servers.admin.username or "", target.db.settings.owner.database)
    settings = target.db.settings.model_copy(update={"database_url": url, "role": APP_ROLE})
    with Database(settings) as db, db.tenant(target.acme.id) as session:
        assert rivals_users(session, target) == []
        through_session(session, RESET_ROLE)
        assert rivals_users(session, target) == [(target.secret,)]


def test_for_the_applications_own_login_there_is_no_other_role_to_go_back_to(target: Target) -> None:
    with target.db.tenant(target.acme.id) as session:
        through_session(session, RESET_ROLE)
        assert session.scalar(select(func.current_user())) == APP_ROLE
        assert rivals_users(session, target) == []


# ── what a tenant can learn ───────────────────────────────────────────────────────────────────────────────────────


def test_who_knows_a_slug_learns_the_tenants_id_and_nothing_else(target: Target) -> None:
    """That is what find_tenant is for: an address names a tenant by its slug."""
    with target.db.tenant(target.acme.id) as session:
        assert session.scalar(select(func.find_tenant(target.rival.slug))) == target.rival.id
        assert rivals_users(session, target) == []


def test_whether_a_slug_is_taken_can_be_asked(target: Target) -> None:
    """Slugs are unique among all tenants, so the answer cannot be hidden."""
    with pytest.raises(SlugTaken), target.db.tenant(target.acme.id) as session:
        session.get_one(Tenant, target.acme.id).slug = target.rival.slug


def test_the_size_of_whole_tables_is_no_secret(target: Target) -> None:
    """Of all tenants together: nobody's own count, and no value."""
    with target.db.tenant(target.acme.id) as session:
        assert through_session(session, "SELECT count(*) FROM user_profiles") == [(1,)]
        seen = through_session(
            session, "SELECT reltuples >= 2, pg_relation_size(oid) > 0 FROM pg_class WHERE relname = 'user_profiles'"
        )
    assert seen == [(True, True)]


def test_explain_analyze_counts_the_rows_that_the_policy_hid(target: Target) -> None:
    explain = "EXPLAIN (ANALYZE, COSTS OFF, TIMING OFF, SUMMARY OFF, FORMAT JSON) SELECT FROM user_profiles"
    with target.db.tenant(target.acme.id) as session:
        through_driver(
            session,
            "SET LOCAL enable_indexscan = off; SET LOCAL enable_bitmapscan = off; SET LOCAL enable_indexonlyscan = off",
        )
        came = through_session(session, explain)
    assert isinstance(came, list)
    plan = came[0][0][0]["Plan"]
    assert plan["Actual Rows"] == 1
    assert plan["Rows Removed by Filter"] >= 1
    assert leaked(came, target, echoes=False) == []


def test_a_tenant_sees_the_statements_of_others_and_in_them_their_ids_but_no_values(target: Target) -> None:
    """All tenants are one role to the server, and a role sees what its own sessions run; values travel as parameters.

    The id is seen where a transaction begins by itself, as the first one of a connection does.
    """
    target.db.engine.dispose()
    with target.db.tenant(target.rival.id) as theirs:
        at_its_beginning = theirs.connection()
        with target.db.tenant(target.acme.id) as session:
            seen = through_driver(session, "SELECT query FROM pg_stat_activity WHERE usename = current_user")
        at_its_beginning.execute(select(Tenant.__table__).where(Tenant.name == target.secret))
        with target.db.tenant(target.acme.id) as session:
            later = through_driver(session, "SELECT query FROM pg_stat_activity WHERE usename = current_user")
    assert any(str(target.rival.id) in piece for piece in pieces(seen))
    assert leaked(later, target, echoes=True) == []


# ── what belongs to no tenant ─────────────────────────────────────────────────────────────────────────────────────


def test_large_objects_belong_to_no_tenant(target: Target) -> None:
    """So nothing of dataarch uses them."""
    with target.db.tenant(target.rival.id) as session:
        number = session.scalar(select(func.lo_from_bytea(0, target.secret.encode())))
    with target.db.tenant(target.acme.id) as session:
        assert session.scalar(select(func.lo_get(number))) == target.secret.encode()


def test_notifications_belong_to_no_tenant(target: Target) -> None:
    """So nothing of dataarch sends them, and a payload must never carry a tenant's data."""
    with psycopg.connect(libpq(target.db.settings.application), autocommit=True) as listener:
        listener.execute("LISTEN spy")
        with target.db.tenant(target.rival.id) as session:
            session.execute(select(func.pg_notify("spy", "from the rival")))
        heard = [notice.payload for notice in listener.notifies(timeout=5, stop_after=1)]
    assert heard == ["from the rival"]


# ── standing in the way ───────────────────────────────────────────────────────────────────────────────────────────


def test_a_tenant_can_lock_a_whole_table_until_its_transaction_ends(target: Target) -> None:
    """Others wait as long as lock_timeout lets them, and the locker is ended when it is idle for too long."""
    settings = target.db.settings.model_copy(update={"lock_timeout": 0.05})
    with target.db.tenant(target.acme.id) as session, Database(settings) as impatient:
        through_session(session, "LOCK TABLE users IN ACCESS EXCLUSIVE MODE")
        with pytest.raises(LockTimeout), impatient.tenant(target.rival.id) as theirs:
            through_session(theirs, "SELECT * FROM users")
    with target.db.tenant(target.rival.id) as theirs:
        assert rivals_users(theirs, target) == [(target.secret,)]


def test_a_tenant_can_end_the_session_of_another(target: Target) -> None:
    def ended() -> None:
        with target.db.tenant(target.rival.id) as theirs, target.db.tenant(target.acme.id) as session:
            session.execute(select(func.pg_terminate_backend(driver(theirs).info.backend_pid)))
            rivals_users(theirs, target)

    with pytest.raises(ServerUnreachable):
        ended()


def test_the_application_can_change_what_its_own_logins_start_with(target: Target) -> None:
    """Here undone in the same transaction; committed, it would blind every new connection until the owner resets it."""
    mine = f'ALTER ROLE {APP_ROLE} IN DATABASE "{target.db.settings.owner.database}"'
    setting = "SELECT setconfig FROM pg_db_role_setting WHERE setrole = current_user::regrole"
    with target.db.tenant(target.acme.id) as session:
        through_session(session, f"{mine} SET search_path = pg_catalog")
        assert through_session(session, setting) == [(["search_path=pg_catalog"],)]
        through_session(session, f"{mine} RESET search_path")
        assert through_session(session, setting) == []
