"""``dataarch revision set-not-null``."""

from __future__ import annotations

import pytest

from dataarch.errors import CheckFailed, InvalidChange
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


def test_the_strongest_locks_of_each_phase(project: Project) -> None:
    project.write(SetNotNull("orders", "note"))
    assert strongest_locks(project, "0002") == {"orders": "AccessExclusiveLock"}
    assert strongest_locks(project, "0003") == {"orders": "ShareUpdateExclusiveLock"}
    assert strongest_locks(project, "0004") == {"orders": "AccessExclusiveLock"}


REFUSED = {
    "no column": (SetNotNull("orders", "notes"), "no column notes.*Did you mean note"),
    "not null already": (SetNotNull("orders", "amount"), "NOT NULL already"),
}


@pytest.mark.parametrize(("change", "says"), REFUSED.values(), ids=REFUSED.keys())
def test_what_does_not_fit_is_refused(project: Project, change: SetNotNull, says: str) -> None:
    with pytest.raises(InvalidChange, match=says):
        project.write(change)
