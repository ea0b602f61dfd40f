"""``dataarch revision set-not-null``."""

from __future__ import annotations

import pytest

from dataarch.errors import CheckFailed, InvalidChange, NotVerified
from dataarch.rollout.changes import SetNotNull
from rollout.changes.change_support import Project, strongest_locks

pytestmark = pytest.mark.migration

CHANGES = {
    "plain": SetNotNull("orders", "note"),
    "signs": SetNotNull("orders", "Mixed %Case"),
    "partitioned": SetNotNull("log", "note"),
    "schema": SetNotNull("Order", "100%", schema="shop"),
}


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES.keys())
def test_it_goes_up_and_down_step_by_step(project: Project, change: SetNotNull) -> None:
    names = project.write(change)
    assert [name[5:13] for name in names] == ["expand_n", "contract", "contract"]
    project.there_and_back("0002", "0003", "0004")
    place = 'shop."Order"' if change.schema else change.table
    assert project.rows(
        f"SELECT attnotnull FROM pg_attribute WHERE attrelid = '{place}'::regclass AND attname = '{change.column}'"
    ) == [(True,)]
    assert project.rows("SELECT FROM pg_constraint WHERE contype = 'c' AND conrelid <> 0") == []


def test_no_null_is_written_from_then_on_and_the_contract_refuses_while_there_is_one(project: Project) -> None:
    project.sql("UPDATE orders SET note = NULL WHERE id = 7")
    project.write(SetNotNull("orders", "note"))
    project.up("0002")
    assert project.refused("INSERT INTO orders VALUES (999, 1)") == "23514"
    with pytest.raises(CheckFailed):
        project.up()
    project.sql("UPDATE orders SET note = '' WHERE id = 7")
    project.up()


def test_rows_without_a_value_can_be_filled_first(project: Project) -> None:
    project.sql('UPDATE orders SET "Mixed %Case" = NULL WHERE id % 3 = 0')
    project.sql("UPDATE log SET note = NULL WHERE id % 3 = 0")
    bare = project.schema()
    names = project.write(SetNotNull("orders", "Mixed %Case", fill="'%: :a ' || id"))
    assert [name[5:13] for name in names] == ["backfill", "contract", "contract", "contract"]
    project.there_and_back("0002")
    with pytest.raises(NotVerified):
        project.up()
    project.backfill("not_null_orders_mixed_case")
    project.there_and_back("0003", "0004", "0005")
    assert project.rows('SELECT "Mixed %Case" FROM orders WHERE id IN (2, 3) ORDER BY id') == [("x2",), ("%: :a 3",)]
    project.down("0001")
    assert project.schema() == bare


def test_the_strongest_locks_of_each_phase(project: Project) -> None:
    project.write(SetNotNull("orders", "note"))
    assert strongest_locks(project, "0002") == {"orders": "AccessExclusiveLock"}
    assert strongest_locks(project, "0003") == {"orders": "ShareUpdateExclusiveLock"}
    assert strongest_locks(project, "0004") == {"orders": "AccessExclusiveLock"}


REFUSED = {
    "no column": (SetNotNull("orders", "notes"), "no column notes.*Did you mean note"),
    "no value": (SetNotNull("orders", "note", fill="notes"), "notes.*single quotes"),
    "not null already": (SetNotNull("orders", "amount"), "NOT NULL already"),
}


@pytest.mark.parametrize(("change", "says"), REFUSED.values(), ids=REFUSED.keys())
def test_what_does_not_fit_is_refused(project: Project, change: SetNotNull, says: str) -> None:
    with pytest.raises(InvalidChange, match=says):
        project.write(change)
