"""A dual write does the same for every writer: whatever role, whatever search path."""

from __future__ import annotations

from dataarch.database.settings import APP_ROLE
from dataarch.rollout.dual_write import DualWrite
from fixtures.dual_writes import Ground

TABLE = "CREATE TABLE public.t (tenant_id text, a text, b text)"
FORMS = "SELECT a, b FROM public.t ORDER BY a"


def as_role(ground: Ground, role: str) -> None:
    ground.run("RESET ROLE", f"SET LOCAL ROLE {role}")


def test_the_application_role_writes_its_tenants_rows_and_owns_nothing(ground: Ground) -> None:
    ground.run(
        # functions of the owner may be called by nobody, by default
        "ALTER DEFAULT PRIVILEGES REVOKE EXECUTE ON FUNCTIONS FROM PUBLIC",
        TABLE,
        f"GRANT SELECT, INSERT, UPDATE ON t TO {APP_ROLE}",
        "CREATE POLICY own ON t USING (tenant_id = current_setting('test.tenant') AND b <> 'SECRET')",
        "ALTER TABLE t ENABLE ROW LEVEL SECURITY",
    )
    ground.make(DualWrite("in_step", "t", {"b": "upper(a)"}, {"a": "lower(b)"}))
    as_role(ground, APP_ROLE)
    ground.run("SET LOCAL test.tenant = 'acme'")
    ground.run("INSERT INTO t (tenant_id, a) VALUES ('acme', 'Ann')", "UPDATE t SET b = 'Bob'")
    assert ground.rows(FORMS) == [("bob", "Bob")]
    # a policy sees the form that was computed
    assert ground.refused("INSERT INTO t (tenant_id, a) VALUES ('acme', 'secret')").sqlstate == "42501"
    assert ground.refused("INSERT INTO t (tenant_id, a) VALUES ('rival', 'Ann')").sqlstate == "42501"


def test_names_in_expressions_are_those_of_the_revision_whatever_the_writers_search_path(ground: Ground) -> None:
    ground.run(
        TABLE,
        f"GRANT SELECT, INSERT, UPDATE ON t TO {APP_ROLE}",
        "CREATE SCHEMA theirs",
        "CREATE FUNCTION theirs.shout(text) RETURNS text LANGUAGE plpgsql AS $$BEGIN RETURN $1 || '!'; END$$",
        "CREATE FUNCTION theirs.whisper(text) RETURNS text LANGUAGE sql AS $$SELECT rtrim($1, '!')$$",
        "SET LOCAL search_path = theirs, public",
        "ALTER TABLE public.t ALTER a SET DEFAULT 'nobody'",
    )
    ground.make(DualWrite("in_step", "t", {"b": "upper(shout(a))"}, {"a": "lower(whisper(b))"}))
    ground.run(
        "SET LOCAL search_path = public",
        "CREATE SCHEMA evil",
        f"GRANT USAGE ON SCHEMA evil TO {APP_ROLE}",
        "CREATE FUNCTION evil.shout(text) RETURNS text LANGUAGE sql AS $$SELECT 'evil'$$",
        "CREATE FUNCTION evil.upper(text) RETURNS text LANGUAGE sql AS $$SELECT 'evil'$$",
        "CREATE FUNCTION evil.record_eq(record, record) RETURNS boolean LANGUAGE plpgsql AS $$BEGIN RETURN true; END$$",
        "CREATE FUNCTION evil.same(text, text) RETURNS boolean LANGUAGE sql AS $$SELECT false$$",
        "CREATE OPERATOR evil.= (LEFTARG = text, RIGHTARG = text, FUNCTION = evil.same)",
    )
    # the writer cannot use the schema of the functions, and need not
    as_role(ground, APP_ROLE)
    for number, path in enumerate(["''", "evil, pg_catalog, public", "public"]):
        ground.run(f"SET LOCAL search_path = {path}")
        ground.run(f"INSERT INTO public.t (a) VALUES ('a{number}')", f"INSERT INTO public.t (b) VALUES ('B{number}!')")
        refused = ground.refused("INSERT INTO public.t (a, b) VALUES ('x', 'y')")
        assert refused.sqlstate == "DA008"
    ground.run("SET LOCAL search_path = public")
    expected = [(f"{letter}{number}", f"{letter.upper()}{number}!") for letter in "ab" for number in range(3)]
    assert ground.rows(FORMS) == expected


def test_a_function_that_an_expression_calls_cannot_be_dropped_and_may_be_renamed(ground: Ground) -> None:
    ground.run(TABLE, "CREATE FUNCTION shout(text) RETURNS text LANGUAGE sql AS $$SELECT upper($1)$$")
    ground.make(DualWrite("in_step", "t", {"b": "shout(a)"}, {}))
    assert ground.refused("DROP FUNCTION shout(text)").sqlstate == "2BP01"
    ground.run("ALTER FUNCTION shout(text) RENAME TO cry", "INSERT INTO t (a) VALUES ('Ann')")
    assert ground.rows(FORMS) == [("Ann", "ANN")]


def test_the_limit_a_writer_through_a_view_needs_the_schema_of_the_table(ground: Ground) -> None:
    ground.run(
        "CREATE SCHEMA hidden",
        "CREATE TABLE hidden.t (a text, b text)",
        "CREATE VIEW shown AS SELECT * FROM hidden.t",
        f"GRANT INSERT ON shown TO {APP_ROLE}",
    )
    ground.make(DualWrite("in_step", "t", {"b": "a"}, {"a": "b"}, "hidden"))
    as_role(ground, APP_ROLE)
    assert ground.refused("INSERT INTO shown (a) VALUES ('Ann')").sqlstate == "42501"
    as_role(ground, "dataarch_owner")
    ground.run(f"GRANT USAGE ON SCHEMA hidden TO {APP_ROLE}")
    as_role(ground, APP_ROLE)
    ground.run("INSERT INTO shown (a) VALUES ('Ann')")
