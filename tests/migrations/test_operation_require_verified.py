"""``op.require_verified``: what the gate refuses, what it says, and when it lets a revision pass."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from sqlalchemy import Engine

from dataarch.database.engine import owner_engine
from dataarch.database.settings import Settings
from dataarch.errors import NotVerified
from dataarch.rollout.backfill import run, verify
from dataarch.rollout.backfill.gate import refusal_sql
from dataarch.rollout.backfill.runner import Options
from dataarch.rollout.dual_write import DualWrite
from dataarch.rollout.operations import RequireVerifiedOp
from dataarch.rollout.operations.statements import verbatim
from fixtures.catalogs import owner_connection
from migrations.operation_support import Revisions, answers, rendered, schema_of

pytestmark = pytest.mark.migration

START = "op.start_backfill('users_display_name', 'users', sets={'display_name': 'full_name || 1/(id-13)'})"
GATE = "op.require_verified('users_display_name')\nop.drop_column('users', 'full_name')"
NAME = "users_display_name"


def do(settings: Settings, statement: str) -> None:
    with owner_connection(settings) as connection:
        connection.execute(statement.encode())


@pytest.fixture
def revisions(tmp_path: Path, empty_database: Settings) -> Revisions:
    """A table with rows, a revision that registers a backfill, and one with the gate."""
    do(empty_database, "CREATE TABLE users (id integer PRIMARY KEY, full_name text, display_name text)")
    do(empty_database, "INSERT INTO users SELECT n, 'User ' || n FROM generate_series(1, 12) AS n")
    made = Revisions(tmp_path / "revisions", empty_database)
    made.write(START, "op.forget_backfill('users_display_name', 'users', sets={'a': 'b'})")
    made.write(GATE)
    made.up("0001")
    return made


@pytest.fixture
def engine(revisions: Revisions) -> Iterator[Engine]:
    engine = owner_engine(revisions.settings)
    yield engine
    engine.dispose()


def refused(revisions: Revisions, words: str) -> NotVerified:
    """The upgrade is refused with these words, as is the printed SQL, and the old column stays."""
    with pytest.raises(NotVerified, match=words) as error:
        revisions.up()
    assert "dataarch backfill" in str(error.value)
    assert answers(revisions.settings, "SELECT count(full_name)::int FROM users") != []
    assert printed_is_refused(revisions)
    return error.value


def printed_is_refused(revisions: Revisions) -> bool:
    try:
        revisions.psql(revisions.script("0001:0002"))
    except AssertionError as error:
        return "is no ground to go on" in str(error)
    return False


def test_it_lets_pass_only_what_was_run_and_verified(revisions: Revisions, engine: Engine) -> None:
    refused(revisions, "was never run")
    do(revisions.settings, "UPDATE dataarch_rollout.backfills SET started_at = now()")
    refused(revisions, "has not finished")
    run(engine, NAME)
    refused(revisions, "has not been verified since it last ran")
    verify(engine, NAME)
    do(revisions.settings, "UPDATE users SET display_name = 'Other' WHERE id IN (3, 7)")
    verify(engine, NAME)
    said = refused(revisions, r"2 of 12 rows of users are not what the backfill users_display_name makes of them")
    assert "key (3): display_name is 'Other', not 'User 30'" in said.message
    assert "dataarch backfill run users_display_name --again && dataarch backfill verify" in said.hint
    run(engine, NAME, Options(again=True))
    refused(revisions, "has not been verified since it last ran")
    do(revisions.settings, "INSERT INTO users VALUES (13, 'Fails')")
    run(engine, NAME, Options(again=True))
    said = refused(revisions, "could not fill 1 rows of users")
    assert "dataarch backfill list users_display_name" in said.hint
    assert verify(engine, NAME).differing == 1
    refused(revisions, "could not fill 1 rows of users")
    do(revisions.settings, "DELETE FROM users WHERE id = 13")
    assert verify(engine, NAME).differing == 0
    revisions.up()
    assert answers(revisions.settings, "SELECT display_name FROM users WHERE id = 3") == ["User 30"]
    revisions.down("0001")


def test_a_new_run_or_a_changed_definition_makes_it_unverified(revisions: Revisions, engine: Engine) -> None:
    run(engine, NAME)
    verify(engine, NAME)
    run(engine, NAME, Options(again=True))
    refused(revisions, "has not been verified since it last ran")
    verify(engine, NAME)
    do(revisions.settings, "UPDATE dataarch_rollout.backfills SET digest = 'other'")
    with pytest.raises(NotVerified, match="registered with another definition"):
        revisions.up()
    assert printed_is_refused(revisions)


def test_what_was_never_registered_is_refused_also_where_there_are_no_books(revisions: Revisions) -> None:
    do(revisions.settings, "DELETE FROM dataarch_rollout.backfills")
    refused(revisions, "There is no backfill users_display_name")
    do(revisions.settings, "DROP SCHEMA dataarch_rollout CASCADE")
    refused(revisions, "There is no backfill users_display_name")


def test_a_table_without_rows_passes(revisions: Revisions) -> None:
    do(revisions.settings, "DELETE FROM users")
    script = revisions.script("0001:0002")
    revisions.up()
    revisions.down("0001")
    do(revisions.settings, "ALTER TABLE users ADD full_name text")
    revisions.psql(script)


def test_the_printed_gate_lets_pass_what_is_verified(revisions: Revisions, engine: Engine) -> None:
    run(engine, NAME)
    verify(engine, NAME)
    revisions.psql(revisions.script("0001:0002"))
    assert answers(revisions.settings, "SELECT version_num FROM alembic_version") == ["0002"]


WRITE = DualWrite(NAME, "users", forward={"display_name": "full_name || 1/(id-13)"}, backward={})

REPLACE = "CREATE OR REPLACE FUNCTION users_display_name"
TAMPERED = {
    "disabled": "ALTER TABLE users DISABLE TRIGGER users_display_name",
    "dropped": "DROP TRIGGER users_display_name ON users",
    "another function": f"{REPLACE}() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NEW; END'",
    "another expression": f"{REPLACE}_forward_1(id int, full_name text) RETURNS text LANGUAGE sql RETURN 'x'",
}


@pytest.mark.parametrize("way", TAMPERED)
def test_a_dual_write_that_was_in_force_must_still_be(revisions: Revisions, engine: Engine, way: str) -> None:
    with engine.begin() as connection:
        connection.execute(verbatim(WRITE.create_sql()))
    run(engine, NAME)
    verify(engine, NAME)
    do(revisions.settings, TAMPERED[way])
    refused(revisions, "dual write users_display_name is no longer in force")
    with engine.begin() as connection:
        connection.execute(verbatim(WRITE.drop_sql()))
        connection.execute(verbatim(WRITE.create_sql()))
    script = revisions.script("0001:0002")
    revisions.psql(script)
    revisions.down("0001")
    do(revisions.settings, "ALTER TABLE users ADD full_name text")
    revisions.up()


def test_the_printed_gate_says_what_became_of_the_dual_write_and_keeps_the_search_path(
    revisions: Revisions, engine: Engine
) -> None:
    with engine.begin() as connection:
        connection.execute(verbatim(WRITE.create_sql()))
    run(engine, NAME)
    verify(engine, NAME)
    gate = refusal_sql(NAME)
    revisions.psql(f"BEGIN; SET LOCAL search_path = 'elsewhere', public; {gate};\nSELECT 1/count(*) FROM users;")
    do(revisions.settings, TAMPERED["disabled"])
    with pytest.raises(AssertionError) as error:
        revisions.psql(f"{gate};")
    assert "The trigger users_display_name does not fire on public.users." in str(error.value)
    assert "Put it in force again; then run: dataarch backfill run users_display_name --again" in str(error.value)


def test_it_is_rendered_as_code() -> None:
    operation = RequireVerifiedOp(NAME)
    assert rendered(operation) == f"op.require_verified('{NAME}')"
    assert operation.to_diff_tuple() == ("require_verified", NAME)


def test_alembic_says_in_one_line_what_is_wrong(revisions: Revisions) -> None:
    process = revisions.process("upgrade", "head")
    _, said = process.communicate(timeout=60)
    assert process.returncode == 1
    assert said.splitlines()[-1].startswith("error: The backfill users_display_name was never run.")
    assert isinstance(process, subprocess.Popen)


def test_the_plain_function_and_the_example_on_its_page_do_the_same(revisions: Revisions, engine: Engine) -> None:
    (revisions.folder / "versions" / "0002.py").unlink()
    revisions.written = 1
    revisions.write("from dataarch.rollout.operations import require_verified\nrequire_verified('users_display_name')")
    revisions.write_page("require_verified")
    refused(revisions, "was never run")
    run(engine, NAME)
    verify(engine, NAME)
    revisions.up()
    assert not any("full_name" in line for line in schema_of(revisions.settings))
