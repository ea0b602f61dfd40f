"""``dataarch revision add-check``."""

from __future__ import annotations

import pytest

from dataarch.errors import CheckFailed, InvalidChange
from dataarch.rollout.changes import AddCheck
from rollout.changes.change_support import Project, strongest_locks

pytestmark = pytest.mark.migration

CHANGES = {
    "plain": AddCheck("orders", "ck", "amount > 0"),
    "signs": AddCheck("orders", "ck %A", "note NOT LIKE '50%: :a \\x ''y''' AND \"Mixed %Case\" IS NOT NULL"),
    "partitioned": AddCheck("log", "ck", "note <> ''"),
    "schema": AddCheck("Order", "ck", '"100%" % 1 = 0', schema="shop"),
}


DEFINITION = "SELECT DISTINCT pg_get_constraintdef(oid) FROM pg_constraint WHERE conname = '{}'"


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES.keys())
def test_it_goes_up_and_down_step_by_step(project: Project, change: AddCheck) -> None:
    names = project.write(change)
    assert [name[5:13] for name in names] == ["expand_c", "contract"]
    project.there_and_back("0002", "0003")
    name = change.name
    made = project.rows(DEFINITION.format(name))
    place = 'shop."Order"' if change.schema else change.table
    project.sql(f'ALTER TABLE {place} DROP CONSTRAINT "{name}", ADD CONSTRAINT "{name}" CHECK ({change.condition})')
    assert project.rows(DEFINITION.format(name)) == made
    assert project.rows(f"SELECT DISTINCT convalidated FROM pg_constraint WHERE conname = '{name}'") == [(True,)]


def test_rows_to_come_are_refused_at_once_and_the_contract_refuses_while_a_row_breaks_the_rule(
    project: Project,
) -> None:
    project.sql("UPDATE orders SET amount = -1 WHERE id = 7")
    project.write(AddCheck("orders", "ck", "amount > 0"))
    project.up("0002")
    assert project.refused("INSERT INTO orders VALUES (999, 1, -1)") == "23514"
    with pytest.raises(CheckFailed):
        project.up()
    project.sql("UPDATE orders SET amount = 1 WHERE id = 7")
    project.up()


def test_the_strongest_locks_of_each_phase(project: Project) -> None:
    project.write(AddCheck("orders", "ck", "amount > 0"))
    assert strongest_locks(project, "0002") == {"orders": "AccessExclusiveLock"}
    assert strongest_locks(project, "0003") == {"orders": "ShareUpdateExclusiveLock"}


def test_it_reads_as_if_written_by_hand(project: Project) -> None:
    project.write(AddCheck("orders", "ck_orders_amount", "amount > 0"))
    assert project.text("check_ck_orders_amount.py").startswith(
        '''"""CHECK ck_orders_amount of orders, for rows that are written from now on: amount > 0.

A row that breaks it and is there already cannot be updated until it is corrected, whatever column the update is
about.

Locks: ACCESS EXCLUSIVE on the table, for the moment that a change of the catalog takes.

Revision ID: 0002
Revises: 0001
'''
    )
    assert (
        '    op.create_check_constraint(op.f("ck_orders_amount"), "orders", "amount > 0", postgresql_not_valid=True)'
        in project.text("check_ck_orders_amount.py")
    )
    assert '    op.execute("ALTER TABLE orders VALIDATE CONSTRAINT ck_orders_amount")' in project.text(
        "validate_ck_orders_amount.py"
    )


REFUSED = {
    "no column": (AddCheck("orders", "ck", "amounts > 0"), "amounts.*Its columns are"),
    "no condition": (AddCheck("orders", "ck", "amount"), "boolean"),
    "a name taken": (AddCheck("orders", "orders_pkey", "amount > 0"), "already"),
}


@pytest.mark.parametrize(("change", "says"), REFUSED.values(), ids=REFUSED.keys())
def test_what_does_not_fit_is_refused(project: Project, change: AddCheck, says: str) -> None:
    with pytest.raises(InvalidChange, match=says):
        project.write(change)
