"""``dataarch revision change-type``."""

from __future__ import annotations

import re

import pytest

from dataarch.errors import InvalidChange, NotVerified
from dataarch.rollout.changes import ChangeType
from rollout.changes.change_support import Project, index_of_log, strongest_locks

pytestmark = pytest.mark.migration

DRESSED = """
CREATE INDEX ix_amount ON orders (amount, note) WHERE amount > 5;
ALTER TABLE orders ADD CONSTRAINT uq_amount UNIQUE (id, amount);
ALTER TABLE orders ADD CONSTRAINT ck_amount CHECK (amount >= 0);
"""

CHANGES = {
    "plain": (ChangeType("orders", "amount", "bigint"), "orders", "SELECT"),
    "with all that can be on it": (ChangeType("orders", "amount", "bigint"), "orders", DRESSED),
    "one that refers": (
        ChangeType("orders", "customer_id", "integer"),
        "orders",
        "ALTER TABLE orders ADD CONSTRAINT fk FOREIGN KEY (customer_id) REFERENCES customers",
    ),
    "an expression": (
        ChangeType("orders", "note", "integer", using="split_part(note, ' ', 2)::int", back="'note ' || note_new"),
        "orders",
        "SELECT",
    ),
    "signs": (
        ChangeType("Order", "100%", "text", schema="shop"),
        'shop."Order"',
        'CREATE INDEX i ON shop."Order" ("100%")',
    ),
    "partitioned": (ChangeType("log", "customer_id", "text"), "log", index_of_log("customer_id")),
}

TYPE = "SELECT format_type(atttypid, atttypmod) FROM pg_attribute WHERE attrelid = '{}'::regclass AND attname = '{}'"


@pytest.mark.parametrize(("change", "place", "dressed"), CHANGES.values(), ids=CHANGES.keys())
def test_it_goes_all_the_way_and_each_step_down_and_up_again_with_the_data(
    project: Project, change: ChangeType, place: str, dressed: str
) -> None:
    project.sql(dressed)
    column, bare = f'"{change.column}"', project.schema()
    before = project.rows(f"SELECT id, {column} FROM {place} ORDER BY id")
    cast = change.using or f"{column}::{change.type}"
    wanted = project.rows(f"SELECT id, {cast} FROM {place} ORDER BY id")
    numbers = [name[:4] for name in project.write(change)]
    backfill = next(path.name[:4] for path in project.versions.glob("*_backfill_*"))
    project.there_and_back(*(number for number in numbers if number <= backfill))
    with pytest.raises(NotVerified):
        project.up()
    (name,) = project.rows("SELECT name FROM dataarch_rollout.backfills")[0]
    project.backfill(str(name))
    project.there_and_back(*(number for number in numbers if number > backfill), fills=True)
    assert project.rows(f"SELECT id, {column} FROM {place} ORDER BY id") == wanted
    assert project.rows(TYPE.format(place, change.column)) == [(change.type,)]
    # all that was on it is on it, by its name
    assert names(project.schema()) == names(bare)
    project.all_the_way_down()
    assert project.schema() == bare
    assert project.rows(f"SELECT id, {column} FROM {place} ORDER BY id") == before


def names(schema: list[str]) -> list[str]:
    found = (
        re.match(r"column \S+|constraint \S+ \S+|index CREATE (?:UNIQUE )?INDEX \S+ ON \S+", line) for line in schema
    )
    return sorted(one[0] for one in found if one and "log_" not in one[0].split()[-1])


INSTANT = {
    "wider text": ("varchar(20)", "varchar(40)"),
    "any text": ("varchar(20)", "text"),
    "wider number": ("numeric(8, 2)", "numeric(10, 2)"),
}


@pytest.mark.parametrize(("now", "then"), INSTANT.values(), ids=INSTANT.keys())
def test_where_no_row_is_written_anew_it_is_one_revision(project: Project, now: str, then: str) -> None:
    project.sql(f"ALTER TABLE orders ADD extra {now}; CREATE INDEX i ON orders (extra)")
    assert len(project.write(ChangeType("orders", "extra", then))) == 1
    before = project.rows("SELECT pg_relation_filenode('orders')")
    assert strongest_locks(project, "0002") == {"orders": "AccessExclusiveLock"}
    assert project.rows("SELECT pg_relation_filenode('orders')") == before
    project.down("0001")
    project.there_and_back("0002")


def test_both_versions_of_the_application_write_while_both_types_are_there(project: Project) -> None:
    project.write(ChangeType("orders", "amount", "bigint"))
    project.up("0003")
    project.sql("INSERT INTO orders (id, customer_id) VALUES (901, 1)")
    project.sql("INSERT INTO orders (id, customer_id, amount) VALUES (902, 1, 77)")
    project.sql("UPDATE orders SET amount = 78 WHERE id = 1")
    project.backfill("type_orders_amount")
    project.up()
    project.sql("INSERT INTO orders (id, customer_id) VALUES (903, 1)")
    assert project.rows("SELECT amount FROM orders WHERE id IN (1, 901, 902, 903) ORDER BY id") == [
        (78,),
        (1,),
        (77,),
        (1,),
    ]
    project.sql("UPDATE orders SET amount = 5000000000 WHERE id = 1")


def test_a_row_that_is_written_without_it_has_the_default_at_each_revision_up_and_down(project: Project) -> None:
    project.sql("ALTER TABLE orders ALTER amount SET DEFAULT 5; TRUNCATE orders")
    numbers = [name[:4] for name in project.write(ChangeType("orders", "amount", "bigint"))]
    for key, number in enumerate([*numbers, *reversed(numbers[:-1]), "0001"]):
        project.up(number) if key < len(numbers) else project.down(number)
        project.sql(f"INSERT INTO orders (id, customer_id) VALUES ({key}, 1)")
        project.fill()
        assert project.rows(f"SELECT amount FROM orders WHERE id = {key}") == [(5,)], number


def test_how_the_values_follow_from_each_other_is_said_in_the_names_of_the_end_too(project: Project) -> None:
    project.write(ChangeType("orders", "note", "integer", using="length(note || '  x')", back="'n  ' || note_new"))
    written = project.text("contract_turn_type_orders_note.py")
    assert 'forward={"note_old": "(\'n  \'::text || note)"}' in written
    assert 'backward={"note": "length((note_old || \'  x\'::text))"}' in written


REFUSED = {
    "no type": (ChangeType("orders", "amount", "bigit"), "bigit"),
    "the same": (ChangeType("orders", "amount", "int4"), "is integer already"),
    "no cast": (ChangeType("orders", "amount", "uuid"), "amount"),
    "the primary key": (ChangeType("orders", "id", "text"), "orders_pkey.*unique key of its own"),
    "no column in it": (ChangeType("orders", "note", "integer", using="notes::int"), "notes"),
    "no way back": (ChangeType("orders", "note", "integer", using="1", back="note_old"), "note_old"),
}


@pytest.mark.parametrize(("change", "says"), REFUSED.values(), ids=REFUSED.keys())
def test_what_does_not_fit_is_refused(project: Project, change: ChangeType, says: str) -> None:
    with pytest.raises(InvalidChange, match=says):
        project.write(change)
