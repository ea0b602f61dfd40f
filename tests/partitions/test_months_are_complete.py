"""Every partition, present or made later, has what the log has: indexes, foreign key, policy, and no grants."""

from __future__ import annotations

import pytest

from dataarch.database.settings import APP_ROLE, Settings
from fixtures.databases import MigrateTo
from fixtures.months import Connection, add_writer, all_rows, make_month, owner, write

pytestmark = pytest.mark.schema

INDEXES = {"idx_tenant_user_created", "idx_metadata_gin", "idx_active_users", "pk_user_activity_log"}

INDEXES_OF_PARTITIONS = """
SELECT child.relname, array_agg(parent_index.relname::text ORDER BY parent_index.relname)
FROM pg_inherits AS tables JOIN pg_class AS child ON child.oid = tables.inhrelid
JOIN pg_index ON pg_index.indrelid = child.oid AND indisvalid
JOIN pg_inherits AS indexes ON indexes.inhrelid = indexrelid
JOIN pg_class AS parent_index ON parent_index.oid = indexes.inhparent
WHERE tables.inhparent = 'user_activity_log'::regclass GROUP BY child.relname
"""

ISOLATION = """
SELECT relname, relrowsecurity AND EXISTS (SELECT FROM pg_policy WHERE polrelid = pg_class.oid), relacl::text,
       (SELECT count(*) FROM pg_constraint WHERE conrelid = pg_class.oid AND contype = 'f' AND convalidated),
       relowner = (SELECT relowner FROM pg_class WHERE oid = 'user_activity_log'::regclass)
FROM pg_inherits JOIN pg_class ON pg_class.oid = inhrelid WHERE inhparent = 'user_activity_log'::regclass
"""

POLICIES = """
SELECT polname, polpermissive, polcmd::text, polroles, pg_get_expr(polqual, polrelid),
       pg_get_expr(polwithcheck, polrelid)
FROM pg_policy WHERE polrelid = %s::regclass ORDER BY polname
"""


def make_months_everywhere(connection: Connection) -> None:
    for month in ("2010-12-01", "2010-10-01", "2010-11-01", "1970-01-01"):
        make_month(connection, month)


def test_every_partition_has_all_indexes_of_the_log(settings: Settings) -> None:
    with owner(settings) as connection:
        make_months_everywhere(connection)
        found = connection.execute(INDEXES_OF_PARTITIONS).fetchall()
        partitions = connection.execute(ISOLATION).fetchall()
    assert len(found) == len(partitions) > 15
    assert {name: set(indexes) for name, indexes in found} == {name: INDEXES for name, _ in found}


@pytest.mark.parametrize("grantee", [APP_ROLE, "PUBLIC"])
def test_every_partition_has_a_policy_a_foreign_key_and_no_grants_whatever_the_default_privileges(
    settings: Settings, grantee: str
) -> None:
    with owner(settings) as connection:
        connection.execute(f"ALTER DEFAULT PRIVILEGES IN SCHEMA public GRANT ALL ON TABLES TO {grantee}")
        make_months_everywhere(connection)
        for name, isolated, grants, foreign_keys, owned in connection.execute(ISOLATION):
            assert isolated, name
            assert foreign_keys == 1, name
            assert owned, name
            assert grants is None or (f"{APP_ROLE}=" not in grants and "{=" not in grants and ",=" not in grants), name


@pytest.mark.parametrize("grantee", ["pg_monitor", "PUBLIC"])
def test_the_partitions_of_the_upgrade_have_no_grants_whatever_the_default_privileges_before_it(
    empty_database: Settings, migrate: MigrateTo, grantee: str
) -> None:
    with owner(empty_database) as connection:
        connection.execute(f"ALTER DEFAULT PRIVILEGES GRANT ALL ON TABLES TO {grantee}")
        migrate(empty_database, "head")
        granted = {name: grants for name, _, grants, _, _ in connection.execute(ISOLATION)}
    assert len(granted) == 15
    assert {name for name, grants in granted.items() if grants and ("pg_monitor=" in grants or "{=" in grants)} == set()


def test_a_partition_gets_the_policies_of_the_log_as_they_are(settings: Settings) -> None:
    with owner(settings) as connection:
        connection.execute(
            "CREATE POLICY reader ON user_activity_log AS RESTRICTIVE FOR SELECT TO pg_monitor USING (true)"
        )
        connection.execute(
            "CREATE POLICY writer ON user_activity_log FOR INSERT TO pg_monitor, current_user WITH CHECK (true)"
        )
        make_month(connection, "2010-12-01")
        of_log = connection.execute(POLICIES, ["user_activity_log"]).fetchall()
        assert len(of_log) == 3
        assert connection.execute(POLICIES, ["user_activity_log_2010_12"]).fetchall() == of_log


def test_m13_a_column_that_came_later_keeps_its_values_when_a_month_is_made(settings: Settings) -> None:
    with owner(settings) as connection:
        connection.execute("ALTER TABLE user_activity_log ADD COLUMN \"new Column\" text DEFAULT 'new'")
        connection.execute("ALTER TABLE user_activity_log ADD COLUMN twice int GENERATED ALWAYS AS (2) STORED")
        writer = add_writer(connection)
        write(connection, writer, "2010-12-05", "2011-01-05")
        connection.execute("UPDATE user_activity_log SET \"new Column\" = 'kept'")
        rows = all_rows(connection)
        make_month(connection, "2010-12-05")
        assert all_rows(connection) == rows


def test_the_catch_alls_keep_their_names_and_their_indexes_names_however_often_months_are_made(
    settings: Settings,
) -> None:
    with owner(settings) as connection:
        make_months_everywhere(connection)
        names = dict(
            connection.execute(
                "SELECT tablename, indexname FROM pg_indexes"
                " WHERE tablename LIKE 'user_activity_log\\_%' AND indexname LIKE '%\\_pkey'"
            ).fetchall()
        )
    assert names == {table: f"{table}_pkey" for table in names}
    assert len(names) > 15
