"""``dataarch revision add-column``."""

from __future__ import annotations

import pytest

from dataarch.errors import InvalidChange, NotVerified
from dataarch.rollout.changes import AddColumn
from rollout.changes.change_support import Project, strongest_locks

pytestmark = pytest.mark.migration

AT_ONCE = {
    "without a default": AddColumn("orders", "extra", "varchar(40)"),
    "constant": AddColumn("orders", "extra", "numeric(12, 2)", default="1.5", not_null=True),
    "text with signs": AddColumn("orders", "Extra %:a", "text", default="'50%: :a \\x ''y'''", not_null=True),
    "the same for all": AddColumn("orders", "extra", "timestamptz", default="now()", not_null=True),
    "json": AddColumn("orders", "extra", "jsonb", default="'{\"a\": 1}'", not_null=True),
    "array": AddColumn("orders", "extra", "text[]", default="'{}'"),
    "enumeration": AddColumn("orders", "extra", "mood", default="'glad'", not_null=True),
    "partitioned": AddColumn("log", "extra", "bigint", default="7", not_null=True),
    "schema": AddColumn("Order", "Extra", "date", default="DATE '2026-01-01'", schema="shop"),
}


FILES = "SELECT pg_relation_filenode(oid) FROM pg_class WHERE relkind = 'r' AND relname !~ '^(pg|sql)_'"


@pytest.mark.parametrize("change", AT_ONCE.values(), ids=AT_ONCE.keys())
def test_a_default_that_is_the_same_for_all_rows_is_there_at_once(project: Project, change: AddColumn) -> None:
    project.sql("CREATE TYPE mood AS ENUM ('glad', 'sad')")
    files = project.rows(FILES)
    assert len(project.write(change)) == 1
    project.there_and_back("0002")
    place = 'shop."Order"' if change.schema else change.table
    assert project.rows(f'SELECT count("{change.column}") FROM {place}') == [(300 if change.default else 0,)]
    assert set(files) <= set(project.rows(FILES))


BY_ROW = {
    "plain": AddColumn("orders", "token", "uuid", default="gen_random_uuid()", not_null=True),
    "partitioned": AddColumn("log", "token", "double precision", default="random()", not_null=True),
    "signs": AddColumn("Order", "Tok%en", "timestamptz", default="clock_timestamp()", not_null=True, schema="shop"),
}


@pytest.mark.parametrize("change", BY_ROW.values(), ids=BY_ROW.keys())
def test_a_default_that_differs_is_filled_row_by_row(project: Project, change: AddColumn) -> None:
    bare = project.schema()
    names = project.write(change)
    assert [name[5:13] for name in names] == ["expand_a", "backfill", "contract", "contract", "contract"]
    project.there_and_back("0002", "0003")
    with pytest.raises(NotVerified):
        project.up()
    (name,) = project.rows("SELECT name FROM dataarch_rollout.backfills")[0]
    project.backfill(str(name))
    project.there_and_back("0004", "0005", "0006")
    place = 'shop."Order"' if change.schema else change.table
    column = f'"{change.column}"'
    assert project.rows(f"SELECT count(DISTINCT {column}) > 1, count({column}) FROM {place}") == [(True, 300)]
    project.down("0001")
    assert project.schema() == bare


def test_a_default_that_differs_and_may_be_null_needs_no_contract(project: Project) -> None:
    names = project.write(AddColumn("orders", "token", "uuid", default="gen_random_uuid()"))
    assert [name[5:13] for name in names] == ["expand_a", "backfill"]


def test_it_reads_as_if_written_by_hand(project: Project) -> None:
    project.write(AddColumn("orders", "state", "text", default="'new'", not_null=True))
    assert project.text("add_orders_state.py").split("\n\n\n")[1:] == [
        "def upgrade() -> None:\n"
        "    # dataarch: allow downgrade-loses-data: the column goes with the version that writes it\n"
        '    op.add_column("orders", sa.Column("state", sa.Text(), server_default=sa.text("\'new\'"), nullable=False))',
        'def downgrade() -> None:\n    op.drop_column("orders", "state")\n',
    ]


def test_the_strongest_lock(project: Project) -> None:
    project.write(AddColumn("orders", "state", "text", default="'new'", not_null=True))
    assert strongest_locks(project, "0002") == {"orders": "AccessExclusiveLock"}


REFUSED = {
    "no table": (AddColumn("order", "x", "text"), "no table.*Did you mean orders"),
    "a name taken": (AddColumn("orders", "note", "text"), "note already"),
    "no type": (AddColumn("orders", "x", "txet"), "txet"),
    "no default of the type": (AddColumn("orders", "x", "integer", default="'a'"), "integer"),
    "no default": (AddColumn("orders", "x", "integer", not_null=True), "--default"),
}


@pytest.mark.parametrize(("change", "says"), REFUSED.values(), ids=REFUSED.keys())
def test_what_does_not_fit_is_refused(project: Project, change: AddColumn, says: str) -> None:
    with pytest.raises(InvalidChange, match=says):
        project.write(change)
