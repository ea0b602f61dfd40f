"""``op.require_verified(…, at_once=ROWS)``: a small table is filled and compared in the revision of the gate."""

from __future__ import annotations

from pathlib import Path

import pytest

from dataarch.database.engine import owner_engine
from dataarch.database.settings import Settings
from dataarch.errors import NotVerified
from dataarch.rollout.backfill import run
from dataarch.rollout.backfill.runner import Options
from dataarch.rollout.dual_write import DualWrite
from dataarch.rollout.operations import RequireVerifiedOp
from dataarch.rollout.operations.statements import verbatim
from fixtures.catalogs import owner_connection
from migrations.operation_support import Revisions, answers, rendered

pytestmark = pytest.mark.migration

NAME = "users_display_name"
START = f"op.start_backfill('{NAME}', 'users', sets={{'display_name': 'full_name || 1/(id-13)'}})"
LOCKED = """
DO $$ BEGIN
    IF NOT EXISTS (SELECT FROM pg_locks WHERE pid = pg_backend_pid() AND relation = 'users'::regclass
                   AND mode = 'ShareRowExclusiveLock') THEN RAISE 'writers go on'; END IF;
END $$
"""
BOOKS = """
    SELECT concat_ws(' ', started_at IS NOT NULL, finished_at IS NOT NULL, verified_at IS NOT NULL, verified_rows,
                     differing)
    FROM dataarch_rollout.backfills
"""


def do(settings: Settings, statement: str) -> None:
    with owner_connection(settings) as connection:
        connection.execute(statement.encode())


@pytest.fixture
def revisions(tmp_path: Path, empty_database: Settings) -> Revisions:
    """A table of twelve rows, a revision that registers a backfill, and one whose gate fills so many by itself."""
    do(empty_database, "CREATE TABLE users (id integer PRIMARY KEY, full_name text, display_name text)")
    do(empty_database, "INSERT INTO users SELECT n, 'User ' || n FROM generate_series(1, 12) AS n")
    made = Revisions(tmp_path / "revisions", empty_database)
    made.write(START, f"op.forget_backfill('{NAME}', 'users', sets={{'a': 'b'}})")
    made.write(
        f"op.require_verified('{NAME}', at_once=12)\nop.execute({LOCKED!r})\nop.drop_column('users', 'full_name')"
    )
    made.up("0001")
    return made


def refused(revisions: Revisions, words: str) -> None:
    """The upgrade is refused with these words, and nothing is changed."""
    before = (
        answers(revisions.settings, "SELECT u::text FROM users AS u ORDER BY id"),
        answers(revisions.settings, BOOKS),
    )
    with pytest.raises(NotVerified, match=words) as error:
        revisions.up()
    assert "dataarch backfill run" in str(error.value)
    after = (
        answers(revisions.settings, "SELECT u::text FROM users AS u ORDER BY id"),
        answers(revisions.settings, BOOKS),
    )
    assert after == before


def test_a_small_table_is_filled_and_compared_while_nobody_writes(revisions: Revisions) -> None:
    do(revisions.settings, "UPDATE users SET display_name = 'Other' WHERE id = 7")
    revisions.up()
    assert answers(revisions.settings, "SELECT display_name FROM users WHERE id IN (1, 7) ORDER BY id") == [
        "User 10",
        "User 70",
    ]
    assert answers(revisions.settings, BOOKS) == ["t t t 12 0"]


def test_a_table_with_one_row_more_is_left_to_the_backfill(revisions: Revisions) -> None:
    do(revisions.settings, "INSERT INTO users VALUES (14, 'User 14')")
    refused(revisions, "was never run")


def test_a_row_that_cannot_be_filled_is_said(revisions: Revisions) -> None:
    do(revisions.settings, "UPDATE users SET id = 13 WHERE id = 12")
    refused(revisions, "cannot fill every row of users: division by zero")


def test_rows_that_are_not_what_they_should_be_once_they_are_filled_are_refused(revisions: Revisions) -> None:
    do(
        revisions.settings,
        "CREATE FUNCTION other() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN NEW.display_name = 7; RETURN NEW; END'",
    )
    do(
        revisions.settings,
        "CREATE TRIGGER other BEFORE UPDATE ON users FOR EACH ROW WHEN (NEW.id < 3) EXECUTE FUNCTION other()",
    )
    refused(revisions, "2 of 12 rows of users are not what the backfill users_display_name makes of them")


def test_what_was_run_and_then_came_to_differ_is_filled_anew(revisions: Revisions) -> None:
    engine = owner_engine(revisions.settings)
    run(engine, NAME, Options())
    engine.dispose()
    do(revisions.settings, "UPDATE users SET display_name = 'Other' WHERE id = 7")
    revisions.up()
    assert answers(revisions.settings, "SELECT display_name FROM users WHERE id = 7") == ["User 70"]


def test_it_is_rendered_with_its_limit() -> None:
    assert rendered(RequireVerifiedOp("a", at_once=5)) == "op.require_verified('a', at_once=5)"
    assert rendered(RequireVerifiedOp("a")) == "op.require_verified('a')"


def test_a_dual_write_that_keeps_the_rows_in_step_since_must_still_be_in_force(revisions: Revisions) -> None:
    write = DualWrite(NAME, "users", forward={"display_name": "full_name || 1/(id-13)"}, backward={})
    engine = owner_engine(revisions.settings)
    with engine.begin() as connection:
        connection.execute(verbatim(write.create_sql()))
    engine.dispose()
    revisions.up()
    revisions.write(f"op.require_verified('{NAME}', at_once=12)")
    do(revisions.settings, f"ALTER TABLE users DISABLE TRIGGER {NAME}")
    refused(revisions, "dual write users_display_name is no longer in force")
    do(revisions.settings, f"ALTER TABLE users ENABLE TRIGGER {NAME}")
    revisions.up()
