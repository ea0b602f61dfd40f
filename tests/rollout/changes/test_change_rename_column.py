"""``dataarch revision rename-column``."""

from __future__ import annotations

import pytest

from dataarch.errors import InvalidChange, NotVerified
from dataarch.rollout.changes import RenameColumn
from rollout.changes.change_support import Project, index_of_log, strongest_locks

pytestmark = pytest.mark.migration

DRESSED = """
CREATE INDEX ix_orders_note ON orders (note, amount DESC) WHERE note <> '';
CREATE UNIQUE INDEX by_footnote ON orders (lower(note));
ALTER TABLE orders ADD CONSTRAINT uq_orders UNIQUE (customer_id, note);
ALTER TABLE orders ADD CONSTRAINT ck_orders_note CHECK (char_length(note) > 0 AND note LIKE '%');
ALTER TABLE orders ALTER note SET NOT NULL, ALTER note SET DEFAULT 'none: :a';
COMMENT ON COLUMN orders.note IS 'what it''s about: :a 5%';
GRANT UPDATE (note), SELECT (note) ON orders TO pg_monitor;
"""

CHANGES = {
    "plain": (RenameColumn("orders", "note", "remark"), "orders", ""),
    "with all that can be on it": (RenameColumn("orders", "note", "remark"), "orders", DRESSED),
    "one that refers": (
        RenameColumn("orders", "customer_id", "buyer"),
        "orders",
        "ALTER TABLE orders ADD CONSTRAINT fk FOREIGN KEY (customer_id) REFERENCES customers ON DELETE CASCADE",
    ),
    "signs": (
        RenameColumn("orders", "Mixed %Case", "Other %d:x"),
        "orders",
        'CREATE INDEX i ON orders ("Mixed %Case")',
    ),
    "partitioned": (RenameColumn("log", "note", "remark"), "log", index_of_log("note")),
    "schema": (RenameColumn("Order", "Full Name", "Name", schema="shop"), 'shop."Order"', ""),
}


def quoted(name: str) -> str:
    return '"' + name + '"'


@pytest.mark.parametrize(("change", "place", "dressed"), CHANGES.values(), ids=CHANGES.keys())
def test_it_goes_all_the_way_and_each_step_down_and_up_again_with_the_data(
    project: Project, change: RenameColumn, place: str, dressed: str
) -> None:
    project.sql(dressed or "SELECT")
    old, new = quoted(change.old), quoted(change.new)
    before, bare = project.rows(f"SELECT id, {old} FROM {place} ORDER BY id"), project.schema()
    numbers = [name[:4] for name in project.write(change)]
    backfill = next(path.name[:4] for path in project.versions.glob("*_backfill_*"))
    early = [number for number in numbers if number <= backfill]
    late = [number for number in numbers if number > backfill]
    project.there_and_back(*early)
    with pytest.raises(NotVerified):
        project.up()
    (name,) = project.rows("SELECT name FROM dataarch_rollout.backfills")[0]
    project.backfill(str(name))
    assert project.rows(f"SELECT id, {new} FROM {place} ORDER BY id") == before
    project.there_and_back(*late, fills=True)
    assert project.rows(f"SELECT id, {new} FROM {place} ORDER BY id") == before
    assert change.old not in [name for (name,) in project.rows(COLUMNS.format(place))]
    project.all_the_way_down()
    assert project.schema() == bare
    assert project.rows(f"SELECT id, {old} FROM {place} ORDER BY id") == before


COLUMNS = "SELECT attname FROM pg_attribute WHERE attrelid = '{}'::regclass AND attnum > 0 AND NOT attisdropped"


def test_both_versions_of_the_application_write_and_read_while_both_names_are_there(project: Project) -> None:
    project.write(RenameColumn("orders", "note", "remark"))
    project.up("0003")
    project.sql("INSERT INTO orders (id, customer_id, note) VALUES (901, 1, 'by the old')")
    project.sql("INSERT INTO orders (id, customer_id, remark) VALUES (902, 1, 'by the new')")
    project.sql("UPDATE orders SET note = 'old again' WHERE id = 1")
    project.sql("UPDATE orders SET remark = 'new again' WHERE id = 2")
    project.backfill("rename_orders_note")
    assert project.rows("SELECT count(*) FROM orders WHERE note IS DISTINCT FROM remark") == [(0,)]
    project.up()
    assert project.rows("SELECT remark FROM orders WHERE id IN (1, 2, 901, 902) ORDER BY id") == [
        ("old again",),
        ("new again",),
        ("by the old",),
        ("by the new",),
    ]


def test_what_was_on_the_column_is_on_its_successor(project: Project) -> None:
    project.sql(DRESSED)
    assert [name[5:] for name in project.write(RenameColumn("orders", "note", "remark"))] == [
        "expand_rename_orders_note.py",
        "expand_index_rename_orders_note.py",
        "backfill_rename_orders_note.py",
        "contract_check_rename_orders_note.py",
        "contract_validate_rename_orders_note.py",
        "contract_loosen_rename_orders_note.py",
        "contract_turn_rename_orders_note.py",
        "contract_rename_orders_note.py",
    ]
    project.up("0004")
    project.backfill("rename_orders_note")
    project.up()
    assert project.rows("SELECT description FROM pg_description WHERE objoid = 'orders'::regclass") == [
        ("what it's about: :a 5%",)
    ]
    found = "\n".join(project.schema())
    for said in (
        "INDEX ix_orders_remark ON public.orders USING btree (remark, amount DESC) WHERE (remark <> ''::text)",
        "UNIQUE INDEX by_footnote ON public.orders USING btree (lower(remark)) valid true",
        "uq_orders UNIQUE (customer_id, remark) valid true",
        "ck_orders_remark CHECK (((char_length(remark) > 0) AND (remark ~~ '%'::text))) valid true",
        "remark text not null true  default 'none: :a'::text acl {pg_monitor=rw",
    ):
        assert said in found


def test_the_printed_sql_does_the_same_when_psql_runs_it(project: Project) -> None:
    project.sql(DRESSED)
    project.write(RenameColumn("orders", "note", "remark"))
    project.psql(project.script("0001:0004"))
    with pytest.raises(AssertionError, match="never run"):
        project.psql(project.script("0004:head"))
    project.backfill("rename_orders_note")
    project.psql(project.script("0004:head"))
    printed = project.schema()
    project.all_the_way_down("0004")
    project.backfill("rename_orders_note")
    project.up()
    assert project.schema() == printed
    assert project.rows("SELECT remark FROM orders WHERE id = 7") == [("note 7",)]


def test_the_strongest_locks_of_each_phase(project: Project) -> None:
    project.sql("ALTER TABLE orders ALTER note SET NOT NULL")
    project.write(RenameColumn("orders", "note", "remark"))
    assert strongest_locks(project, "0002") == {"orders": "AccessExclusiveLock"}
    assert strongest_locks(project, "0003").get("orders", "AccessShareLock") == "AccessShareLock"
    project.backfill("rename_orders_note")
    assert strongest_locks(project, "0004")["orders"] == "AccessExclusiveLock"
    assert strongest_locks(project, "0005")["orders"] == "ShareUpdateExclusiveLock"
    assert strongest_locks(project, "0006")["orders"] == "AccessExclusiveLock"
    assert strongest_locks(project, "0007")["orders"] == "AccessExclusiveLock"
    assert strongest_locks(project, "0008")["orders"] == "AccessExclusiveLock"


def test_a_row_that_is_not_filled_yet_can_be_changed_in_all_else(project: Project) -> None:
    project.sql("ALTER TABLE orders ALTER note SET NOT NULL, ADD CHECK (note IS NOT NULL)")
    project.write(RenameColumn("orders", "note", "remark"))
    project.up("0003")
    project.sql("UPDATE orders SET amount = 7 WHERE id = 5")
    assert project.rows("SELECT note, remark, amount FROM orders WHERE id = 5") == [("note 5", None, 7)]


def test_going_down_writes_no_row_and_refuses_to_go_on_before_the_old_name_is_whole(project: Project) -> None:
    project.sql("ALTER TABLE orders ALTER note SET NOT NULL")
    project.write(RenameColumn("orders", "note", "remark"))
    project.up("0003")
    project.backfill("rename_orders_note")
    project.up()
    project.down("0007")
    project.sql("UPDATE orders SET remark = 'new' WHERE id = 1")
    project.sql("UPDATE orders SET amount = 7 WHERE id = 2")
    assert project.rows("SELECT note, remark FROM orders WHERE id <= 3 ORDER BY id") == [
        ("new", "new"),
        (None, "note 2"),
        (None, "note 3"),
    ]
    with pytest.raises(NotVerified, match="backfill run rename_orders_note_back && dataarch backfill verify"):
        project.down("0006")
    project.backfill("rename_orders_note_back")
    project.down("0006")
    assert project.rows("SELECT count(*) FROM orders WHERE note = remark") == [(300,)]


REFUSED = {
    "no column": (RenameColumn("orders", "notes", "x"), "", "no column notes.*Did you mean note"),
    "a name taken": (RenameColumn("orders", "note", "amount"), "", "has a column amount already"),
    "the primary key": (RenameColumn("orders", "id", "x"), "", "orders_pkey.*which row is which.*mapped_column"),
    "the partition key": (RenameColumn("log", "at", "x"), "ALTER TABLE log DROP CONSTRAINT log_pkey", "partitioning"),
    "a view": (RenameColumn("orders", "note", "x"), "CREATE VIEW v AS SELECT note FROM orders", "view v"),
    "no primary key": (
        RenameColumn("orders", "note", "x"),
        "ALTER TABLE orders DROP CONSTRAINT orders_pkey",
        "no primary",
    ),
    "referred to": (
        RenameColumn("orders", "note", "x"),
        "ALTER TABLE orders ADD UNIQUE (note); CREATE TABLE r (n text REFERENCES orders (note))",
        "r_n_fkey",
    ),
    "filled by itself": (
        RenameColumn("orders", "g", "x"),
        "ALTER TABLE orders ADD g int GENERATED ALWAYS AS (amount * 2) STORED",
        "filled by itself",
    ),
    "deferrable": (
        RenameColumn("orders", "note", "x"),
        "ALTER TABLE orders ADD CONSTRAINT d UNIQUE (note) DEFERRABLE",
        "constraint d",
    ),
}


@pytest.mark.parametrize(("change", "before", "says"), REFUSED.values(), ids=REFUSED.keys())
def test_what_does_not_fit_is_refused(project: Project, change: RenameColumn, before: str, says: str) -> None:
    project.sql(before or "SELECT")
    with pytest.raises(InvalidChange, match=says):
        project.write(change)
