"""``dataarch revision add-foreign-key``."""

from __future__ import annotations

import pytest

from dataarch.errors import InvalidChange, UnknownReference
from dataarch.rollout.changes import AddForeignKey
from rollout.changes.change_support import Project, strongest_locks

pytestmark = pytest.mark.migration

CHANGES = {
    "plain": AddForeignKey("orders", "customer_id", "customers", on_delete="cascade"),
    "several columns": AddForeignKey("orders", "id,amount", "pairs", to="b,a", name="Fk %:a"),
    "schema": AddForeignKey("Order", "id", "Order", to="id", schema="shop", name="self"),
}


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES.keys())
def test_it_goes_up_and_down_step_by_step(project: Project, change: AddForeignKey) -> None:
    project.sql("CREATE TABLE pairs (a integer, b bigint, UNIQUE (b, a))")
    project.sql("INSERT INTO pairs SELECT amount, id FROM orders")
    names = project.write(change)
    assert [name[5:13] for name in names] == ["expand_r", "contract"]
    project.there_and_back("0002", "0003")
    assert project.rows("SELECT convalidated FROM pg_constraint WHERE contype = 'f'") == [(True,)]


def test_rows_to_come_are_refused_at_once_and_the_contract_refuses_while_a_row_refers_to_none(project: Project) -> None:
    project.sql("UPDATE orders SET customer_id = 99 WHERE id = 7")
    project.write(AddForeignKey("orders", "customer_id", "customers"))
    project.up("0002")
    assert project.refused("INSERT INTO orders VALUES (901, 98)") == "23503"
    with pytest.raises(UnknownReference):
        project.up()
    project.sql("UPDATE orders SET customer_id = 1 WHERE id = 7")
    project.up()


def test_the_strongest_locks_of_each_phase(project: Project) -> None:
    project.write(AddForeignKey("orders", "customer_id", "customers"))
    share = "ShareRowExclusiveLock"
    assert strongest_locks(project, "0002") == {"orders": share, "customers": share}
    assert strongest_locks(project, "0003") == {"orders": "ShareUpdateExclusiveLock", "customers": "RowShareLock"}


def test_a_partitioned_table_gets_it_partition_by_partition(project: Project) -> None:
    project.write(AddForeignKey("log", "customer_id", "customers", on_delete="cascade"))
    project.there_and_back("0002")
    valid = project.rows("SELECT convalidated, conparentid <> 0 FROM pg_constraint WHERE contype = 'f' ORDER BY 2")
    assert valid == [(True, False), (True, True), (True, True)]


REFUSED = {
    "no column": (AddForeignKey("orders", "customer", "customers"), "no column customer"),
    "no table": (AddForeignKey("orders", "customer_id", "customer"), "no table customer.*customers"),
    "another type": (AddForeignKey("orders", "note", "customers"), "cannot refer"),
    "not unique": (AddForeignKey("orders", "note", "customers", to="name"), "unique"),
    "no action": (AddForeignKey("orders", "customer_id", "customers", on_delete="drop"), "ON DELETE.*CASCADE"),
}


@pytest.mark.parametrize(("change", "says"), REFUSED.values(), ids=REFUSED.keys())
def test_what_does_not_fit_is_refused(project: Project, change: AddForeignKey, says: str) -> None:
    with pytest.raises(InvalidChange, match=says):
        project.write(change)
