"""``dataarch revision add-index``."""

from __future__ import annotations

import pytest
from psycopg.errors import UniqueViolation

from dataarch.errors import InvalidChange
from dataarch.rollout.changes import AddIndex
from fixtures.catalogs import owner_connection
from rollout.changes.change_support import Project

pytestmark = pytest.mark.migration

DEFINITIONS = "SELECT pg_get_indexdef(indexrelid), indisvalid FROM pg_index WHERE indrelid = '{}'::regclass"

KINDS = {
    "plain": AddIndex("orders", ("customer_id", "note"), name="i"),
    "unique": AddIndex("orders", ("id", "note"), unique=True, name="i"),
    "expression": AddIndex("orders", ("lower(note)", "amount DESC NULLS LAST"), name="i"),
    "condition": AddIndex("orders", ("amount",), where=r"note LIKE '50%: :a \x ''y''' AND amount > 0", name="i"),
    "method": AddIndex("orders", ("note",), using="hash", name="i"),
    "mixed case": AddIndex("orders", ("Mixed %Case",), name="Mixed %Index"),
    "schema": AddIndex("Order", ("Full Name", "100%"), schema="shop"),
}


@pytest.mark.parametrize("change", KINDS.values(), ids=KINDS.keys())
def test_an_index_of_every_kind_is_made_as_the_server_makes_it(project: Project, change: AddIndex) -> None:
    project.write(change)
    project.there_and_back("0002")
    (name,) = [name for (name,) in project.rows("SELECT relname FROM pg_class WHERE relname LIKE ANY ('{i,M%,idx%}')")]
    keys = ", ".join(f'"{one}"' if one[0] in "FM1" else one for one in change.columns)
    place = 'shop."Order"' if change.schema else "orders"
    where = f" WHERE {change.where}" if change.where else ""
    made = project.rows(f"SELECT pg_get_indexdef('{change.schema or 'public'}.\"{name}\"'::regclass)")
    project.sql(f'DROP INDEX {change.schema or "public"}."{name}"')
    unique = "UNIQUE " if change.unique else ""
    project.sql(f'CREATE {unique}INDEX "{name}" ON {place} USING {change.using} ({keys}){where}')
    assert project.rows(f"SELECT pg_get_indexdef('{change.schema or 'public'}.\"{name}\"'::regclass)") == made


def test_it_reads_as_if_written_by_hand(project: Project) -> None:
    names = project.write(AddIndex("orders", ("customer_id",), name="i"))
    assert names == ["0002_expand_index_i.py"]
    assert project.text("index_i.py").split("def upgrade")[1].split("\n\n\n") == [
        """() -> None:
    with op.get_context().autocommit_block():
        op.drop_index("i", table_name="orders", postgresql_concurrently=True, if_exists=True)
        op.create_index("i", "orders", ["customer_id"], unique=False, postgresql_concurrently=True)""",
        """def downgrade() -> None:
    with op.get_context().autocommit_block():
        op.drop_index("i", table_name="orders", postgresql_concurrently=True, if_exists=True)
""",
    ]


def test_what_a_killed_run_has_left_is_replaced(project: Project) -> None:
    project.write(AddIndex("orders", ("note",), name="i"))
    with owner_connection(project.settings) as connection, pytest.raises(UniqueViolation):
        connection.execute("CREATE UNIQUE INDEX CONCURRENTLY i ON orders (customer_id)")
    assert False in [valid for _, valid in project.rows(DEFINITIONS.format("orders"))]
    project.up()
    assert ("CREATE INDEX i ON public.orders USING btree (note)", True) in project.rows(DEFINITIONS.format("orders"))


def test_a_partitioned_table_gets_it_partition_by_partition(project: Project) -> None:
    project.write(AddIndex("log", ("customer_id", "at"), name="i"))
    assert '    op.create_partitioned_index("i", "log", ["customer_id", "at"], unique=False)' in project.text(
        "index_i.py"
    )
    assert "import dataarch.rollout.operations" in project.text("index_i.py")
    project.there_and_back("0002")
    assert len(project.rows("SELECT FROM pg_partition_tree('i')")) == 3


REFUSED = {
    "no table": (AddIndex("order", ("note",)), "no table.*Did you mean orders"),
    "no column": (AddIndex("orders", ("notes",)), "notes.*Its columns are: id"),
    "no method": (AddIndex("orders", ("note",), using="tree"), "tree"),
    "no condition": (AddIndex("orders", ("note",), where="amount"), "boolean"),
    "a name taken": (AddIndex("orders", ("note",), name="customers"), "taken already.*--name"),
    "a partition": (AddIndex("log_min", ("note",)), "is a partition.*log"),
    "no partition key": (AddIndex("log", ("id",), unique=True), "needs at"),
    "a long name": (AddIndex("orders", ("note",), name="n" * 64), "63 bytes"),
}


@pytest.mark.parametrize(("change", "says"), REFUSED.values(), ids=REFUSED.keys())
def test_what_does_not_fit_is_refused_with_a_hint_and_nothing_is_written(
    project: Project, change: AddIndex, says: str
) -> None:
    before = project.schema()
    with pytest.raises(InvalidChange, match=says):
        project.write(change)
    assert len(list(project.versions.glob("*.py"))) == 1
    assert project.schema() == before
