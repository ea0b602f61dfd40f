"""``dataarch revision drop-column``."""

from __future__ import annotations

import pytest

from dataarch.errors import InvalidChange
from dataarch.rollout.changes import DropColumn
from rollout.changes.change_support import Project, strongest_locks

pytestmark = pytest.mark.migration

CHANGES = {
    "plain": (DropColumn("orders", "note"), "SELECT"),
    "not null, with a default": (DropColumn("orders", "amount"), "CREATE INDEX i ON orders (amount)"),
    "with all that can be on it": (
        DropColumn("orders", "note"),
        "CREATE INDEX i ON orders (lower(note)) WHERE note <> '%';"
        " ALTER TABLE orders ADD CONSTRAINT uq UNIQUE (id, note);"
        " ALTER TABLE orders ADD CONSTRAINT ck CHECK (note <> ':a')",
    ),
    "signs": (DropColumn("orders", "Mixed %Case"), "SELECT"),
    "partitioned": (DropColumn("log", "customer_id"), "SELECT"),
    "schema": (DropColumn("Order", "Full Name", schema="shop"), "SELECT"),
}


@pytest.mark.parametrize(("change", "before"), CHANGES.values(), ids=CHANGES.keys())
def test_it_goes_up_and_down_step_by_step(project: Project, change: DropColumn, before: str) -> None:
    project.sql(before)
    numbers = [name[:4] for name in project.write(change)]
    place = 'shop."Order"' if change.schema else change.table
    project.there_and_back(*numbers[:-1])
    project.there_and_back(numbers[-1])
    assert project.rows(f"SELECT count(*) FROM {place}") == [(300,)]


def test_who_writes_may_leave_it_out_first(project: Project) -> None:
    names = project.write(DropColumn("orders", "customer_id"))
    assert [name[5:] for name in names] == [
        "expand_leave_out_orders_customer_id.py",
        "contract_drop_orders_customer_id.py",
    ]
    project.up("0002")
    project.sql("INSERT INTO orders (id, customer_id) VALUES (901, 1)")
    project.sql("INSERT INTO orders (id) VALUES (902)")
    project.up()
    project.down("0002")
    assert project.rows("SELECT count(customer_id) FROM orders") == [(0,)]


def test_it_says_what_is_lost_and_what_goes_with_it(project: Project) -> None:
    project.sql("CREATE INDEX by_note ON orders (note)")
    project.write(DropColumn("orders", "note"))
    text = " ".join(project.text("drop_orders_note.py").split())
    assert "With it go: by_note." in text
    assert "ITS VALUES ARE LOST: going down brings the column back without any." in text


def test_the_strongest_lock(project: Project) -> None:
    project.write(DropColumn("orders", "note"))
    assert strongest_locks(project, "0002") == {"orders": "AccessExclusiveLock"}


REFUSED = {
    "no column": (DropColumn("orders", "notes"), "SELECT", "no column notes.*Did you mean note"),
    "the primary key": (DropColumn("orders", "id"), "SELECT", "orders_pkey"),
    "a view": (DropColumn("orders", "note"), "CREATE VIEW v AS SELECT note FROM orders", "view v"),
    "a policy": (DropColumn("orders", "note"), "CREATE POLICY p ON orders USING (note <> '')", "policy p"),
    "generated": (
        DropColumn("orders", "g"),
        "ALTER TABLE orders ADD g int GENERATED ALWAYS AS (amount * 2) STORED",
        "is generated",
    ),
    "what another is generated of": (
        DropColumn("orders", "amount"),
        "ALTER TABLE orders ADD g int GENERATED ALWAYS AS (amount * 2) STORED",
        "column g",
    ),
}


@pytest.mark.parametrize(("change", "before", "says"), REFUSED.values(), ids=REFUSED.keys())
def test_what_does_not_fit_is_refused(project: Project, change: DropColumn, before: str, says: str) -> None:
    project.sql(before)
    with pytest.raises(InvalidChange, match=says):
        project.write(change)
