"""``dataarch revision drop-table``, and ``op.set_table_aside`` and ``op.take_table_back``, which it is made of."""

from __future__ import annotations

import pytest

from dataarch.errors import InvalidChange
from dataarch.rollout.changes import DropTable
from rollout.changes.change_support import Project, strongest_locks

pytestmark = pytest.mark.migration

CHANGES = {
    "plain": DropTable("orders"),
    "partitioned": DropTable("log"),
    "schema": DropTable("Order", schema="shop"),
}


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES.keys())
def test_it_goes_up_and_down_with_its_rows(project: Project, change: DropTable) -> None:
    project.sql("ALTER TABLE orders ADD FOREIGN KEY (customer_id) REFERENCES customers")
    place = 'shop."Order"' if change.schema else change.table
    before = project.rows(f"SELECT md5(string_agg(one::text, ',' ORDER BY id)) FROM {place} AS one")
    (name,) = project.write(change)
    assert name.startswith("0002_contract_drop_")
    project.there_and_back("0002")
    assert project.rows(f"SELECT to_regclass('{place}')") == [(None,)]
    project.down("0001")
    assert project.rows(f"SELECT md5(string_agg(one::text, ',' ORDER BY id)) FROM {place} AS one") == before
    assert project.rows("SELECT to_regnamespace('dataarch_set_aside')") == [(None,)]


def test_it_reads_as_if_written_by_hand_and_says_where_the_rows_are(project: Project) -> None:
    project.write(DropTable("orders"))
    text = project.text("drop_orders.py")
    assert '    op.set_table_aside("orders")\n' in text
    assert '    op.take_table_back("orders")\n' in text
    assert "DROP TABLE dataarch_set_aside." in " ".join(text.split())


def test_the_strongest_lock(project: Project) -> None:
    project.write(DropTable("orders"))
    assert strongest_locks(project, "0002") == {"dataarch_set_aside.orders": "AccessExclusiveLock"}


REFUSED = {
    "no table": (DropTable("order"), "SELECT", "no table.*Did you mean orders"),
    "a view": (DropTable("orders"), "CREATE VIEW v AS SELECT note FROM orders", "view v"),
    "referred to": (
        DropTable("customers"),
        "ALTER TABLE orders ADD CONSTRAINT fk FOREIGN KEY (customer_id) REFERENCES customers",
        "constraint fk on table orders",
    ),
}


@pytest.mark.parametrize(("change", "before", "says"), REFUSED.values(), ids=REFUSED.keys())
def test_what_does_not_fit_is_refused(project: Project, change: DropTable, before: str, says: str) -> None:
    project.sql(before)
    with pytest.raises(InvalidChange, match=says):
        project.write(change)
