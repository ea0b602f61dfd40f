"""``dataarch revision add-unique``."""

from __future__ import annotations

import pytest

from dataarch.errors import AlreadyExists, InvalidChange
from dataarch.rollout.changes import AddUnique
from rollout.changes.change_support import Project, strongest_locks

pytestmark = pytest.mark.migration

CHANGES = {
    "plain": AddUnique("orders", ("customer_id", "note")),
    "signs": AddUnique("orders", ("Mixed %Case",), name="Uq %"),
    "schema": AddUnique("Order", ("Full Name", "100%"), schema="shop"),
}


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES.keys())
def test_it_goes_up_and_down_step_by_step(project: Project, change: AddUnique) -> None:
    names = project.write(change)
    assert [name[5:13] for name in names] == ["expand_u", "contract"]
    project.there_and_back("0002", "0003")
    assert len(project.rows("SELECT FROM pg_constraint WHERE contype = 'u' AND conrelid::regclass::text ~ 'rder'")) == 1


def test_a_partitioned_table_gets_a_unique_index(project: Project) -> None:
    assert len(project.write(AddUnique("log", ("customer_id", "at", "id")))) == 1
    project.there_and_back("0002")
    taken = "SELECT id, at, customer_id, 'again' FROM log WHERE id = 1"
    project.sql(f"INSERT INTO log {taken} ON CONFLICT (customer_id, at, id) DO NOTHING")


def test_two_rows_alike_make_it_fail_and_nothing_stays_that_refuses_rows(project: Project) -> None:
    project.write(AddUnique("orders", ("customer_id",), name="uq"))
    with pytest.raises(AlreadyExists):
        project.up()
    project.sql("DELETE FROM orders WHERE id > 20")
    project.up()
    assert project.refused("INSERT INTO orders VALUES (999, 1)") == "23505"


def test_the_strongest_lock_of_the_contract(project: Project) -> None:
    project.write(AddUnique("orders", ("note",), name="uq"))
    project.up("0002")
    assert strongest_locks(project, "0003") == {"orders": "AccessExclusiveLock"}


REFUSED = {
    "no column": (AddUnique("orders", ("notes",)), "no column notes.*Did you mean note"),
    "no partition key": (AddUnique("log", ("id",)), "needs at"),
    "a name taken": (AddUnique("orders", ("note",), name="orders_pkey"), "taken already"),
}


@pytest.mark.parametrize(("change", "says"), REFUSED.values(), ids=REFUSED.keys())
def test_what_does_not_fit_is_refused(project: Project, change: AddUnique, says: str) -> None:
    with pytest.raises(InvalidChange, match=says):
        project.write(change)
