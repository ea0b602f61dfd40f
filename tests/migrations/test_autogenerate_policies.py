"""Autogenerate sees row-level security that is missing, switched off, different or too much, and mends it."""

from __future__ import annotations

import pytest
from sqlalchemy import Column, ForeignKeyConstraint, Index, Integer, MetaData, Table, Uuid

from dataarch.database.settings import Settings
from dataarch.models import Base
from dataarch.models.declared import RowPolicy, declare
from fixtures.catalogs import described
from migrations.autogenerate_support import execute, models, proposed, run_code

pytestmark = pytest.mark.migration

CHILD = "user_activity_log_2016_02"
MAKE_CHILD = "SELECT create_activity_partition('2016-02-01')"
RULE = "tenant_id = nullif(current_setting('dataarch.tenant_id', true), '')::uuid"

DAMAGE = {
    "no policy": ("DROP POLICY tenant_isolation ON users", "users"),
    "switched off": ("ALTER TABLE users DISABLE ROW LEVEL SECURITY", "users"),
    "another condition": ("ALTER POLICY tenant_isolation ON users USING (true)", "users"),
    "another condition for writing": ("ALTER POLICY tenant_isolation ON users WITH CHECK (true)", "users"),
    "another role": ("ALTER POLICY tenant_isolation ON users TO dataarch_app", "users"),
    "tenants": ("ALTER POLICY tenant_isolation ON tenants USING (true)", "tenants', 'id"),
    "one partition without": (f"DROP POLICY tenant_isolation ON {CHILD}", "user_activity_log"),
    "one partition switched off": (f"ALTER TABLE {CHILD} DISABLE ROW LEVEL SECURITY", "user_activity_log"),
    "one partition different": (f"ALTER POLICY tenant_isolation ON {CHILD} USING (true)", "user_activity_log"),
    "for reading alone": (
        f"DROP POLICY tenant_isolation ON users; CREATE POLICY tenant_isolation ON users FOR SELECT USING ({RULE})",
        "users",
    ),
}


@pytest.mark.parametrize("damage", DAMAGE.values(), ids=DAMAGE.keys())
def test_damaged_isolation_is_seen_and_mended(settings: Settings, damage: tuple[str, str]) -> None:
    statement, table = damage
    execute(settings, MAKE_CHILD)
    before = described(settings)
    execute(settings, *statement.split("; "))
    assert described(settings) != before
    found = proposed(settings)
    assert f"op.enable_tenant_isolation('{table}')" in found.upgrade
    assert len(found.kinds) == 1
    run_code(settings, found.upgrade)
    assert described(settings) == before


def test_going_back_from_a_mended_isolation_opens_nothing(settings: Settings) -> None:
    before = described(settings)
    execute(settings, "ALTER POLICY tenant_isolation ON users USING (true)")
    found = proposed(settings)
    run_code(settings, found.upgrade)
    run_code(settings, found.downgrade)
    assert described(settings) == before


def test_isolation_that_was_never_there_is_taken_away_by_going_back(settings: Settings) -> None:
    execute(settings, "DROP POLICY tenant_isolation ON users", "ALTER TABLE users DISABLE ROW LEVEL SECURITY")
    before = described(settings)
    found = proposed(settings)
    assert found.kinds == ["EnableTenantIsolationOp"]
    run_code(settings, found.upgrade)
    run_code(settings, found.downgrade)
    assert described(settings) == before


def test_the_same_condition_in_other_words_is_no_difference(settings: Settings) -> None:
    other_words = "tenant_id = CAST(NULLIF(current_setting('dataarch.tenant_id', TRUE), '') AS uuid)"
    execute(settings, f"ALTER POLICY tenant_isolation ON users USING ({other_words}) WITH CHECK (({RULE}))")
    assert proposed(settings).kinds == []


@pytest.mark.parametrize("table", ["users", "user_activity_log", CHILD])
def test_a_policy_that_nobody_declared_is_taken_away_and_comes_back(settings: Settings, table: str) -> None:
    execute(settings, MAKE_CHILD)
    clean = described(settings)
    execute(
        settings,
        f"CREATE POLICY leak ON {table} AS RESTRICTIVE FOR UPDATE TO dataarch_app, pg_monitor"
        " USING (tenant_id IS NOT NULL) WITH CHECK (tenant_id <> gen_random_uuid())",
    )
    leaking = described(settings)
    found = proposed(settings)
    assert found.kinds == ["DropObjectOp"]
    run_code(settings, found.upgrade)
    assert described(settings) == clean
    run_code(settings, found.downgrade)
    assert described(settings) == leaking


def test_a_declared_policy_is_made_changed_and_taken_away(settings: Settings) -> None:
    clean = described(settings)
    metadata = models()
    declare(metadata, RowPolicy("auditor_reads", "users", "FOR SELECT TO pg_monitor USING (email LIKE '%:x%')"))
    made = proposed(settings, metadata)
    assert made.kinds == ["CreateObjectOp"]
    run_code(settings, made.upgrade)
    first = described(settings)
    assert proposed(settings, metadata).kinds == []

    changed_models = models()
    declare(changed_models, RowPolicy("auditor_reads", "users", "FOR SELECT TO pg_monitor USING (email IS NULL)"))
    changed = proposed(settings, changed_models)
    assert changed.kinds == ["ReplaceObjectOp"]
    run_code(settings, changed.upgrade)
    assert proposed(settings, changed_models).kinds == []
    run_code(settings, changed.downgrade)
    assert described(settings) == first

    assert proposed(settings).kinds == ["DropObjectOp"]
    run_code(settings, made.downgrade)
    assert described(settings) == clean


def test_a_new_tenant_table_is_isolated_after_it_is_made(settings: Settings) -> None:
    before = described(settings)
    metadata = models()
    Table(
        "notes",
        metadata,
        Column("tenant_id", Uuid, primary_key=True),
        Column("id", Integer, primary_key=True, autoincrement=False),
        ForeignKeyConstraint(["tenant_id"], ["tenants.id"], ondelete="CASCADE"),
    )
    found = proposed(settings, metadata)
    assert found.kinds == ["CreateTableOp", "EnableTenantIsolationOp"]
    run_code(settings, found.upgrade)
    assert proposed(settings, metadata).kinds == []
    run_code(settings, found.downgrade)
    assert described(settings) == before


def test_a_new_tenant_table_is_isolated_before_anything_else_is_committed(settings: Settings) -> None:
    metadata = models()
    Table("a_notes", metadata, Column("tenant_id", Uuid, primary_key=True))
    log = metadata.tables["user_activity_log"]
    Index("new_index", log.c.activity_type)
    kinds = proposed(settings, metadata).kinds
    assert kinds.index("EnableTenantIsolationOp") == kinds.index("CreateTableOp") + 1
    assert kinds.index("EnableTenantIsolationOp") < kinds.index("CreatePartitionedIndexOp")


def test_a_tenant_table_that_is_dropped_comes_back_with_its_policies(settings: Settings) -> None:
    execute(
        settings,
        "CREATE TABLE notes (tenant_id uuid, value integer)",
        f"CREATE POLICY tenant_isolation ON notes USING ({RULE}) WITH CHECK ({RULE})",
        "CREATE POLICY auditor_reads ON notes FOR SELECT TO pg_monitor USING (value > 1)",
        "ALTER TABLE notes ENABLE ROW LEVEL SECURITY",
    )
    before = described(settings)
    found = proposed(settings)
    assert sorted(found.kinds) == ["DisableTenantIsolationOp", "DropObjectOp", "DropTableOp"]
    run_code(settings, found.upgrade)
    run_code(settings, found.downgrade)
    assert described(settings) == before


@pytest.mark.parametrize("there", [True, False], ids=["an old table", "a new table"])
def test_a_policy_declared_on_a_table_of_no_tenant_guards_it(settings: Settings, there: bool) -> None:
    if there:
        execute(settings, "CREATE TABLE notes (value integer)")
    metadata = models()
    Table("notes", metadata, Column("value", Integer))
    declare(metadata, RowPolicy("auditor_reads", "notes", "FOR SELECT TO pg_monitor USING (value > 1)"))
    run_code(settings, proposed(settings, metadata).upgrade)
    assert proposed(settings, metadata).kinds == []
    made = described(settings)
    assert any(line.startswith("table public.notes r") and "guarded true" in line for line in made)
    execute(settings, "ALTER TABLE notes DISABLE ROW LEVEL SECURITY")
    run_code(settings, proposed(settings, metadata).upgrade)
    assert described(settings) == made


def test_a_tenant_column_that_is_added_brings_isolation_with_it(settings: Settings) -> None:
    execute(settings, "CREATE TABLE notes (id integer PRIMARY KEY)")
    metadata = models()
    Table("notes", metadata, Column("id", Integer, primary_key=True), Column("tenant_id", Uuid))
    found = proposed(settings, metadata)
    assert found.kinds == ["AddColumnOp", "EnableTenantIsolationOp"]
    run_code(settings, found.upgrade)
    assert proposed(settings, metadata).kinds == []


def test_isolation_of_a_table_that_belongs_to_no_tenant_any_more_is_taken_away(settings: Settings) -> None:
    execute(
        settings,
        "CREATE TABLE notes (id integer PRIMARY KEY)",
        "ALTER TABLE notes ENABLE ROW LEVEL SECURITY",
        "CREATE POLICY tenant_isolation ON notes USING (false)",
    )
    metadata = models()
    Table("notes", metadata, Column("id", Integer, primary_key=True))
    found = proposed(settings, metadata)
    assert found.kinds == ["DisableTenantIsolationOp"]
    run_code(settings, found.upgrade)
    assert proposed(settings, metadata).kinds == []


def test_policies_of_tables_that_belong_to_no_tenant_are_left_alone(settings: Settings) -> None:
    execute(
        settings,
        "CREATE TABLE notes (id integer PRIMARY KEY)",
        "ALTER TABLE notes ENABLE ROW LEVEL SECURITY",
        "CREATE POLICY by_hand ON notes USING (id > 0)",
    )
    metadata = models()
    Table("notes", metadata, Column("id", Integer, primary_key=True))
    assert proposed(settings, metadata).kinds == []


def test_an_environment_may_leave_the_policies_of_a_table_out(settings: Settings) -> None:
    execute(settings, "ALTER TABLE users DISABLE ROW LEVEL SECURITY", "DROP POLICY tenant_isolation ON products")

    def include(thing: object, name: str, kind: str, reflected: bool, compare_to: object) -> bool:
        return not (kind == "policy" and thing is Base.metadata.tables["users"])

    found = proposed(settings, include_object=include)
    assert found.upgrade.count("op.") == 1
    assert "op.enable_tenant_isolation('products')" in found.upgrade


def test_policies_in_another_schema_are_compared_there(settings: Settings) -> None:
    execute(settings, "CREATE SCHEMA apart", "CREATE TABLE apart.users (tenant_id uuid NOT NULL)")
    metadata = MetaData()
    Table("users", metadata, Column("tenant_id", Uuid, nullable=False), schema="apart")
    found = proposed(
        settings,
        metadata,
        include_schemas=True,
        include_name=lambda name, kind, parents: kind != "schema" or name == "apart",
    )
    assert found.kinds == ["EnableTenantIsolationOp"]
    assert "op.enable_tenant_isolation('users', schema='apart')" in found.upgrade
