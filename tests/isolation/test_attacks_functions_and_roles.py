"""Attacks on the defences themselves: roles, grants, policies, settings, and functions that run as somebody else."""

# ruff: noqa: E501  # a statement reads best on one line

from __future__ import annotations

from collections.abc import Callable, Iterator

import psycopg
import pytest
from psycopg import errors
from sqlalchemy import text

from dataarch.database.tenancy import switches
from dataarch.database.unit_of_work import Database, TenantSession
from dataarch.errors import PrivilegeMissing, TenantMismatch, TenantNotSet, TenantSwitchRefused
from isolation.attack import OWN, Attempt, Target, by_driver, driver, params, sql, through_driver, through_session

pytestmark = pytest.mark.isolation


@pytest.fixture(autouse=True)
def _new_connection(shared_db: Database) -> Iterator[None]:
    """No attempt meets what another has left on its connection."""
    yield
    shared_db.engine.dispose()


REFUSED = {
    "become the owner": "SET ROLE dataarch_owner",
    "become a role that reads all": "SET ROLE pg_read_all_data",
    "become the owner from the start": "SET SESSION AUTHORIZATION dataarch_owner",
    "bypass row security": "ALTER ROLE dataarch_app BYPASSRLS",
    "become a superuser": "ALTER ROLE dataarch_app SUPERUSER",
    "make a role": "CREATE ROLE eve",
    "join the owner": "GRANT dataarch_owner TO dataarch_app",
    "join a role that reads all": "GRANT pg_read_all_data TO dataarch_app",
    "give away what the owner owns": "REASSIGN OWNED BY dataarch_owner TO dataarch_app",
    "drop what the owner owns": "DROP OWNED BY dataarch_owner",
    "change what the owner grants": "ALTER DEFAULT PRIVILEGES FOR ROLE dataarch_owner GRANT SELECT ON TABLES TO dataarch_app",
    "drop a policy": "DROP POLICY tenant_isolation ON users",
    "widen a policy": "ALTER POLICY tenant_isolation ON users USING (true)",
    "add a policy": "CREATE POLICY all_of_it ON users USING (true)",
    "switch off a table's security": "ALTER TABLE users DISABLE ROW LEVEL SECURITY",
    "take over a table": "ALTER TABLE users OWNER TO dataarch_app",
    "add a column": "ALTER TABLE users ADD COLUMN spy text",
    "drop a foreign key": "ALTER TABLE user_profiles DROP CONSTRAINT fk_user_profiles_users",
    "drop a table": "DROP TABLE users",
    "drop a schema": "DROP SCHEMA public CASCADE",
    "truncate a table": "TRUNCATE users CASCADE",
    "put a trigger on a table": "CREATE TRIGGER spy BEFORE UPDATE ON users EXECUTE FUNCTION suppress_redundant_updates_trigger()",
    "switch off the triggers": "ALTER TABLE users DISABLE TRIGGER ALL",
    "put a rule on a table": "CREATE RULE spy AS ON UPDATE TO users DO ALSO NOTIFY spy",
    "index a table": "CREATE INDEX spy ON users ((1 / length(full_name)))",
    "inherit from a table": "CREATE TEMP TABLE heir () INHERITS (users)",
    "make a table": "CREATE TABLE public.loot AS SELECT * FROM users",
    "make a view": "CREATE VIEW public.spy AS SELECT * FROM users",
    "make a materialized view": "CREATE MATERIALIZED VIEW public.spy AS SELECT * FROM users",
    "make a function": "CREATE FUNCTION public.spy() RETURNS int LANGUAGE sql AS 'SELECT 1'",
    "make a schema": "CREATE SCHEMA spy",
    "replace find_tenant": "CREATE OR REPLACE FUNCTION public.find_tenant(slug text) RETURNS uuid LANGUAGE sql AS 'SELECT NULL::uuid'",
    "change how find_activity runs": "ALTER FUNCTION public.find_activity(jsonb, timestamptz, timestamptz, bigint) SET search_path = pg_temp",
    "take over find_activity": "ALTER FUNCTION public.find_activity(jsonb, timestamptz, timestamptz, bigint) OWNER TO dataarch_app",
    "drop find_activity": "DROP FUNCTION public.find_activity(jsonb, timestamptz, timestamptz, bigint)",
    "call a function leakproof": "CREATE FUNCTION pg_temp.spy(text) RETURNS boolean LANGUAGE sql LEAKPROOF AS 'SELECT true'",
    "call an operator's function leakproof": "ALTER FUNCTION pg_catalog.textlike(text, text) LEAKPROOF",
    "write a function in C": "CREATE FUNCTION pg_temp.spy() RETURNS int LANGUAGE c AS 'libc', 'getpid'",
    "make an internal function": "CREATE FUNCTION pg_temp.spy() RETURNS int LANGUAGE internal AS 'pg_backend_pid'",
    "make an event trigger": "CREATE EVENT TRIGGER spy ON ddl_command_start EXECUTE FUNCTION suppress_redundant_updates_trigger()",
    "make a foreign-data wrapper": "CREATE FOREIGN DATA WRAPPER spy",
    "publish the tables": "CREATE PUBLICATION spy FOR TABLE users",
    "publish all tables": "CREATE PUBLICATION spy FOR ALL TABLES",
    "read the write-ahead log": "SELECT pg_create_logical_replication_slot('spy', 'test_decoding')",
    "play a replica": "SET session_replication_role = replica",
    "change a setting of the database": "ALTER DATABASE {database} SET row_security = off",
    "give new connections another tenant": "ALTER ROLE dataarch_app IN DATABASE {database} SET dataarch.tenant_id = '<rival>'",
    "read a file": "SELECT pg_read_file('PG_VERSION')",
    "read a file in binary": "SELECT pg_read_binary_file('PG_VERSION')",
    "list a directory": "SELECT pg_ls_dir('.')",
    "import a file": "SELECT lo_import('PG_VERSION')",
    "copy to a file": "COPY users TO 'spy'",
    "copy from a file": "COPY users FROM 'PG_VERSION'",
    "copy to a program": "COPY users TO PROGRAM 'cat'",
    "copy from a program": "COPY users FROM PROGRAM 'id'",
    "load a library": "LOAD 'spy'",
    "read who may connect": "SELECT * FROM pg_hba_file_rules",
    "read the map of shared memory": "SELECT * FROM pg_catalog.pg_shmem_allocations",
    "reset the statistics": "SELECT pg_stat_reset()",
    "comment on a policy": "COMMENT ON POLICY tenant_isolation ON users IS 'owned'",
    "gather statistics of one's own": "CREATE STATISTICS pg_temp.spy (mcv) ON full_name, email FROM users",
}


def refused(name: str, statement: str) -> Attempt:
    """Return the attempt to send a statement past the client, for which the role lacks a privilege."""

    def run(session: TenantSession, target: Target) -> object:
        return through_driver(
            session, target.fill(statement).replace("{database}", str(target.db.settings.owner.database))
        )

    return Attempt(name, run, PrivilegeMissing)


@pytest.mark.parametrize("attempt", params([refused(*one) for one in REFUSED.items()]))
def test_m01_the_application_may_not_touch_the_defences(attempt: Attempt, defended: Callable[[Attempt], None]) -> None:
    defended(attempt)


# ── what the client refuses before it is sent ─────────────────────────────────────────────────────────────────────

SWITCHES = {
    "set the tenant": "SET dataarch.tenant_id = '<rival>'",
    "set the tenant locally": "SET LOCAL dataarch.tenant_id TO '<rival>'",
    "set the tenant for the session": "SET SESSION dataarch.tenant_id = '<rival>'",
    "set the tenant in capitals": "SET LOCAL DATAARCH.TENANT_ID = '<rival>'",
    "set the tenant in quotes": """SET LOCAL "dataarch"."tenant_id" = '<rival>'""",
    "set the tenant with spaces": "SET LOCAL dataarch . tenant_id = '<rival>'",
    "set the tenant with a comment": "SET LOCAL dataarch./* a /* nested */ comment */tenant_id = '<rival>'",
    "set the tenant over two lines": "SET LOCAL dataarch -- a comment\n.tenant_id = '<rival>'",
    "reset the tenant": "RESET dataarch.tenant_id",
    "set the tenant by set_config": "SELECT set_config('dataarch.tenant_id', '<rival>', true)",
    "set the tenant by a composed name": "SELECT pg_catalog.set_config('dataarch' || chr(46) || 'tenant' || '_id', '<rival>', true)",
    "set the tenant by quoted set_config": """SELECT "set_config"('dataarch' || chr(46) || 'tenant' || '_id', '<rival>', true)""",
    "set the tenant by Unicode escapes": r"""SELECT U&"set\005fconfig"('dataarch' || chr(46) || 'tenant' || '_id', '<rival>', true)""",
    "call set_tenant": "SELECT set_tenant('<rival>')",
    "call set_tenant in quotes": """SELECT public."set_tenant"('<rival>')""",
    "call set_tenant in a DO block": "DO $$ BEGIN PERFORM set_tenant('<rival>'); END $$",
    "call set_tenant for a row": "SELECT set_tenant(id) FROM (VALUES ('<rival>'::uuid)) AS ids (id)",
    "call set_tenant behind another statement": "SELECT 1; SELECT set_tenant('<rival>')",
    "set the role": "SET ROLE dataarch_owner",
    "set the role with a comment": "SET/**/ROLE/**/dataarch_owner",
    "set the role in quotes": 'SET "role" TO dataarch_owner',
    "set the role locally": "SET LOCAL ROLE dataarch_owner",
    "set no role": "SET ROLE NONE",
    "set the role behind another statement": "SELECT 1; SET ROLE dataarch_owner",
    "set the role in a DO block": "DO $$ BEGIN SET ROLE dataarch_owner; END $$",
    "set the role in an EXECUTE": "DO $$ BEGIN EXECUTE 'SET ROLE dataarch_owner'; END $$",
    "reset the role": "RESET ROLE",
    "set the session's authorization": "SET SESSION AUTHORIZATION dataarch_owner",
    "reset the session's authorization": "RESET SESSION AUTHORIZATION",
    "set the role by set_config": "SELECT set_config('role', 'none', false)",
    "reset all": "RESET ALL",
    "discard all": "DISCARD ALL",
    "commit": "COMMIT",
    "commit and go on": "COMMIT AND CHAIN",
    "commit behind a comment": "/* done */ commit work",
    "commit behind another statement": "SELECT 1; COMMIT",
    "end": "END",
    "begin": "BEGIN",
    "start a transaction": "START TRANSACTION",
    "roll back": "ROLLBACK",
    "roll back and go on": "ROLLBACK AND CHAIN",
    "abort": "ABORT",
    "prepare the transaction": "PREPARE TRANSACTION 'spy'",
}


@pytest.mark.parametrize("attempt", params([sql(*one, TenantSwitchRefused) for one in SWITCHES.items()]))
def test_m01_the_client_refuses_to_leave_the_tenant_the_role_or_the_transaction(
    attempt: Attempt, defended: Callable[[Attempt], None]
) -> None:
    defended(attempt)


HARMLESS = {
    "a savepoint": "SAVEPOINT here; ROLLBACK TO here; ROLLBACK TO SAVEPOINT here; RELEASE here",
    "a setting of another kind": "SET LOCAL work_mem = '8MB'; RESET work_mem",
    "a word in a value": "SELECT 'commit', 'begin', 1 AS rollback",
    "an expression with END": "SELECT CASE WHEN true THEN 1 END",
    "a comment": "/* the end */ SELECT 1 -- begin",
}


@pytest.mark.parametrize("statement", HARMLESS.values(), ids=HARMLESS)
def test_the_client_lets_pass_what_only_looks_like_it(statement: str, target: Target) -> None:
    with target.db.tenant(target.acme.id) as session:
        through_session(session, statement)


COLUMNS = {
    "an update": "UPDATE memberships SET role = %s",
    "an update of another column first": "UPDATE memberships SET since = %s, role = %s",
    "an update in quotes": 'UPDATE "memberships" AS m SET "role" = %s',
    "an upsert": "INSERT INTO memberships VALUES (%s) ON CONFLICT (id) DO UPDATE SET role = excluded.role",
    "a merge": "MERGE INTO memberships USING x ON true WHEN MATCHED THEN UPDATE SET role = x.role",
}


@pytest.mark.parametrize("statement", COLUMNS.values(), ids=COLUMNS)
def test_a_column_may_be_named_role(statement: str) -> None:
    assert not switches(statement)


# ── what takes more than one statement ────────────────────────────────────────────────────────────────────────────

ROW_SECURITY = "SET LOCAL row_security = off; "
SPY = """
CREATE FUNCTION pg_temp.spy(value text) RETURNS boolean LANGUAGE plpgsql COST 0.0000001 AS
$$ BEGIN RAISE NOTICE 'seen %', value; RETURN true; END $$;
"""


def noticed(statement: str) -> Callable[[TenantSession, Target], object]:
    """Give what a function of the attacker's own saw of the rows."""

    def run(session: TenantSession, target: Target) -> object:
        seen: list[str | None] = []
        driver(session).add_notice_handler(lambda notice: seen.append(notice.message_primary))
        through_driver(session, SPY + target.fill(statement))
        return seen

    return run


def one_by_one(*statements: str) -> Callable[[TenantSession, Target], object]:
    """Send statements each by itself, past the client; give what the last one gives."""
    return lambda session, target: [through_driver(session, target.fill(one)) for one in statements][-1]


SEVERAL = [
    by_driver("read with row security off", ROW_SECURITY + "SELECT * FROM users", PrivilegeMissing),
    by_driver("count with row security off", ROW_SECURITY + "SELECT count(*) FROM user_activity_log", PrivilegeMissing),
    by_driver("update with row security off", ROW_SECURITY + "UPDATE users SET full_name = 'owned'", PrivilegeMissing),
    by_driver("delete with row security off", ROW_SECURITY + "DELETE FROM tenants", PrivilegeMissing),
    by_driver("search with row security off", ROW_SECURITY + "SELECT * FROM find_activity('{}')", OWN),
    by_driver("switch row security off by pg_settings", "UPDATE pg_settings SET setting = 'off' WHERE name = 'row_security'; SELECT * FROM users", PrivilegeMissing),
    by_driver("switch the tenant by pg_settings", "UPDATE pg_settings SET setting = '<rival>' WHERE name = 'dataarch.tenant_id'; SELECT * FROM users", OWN),
    by_driver("switch the tenant by set_tenant", "SELECT set_tenant('<rival>')", TenantSwitchRefused),
    by_driver("switch to no tenant by set_tenant", "SELECT set_tenant(NULL)", TenantSwitchRefused),
    by_driver("switch the tenant in a savepoint", "SAVEPOINT here; SELECT set_tenant('<rival>')", TenantSwitchRefused),
    by_driver("switch the tenant after a rollback to a savepoint", "SAVEPOINT here; SELECT set_tenant('<acme>'); ROLLBACK TO here; SELECT set_tenant('<rival>')", TenantSwitchRefused),
    by_driver("read after the transaction was committed", "COMMIT; SELECT * FROM users", []),
    by_driver("read after the transaction was rolled back", "ROLLBACK; SELECT * FROM users", []),
    by_driver("read in a new transaction", "COMMIT; BEGIN; SELECT * FROM users", []),
    by_driver("write after the transaction was committed", "COMMIT; UPDATE users SET full_name = 'owned'", 0),
    by_driver("delete after the transaction was committed", "COMMIT; DELETE FROM users", 0),
    by_driver("search after the transaction was committed", "COMMIT; SELECT * FROM find_activity('{}')", TenantNotSet),
    by_driver("set a tenant that is none", "SET LOCAL dataarch.tenant_id = 'x'' OR true --'; SELECT * FROM users", errors.InvalidTextRepresentation),
    by_driver("set an empty tenant", "SET LOCAL dataarch.tenant_id = ''; SELECT * FROM users", []),
    by_driver("search for an empty tenant", "SET LOCAL dataarch.tenant_id = ''; SELECT * FROM find_activity('{}')", TenantNotSet),
    by_driver("set the zero tenant", "SET LOCAL dataarch.tenant_id = '00000000-0000-0000-0000-000000000000'; SELECT * FROM users", []),
    by_driver("read through a temporary view", "CREATE TEMP VIEW spy AS SELECT * FROM users; SELECT * FROM spy", OWN),
    by_driver("read through a view that is no barrier", "CREATE TEMP VIEW spy WITH (security_barrier = false, security_invoker = false) AS SELECT * FROM users; SELECT * FROM spy WHERE tenant_id <> '<acme>'", []),
    by_driver("write through a temporary view", "CREATE TEMP VIEW spy AS SELECT * FROM users; UPDATE spy SET full_name = 'owned' WHERE tenant_id = '<rival>'", 0),
    by_driver("insert through a temporary view", "CREATE TEMP VIEW spy AS SELECT * FROM user_profiles; INSERT INTO spy (tenant_id, user_id) VALUES ('<rival>', '<rival_user>')", TenantMismatch),
    by_driver("read through a function that runs as its maker", "CREATE FUNCTION pg_temp.spy() RETURNS SETOF users LANGUAGE sql SECURITY DEFINER AS 'SELECT * FROM users'; SELECT * FROM pg_temp.spy()", OWN),
    by_driver("read through a function that switches row security off", "CREATE FUNCTION pg_temp.spy() RETURNS SETOF users LANGUAGE sql SECURITY DEFINER SET row_security = off AS 'SELECT * FROM users'; SELECT * FROM pg_temp.spy()", PrivilegeMissing),
    by_driver("read through a prepared statement", "PREPARE spy (uuid) AS SELECT * FROM users WHERE tenant_id = $1; EXECUTE spy('<rival>')", []),
    by_driver("read through a cursor", "DECLARE spy CURSOR FOR SELECT * FROM users; FETCH ALL FROM spy", OWN),
    by_driver("update through a cursor", "DECLARE spy CURSOR FOR SELECT * FROM users WHERE tenant_id = '<rival>' FOR UPDATE; FETCH ALL FROM spy", []),
    by_driver("read through a DO block", "DO $$ BEGIN IF EXISTS (SELECT FROM users WHERE tenant_id = '<rival>') THEN RAISE 'seen'; END IF; END $$; SELECT 1", [(1,)]),
    by_driver("shadow the log for find_activity", "CREATE TEMP TABLE user_activity_log (LIKE public.user_activity_log); SELECT * FROM find_activity('{}')", OWN),
    by_driver("shadow the log by the search path", "CREATE TEMP TABLE user_activity_log (LIKE public.user_activity_log); SET LOCAL search_path = pg_temp, public; SELECT * FROM find_activity('{}')", OWN),
    by_driver("shadow the tenants for find_tenant", "CREATE TEMP TABLE tenants AS SELECT '<rival>'::uuid AS id, 'eve'::text AS slug; SELECT find_tenant('eve')", [(None,)]),
    by_driver("shadow current_setting", "CREATE FUNCTION pg_temp.current_setting(text, boolean) RETURNS text LANGUAGE sql AS $$ SELECT '<rival>' $$; SET LOCAL search_path = pg_temp, pg_catalog, public; SELECT * FROM users", OWN),
    by_driver("shadow current_setting for find_activity", "CREATE FUNCTION pg_temp.current_setting(text, boolean) RETURNS text LANGUAGE sql AS $$ SELECT '<rival>' $$; SET LOCAL search_path = pg_temp, pg_catalog, public; SELECT * FROM find_activity('{}')", OWN),
    by_driver("shadow the comparison of set_tenant", "CREATE FUNCTION pg_temp.never(uuid, uuid) RETURNS boolean LANGUAGE sql AS 'SELECT false'; CREATE OPERATOR pg_temp.<> (LEFTARG = uuid, RIGHTARG = uuid, FUNCTION = pg_temp.never); SET LOCAL search_path = pg_temp, pg_catalog, public; SELECT set_tenant('<rival>')", TenantSwitchRefused),
    by_driver("shadow containment for find_activity", "CREATE FUNCTION pg_temp.always(jsonb, jsonb) RETURNS boolean LANGUAGE sql AS 'SELECT true'; CREATE OPERATOR pg_temp.@> (LEFTARG = jsonb, RIGHTARG = jsonb, FUNCTION = pg_temp.always); SET LOCAL search_path = pg_temp, pg_catalog, public; SELECT * FROM find_activity('{\"secret\": \"<rival_slug>\"}')", []),
    by_driver("shadow the type uuid", "CREATE DOMAIN pg_temp.uuid AS text; SET LOCAL search_path = pg_temp, pg_catalog, public; SELECT * FROM public.users", OWN),
    by_driver("drop all rights of every tenant", "DROP OWNED BY dataarch_app", -1),
    by_driver("drop all rights of every tenant, and what hangs on them", "DROP OWNED BY dataarch_app CASCADE", -1),
    by_driver("grant oneself a table", "GRANT TRUNCATE ON inventory TO dataarch_app", -1),
    Attempt("read after everything was discarded", one_by_one("COMMIT", "DISCARD ALL", "SELECT * FROM users"), []),
    Attempt("change a setting of the server", one_by_one("COMMIT", "ALTER SYSTEM SET row_security = off"), PrivilegeMissing),
    Attempt("go on in a transaction of one's own", one_by_one("COMMIT", "BEGIN", "SELECT * FROM tenants"), []),
    Attempt("watch rows in a condition", noticed("SELECT * FROM users WHERE pg_temp.spy(full_name || tenant_id)"), OWN),
    Attempt("watch activity in a condition", noticed("SELECT * FROM user_activity_log WHERE pg_temp.spy(metadata::text)"), OWN),
    Attempt("watch rows of another tenant", noticed("SELECT * FROM users WHERE pg_temp.spy(full_name) AND tenant_id = '<rival>'"), []),
    Attempt("watch rows in an update", noticed("UPDATE users SET full_name = 'owned' WHERE pg_temp.spy(full_name || tenant_id)"), OWN),
    Attempt("watch rows in a delete", noticed("DELETE FROM users WHERE pg_temp.spy(full_name || tenant_id)"), OWN),
    Attempt("watch rows in a join", noticed("SELECT * FROM products JOIN users ON pg_temp.spy(products.name || users.full_name)"), OWN),
    Attempt("watch rows behind a view", noticed("CREATE TEMP VIEW v AS SELECT * FROM users; SELECT * FROM v WHERE pg_temp.spy(full_name || tenant_id)"), OWN),
    Attempt("watch what find_activity is given", noticed("SELECT * FROM find_activity('{}') WHERE pg_temp.spy(metadata::text)"), OWN),
]  # fmt: skip


@pytest.mark.parametrize("attempt", params(SEVERAL))
def test_m01_several_statements_past_the_client_see_and_change_nothing(
    attempt: Attempt, defended: Callable[[Attempt], None]
) -> None:
    defended(attempt)


# ── copy ──────────────────────────────────────────────────────────────────────────────────────────────────────────


def copied_out(statement: str) -> Callable[[TenantSession, Target], object]:
    """Give what COPY sends."""

    def run(session: TenantSession, target: Target) -> object:
        with driver(session).cursor().copy(target.fill(statement).encode()) as copy:
            return [bytes(part) for part in copy]

    return run


def copied_in(statement: str, row: str) -> Callable[[TenantSession, Target], object]:
    """Send COPY a row."""

    def run(session: TenantSession, target: Target) -> object:
        cursor = driver(session).cursor()
        with cursor.copy(statement.encode()) as copy:
            copy.write(target.fill(row))
        return cursor.rowcount

    return run


COPIES = [
    Attempt("copy a table out", copied_out("COPY users TO STDOUT"), OWN),
    Attempt("copy the log out", copied_out("COPY (SELECT * FROM user_activity_log) TO STDOUT"), OWN),
    Attempt("copy another tenant out", copied_out("COPY (SELECT * FROM users WHERE tenant_id = '<rival>') TO STDOUT"), []),
    Attempt("copy the tenants out as CSV", copied_out("COPY tenants TO STDOUT (FORMAT csv, HEADER)"), OWN),
    Attempt("copy out in binary", copied_out("COPY products TO STDOUT (FORMAT binary)"), OWN),
    Attempt("copy out what an update gives back", copied_out("COPY (UPDATE users SET full_name = 'owned' WHERE tenant_id = '<rival>' RETURNING *) TO STDOUT"), []),
    Attempt("copy out with row security off", lambda s, t: (through_driver(s, "SET LOCAL row_security = off"), copied_out("COPY users TO STDOUT")(s, t)), PrivilegeMissing),
    Attempt("copy a row in", copied_in("COPY users (tenant_id, email, full_name) FROM STDIN", "<rival>\teve@example.com\tEve\n"), errors.FeatureNotSupported),
    Attempt("copy an activity in", copied_in("COPY user_activity_log (tenant_id, user_id, activity_type) FROM STDIN", "<rival>\t<rival_user>\tlogin\n"), errors.FeatureNotSupported),
]  # fmt: skip


@pytest.mark.parametrize("attempt", params(COPIES))
def test_m01_copy_sees_and_changes_nothing_of_another_tenant(
    attempt: Attempt, defended: Callable[[Attempt], None]
) -> None:
    defended(attempt)


def test_m01_no_foreign_data_extension_can_be_made(target: Target) -> None:
    """Whichever of them the server has: each would open a door of its own."""
    with target.db.owner() as session:
        has = set(session.scalars(text("SELECT name FROM pg_available_extensions")))
    for name in ("dblink", "postgres_fdw", "file_fdw", "plpython3u", "pageinspect"):
        expected = errors.InsufficientPrivilege if name in has else errors.FeatureNotSupported
        with pytest.raises(expected), target.db.tenant(target.acme.id) as session:
            through_driver(session, f"CREATE EXTENSION {name}")


def test_m01_an_unknown_id_and_another_tenants_id_are_refused_in_the_same_words(target: Target) -> None:
    """A foreign key tells nobody whether the other tenant's row is there."""
    words = set()
    for user in (str(target.rival.user_id), "00000000-0000-0000-0000-000000000000"):
        insert = f"INSERT INTO user_profiles (tenant_id, user_id) VALUES ('{target.acme.id}', '{user}')"
        with pytest.raises(psycopg.errors.ForeignKeyViolation) as refusal, target.db.tenant(target.acme.id) as session:
            through_driver(session, insert)
        words.add(str(refusal.value).replace(user, "<id>"))
    assert len(words) == 1
