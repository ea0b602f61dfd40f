"""What a dry run prints is what the maintenance would send."""

from __future__ import annotations

import pytest

from dataarch.clock import Grain, Period, utcnow
from dataarch.partitions.blueprint import Blueprint
from dataarch.partitions.change_log import leftovers_sql
from dataarch.partitions.layout import Range
from dataarch.partitions.naming import catch_all_name
from dataarch.partitions.script import script_of
from dataarch.partitions.steps import CleanUp, Replace, Retire

pytestmark = pytest.mark.schema

BLUEPRINT = Blueprint(
    schema="public",
    name="orders",
    column="placed_at",
    owner="app",
    columns=("id", "placed_at"),
    key=(("id", "bigint"), ("placed_at", "timestamptz")),
    foreign_keys=(),
    orphaned=(),
    referenced=(),
    referring=(),
    guarded=False,
    forced=False,
    policies=(),
)


@pytest.mark.parametrize("grain", Grain)
def test_the_successor_of_a_retired_partition_has_the_name_that_its_grain_gives(grain: Grain) -> None:
    period = Period.of(utcnow(), grain).plus(-40)
    step = Retire(f"orders_{period}", Range(period.start, period.end), archive=False, drop=True)
    printed = script_of(step, BLUEPRINT, grain)
    successor = BLUEPRINT.place(catch_all_name("orders", period.start, grain))
    assert any(one.startswith(f"CREATE TABLE {successor} ") for one in printed)
    # it is made as any other, and the CHECK that saved the scan does not stay
    assert set(BLUEPRINT.attaching(catch_all_name("orders", period.start, grain), step.range)) <= set(printed)


@pytest.mark.parametrize("rows", [0, 1])
def test_rows_that_the_maintenance_copies_beforehand_are_said_to_be(rows: int) -> None:
    printed = script_of(Replace(("orders_rest_min",), (), rows), BLUEPRINT, Grain.MONTH)
    assert any(one.startswith("-- the maintenance copies") for one in printed) == bool(rows)


def test_two_catch_alls_with_long_names_are_put_aside_under_two_names() -> None:
    sources = tuple(f"{'o' * 52}_rest_{end}" for end in ("min", "2027"))
    printed = script_of(Replace(sources, (), 0), BLUEPRINT, Grain.MONTH)
    renamed = [one.split(" RENAME TO ")[1] for one in printed if " RENAME TO " in one]
    assert len(set(renamed)) == len(sources)
    assert all(len(name.strip('"')) <= 63 for name in renamed)


def test_a_printed_clean_up_removes_all_that_the_maintenance_removes() -> None:
    left = ("orders_2026_11", "orders_staged", "orders_moving")
    printed = script_of(CleanUp(left), BLUEPRINT, Grain.MONTH)
    removed = leftovers_sql(BLUEPRINT, left)
    assert [one for one in printed if one.startswith("DROP")] == removed
    # the trigger of the catch-all writes into what is dropped: both go at once, and the trigger first
    assert printed.index("BEGIN") < printed.index(removed[0]) < printed.index("COMMIT")
    assert removed[0] == 'DROP FUNCTION IF EXISTS "public"."orders_note_move"() CASCADE'
