"""``op.enable_tenant_isolation`` and ``op.disable_tenant_isolation``."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from uuid import UUID

import psycopg
import pytest

from dataarch.database.settings import APP_ROLE, Settings
from dataarch.errors import LockTimeout
from dataarch.models.tenancy import TENANT_SETTING
from dataarch.rollout.operations import DisableTenantIsolationOp, EnableTenantIsolationOp
from fixtures.catalogs import owner_connection
from fixtures.servers import libpq
from migrations.operation_support import Revisions, answers, assert_goes_up_and_down, rendered, schema_of

pytestmark = [pytest.mark.migration, pytest.mark.isolation]

ACME, RIVAL = UUID(int=1), UUID(int=2)

TABLES = """
CREATE TABLE orders (tenant_id uuid, at timestamptz) PARTITION BY RANGE (at);
CREATE TABLE orders_old PARTITION OF orders FOR VALUES FROM (MINVALUE) TO ('2026-01-01 00:00+00');
CREATE TABLE orders_new PARTITION OF orders FOR VALUES FROM ('2026-01-01 00:00+00') TO (MAXVALUE)
    PARTITION BY HASH (tenant_id);
CREATE TABLE orders_new_0 PARTITION OF orders_new FOR VALUES WITH (MODULUS 2, REMAINDER 0);
CREATE TABLE orders_new_1 PARTITION OF orders_new FOR VALUES WITH (MODULUS 2, REMAINDER 1);
CREATE TABLE plain ("Owner" uuid);
GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA public TO dataarch_app;
"""

ORDERS = ["orders", "orders_old", "orders_new", "orders_new_0", "orders_new_1"]

UP, DOWN = "op.enable_tenant_isolation('orders')", "op.disable_tenant_isolation('orders')"


@pytest.fixture
def revisions(template: str, tmp_path: Path, empty_database: Settings) -> Revisions:
    """A folder of revisions, and tables with rows of two tenants in every partition; the application's role exists."""
    with owner_connection(empty_database) as connection:
        connection.execute(TABLES)
        for tenant in (ACME, RIVAL):
            for at in ("2020-01-01 00:00+00", "2026-06-01 00:00+00"):
                connection.execute("INSERT INTO orders VALUES (%s, %s)", [tenant, at])
            connection.execute("INSERT INTO plain VALUES (%s)", [tenant])
    return Revisions(tmp_path / "revisions", empty_database)


@pytest.fixture
def acme(empty_database: Settings) -> Iterator[psycopg.Connection[tuple[object, ...]]]:
    """A connection of the application's role, in a transaction of the tenant Acme."""
    with psycopg.connect(libpq(empty_database.application), autocommit=True) as connection:
        assert connection.execute("SELECT current_user::text").fetchone() == (APP_ROLE,)
        connection.execute(f"SET {TENANT_SETTING} = '{ACME}'")
        yield connection


Connection = psycopg.Connection[tuple[object, ...]]


def tenants(connection: Connection, table: str, column: str = "tenant_id") -> set[object]:
    return {row[0] for row in connection.execute(f'SELECT DISTINCT "{column}" FROM {table}').fetchall()}


def test_the_application_sees_only_its_tenant_in_the_table_and_in_each_partition(
    revisions: Revisions, acme: Connection
) -> None:
    assert tenants(acme, "orders") == {ACME, RIVAL}
    revisions.write(UP, DOWN)
    revisions.up()
    assert tenants(acme, "orders") == {ACME}
    for table in ORDERS:
        assert tenants(acme, table) <= {ACME}, table
    acme.execute("RESET ALL")
    assert [tenants(acme, table) for table in ORDERS] == [set()] * 5


def test_the_application_cannot_write_another_tenants_row_into_any_of_them(
    revisions: Revisions, acme: Connection
) -> None:
    revisions.write(UP, DOWN)
    revisions.up()
    acme.execute("INSERT INTO orders VALUES (%s, now())", [ACME])
    for table, at in (("orders", "2026-06-01"), ("orders_old", "2020-01-01"), ("orders_new", "2026-06-01")):
        with pytest.raises(psycopg.errors.InsufficientPrivilege, match="row-level security"):
            acme.execute(f"INSERT INTO {table} VALUES (%s, %s)", [RIVAL, at])
        with pytest.raises(psycopg.errors.InsufficientPrivilege, match="row-level security"):
            acme.execute(f"UPDATE {table} SET tenant_id = %s", [RIVAL])
    assert acme.execute("DELETE FROM orders WHERE tenant_id = %s", [RIVAL]).rowcount == 0


def test_the_owner_stands_outside_it(revisions: Revisions) -> None:
    revisions.write(UP, DOWN)
    revisions.up()
    assert answers(revisions.settings, "SELECT count(*)::int FROM orders") == [4]


def test_a_table_without_partitions_and_with_a_column_of_another_name_is_isolated_too(
    revisions: Revisions, acme: Connection
) -> None:
    revisions.write("op.enable_tenant_isolation('plain', 'Owner', schema='public')")
    revisions.up()
    assert tenants(acme, "plain", "Owner") == {ACME}


def test_doing_it_twice_changes_nothing_and_a_different_policy_of_that_name_is_mended(
    revisions: Revisions, acme: Connection
) -> None:
    revisions.write(UP, DOWN)
    revisions.up()
    isolated = schema_of(revisions.settings)
    with owner_connection(revisions.settings) as connection:
        connection.execute("DROP POLICY tenant_isolation ON orders_old")
        connection.execute("CREATE POLICY tenant_isolation ON orders_old AS RESTRICTIVE FOR SELECT USING (true)")
        connection.execute("ALTER POLICY tenant_isolation ON orders USING (true)")
        connection.execute("ALTER TABLE orders_new_1 DISABLE ROW LEVEL SECURITY")
    assert schema_of(revisions.settings) != isolated
    revisions.write(UP, DOWN)
    revisions.up()
    assert schema_of(revisions.settings) == isolated
    assert tenants(acme, "orders") == {ACME}


def test_it_goes_down_and_up_again(revisions: Revisions) -> None:
    revisions.write(UP, DOWN)
    bare = schema_of(revisions.settings)
    revisions.up()
    isolated = schema_of(revisions.settings)
    assert isolated != bare
    revisions.down()
    assert schema_of(revisions.settings) == bare
    revisions.up()
    assert schema_of(revisions.settings) == isolated


def test_going_down_leaves_another_policy_in_force(revisions: Revisions, acme: Connection) -> None:
    revisions.write(UP, DOWN)
    revisions.up()
    with owner_connection(revisions.settings) as connection:
        connection.execute(
            "CREATE POLICY of_somebody_else ON orders USING (tenant_id <> %s)".replace("%s", f"'{ACME}'")
        )
    revisions.down()
    assert tenants(acme, "orders") == {RIVAL}
    assert tenants(acme, "orders_old") == {ACME, RIVAL}


def test_the_printed_sql_does_the_same_when_psql_runs_it(revisions: Revisions) -> None:
    revisions.write(UP, DOWN)
    bare = schema_of(revisions.settings)
    up, down = revisions.script("head"), revisions.script("0001:base", down=True)
    revisions.psql(up)
    printed = schema_of(revisions.settings)
    revisions.psql(down)
    assert schema_of(revisions.settings) == bare
    revisions.up()
    assert schema_of(revisions.settings) == printed


@pytest.mark.parametrize(
    ("operation", "code"),
    [
        (EnableTenantIsolationOp("orders"), "op.enable_tenant_isolation('orders')"),
        (
            DisableTenantIsolationOp("orders", "Owner", schema="public"),
            "op.disable_tenant_isolation('orders', 'Owner', schema='public')",
        ),
    ],
)
def test_it_is_rendered_as_code_and_reverses(
    operation: EnableTenantIsolationOp | DisableTenantIsolationOp, code: str
) -> None:
    assert rendered(operation) == code
    assert rendered(operation.reverse().reverse()) == code
    assert type(operation.reverse()) is not type(operation)
    assert operation.to_diff_tuple()[1:] == (operation.schema, operation.table_name, operation.column)


def test_the_plain_functions_do_the_same(revisions: Revisions, acme: Connection) -> None:
    into = "from dataarch.rollout.operations import disable_tenant_isolation, enable_tenant_isolation\n"
    revisions.write(f"{into}enable_tenant_isolation('orders')", f"{into}disable_tenant_isolation('orders')")
    revisions.up()
    assert tenants(acme, "orders") == {ACME}
    revisions.down()
    assert tenants(acme, "orders") == {ACME, RIVAL}


@pytest.mark.parametrize("held", ["orders", "orders_new_0"])
def test_who_holds_the_table_is_waited_for_in_short_tries_and_nothing_is_half_done(
    revisions: Revisions, held: str
) -> None:
    revisions.settings = revisions.settings.model_copy(update={"upgrade_patience": 0.3})
    revisions.write(UP, DOWN)
    bare = schema_of(revisions.settings)
    with psycopg.connect(libpq(revisions.settings.owner)) as reader:
        reader.execute(f"SELECT FROM {held}")
        with pytest.raises(LockTimeout):
            revisions.up()
    assert schema_of(revisions.settings) == bare
    revisions.up()


def test_the_example_on_its_page_goes_up_and_down(revisions: Revisions) -> None:
    revisions.write_page("enable_tenant_isolation")
    assert_goes_up_and_down(revisions)
