"""``op.create_partitioned_index`` and ``op.drop_partitioned_index``."""

from __future__ import annotations

from pathlib import Path

import psycopg
import pytest
import sqlalchemy as sa
from alembic.operations.ops import CreateIndexOp

from dataarch.database.settings import Settings
from dataarch.errors import AlreadyExists, IndexDiffers, InvalidValue, LockTimeout
from dataarch.rollout.operations import (
    CreatePartitionedIndexOp,
    DropPartitionedIndexOp,
)
from fixtures.catalogs import owner_connection
from fixtures.servers import libpq
from migrations.operation_support import (
    ORDERS_BY_MONTH,
    Revisions,
    answers,
    assert_goes_up_and_down,
    indexes,
    rendered,
    schema_of,
)

pytestmark = pytest.mark.migration

UP = "op.create_partitioned_index('idx_orders_note', 'orders', ['tenant_id', 'note'])"
DOWN = "op.drop_partitioned_index('idx_orders_note', 'orders')"

LEAVES = ["orders_2026_01", "orders_2026_02_a", "orders_2026_02_b", "orders_rest_min"]


@pytest.fixture
def revisions(tmp_path: Path, empty_database: Settings) -> Revisions:
    """A folder of revisions, and a table partitioned by month, one of them by hash, with rows in each."""
    with owner_connection(empty_database) as connection:
        connection.execute(ORDERS_BY_MONTH)
    return Revisions(tmp_path / "revisions", empty_database)


def complete(settings: Settings, name: str = "idx_orders_note") -> bool:
    """Whether the parent's index is valid, and each partition has exactly one of the same definition, attached."""
    found = indexes(settings, name)
    in_tree = answers(settings, "SELECT relid::regclass::text FROM pg_partition_tree('orders')")
    return sorted(table for table, _, _ in found) == sorted(map(str, in_tree)) and all(valid for _, _, valid in found)


def test_every_partition_of_every_level_gets_the_index_and_the_parents_is_valid(revisions: Revisions) -> None:
    revisions.write(UP, DOWN)
    revisions.up()
    assert complete(revisions.settings)
    assert [name for table, name, _ in indexes(revisions.settings, "idx_orders_note") if table in LEAVES] == [
        f"{leaf}_idx_orders_note" for leaf in LEAVES
    ]


DEFINITIONS = """
SELECT indrelid::regclass::text || substr(pg_get_indexdef(indexrelid), strpos(pg_get_indexdef(indexrelid), ' USING '))
FROM pg_index WHERE indrelid IN (SELECT relid FROM pg_partition_tree('orders')) ORDER BY 1
"""


def test_the_indexes_are_those_of_the_statement_that_locks_everybody_out(revisions: Revisions) -> None:
    revisions.write(UP, DOWN)
    revisions.write(f"{DOWN}\nop.create_index('idx_orders_note', 'orders', ['tenant_id', 'note'])")
    revisions.up("0001")
    made = answers(revisions.settings, DEFINITIONS)
    revisions.up()
    assert answers(revisions.settings, DEFINITIONS) == made


KINDS = [
    "['note'], unique=False, postgresql_using='hash'",
    "['tenant_id', 'id', 'at'], unique=True, postgresql_include=['note']",
    "['tenant_id', sa.text('at DESC NULLS LAST')], postgresql_where=sa.text(\"note LIKE '50%: \\\\d ''x'''\")",
    '[sa.text("lower(note) COLLATE \\"C\\" text_pattern_ops")], postgresql_with={\'fillfactor\': 70}',
    "['extra'], postgresql_using='gin', postgresql_ops={'extra': 'jsonb_path_ops'}",
    "['tenant_id', 'id', 'at', 'note'], unique=True, postgresql_nulls_not_distinct=True",
    "['at'], postgresql_concurrently=True, schema='public'",
]


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_of_index_can_be_made_again_and_found_as_it_is(revisions: Revisions, kind: str) -> None:
    body = f"op.create_partitioned_index('the index', 'orders', {kind})"
    revisions.write(body, "op.drop_partitioned_index('the index', 'orders')")
    bare = schema_of(revisions.settings)
    revisions.up()
    assert complete(revisions.settings, "the index")
    made = schema_of(revisions.settings)
    revisions.write(body)
    revisions.up()
    assert schema_of(revisions.settings) == made
    revisions.down()
    assert schema_of(revisions.settings) == bare


def test_a_name_taken_by_another_index_is_refused_by_name_and_nothing_is_changed(revisions: Revisions) -> None:
    revisions.write(UP)
    for other in (
        "CREATE INDEX idx_orders_note ON orders (note)",
        "CREATE UNIQUE INDEX idx_orders_note ON orders (tenant_id, note, at)",
        "CREATE INDEX idx_orders_note ON orders_2026_01 (tenant_id, note)",
        "CREATE TABLE idx_orders_note ()",
    ):
        with owner_connection(revisions.settings) as connection:
            connection.execute(other)
        before = schema_of(revisions.settings)
        with pytest.raises(IndexDiffers, match="idx_orders_note") as refused:
            revisions.up()
        assert "another name" in refused.value.hint
        assert schema_of(revisions.settings) == before
        with owner_connection(revisions.settings) as connection:
            connection.execute(f"DROP {'TABLE' if 'TABLE' in other else 'INDEX'} idx_orders_note")


def test_a_partitions_index_name_taken_by_another_table_is_refused_by_name(revisions: Revisions) -> None:
    with owner_connection(revisions.settings) as connection:
        connection.execute("CREATE TABLE orders_2026_01_idx_orders_note ()")
    revisions.write(UP)
    with pytest.raises(IndexDiffers, match="orders_2026_01_idx_orders_note"):
        revisions.up()


INTERRUPTED = {
    "the parent's index alone": "",
    "one partition's index not attached": (
        "CREATE INDEX orders_2026_01_idx_orders_note ON orders_2026_01 (tenant_id, note)"
    ),
    "one of another definition": "CREATE INDEX own ON orders_2026_01 (note)",
    "one of another name": "CREATE INDEX by_hand ON orders_2026_01 (tenant_id, note)",
    "one attached": (
        "CREATE INDEX i ON orders_rest_min (tenant_id, note); ALTER INDEX idx_orders_note ATTACH PARTITION i"
    ),
    "one in between": "CREATE INDEX i ON ONLY orders_2026_02 (tenant_id, note)",
    "one in between attached": (
        "CREATE INDEX i ON ONLY orders_2026_02 (tenant_id, note); ALTER INDEX idx_orders_note ATTACH PARTITION i"
    ),
}


@pytest.mark.parametrize("left", INTERRUPTED.values(), ids=INTERRUPTED.keys())
def test_whatever_a_killed_run_left_the_next_completes_it(revisions: Revisions, left: str) -> None:
    with owner_connection(revisions.settings) as connection:
        connection.execute(f"CREATE INDEX idx_orders_note ON ONLY orders (tenant_id, note); {left}")
        valid = connection.execute(
            "SELECT indexrelid FROM pg_index WHERE indisvalid AND indrelid = ANY (%s::regclass[]) AND NOT indisprimary",
            [LEAVES],
        ).fetchall()
    revisions.write(UP, DOWN)
    revisions.up()
    assert complete(revisions.settings)
    kept = answers(revisions.settings, "SELECT indexrelid FROM pg_index WHERE indisvalid")
    assert [one for (one,) in valid if one not in kept] == []


def invalid(settings: Settings, statement: str) -> None:
    """Run a concurrent build that is ended while it waits for an open transaction."""
    with psycopg.connect(libpq(settings.owner)) as holder, owner_connection(settings) as builder:
        holder.execute("INSERT INTO orders VALUES (gen_random_uuid(), 99, '2026-01-02', 'held')")
        builder.execute("SET lock_timeout = '50ms'")
        with pytest.raises(psycopg.errors.LockNotAvailable):
            builder.execute(statement)
        holder.rollback()


def test_an_unfinished_index_of_a_killed_build_is_dropped_and_made_anew(revisions: Revisions) -> None:
    with owner_connection(revisions.settings) as connection:
        connection.execute("CREATE INDEX idx_orders_note ON ONLY orders (tenant_id, note)")
    build = "CREATE INDEX CONCURRENTLY orders_2026_01_idx_orders_note ON orders_2026_01 (tenant_id, note)"
    invalid(revisions.settings, build)
    left = answers(
        revisions.settings,
        "SELECT indexrelid FROM pg_index WHERE NOT indisvalid AND indrelid = 'orders_2026_01'::regclass",
    )
    assert len(left) == 1
    revisions.write(UP, DOWN)
    revisions.up()
    assert complete(revisions.settings)
    assert answers(revisions.settings, "SELECT count(*)::int FROM pg_index WHERE indexrelid = %s", left[0]) == [0]


def test_an_unfinished_index_that_was_attached_is_no_dead_end(revisions: Revisions) -> None:
    with owner_connection(revisions.settings) as connection:
        connection.execute("CREATE INDEX idx_orders_note ON ONLY orders (tenant_id, note)")
    invalid(revisions.settings, "CREATE INDEX CONCURRENTLY i ON orders_2026_01 (tenant_id, note)")
    with owner_connection(revisions.settings) as connection:
        connection.execute("ALTER INDEX idx_orders_note ATTACH PARTITION i")
    revisions.write(UP, DOWN)
    revisions.up()
    assert complete(revisions.settings)


def test_a_parent_that_only_waited_for_a_partition_that_is_gone_is_no_dead_end(revisions: Revisions) -> None:
    with owner_connection(revisions.settings) as connection:
        connection.execute("CREATE INDEX idx_orders_note ON ONLY orders (tenant_id, note)")
        for number, leaf in enumerate(("orders_2026_01", "orders_rest_min")):
            connection.execute(f"CREATE INDEX i{number} ON {leaf} (tenant_id, note)")
            connection.execute(f"ALTER INDEX idx_orders_note ATTACH PARTITION i{number}")
        connection.execute("DROP TABLE orders_2026_02")
    revisions.write(UP, DOWN)
    revisions.up()
    assert complete(revisions.settings)


def test_a_unique_index_that_two_rows_break_leaves_nothing_that_refuses_rows(revisions: Revisions) -> None:
    double = "INSERT INTO orders VALUES ('00000000-0000-0000-0000-000000000007', 7, '2026-01-02', 'x', '{}')"
    with owner_connection(revisions.settings) as connection:
        connection.execute("ALTER TABLE orders DROP CONSTRAINT pk_orders")
        connection.execute(f"{double}; {double}")
    body = "op.create_partitioned_index('uq', 'orders', ['tenant_id', 'id', 'at'], unique=True)"
    revisions.write(body)
    with pytest.raises(AlreadyExists):
        revisions.up()
    assert [table for table, _, valid in indexes(revisions.settings) if not valid] == ["orders", "orders_2026_02"]
    with owner_connection(revisions.settings) as connection:
        connection.execute(double)
        connection.execute("DELETE FROM orders WHERE note = 'x'")
    revisions.up()
    assert complete(revisions.settings, "uq")


def test_two_indexes_whose_long_names_begin_alike_are_told_apart(revisions: Revisions) -> None:
    names = ["idx_" + "ü" * 29 + letter for letter in "ab"]
    revisions.write(
        "\n".join(
            f"op.create_partitioned_index({name!r}, 'orders', [{column!r}])"
            for name, column in zip(names, ("note", "id"), strict=True)
        ),
        "\n".join(f"op.drop_partitioned_index({name!r}, 'orders')" for name in names),
    )
    bare = schema_of(revisions.settings)
    revisions.up()
    assert [complete(revisions.settings, name) for name in names] == [True, True]
    revisions.down()
    assert schema_of(revisions.settings) == bare


def test_it_goes_down_and_up_again_and_down_where_nothing_is_left(revisions: Revisions) -> None:
    revisions.write(UP, DOWN)
    bare = schema_of(revisions.settings)
    revisions.up()
    made = schema_of(revisions.settings)
    revisions.down()
    assert schema_of(revisions.settings) == bare
    revisions.up()
    assert schema_of(revisions.settings) == made
    with owner_connection(revisions.settings) as connection:
        connection.execute("DROP INDEX idx_orders_note")
    revisions.down()
    assert schema_of(revisions.settings) == bare


@pytest.mark.parametrize("left", INTERRUPTED.values(), ids=INTERRUPTED.keys())
def test_dropping_takes_along_what_a_killed_run_left(revisions: Revisions, left: str) -> None:
    with owner_connection(revisions.settings) as connection:
        connection.execute(f"CREATE INDEX idx_orders_note ON ONLY orders (tenant_id, note); {left}")
    revisions.write(DOWN)
    revisions.up()
    # an index of another name that was never attached is somebody's own
    own = {"by_hand", "i", "own"} if "ATTACH" not in left else set()
    assert {name for _, name, _ in indexes(revisions.settings)} <= own


def test_the_printed_sql_does_the_same_when_psql_runs_it(revisions: Revisions) -> None:
    revisions.write(UP, DOWN)
    bare = schema_of(revisions.settings)
    up, down = revisions.script("head"), revisions.script("0001:base", down=True)
    revisions.psql(up)
    printed = schema_of(revisions.settings)
    assert complete(revisions.settings)
    revisions.psql(down)
    assert schema_of(revisions.settings) == bare
    revisions.up()
    assert schema_of(revisions.settings) == printed


def test_the_printed_sql_resumes_where_it_was_stopped(revisions: Revisions) -> None:
    revisions.write(UP, DOWN)
    up = revisions.script("head")
    with owner_connection(revisions.settings) as connection:
        connection.execute("CREATE INDEX idx_orders_note ON ONLY orders (tenant_id, note)")
        connection.execute("CREATE INDEX i ON ONLY orders_2026_02 (tenant_id, note)")
    invalid(
        revisions.settings,
        "CREATE INDEX CONCURRENTLY orders_2026_01_idx_orders_note ON orders_2026_01 (tenant_id, note)",
    )
    revisions.psql(up)
    assert complete(revisions.settings)


def test_the_printed_sql_fails_where_the_index_is_not_complete(revisions: Revisions) -> None:
    revisions.write(UP, DOWN)
    up = revisions.script("head")
    with owner_connection(revisions.settings) as connection:
        connection.execute("CREATE INDEX idx_orders_note ON ONLY orders (tenant_id, note)")
    invalid(revisions.settings, "CREATE INDEX CONCURRENTLY i ON orders_2026_01 (tenant_id, note)")
    with owner_connection(revisions.settings) as connection:
        connection.execute("ALTER INDEX idx_orders_note ATTACH PARTITION i")
    with pytest.raises(AssertionError, match="not complete"):
        revisions.psql(up)


def test_a_table_without_partitions_yet_gets_its_index(revisions: Revisions) -> None:
    with owner_connection(revisions.settings) as connection:
        connection.execute("CREATE TABLE empty (at timestamptz) PARTITION BY RANGE (at)")
    revisions.write("op.create_partitioned_index('i', 'empty', ['at'])", "op.drop_partitioned_index('i', 'empty')")
    revisions.up()
    assert indexes(revisions.settings, "i") == [("empty", "i", True)]
    revisions.down()
    assert indexes(revisions.settings, "i") == []


def test_the_sessions_lock_timeout_is_what_it_was(revisions: Revisions) -> None:
    note = "op.execute(\"INSERT INTO said SELECT current_setting('lock_timeout')\")"
    revisions.write(f"op.execute('CREATE TABLE said (what text)')\n{UP}\n{note}", f"{DOWN}\n{note}")
    revisions.up()
    revisions.down()
    assert answers(revisions.settings, "SELECT what FROM said") == ["100ms", "100ms"]


@pytest.mark.parametrize("revision", [UP, DOWN])
def test_who_holds_the_table_is_waited_for_in_short_tries_and_then_it_gives_up_by_name(
    revisions: Revisions, revision: str
) -> None:
    revisions.settings = revisions.settings.model_copy(update={"upgrade_patience": 0.3})
    revisions.write(UP if revision == DOWN else "pass")
    revisions.up()
    revisions.write(revision)
    with psycopg.connect(libpq(revisions.settings.owner)) as writer:
        writer.execute("INSERT INTO orders VALUES (gen_random_uuid(), 99, '2026-01-02', 'held')")
        with pytest.raises(LockTimeout):
            revisions.up()
        writer.commit()
    revisions.up()
    assert complete(revisions.settings) is (revision == UP)


def model_index() -> sa.Index:
    table = sa.Table(
        "orders", sa.MetaData(), sa.Column("tenant_id", sa.Uuid()), sa.Column("note", sa.Text()), schema="public"
    )
    return sa.Index(
        "idx_orders_note",
        table.c.tenant_id,
        table.c.note.desc(),
        postgresql_where=table.c.note != "x",
        postgresql_concurrently=True,
    )


def test_an_index_of_the_models_is_rendered_as_code_that_makes_it(revisions: Revisions) -> None:
    operation = CreatePartitionedIndexOp.from_index(model_index())
    code = rendered(operation)
    assert code.startswith("op.create_partitioned_index('idx_orders_note', 'orders', ['tenant_id', ")
    assert "concurrently" not in code
    revisions.write(code, rendered(operation.reverse()))
    bare = schema_of(revisions.settings)
    revisions.up()
    assert complete(revisions.settings)
    revisions.down()
    assert schema_of(revisions.settings) == bare


def test_it_reverses_both_ways_and_says_what_differs() -> None:
    made = CreatePartitionedIndexOp.from_index(model_index())
    dropped = DropPartitionedIndexOp.from_index(model_index())
    assert made.reverse().reverse() is made
    assert rendered(dropped.reverse()) == rendered(made)
    assert rendered(dropped) == "op.drop_partitioned_index('idx_orders_note', table_name='orders', schema='public')"
    assert made.to_diff_tuple()[0] == "add_partitioned_index"
    assert dropped.to_diff_tuple()[0] == "remove_partitioned_index"
    with pytest.raises(InvalidValue, match="is an index on"):
        DropPartitionedIndexOp("i", "orders").reverse()


def test_what_it_cannot_do_is_refused_in_words(revisions: Revisions) -> None:
    revisions.write("op.create_partitioned_index('i', 'orders', ['note'], postgresql_tablespace='fast')")
    with pytest.raises(InvalidValue, match="tablespace"):
        revisions.up()
    with pytest.raises(InvalidValue, match="needs a name"):
        CreatePartitionedIndexOp(CreateIndexOp(None, "orders", ["note"]))


def test_the_plain_functions_do_the_same(revisions: Revisions) -> None:
    into = "from dataarch.rollout.operations import create_partitioned_index, drop_partitioned_index\n"
    revisions.write(into + UP.removeprefix("op."), into + DOWN.removeprefix("op."))
    revisions.up()
    assert complete(revisions.settings)
    revisions.down()
    assert indexes(revisions.settings, "idx_orders_note") == []


def test_the_example_on_its_page_goes_up_and_down(revisions: Revisions) -> None:
    revisions.write_page("create_partitioned_index")
    assert_goes_up_and_down(revisions)
