"""``op.partition_table`` and ``op.unpartition_table``; what they carry over is in tests of the change."""

from __future__ import annotations

from pathlib import Path

import pytest

from dataarch.database.settings import Settings
from dataarch.errors import InvalidChange, InvalidValue, SchemaNotMigrated
from dataarch.rollout.operations import PartitionTableOp, UnpartitionTableOp
from fixtures.catalogs import owner_connection
from migrations.operation_support import Revisions, answers, assert_goes_up_and_down, rendered, schema_of

pytestmark = pytest.mark.migration

ORDERS = """
CREATE TABLE orders (id integer, placed_at timestamptz, note text, PRIMARY KEY (id, placed_at));
INSERT INTO orders SELECT n, timestamptz '2025-12-01 00:00+00' + n * interval '1 hour', 'note ' || n
    FROM generate_series(1, 3000) AS n;
"""

UP, DOWN = 'op.partition_table("orders", "placed_at")', 'op.unpartition_table("orders")'


@pytest.fixture
def revisions(tmp_path: Path, empty_database: Settings) -> Revisions:
    """A folder of revisions, and a table with rows."""
    with owner_connection(empty_database) as connection:
        connection.execute(ORDERS)
    return Revisions(tmp_path / "revisions", empty_database)


def test_the_rows_stay_where_they_are_and_every_instant_has_a_place(revisions: Revisions) -> None:
    revisions.write(UP, DOWN)
    bare = schema_of(revisions.settings)
    for _ in range(2):
        revisions.up()
        assert answers(revisions.settings, "SELECT DISTINCT tableoid::regclass::text FROM orders") == [
            "orders_rest_min"
        ]
        assert answers(revisions.settings, "SELECT count(*)::int FROM orders") == [3000]
        answers(
            revisions.settings,
            "INSERT INTO orders VALUES (0, '-infinity'), (0, '1789-07-14'), (0, '9999-12-31'), (0, 'infinity')"
            " RETURNING id",
        )
        revisions.down()
        assert schema_of(revisions.settings) == bare
        assert (
            answers(revisions.settings, "WITH d AS (DELETE FROM orders WHERE id = 0 RETURNING id) TABLE d") == [0] * 4
        )


def test_the_printed_sql_does_the_same_when_psql_runs_it(revisions: Revisions) -> None:
    revisions.write(UP, DOWN)
    bare = schema_of(revisions.settings)
    up, down = revisions.script("head"), revisions.script("0001:base", down=True)
    revisions.psql(up)
    assert answers(revisions.settings, "SELECT relkind::text FROM pg_class WHERE relname = 'orders'") == ["p"]
    revisions.psql(down)
    assert schema_of(revisions.settings) == bare


def test_a_table_that_is_not_there_or_partitioned_already_is_refused(revisions: Revisions) -> None:
    revisions.write('op.partition_table("other", "placed_at")')
    with pytest.raises(SchemaNotMigrated, match="other"):
        revisions.up()
    with owner_connection(revisions.settings) as connection:
        connection.execute("CREATE TABLE other (placed_at date PRIMARY KEY) PARTITION BY RANGE (placed_at)")
    with pytest.raises(InvalidChange, match="it is partitioned already"):
        revisions.up()


def test_a_column_that_is_not_there_is_named(revisions: Revisions) -> None:
    revisions.write('op.partition_table("orders", "placed")')
    with pytest.raises(InvalidChange, match="its primary key lacks placed"):
        revisions.up()


def test_a_table_that_is_not_partitioned_cannot_be_taken_back(revisions: Revisions) -> None:
    revisions.write(DOWN, UP)
    before = schema_of(revisions.settings)
    with pytest.raises(InvalidChange, match="it has 0 partitions"):
        revisions.up()
    assert schema_of(revisions.settings) == before


def test_it_reverses_both_ways_and_is_rendered_as_code() -> None:
    into = PartitionTableOp("orders", "placed_at", schema="shop")
    out_of = into.reverse()
    assert isinstance(out_of, UnpartitionTableOp)
    assert rendered(into) == "op.partition_table('orders', 'placed_at', schema='shop')"
    assert rendered(out_of) == "op.unpartition_table('orders', schema='shop')"
    assert rendered(out_of.reverse()) == rendered(into)
    assert (into.to_diff_tuple()[0], out_of.to_diff_tuple()[0]) == ("partition_table", "unpartition_table")
    with pytest.raises(InvalidValue, match="Nobody said by what orders is partitioned"):
        UnpartitionTableOp("orders").reverse()


def test_the_plain_functions_do_the_same(revisions: Revisions) -> None:
    into = "from dataarch.rollout.operations import partition_table, unpartition_table\n"
    revisions.write(into + UP.removeprefix("op."), into + DOWN.removeprefix("op."))
    assert_goes_up_and_down(revisions)


def test_the_example_on_its_page_goes_up_and_down(revisions: Revisions) -> None:
    revisions.write_page("partition_table")
    assert_goes_up_and_down(revisions)
