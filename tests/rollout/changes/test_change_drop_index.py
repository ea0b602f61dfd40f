"""``dataarch revision drop-index``."""

from __future__ import annotations

import pytest

from dataarch.errors import InvalidChange
from dataarch.rollout.changes import AddIndex, DropIndex
from rollout.changes.change_support import Project

pytestmark = pytest.mark.migration

KINDS = {
    "plain": "INDEX i ON orders (customer_id, note)",
    "unique": 'UNIQUE INDEX i ON orders (id, note) INCLUDE (amount, "Mixed %Case") NULLS NOT DISTINCT',
    "expression": "INDEX i ON orders (lower(note) COLLATE \"C\" text_pattern_ops DESC, (amount + 1)) WHERE note <> ')'",
    "storage": 'INDEX i ON orders ("Mixed %Case") WITH (fillfactor = 70, deduplicate_items = off)',
    "method": "INDEX i ON orders USING gin (to_tsvector('english'::regconfig, note)) WHERE amount > 1 AND amount < 9",
    "colons": "INDEX i ON orders (note) WHERE note LIKE '50%: :a \\x ''y''' OR note = 'a \"b'",
}


@pytest.mark.parametrize("made", KINDS.values(), ids=KINDS.keys())
def test_an_index_of_every_kind_goes_and_comes_back_as_it_was(project: Project, made: str) -> None:
    project.sql(f"CREATE {made}")
    assert project.write(DropIndex("orders", "i")) == ["0002_contract_drop_index_i.py"]
    project.there_and_back("0002")
    assert project.rows("SELECT to_regclass('i')") == [(None,)]


def test_an_index_of_a_partitioned_table_goes_and_comes_back(project: Project) -> None:
    project.write(AddIndex("log", ("customer_id", "at", "id"), unique=True, name="i"))
    project.up()
    project.write(DropIndex("log", "i"))
    assert 'op.drop_partitioned_index("i", table_name="log")' in project.text("contract_drop_index_i.py")
    project.there_and_back("0003")


def test_in_another_schema_with_signs_in_its_name(project: Project) -> None:
    project.sql('CREATE INDEX "I %x" ON shop."Order" ("Full Name", "100%")')
    project.write(DropIndex("Order", "I %x", schema="shop"))
    project.there_and_back("0002")


def test_it_says_what_it_makes_impossible(project: Project) -> None:
    project.sql("CREATE UNIQUE INDEX i ON orders (note)")
    project.write(DropIndex("orders", "i"))
    assert "After it two rows may have the same values" in project.text("index_i.py")


REFUSED = {
    "none of this name": (DropIndex("orders", "j"), "no index j"),
    "one of a constraint": (DropIndex("orders", "orders_pkey"), "belongs to the constraint"),
}


@pytest.mark.parametrize(("change", "says"), REFUSED.values(), ids=REFUSED.keys())
def test_what_does_not_fit_is_refused(project: Project, change: DropIndex, says: str) -> None:
    with pytest.raises(InvalidChange, match=says):
        project.write(change)
