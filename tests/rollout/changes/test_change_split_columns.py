"""``dataarch revision split-columns``."""

from __future__ import annotations

import pytest

from dataarch.errors import InvalidChange, NotVerified
from dataarch.rollout.changes import SplitColumns
from rollout.changes.change_support import Project

pytestmark = pytest.mark.migration

SPLIT = SplitColumns(
    "Order",
    "Full Name",
    into=("First=split_part(\"Full Name\", ' ', 1)", "last=nullif(split_part(\"Full Name\", ' ', 2), '')"),
    back="concat_ws(' ', \"First\", last)",
    schema="shop",
)


def test_it_goes_all_the_way_and_each_step_down_and_up_again_with_the_data(project: Project) -> None:
    project.sql('CREATE INDEX i ON shop."Order" ("Full Name")')
    before, bare = project.rows('SELECT id, "Full Name" FROM shop."Order" ORDER BY id'), project.schema()
    assert [name[5:] for name in project.write(SPLIT)] == [
        "expand_split_shop_order_full_name.py",
        "backfill_split_shop_order_full_name.py",
        "contract_loosen_split_shop_order_full_name.py",
        "contract_turn_split_shop_order_full_name.py",
        "contract_split_shop_order_full_name.py",
    ]
    assert "With it go: i." in project.text("contract_loosen_split_shop_order_full_name.py")
    project.there_and_back("0002", "0003")
    with pytest.raises(NotVerified):
        project.up()
    project.backfill("split_shop_order_full_name")
    project.there_and_back("0004", "0005", "0006", fills=True)
    assert project.rows('SELECT id, "First", last FROM shop."Order" ORDER BY id LIMIT 1') == [(1, "First1", "Last1")]
    project.all_the_way_down()
    assert project.schema() == bare
    assert project.rows('SELECT id, "Full Name" FROM shop."Order" ORDER BY id') == before


def test_both_versions_of_the_application_write_while_both_forms_are_there(project: Project) -> None:
    project.write(SPLIT)
    project.up("0003")
    project.sql("""INSERT INTO shop."Order" (id, "Full Name") VALUES (901, 'Ada Lovelace')""")
    project.backfill("split_shop_order_full_name")
    project.sql("""INSERT INTO shop."Order" (id, "First", last) VALUES (902, 'Anna Maria', 'Mill')""")
    project.sql("""UPDATE shop."Order" SET last = 'Other' WHERE id = 1""")
    project.sql("""UPDATE shop."Order" SET "Full Name" = 'Only' WHERE id = 2""")
    project.backfill("split_shop_order_full_name")
    project.up()
    assert project.rows('SELECT "First", last FROM shop."Order" WHERE id IN (1, 2, 901, 902) ORDER BY id') == [
        ("First1", "Other"),
        ("Only", None),
        ("Ada", "Lovelace"),
        ("Anna Maria", "Mill"),
    ]


def test_the_old_form_comes_back_of_the_new_one_which_stays_as_it_was_written(project: Project) -> None:
    project.write(SPLIT)
    project.up("0003")
    project.backfill("split_shop_order_full_name")
    project.up()
    project.sql("""UPDATE shop."Order" SET "First" = 'Anna Maria', last = 'Mill' WHERE id = 1""")
    project.all_the_way_down("0003")
    # split anew, it would be Anna and Maria
    assert project.rows('SELECT "Full Name", "First", last FROM shop."Order" WHERE id = 1') == [
        ("Anna Maria Mill", "Anna Maria", "Mill")
    ]


def test_a_partitioned_table_can_be_split_and_its_new_columns_not_null(project: Project) -> None:
    into = ("word=split_part(note, ' ', 1)", "number=split_part(note, ' ', 2)::int")
    project.write(SplitColumns("log", "note", into=into, back="word || ' ' || number", not_null=True))
    project.there_and_back("0002", "0003")
    project.backfill("split_log_note")
    project.there_and_back("0004", "0005", "0006", "0007", "0008", fills=True)
    assert project.rows("SELECT word, number FROM log WHERE id = 7") == [("note", 7)]
    assert project.refused("INSERT INTO log VALUES (999, now(), 1, NULL, 1)") == "23502"


REFUSED = {
    "no new column": (SplitColumns("orders", "note", back="a"), "--into is missing"),
    "no way back": (SplitColumns("orders", "note", into=("a=note",)), "--back is missing"),
    "no expression": (SplitColumns("orders", "note", into=("a",), back="a"), "no column and its expression"),
    "one that fails": (SplitColumns("orders", "note", into=("a=notes",), back="a"), "notes"),
    "a way back that fails": (SplitColumns("orders", "note", into=("a=note",), back="b"), '"b"'),
    "a name taken": (SplitColumns("orders", "note", into=("amount=1",), back="'x'"), "amount already"),
}


@pytest.mark.parametrize(("change", "says"), REFUSED.values(), ids=REFUSED.keys())
def test_what_does_not_fit_is_refused(project: Project, change: SplitColumns, says: str) -> None:
    with pytest.raises(InvalidChange, match=says):
        project.write(change)
