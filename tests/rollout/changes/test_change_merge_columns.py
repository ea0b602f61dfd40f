"""``dataarch revision merge-columns``."""

from __future__ import annotations

import pytest

from dataarch.errors import InvalidChange, NotVerified
from dataarch.rollout.changes import MergeColumns
from rollout.changes.change_support import Project

pytestmark = pytest.mark.migration

TO_TEXT = "label=note || '#' || amount"
BACK = ("note=split_part(label, '#', 1)", "amount=split_part(label, '#', 2)::int")
MERGE = MergeColumns("orders", ("note", "amount"), into=TO_TEXT, back=BACK)


def test_it_goes_all_the_way_and_each_step_down_and_up_again_with_the_data(project: Project) -> None:
    project.sql("ALTER TABLE orders ADD CONSTRAINT ck CHECK (amount > 0)")
    before, bare = project.rows("SELECT id, note, amount FROM orders ORDER BY id"), project.schema()
    assert [name[5:] for name in project.write(MERGE)] == [
        "expand_merge_orders_label.py",
        "backfill_merge_orders_label.py",
        "contract_loosen_merge_orders_label.py",
        "contract_turn_merge_orders_label.py",
        "contract_merge_orders_label.py",
    ]
    project.there_and_back("0002", "0003")
    with pytest.raises(NotVerified):
        project.up()
    project.backfill("merge_orders_label")
    project.there_and_back("0004", "0005", "0006", fills=True)
    assert project.rows("SELECT label FROM orders WHERE id = 7") == [("note 7#7",)]
    project.all_the_way_down()
    assert project.schema() == bare
    assert project.rows("SELECT id, note, amount FROM orders ORDER BY id") == before


def test_both_versions_of_the_application_write_while_both_forms_are_there(project: Project) -> None:
    project.write(MERGE)
    project.up("0003")
    project.sql("INSERT INTO orders (id, customer_id, note, amount) VALUES (901, 1, 'old', 5)")
    project.sql("INSERT INTO orders (id, customer_id, label) VALUES (902, 1, 'new#6')")
    project.sql("UPDATE orders SET amount = 8 WHERE id = 1")
    project.sql("UPDATE orders SET label = 'x#9' WHERE id = 2")
    assert project.rows("SELECT note, amount FROM orders WHERE id IN (2, 902) ORDER BY id") == [("x", 9), ("new", 6)]
    project.backfill("merge_orders_label")
    project.up()
    assert project.rows("SELECT label FROM orders WHERE id IN (1, 2, 901, 902) ORDER BY id") == [
        ("note 1#8",),
        ("x#9",),
        ("old#5",),
        ("new#6",),
    ]


REFUSED = {
    "no new column": (MergeColumns("orders", ("note", "amount"), back=BACK), "--into is missing"),
    "one without a way back": (
        MergeColumns("orders", ("note", "amount"), into=TO_TEXT, back=BACK[:1]),
        "--back says note",
    ),
    "no column": (MergeColumns("orders", ("notes", "amount"), into=TO_TEXT, back=BACK), "no column notes"),
}


@pytest.mark.parametrize(("change", "says"), REFUSED.values(), ids=REFUSED.keys())
def test_what_does_not_fit_is_refused(project: Project, change: MergeColumns, says: str) -> None:
    with pytest.raises(InvalidChange, match=says):
        project.write(change)
