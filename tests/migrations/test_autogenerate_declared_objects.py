"""Autogenerate sees functions and triggers that the models declare: missing, changed, removed."""

from __future__ import annotations

import psycopg
import pytest
from sqlalchemy import Column, DateTime, Integer, MetaData, Table, text

from dataarch.database.settings import Settings
from dataarch.errors import InvalidValue
from dataarch.models import partitioned
from dataarch.models.declared import Declared, Function, Trigger, declare, declared_in
from fixtures.catalogs import described
from fixtures.servers import Servers, libpq
from migrations.autogenerate_support import execute, models, proposed, run_code

pytestmark = pytest.mark.migration

TOUCH = Function(
    "touch",
    "",
    "RETURNS trigger LANGUAGE plpgsql AS $$\nBEGIN\n    NEW.updated_at := clock_timestamp();\n    RETURN NEW;\nEND\n$$",
)
TOUCH_USERS = Trigger("touch", "users", "BEFORE UPDATE", "FOR EACH ROW EXECUTE FUNCTION touch()")

FUNCTIONS = {
    "plpgsql": TOUCH,
    "sql": Function("twice", "a integer, b text DEFAULT 'x,y'", "RETURNS integer LANGUAGE sql AS $$ SELECT 2 * a $$"),
    "sql standard body": Function(
        "twice", "a integer", "RETURNS integer LANGUAGE sql IMMUTABLE BEGIN ATOMIC SELECT 2*a; END"
    ),
    "return": Function("twice", "a integer", "RETURNS int LANGUAGE sql IMMUTABLE RETURN a + a"),
    "security definer with settings": Function(
        "guarded",
        "filter jsonb, since timestamptz DEFAULT '-infinity'",
        "RETURNS SETOF users LANGUAGE plpgsql STABLE SECURITY DEFINER COST 7 ROWS 3 PARALLEL SAFE"
        " SET search_path = pg_catalog, public, pg_temp SET plan_cache_mode = force_generic_plan"
        " AS $q$ BEGIN RETURN QUERY SELECT * FROM users; END $q$",
    ),
    "table and out": Function(
        "rows_of", "VARIADIC of text[]", "RETURNS TABLE (name text, n int8) LANGUAGE sql AS 'SELECT ''a'', 1::int8'"
    ),
    "colons, percents, quotes, backslashes": Function(
        "hostile",
        "a text[]",
        "RETURNS text LANGUAGE plpgsql AS $f$\nDECLARE b text := 'x :name %s %(n)s %% \\: \\\\: \"\"\" ''''';\nBEGIN\n"
        "\tRETURN to_char(now(), 'HH24:MI:SS') || a[1:2]::text || b;\r\nEND\n$f$",
    ),
    "a name that must be quoted": Function('To "Upper"', "a text", "RETURNS text LANGUAGE sql AS 'SELECT upper(a)'"),
    "overloaded": Function("uuid_v7", "a integer", "RETURNS integer LANGUAGE sql AS 'SELECT a'"),
}


def having(*objects: Declared) -> MetaData:
    metadata = models()
    declare(metadata, *objects)
    return metadata


def install(settings: Settings, *objects: Declared) -> None:
    for one in objects:
        execute(settings, *one.create_sql())


@pytest.mark.parametrize("function", FUNCTIONS.values(), ids=FUNCTIONS.keys())
def test_a_declared_function_is_made_once_and_goes_and_comes_as_it_was(settings: Settings, function: Function) -> None:
    before = described(settings)
    install(settings, function)
    wanted = described(settings)
    assert proposed(settings, having(function)).kinds == []
    execute(settings, function.drop_sql() + ("(integer)" if function.name == "uuid_v7" else ""))

    found = proposed(settings, having(function))
    assert found.kinds == ["CreateObjectOp"]
    run_code(settings, found.upgrade)
    assert described(settings) == wanted
    assert proposed(settings, having(function)).kinds == []
    run_code(settings, found.downgrade)
    assert described(settings) == before


CHANGES = {
    "body": TOUCH.definition.replace("clock_timestamp", "statement_timestamp"),
    "security": TOUCH.definition.replace("LANGUAGE", "SECURITY DEFINER LANGUAGE"),
    "setting": TOUCH.definition.replace("LANGUAGE", "SET search_path = pg_catalog LANGUAGE"),
    "volatility": TOUCH.definition.replace("LANGUAGE", "STABLE LANGUAGE"),
}


@pytest.mark.parametrize("definition", CHANGES.values(), ids=CHANGES.keys())
def test_a_changed_function_is_replaced_under_its_triggers_and_keeps_its_privileges(
    settings: Settings, definition: str
) -> None:
    install(settings, TOUCH, TOUCH_USERS)
    execute(settings, "REVOKE ALL ON FUNCTION touch() FROM PUBLIC")
    before = described(settings)
    found = proposed(settings, having(Function("touch", "", definition), TOUCH_USERS))
    assert found.kinds == ["ReplaceObjectOp"]
    run_code(settings, found.upgrade)
    assert described(settings) != before
    assert proposed(settings, having(Function("touch", "", definition), TOUCH_USERS)).kinds == []
    run_code(settings, found.downgrade)
    assert described(settings) == before


def test_a_function_whose_result_changes_is_dropped_and_made_anew(settings: Settings) -> None:
    install(settings, Function("twice", "a integer", "RETURNS integer LANGUAGE sql AS 'SELECT 2 * a'"))
    before = described(settings)
    wanted = having(Function("twice", "a integer", "RETURNS bigint LANGUAGE sql AS 'SELECT 2::bigint * a'"))
    found = proposed(settings, wanted)
    assert found.kinds == ["DropObjectOp", "CreateObjectOp"]
    run_code(settings, found.upgrade)
    assert proposed(settings, wanted).kinds == []
    run_code(settings, found.downgrade)
    assert described(settings) == before


def test_white_space_and_case_outside_the_body_are_no_difference(settings: Settings) -> None:
    install(settings, Function("twice", "a integer", "RETURNS integer LANGUAGE sql IMMUTABLE AS 'SELECT 2 * a'"))
    same = Function("twice", "  a   INT4", "returns int\n immutable language SQL as $x$SELECT 2 * a$x$")
    assert proposed(settings, having(same)).kinds == []


def test_functions_that_nobody_declared_are_left_alone_unless_the_project_removes_them(settings: Settings) -> None:
    clean = described(settings)
    install(settings, TOUCH, TOUCH_USERS, Function("app_old", "a int DEFAULT 1", FUNCTIONS["return"].definition))
    there = described(settings)
    assert proposed(settings).kinds == []
    assert proposed(settings, remove_undeclared=["app_*"]).kinds == ["DropObjectOp"]
    found = proposed(settings, remove_undeclared=["app_*", "touch"])
    assert found.kinds == ["DropObjectOp"] * 3
    run_code(settings, found.upgrade)
    assert described(settings) == clean
    run_code(settings, found.downgrade)
    assert described(settings) == there


TRIGGERS = {
    "when": Trigger(
        "touch", "users", "BEFORE UPDATE OF email, full_name",
        "FOR EACH ROW WHEN (old.full_name is distinct from new.full_name) EXECUTE FUNCTION touch('a', 'b:c %')",
    ),
    "statement with transition tables": Trigger(
        "touch", "users", "AFTER INSERT", "REFERENCING NEW TABLE AS added FOR EACH STATEMENT EXECUTE FUNCTION touch()"
    ),
    "on a partitioned table": Trigger(
        'On "it"', "user_activity_log", "BEFORE INSERT OR UPDATE", "FOR EACH ROW EXECUTE PROCEDURE touch()"
    ),
    "constraint": Trigger(
        "touch", "users", "AFTER UPDATE", "DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION touch()",
        constraint=True,
    ),
}  # fmt: skip


@pytest.mark.parametrize("trigger", TRIGGERS.values(), ids=TRIGGERS.keys())
def test_a_declared_trigger_is_made_once_changed_and_comes_back_as_it_was(settings: Settings, trigger: Trigger) -> None:
    install(settings, TOUCH)
    before = described(settings)
    found = proposed(settings, having(TOUCH, trigger))
    assert found.kinds == ["CreateObjectOp"]
    run_code(settings, found.upgrade)
    made = described(settings)
    assert proposed(settings, having(TOUCH, trigger)).kinds == []

    other = Trigger(trigger.name, trigger.table, "AFTER DELETE", "FOR EACH ROW EXECUTE FUNCTION touch()")
    changed = proposed(settings, having(TOUCH, other))
    assert changed.kinds == ["ReplaceObjectOp"]
    run_code(settings, changed.upgrade)
    assert proposed(settings, having(TOUCH, other)).kinds == []
    run_code(settings, changed.downgrade)
    assert described(settings) == made

    run_code(settings, found.downgrade)
    assert described(settings) == before


def test_a_trigger_of_one_partition_is_left_alone(settings: Settings) -> None:
    install(settings, TOUCH)
    execute(
        settings,
        "SELECT create_activity_partition('2016-02-01')",
        "CREATE TRIGGER by_hand BEFORE UPDATE ON user_activity_log_2016_02 FOR EACH ROW EXECUTE FUNCTION touch()",
    )
    assert proposed(settings, having(TOUCH), remove_undeclared=["by_*"]).kinds == []


def test_a_table_its_functions_and_its_trigger_are_made_and_taken_away_in_one_revision(settings: Settings) -> None:
    before = described(settings)
    metadata = having(
        Function("first_value", "", "RETURNS integer LANGUAGE plpgsql AS $$ BEGIN RETURN 7; END $$"),
        Function("all_notes", "", "RETURNS SETOF notes LANGUAGE sql BEGIN ATOMIC SELECT * FROM notes; END"),
        TOUCH,
        Trigger("touch", "notes", "BEFORE UPDATE", "FOR EACH ROW EXECUTE FUNCTION touch()"),
    )
    Table(
        "notes",
        metadata,
        Column("updated_at", DateTime(timezone=True), primary_key=True),
        Column("value", Integer, server_default=text("first_value()")),
        **partitioned("updated_at"),
    )
    found = proposed(settings, metadata)
    created = [getattr(one, "declared", one).__class__.__name__ for one in found.up]
    assert created == ["Function", "Function", "CreatePartitionedTableOp", "Function", "Trigger"]
    run_code(settings, found.upgrade)
    assert proposed(settings, metadata).kinds == []
    after = described(settings)
    run_code(settings, found.downgrade)
    assert described(settings) == before
    run_code(settings, found.upgrade)
    assert described(settings) == after
    removed = proposed(settings, remove_undeclared=["first_value", "all_notes", "touch"])
    assert "DropPartitionedTableOp" in removed.kinds


def test_a_trigger_goes_and_comes_with_its_table(settings: Settings) -> None:
    install(settings, TOUCH)
    execute(settings, "CREATE TABLE notes (updated_at timestamptz)")
    install(settings, Trigger("touch", "notes", "BEFORE UPDATE", "FOR EACH ROW EXECUTE FUNCTION touch()"))
    before = described(settings)
    found = proposed(settings, having(TOUCH))
    assert found.kinds == ["DropObjectOp", "DropTableOp"]
    run_code(settings, found.upgrade)
    run_code(settings, found.downgrade)
    assert described(settings) == before


def test_functions_in_another_schema_are_compared_there(settings: Settings) -> None:
    execute(settings, "CREATE SCHEMA apart")
    function = Function("twice", "a integer", "RETURNS integer LANGUAGE sql AS 'SELECT 2 * a'", "apart")
    found = proposed(settings, having(function), include_schemas=True)
    run_code(settings, found.upgrade)
    assert any("FUNCTION apart.twice" in line for line in described(settings))
    assert proposed(settings, having(function), include_schemas=True).kinds == []


def test_the_same_thing_cannot_be_declared_twice() -> None:
    with pytest.raises(InvalidValue, match="declared twice"):
        declare(having(TOUCH), TOUCH)


def test_what_is_declared_is_kept_in_order() -> None:
    assert declared_in(having(TOUCH, TOUCH_USERS)) == (TOUCH, TOUCH_USERS)
    assert declared_in(MetaData()) == ()


def test_a_declaration_that_is_no_sql_is_reported_as_the_server_reports_it(settings: Settings) -> None:
    with pytest.raises(Exception, match="syntax error"):
        proposed(settings, having(Function("broken", "", "RETURNS nothing at all")))


def test_functions_of_extensions_are_never_taken_away(settings: Settings, servers: Servers) -> None:
    install(settings, Function("app_old", "", "RETURNS integer LANGUAGE sql AS 'SELECT 1'"))
    assert proposed(settings, remove_undeclared=["app_*"]).kinds == ["DropObjectOp"]
    with psycopg.connect(libpq(servers.admin.set(database=settings.owner.database)), autocommit=True) as superuser:
        superuser.execute("ALTER EXTENSION plpgsql ADD FUNCTION app_old()")
    assert proposed(settings, remove_undeclared=["app_*"]).kinds == []
