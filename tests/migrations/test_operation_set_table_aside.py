"""``op.set_table_aside`` and ``op.take_table_back``."""

from __future__ import annotations

from pathlib import Path

import pytest
from sqlalchemy.exc import DBAPIError

from dataarch.database.settings import Settings
from dataarch.errors import SchemaNotMigrated
from dataarch.rollout.operations import SetTableAsideOp, TakeTableBackOp
from fixtures.catalogs import owner_connection
from migrations.operation_support import (
    ORDERS_BY_MONTH,
    Revisions,
    answers,
    assert_goes_up_and_down,
    rendered,
    schema_of,
)

pytestmark = pytest.mark.migration

UP, DOWN = 'op.set_table_aside("orders")', 'op.take_table_back("orders")'


@pytest.fixture
def revisions(tmp_path: Path, empty_database: Settings) -> Revisions:
    """A folder of revisions, and a table with partitions of two levels."""
    with owner_connection(empty_database) as connection:
        connection.execute(ORDERS_BY_MONTH)
    return Revisions(tmp_path / "revisions", empty_database)


def test_the_table_goes_with_its_partitions_and_comes_back_as_it_was(revisions: Revisions) -> None:
    revisions.write(UP, DOWN)
    bare = schema_of(revisions.settings)
    for _ in range(2):
        revisions.up()
        assert answers(revisions.settings, "SELECT relname FROM pg_class WHERE relname ~ '^orders' AND relkind IN "
                       "('r', 'p') AND relnamespace = 'public'::regnamespace") == []  # fmt: skip
        assert answers(revisions.settings, "SELECT count(*)::int FROM dataarch_set_aside.orders") == [3000]
        revisions.down()
        assert schema_of(revisions.settings) == bare
        assert answers(revisions.settings, "SELECT count(*)::int FROM orders") == [3000]


def test_the_printed_sql_does_the_same_when_psql_runs_it(revisions: Revisions) -> None:
    revisions.write(UP, DOWN)
    bare = schema_of(revisions.settings)
    up, down = revisions.script("head"), revisions.script("0001:base", down=True)
    revisions.psql(up)
    assert answers(revisions.settings, "SELECT to_regclass('orders')") == [None]
    revisions.psql(down)
    assert schema_of(revisions.settings) == bare


def test_a_table_of_the_same_name_that_is_set_aside_already_is_an_error_and_nothing_is_moved(
    revisions: Revisions,
) -> None:
    with owner_connection(revisions.settings) as connection:
        connection.execute("CREATE SCHEMA dataarch_set_aside; CREATE TABLE dataarch_set_aside.orders ()")
    before = schema_of(revisions.settings)
    revisions.write(UP, DOWN)
    with pytest.raises(DBAPIError, match="already exists"):
        revisions.up()
    assert schema_of(revisions.settings) == before


def test_what_is_not_there_cannot_be_set_aside_or_taken_back(revisions: Revisions) -> None:
    revisions.write('op.set_table_aside("other")')
    with pytest.raises(SchemaNotMigrated, match="other"):
        revisions.up()


def test_it_reverses_both_ways_and_is_rendered_as_code(revisions: Revisions) -> None:
    away = SetTableAsideOp("orders", schema="shop")
    back = away.reverse()
    assert isinstance(back, TakeTableBackOp)
    assert rendered(away) == "op.set_table_aside('orders', schema='shop')"
    assert rendered(back) == "op.take_table_back('orders', schema='shop')"
    assert rendered(back.reverse()) == rendered(away)
    assert (away.to_diff_tuple()[0], back.to_diff_tuple()[0]) == ("set_table_aside", "take_table_back")


def test_the_plain_functions_do_the_same(revisions: Revisions) -> None:
    into = "from dataarch.rollout.operations import set_table_aside, take_table_back\n"
    revisions.write(into + UP.removeprefix("op."), into + DOWN.removeprefix("op."))
    assert_goes_up_and_down(revisions)


def test_the_example_on_its_page_goes_up_and_down(revisions: Revisions) -> None:
    revisions.write_page("set_table_aside")
    assert_goes_up_and_down(revisions)
