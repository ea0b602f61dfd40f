"""``op.start_backfill`` and ``op.forget_backfill``."""

from __future__ import annotations

from pathlib import Path

import pytest
from sqlalchemy import create_engine

from dataarch.database.settings import Settings
from dataarch.errors import BackfillChanged, InvalidChange
from dataarch.rollout.autogenerate.names import without_partitions
from dataarch.rollout.operations import ForgetBackfillOp, StartBackfillOp
from fixtures.catalogs import owner_connection
from migrations.operation_support import Revisions, answers, assert_goes_up_and_down, rendered, schema_of

pytestmark = pytest.mark.migration

USERS = """
CREATE TABLE users (id bigint PRIMARY KEY, full_name text NOT NULL, display_name text);
CREATE SCHEMA sales;
CREATE TABLE sales."Users" (a int, b int, full_name text, display_name text, UNIQUE (a, b));
ALTER TABLE sales."Users" ALTER a SET NOT NULL, ALTER b SET NOT NULL;
INSERT INTO users SELECT n, 'User ' || n FROM generate_series(1, 100) AS n;
"""

GIVEN = "'names', 'users', sets={'display_name': 'full_name'}"
UP, DOWN = f"op.start_backfill({GIVEN})", f"op.forget_backfill({GIVEN})"
FULL = (
    "'names', 'Users', sets={'display_name': \"coalesce(full_name, '100%:x')\"}, where='a > 1', "
    "matches='display_name IS NOT NULL', key=['a', 'b'], schema='sales'"
)
OTHER = FULL.replace("'names'", "'others'")
BOOKS = "SELECT name || schema_name || table_name || digest FROM dataarch_rollout.backfills"


@pytest.fixture
def revisions(tmp_path: Path, empty_database: Settings) -> Revisions:
    """A folder of revisions, and tables to fill."""
    with owner_connection(empty_database) as connection:
        connection.execute(USERS)
    return Revisions(tmp_path / "revisions", empty_database)


def test_it_changes_no_row_and_is_registered_once(revisions: Revisions) -> None:
    revisions.write(UP, DOWN)
    revisions.write(UP)
    before = answers(revisions.settings, "SELECT xmin::text FROM users ORDER BY id")
    revisions.up()
    assert answers(revisions.settings, "SELECT xmin::text FROM users ORDER BY id") == before
    assert len(answers(revisions.settings, BOOKS)) == 1


def test_it_goes_down_and_up_again_and_leaves_nothing_behind(revisions: Revisions) -> None:
    revisions.write(UP, DOWN)
    revisions.write(f"op.start_backfill({OTHER})", f"op.forget_backfill({OTHER})")
    bare = schema_of(revisions.settings)
    revisions.up()
    registered, books = schema_of(revisions.settings), answers(revisions.settings, BOOKS + " ORDER BY 1")
    assert registered != bare
    revisions.down("0001")
    assert len(answers(revisions.settings, BOOKS)) == 1
    revisions.down()
    assert schema_of(revisions.settings) == bare
    revisions.up()
    assert schema_of(revisions.settings) == registered
    assert answers(revisions.settings, BOOKS + " ORDER BY 1") == books


def test_the_printed_sql_does_the_same_when_psql_runs_it(revisions: Revisions) -> None:
    revisions.write(UP, DOWN)
    revisions.write(f"op.start_backfill({OTHER})", f"op.forget_backfill({OTHER})")
    bare = schema_of(revisions.settings)
    up, down = revisions.script("head"), revisions.script("0002:base", down=True)
    revisions.psql(up)
    printed, books = schema_of(revisions.settings), answers(revisions.settings, BOOKS + " ORDER BY 1")
    revisions.psql(down)
    assert schema_of(revisions.settings) == bare
    revisions.up()
    assert schema_of(revisions.settings) == printed
    assert answers(revisions.settings, BOOKS + " ORDER BY 1") == books


def test_another_definition_under_its_name_is_refused_and_so_is_what_cannot_be_done(revisions: Revisions) -> None:
    revisions.write(UP, DOWN)
    revisions.up()
    schema = schema_of(revisions.settings)
    revisions.write("op.start_backfill('names', 'users', sets={'display_name': 'upper(full_name)'})")
    with pytest.raises(BackfillChanged, match=r"op\.forget_backfill"):
        revisions.up()
    assert schema_of(revisions.settings) == schema
    revisions.down("base")
    (revisions.folder / "versions" / "0002.py").unlink()
    revisions.written = 1
    revisions.write("op.start_backfill('other', 'users', sets={'display_name': 'no_such_column'})")
    with pytest.raises(InvalidChange, match='column "no_such_column" does not exist'):
        revisions.up()


def test_autogenerate_leaves_the_books_alone(revisions: Revisions) -> None:
    revisions.write(UP, DOWN)
    revisions.up()
    engine = create_engine(revisions.settings.owner)
    with engine.connect() as connection:
        include = without_partitions(connection)
        assert not include("dataarch_rollout", "schema", {})
        assert include("sales", "schema", {})
    engine.dispose()


@pytest.mark.parametrize(("kind", "name"), [(StartBackfillOp, "start_backfill"), (ForgetBackfillOp, "forget_backfill")])
def test_it_is_rendered_as_code_and_reverses(kind: type[StartBackfillOp | ForgetBackfillOp], name: str) -> None:
    for code in (GIVEN, FULL):
        operation = eval(f"kind({code})", {"kind": kind})
        assert rendered(operation) == f"op.{name}({code})"
        assert rendered(operation.reverse().reverse()) == f"op.{name}({code})"
        assert type(operation.reverse()) is not kind
        assert operation.to_diff_tuple()[-1] == "names"


def test_the_plain_functions_do_the_same(revisions: Revisions) -> None:
    into = "from dataarch.rollout.operations import forget_backfill, start_backfill\n"
    revisions.write(f"{into}start_backfill({GIVEN})", f"{into}forget_backfill({GIVEN})")
    bare = schema_of(revisions.settings)
    revisions.up()
    assert len(answers(revisions.settings, BOOKS)) == 1
    revisions.down()
    assert schema_of(revisions.settings) == bare


def test_the_example_on_its_page_goes_up_and_down(revisions: Revisions) -> None:
    revisions.write_page("start_backfill")
    assert_goes_up_and_down(revisions)
