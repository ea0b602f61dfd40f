"""Attacks on the partitions: policies are not inherited, so a partition must be out of reach, and guarded all the same."""

# ruff: noqa: E501  # a statement reads best on one line

from __future__ import annotations

import os
from collections.abc import Callable, Iterator

import psycopg
import pytest
from sqlalchemy import text

from dataarch.clock import utcnow
from dataarch.database.settings import APP_ROLE, Settings
from dataarch.database.unit_of_work import Database
from dataarch.errors import PrivilegeMissing
from fixtures.servers import OWNER, Servers, libpq
from fixtures.tenants import Inhabited
from isolation.attack import OWN, Attempt, params, sql

pytestmark = pytest.mark.isolation

MONTH = f"user_activity_log_{utcnow():%Y_%m}"
CATCH_ALL = "user_activity_log_rest_min"
A_ROW = "(tenant_id, user_id, activity_type, created_at) VALUES ('<rival>', '<rival_user>', 'login', '{when}')"
A_ROLE = f"dataarch_test_reader_{os.getpid()}"

ACTIONS = {
    "read": "SELECT * FROM {partition}",
    "read only that it is there": "SELECT FROM {partition} LIMIT 1",
    "count": "SELECT count(*) FROM {partition}",
    "lock the rows of": "SELECT * FROM {partition} FOR UPDATE",
    "insert into": "INSERT INTO {partition} " + A_ROW,
    "update": "UPDATE {partition} SET activity_type = 'owned'",
    "delete from": "DELETE FROM {partition}",
    "truncate": "TRUNCATE {partition}",
    "copy": "COPY {partition} TO STDOUT",
    "fill by copy": "COPY {partition} FROM STDIN",
    "lock": "LOCK TABLE {partition} IN ACCESS SHARE MODE",
    "switch off the security of": "ALTER TABLE {partition} DISABLE ROW LEVEL SECURITY",
    "drop the policy of": "DROP POLICY tenant_isolation ON {partition}",
    "add a policy to": "CREATE POLICY all_of_it ON {partition} USING (true)",
    "detach": "ALTER TABLE user_activity_log DETACH PARTITION {partition}",
    "take over": "ALTER TABLE {partition} OWNER TO dataarch_app",
    "grant oneself": "GRANT SELECT ON {partition} TO dataarch_app",
    "drop": "DROP TABLE {partition}",
    "index": "CREATE INDEX ON {partition} (metadata)",
    "put a trigger on": "CREATE TRIGGER spy AFTER INSERT ON {partition} EXECUTE FUNCTION suppress_redundant_updates_trigger()",
}

ATTEMPTS = [
    sql(f"{action} {kind}", statement.format(partition=partition, when=when), PrivilegeMissing)
    for kind, partition, when in (("a month", MONTH, f"{utcnow():%Y-%m-%d}"), ("a catch-all", CATCH_ALL, "1999-01-01"))
    for action, statement in ACTIONS.items()
]

THROUGH_PARENT = [
    sql("read with the partition's name", "SELECT tableoid::regclass::text, * FROM user_activity_log", OWN),
    sql("read only the parent itself", "SELECT * FROM ONLY user_activity_log", []),
    sql("prune to a month", "SELECT * FROM user_activity_log WHERE created_at > now() - interval '1 day' AND tenant_id = '<rival>'", []),
    sql("attach a table of one's own", "CREATE TEMP TABLE mine (LIKE user_activity_log); ALTER TABLE user_activity_log ATTACH PARTITION mine FOR VALUES FROM ('1900-01-01') TO ('1900-02-01')", PrivilegeMissing),
    sql("make a partition by hand", "CREATE TABLE mine PARTITION OF user_activity_log FOR VALUES FROM ('1900-01-01') TO ('1900-02-01')", PrivilegeMissing),
    sql("make a temporary partition", "CREATE TEMP TABLE mine PARTITION OF user_activity_log FOR VALUES FROM ('1900-01-01') TO ('1900-02-01')", psycopg.errors.WrongObjectType),
    sql("inherit from a partition", f"CREATE TEMP TABLE heir () INHERITS ({CATCH_ALL})", psycopg.errors.WrongObjectType),
    sql("truncate the parent", "TRUNCATE user_activity_log", PrivilegeMissing),
    sql("call the function that carves months", "SELECT carve_activity_partition('2001-01-01')", PrivilegeMissing),
    sql("call the function that attaches months", "SELECT attach_activity_partition('mine', '1900-01-01', '1900-02-01')", PrivilegeMissing),
]  # fmt: skip


@pytest.mark.parametrize("attempt", params([*ATTEMPTS, *THROUGH_PARENT]))
def test_m01_a_partition_is_out_of_reach(attempt: Attempt, defended: Callable[[Attempt], None]) -> None:
    defended(attempt)


# ── and guarded all the same ──────────────────────────────────────────────────────────────────────────────────────


def partitions(db: Database) -> list[str]:
    """Return the names of all partitions."""
    with db.owner() as session:
        found = session.scalars(
            text(
                "SELECT inhrelid::regclass::text FROM pg_inherits WHERE inhparent = 'user_activity_log'::regclass ORDER BY 1"
            )
        )
        return list(found)


@pytest.fixture
def granted(servers: Servers, settings: Settings) -> Iterator[psycopg.Connection[tuple[object, ...]]]:
    """A connection of a role that is a member of nothing, and may read and write each partition."""
    name = settings.owner.database
    with servers.connect() as admin:
        admin.execute(f"DROP ROLE IF EXISTS {A_ROLE}")
        admin.execute(f"CREATE ROLE {A_ROLE} LOGIN")
    assert name is not None
    try:
        with psycopg.connect(libpq(servers.login(A_ROLE, name))) as connection:
            yield connection
    finally:
        with psycopg.connect(libpq(servers.admin.set(database=name)), autocommit=True) as admin:
            admin.execute(f"DROP OWNED BY {A_ROLE}")
            admin.execute(f"DROP ROLE {A_ROLE}")


Direct = psycopg.Connection[tuple[object, ...]]

IN_EVERY_PARTITION = """
INSERT INTO user_activity_log (tenant_id, user_id, activity_type, created_at)
SELECT users.tenant_id, users.id, 'login', date_trunc('month', now()) + months.number * interval '1 month'
FROM users, (SELECT generate_series(-2, 17) AS number) AS months
"""

SHAPE = """
SELECT relname, relrowsecurity, has_table_privilege(:app, oid, 'SELECT, INSERT, UPDATE, DELETE, TRUNCATE'),
       (SELECT count(*) FROM pg_policy WHERE polrelid = pg_class.oid),
       (SELECT count(*) FROM aclexplode(relacl) WHERE grantee <> relowner)
FROM pg_class WHERE relname = ANY (:new)
"""
"""A partition's name, whether its policies are on, whether the application may reach it, how many policies and grants."""


@pytest.fixture
def filled(db: Database, acme: Inhabited, rival: Inhabited) -> list[str]:
    """The partitions, each with rows of both tenants, and each granted to the role."""
    with db.owner() as session:
        session.execute(
            text("SELECT create_activity_partition((date_trunc('month', now()) + interval '15 months')::date)")
        )
        session.execute(text(IN_EVERY_PARTITION))
    return partitions(db)


def grant(db: Database, names: list[str]) -> None:
    """Grant the partitions to the role, against the rules of the house."""
    with db.owner() as session:
        session.execute(text(f"GRANT SELECT, INSERT ON {', '.join(names)} TO {A_ROLE}"))


def test_m01_each_partition_read_directly_by_a_role_with_a_grant_shows_the_tenants_rows_alone(
    db: Database, granted: Direct, filled: list[str], acme: Inhabited
) -> None:
    grant(db, filled)
    granted.execute("SELECT set_config('dataarch.tenant_id', %s, true)", [str(acme.id)])
    seen = {name: granted.execute(f"SELECT tenant_id FROM {name}").fetchall() for name in filled}
    tenants = {name: {tenant for (tenant,) in rows} for name, rows in seen.items()}
    assert tenants == {name: {acme.id} for name in filled}
    assert len(filled) >= 15


def test_m01_each_partition_read_directly_without_a_tenant_shows_no_row(
    db: Database, granted: Direct, filled: list[str]
) -> None:
    grant(db, filled)
    assert [granted.execute(f"SELECT * FROM {name}").fetchall() for name in filled] == [[]] * len(filled)


def test_m01_each_partition_refuses_another_tenants_row_from_a_role_with_a_grant(
    db: Database, granted: Direct, filled: list[str], acme: Inhabited, rival: Inhabited
) -> None:
    grant(db, filled)
    granted.execute("SELECT set_config('dataarch.tenant_id', %s, false)", [str(acme.id)])
    granted.commit()
    for name in filled:
        insert = (
            f"INSERT INTO {name} (tenant_id, user_id, activity_type, created_at) "
            f"SELECT %s, %s, 'login', max(created_at) FROM {name}"
        )
        with pytest.raises(psycopg.errors.InsufficientPrivilege) as refused, granted.transaction():
            granted.execute(insert, [rival.id, rival.user_id])
        # a missing privilege would name another routine
        assert refused.value.diag.source_function == "ExecWithCheckOptions"


def test_m01_a_partition_made_later_has_the_policy_and_no_grant_whatever_the_default_privileges_say(
    db: Database, settings: Settings, servers: Servers
) -> None:
    before = set(partitions(db))
    with psycopg.connect(libpq(servers.admin.set(database=settings.owner.database))) as admin:
        for holder in (APP_ROLE, "PUBLIC"):
            admin.execute(f"ALTER DEFAULT PRIVILEGES FOR ROLE {OWNER} GRANT ALL ON TABLES TO {holder}")
    with db.owner() as session:
        made = set(session.scalars(text("SELECT create_activity_partition((now() + interval '20 months')::date)")))
    new = set(partitions(db)) - before
    with db.owner() as session:
        shape = session.execute(text(SHAPE), {"app": APP_ROLE, "new": sorted(new)}).all()
    # beside the month, what is left of the catch-all is new
    assert made < new
    assert {tuple(row) for row in shape} == {(name, True, False, 1, 0) for name in new}


def test_m01_no_role_but_the_owner_has_a_grant_on_any_partition(db: Database) -> None:
    with db.owner() as session:
        held = session.execute(
            text(
                "SELECT inhrelid::regclass::text, grantee FROM pg_inherits JOIN pg_class ON pg_class.oid = inhrelid,"
                " LATERAL aclexplode(relacl) WHERE inhparent = 'user_activity_log'::regclass AND grantee <> relowner"
            )
        ).all()
    assert held == []
