"""``op.create_partitioned_foreign_key``."""

from __future__ import annotations

import time
from pathlib import Path
from threading import Thread

import psycopg
import pytest
from alembic.operations.ops import CreateForeignKeyOp

from dataarch.database.settings import Settings
from dataarch.errors import InvalidValue, LockTimeout, UnknownReference
from dataarch.rollout.operations import CreatePartitionedForeignKeyOp
from fixtures.catalogs import owner_connection
from fixtures.servers import libpq
from migrations.operation_support import ORDERS_BY_MONTH, Revisions, answers, rendered, schema_of

pytestmark = pytest.mark.migration

UP = 'op.create_partitioned_foreign_key("fk %:a", "orders", "kinds", ["id"], ["Id"], ondelete="CASCADE")'
DOWN = 'op.drop_constraint("fk %:a", "orders", type_="foreignkey")'

KINDS = """
CREATE TABLE kinds ("Id" integer PRIMARY KEY);
INSERT INTO kinds SELECT generate_series(1, 3000);
"""

FOUND = "SELECT conrelid::regclass::text FROM pg_constraint WHERE contype = 'f' AND convalidated ORDER BY 1"

TREE = ["orders", "orders_2026_01", "orders_2026_02", "orders_2026_02_a", "orders_2026_02_b", "orders_rest_min"]


@pytest.fixture
def revisions(tmp_path: Path, empty_database: Settings) -> Revisions:
    """A folder of revisions, a table with partitions of two levels, and one that it can refer to."""
    with owner_connection(empty_database) as connection:
        connection.execute(ORDERS_BY_MONTH)
        connection.execute(KINDS)
    return Revisions(tmp_path / "revisions", empty_database)


def test_it_is_what_the_statement_that_locks_everybody_out_makes(revisions: Revisions) -> None:
    revisions.write(UP, DOWN)
    revisions.write(f"{DOWN}\n{UP.replace('partitioned_', '')}", DOWN)
    bare = schema_of(revisions.settings)
    revisions.up("0001")
    made = schema_of(revisions.settings)
    assert answers(revisions.settings, FOUND) == TREE
    revisions.up("0002")
    assert schema_of(revisions.settings) == made
    with owner_connection(revisions.settings) as connection:
        connection.execute("UPDATE alembic_version SET version_num = '0001'")
    revisions.down()
    assert schema_of(revisions.settings) == bare


LEFT = {
    "one not valid": 'ALTER TABLE orders_2026_01 ADD CONSTRAINT "fk %:a" FOREIGN KEY (id) REFERENCES kinds'
    " ON DELETE CASCADE NOT VALID",
    "one valid": 'ALTER TABLE orders_2026_02_a ADD CONSTRAINT "fk %:a" FOREIGN KEY (id) REFERENCES kinds'
    " ON DELETE CASCADE",
    "the whole": 'ALTER TABLE orders ADD CONSTRAINT "fk %:a" FOREIGN KEY (id) REFERENCES kinds ON DELETE CASCADE',
}


@pytest.mark.parametrize("left", LEFT.values(), ids=LEFT.keys())
def test_whatever_a_killed_run_left_the_next_completes_it(revisions: Revisions, left: str) -> None:
    with owner_connection(revisions.settings) as connection:
        connection.execute(left.encode())
    revisions.write(UP, DOWN)
    revisions.up()
    assert answers(revisions.settings, FOUND) == TREE


def test_a_row_that_refers_to_none_stops_it_and_once_corrected_it_goes_on(revisions: Revisions) -> None:
    with owner_connection(revisions.settings) as connection:
        connection.execute('DELETE FROM kinds WHERE "Id" = 7')
    revisions.write(UP, DOWN)
    with pytest.raises(UnknownReference):
        revisions.up()
    with owner_connection(revisions.settings) as connection:
        connection.execute("INSERT INTO kinds VALUES (7)")
    revisions.up()
    assert answers(revisions.settings, FOUND) == TREE


def test_the_printed_sql_does_the_same_when_psql_runs_it(revisions: Revisions) -> None:
    revisions.write(UP, DOWN)
    bare = schema_of(revisions.settings)
    up, down = revisions.script("head"), revisions.script("0001:base", down=True)
    revisions.psql(up)
    assert answers(revisions.settings, FOUND) == TREE
    revisions.psql(down)
    assert schema_of(revisions.settings) == bare


def test_who_writes_is_waited_for_in_short_tries_and_then_it_gives_up(revisions: Revisions) -> None:
    revisions.settings = revisions.settings.model_copy(update={"upgrade_patience": 0.3})
    revisions.write(UP, DOWN)
    with psycopg.connect(libpq(revisions.settings.owner)) as writer:
        writer.execute("INSERT INTO orders VALUES (gen_random_uuid(), 99, '2026-01-02', 'held')")
        with pytest.raises(LockTimeout):
            revisions.up()
    revisions.up()
    assert answers(revisions.settings, FOUND) == TREE


WAITED_FOR = "SELECT count(*) > 0 FROM pg_locks WHERE relation = 'kinds'::regclass AND mode = %s AND NOT granted"


def test_who_has_read_the_other_table_and_writes_it_then_is_no_victim_of_a_deadlock(revisions: Revisions) -> None:
    revisions.write(UP, DOWN)
    change = Thread(target=revisions.up)
    with psycopg.connect(libpq(revisions.settings.owner)) as reader, owner_connection(revisions.settings) as watcher:
        reader.execute("SELECT FROM kinds")
        change.start()
        while watcher.execute(WAITED_FOR, ["AccessExclusiveLock"]).fetchone() != (True,):
            time.sleep(0.001)
        # who holds what he asks for, and asks for more, would end this at once
        reader.execute("INSERT INTO kinds VALUES (5000)")
        reader.commit()
        change.join()
    assert answers(revisions.settings, FOUND) == TREE


def test_it_is_rendered_as_code_reversed_and_refuses_what_it_cannot_do() -> None:
    made = CreatePartitionedForeignKeyOp(CreateForeignKeyOp("fk", "a", "b", ["x"], ["y"], source_schema="s"))
    assert rendered(made) == "op.create_partitioned_foreign_key('fk', 'a', 'b', ['x'], ['y'], source_schema='s')"
    assert made.reverse().constraint_name == "fk"
    assert made.to_diff_tuple()[0] == "add_partitioned_fk"
    with pytest.raises(InvalidValue, match="ondelete"):
        CreatePartitionedForeignKeyOp(CreateForeignKeyOp("fk", "a", "b", ["x"], ["y"], ondelete="drop"))
    with pytest.raises(InvalidValue, match="needs a name"):
        CreatePartitionedForeignKeyOp(CreateForeignKeyOp(None, "a", "b", ["x"], ["y"]))


def test_the_example_on_its_page_goes_up_and_down(revisions: Revisions) -> None:
    with owner_connection(revisions.settings) as connection:
        connection.execute("CREATE TABLE users (id integer PRIMARY KEY); INSERT INTO users TABLE kinds")
    revisions.write_page("create_partitioned_foreign_key")
    bare = schema_of(revisions.settings)
    revisions.up()
    assert answers(revisions.settings, FOUND) == TREE
    revisions.down()
    assert schema_of(revisions.settings) == bare
