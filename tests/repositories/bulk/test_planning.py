"""Many rows are judged with settings of their own, of which nothing is left afterwards."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import pytest
from sqlalchemy import event, text

from dataarch.database.unit_of_work import Database, TenantSession
from dataarch.models import Product
from dataarch.repositories.bulk.upsert import upsert_many
from fixtures.tenants import Inhabited
from repositories.bulk.upsert_support import product

pytestmark = pytest.mark.performance

SETTINGS = "SELECT current_setting('work_mem'), current_setting('enable_hashjoin'), current_setting('enable_mergejoin')"
AS_EVER = ("4MB", "on", "on")
MANY = """
    INSERT INTO products (tenant_id, slug, external_id, name, price, currency)
    SELECT :tenant, 'product-' || n, 'x' || to_char(n, 'FM00000'), 'Product', 1, 'GBP' FROM generate_series(1, :count) n
"""


def settings_during(session: TenantSession, rows: int, **given: Any) -> dict[str, tuple[str, ...]]:
    """Upsert rows, and return the settings with which they were judged, contested, changed and inserted."""
    seen: dict[str, tuple[str, ...]] = {}
    marks = {
        "judge": "CREATE TEMPORARY TABLE",
        "contest": "WITH rivals",
        "update": "UPDATE products AS p",
        "insert": "INSERT INTO",
    }

    def watch(_connection: Any, cursor: Any, statement: str, *_: Any) -> None:
        for name, mark in marks.items():
            if statement.strip().startswith(mark):
                seen[name] = cursor.connection.execute(SETTINGS).fetchone()

    event.listen(session.connection(), "before_cursor_execute", watch)
    upsert_many(session, Product, [product(at, **given) for at in range(rows)], key="external_id")
    return seen


@pytest.mark.parametrize(
    ("rows", "before", "meanwhile"), [(1_001, "4MB", "64MB"), (1_001, "1GB", "1GB"), (3, "4MB", "4MB")]
)
def test_many_rows_are_sorted_in_memory_and_the_setting_is_what_it_was(
    db: Database, acme: Inhabited, rows: int, before: str, meanwhile: str
) -> None:
    with db.tenant(acme.id) as session:
        session.execute(text(f"SET LOCAL work_mem = '{before}'"))
        seen = settings_during(session, rows)
        assert {name: memory for name, (memory, *_) in seen.items()} == dict.fromkeys(seen, meanwhile)
        assert {"judge", "insert"} <= set(seen)
        assert session.execute(text(SETTINGS)).one() == (before, "on", "on")


def test_rows_of_a_large_table_are_looked_up_and_all_else_is_planned_as_ever(db: Database, acme: Inhabited) -> None:
    with db.tenant(acme.id) as session:
        session.execute(text(MANY), {"tenant": acme.id, "count": 8_000})
        seen = settings_during(session, 1_001, price=Decimal(7))
        assert session.execute(text(SETTINGS)).one() == AS_EVER
    looked_up, ever = ("64MB", "off", "off"), ("64MB", "on", "on")
    assert seen == {"judge": looked_up, "contest": ever, "update": looked_up, "insert": ever}


def test_after_an_upsert_that_the_server_refuses_row_by_row_the_settings_are_what_they_were(
    db: Database, acme: Inhabited
) -> None:
    with db.owner() as owner:
        owner.execute(
            text("CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RAISE check_violation; END'")
        )
        owner.execute(
            text(
                "CREATE TRIGGER refuse BEFORE INSERT OR UPDATE ON products FOR EACH ROW"
                " WHEN (NEW.name = 'Product 13') EXECUTE FUNCTION refuse()"
            )
        )
        owner.commit()
    with db.tenant(acme.id) as session:
        session.execute(text(MANY), {"tenant": acme.id, "count": 8_000})
        rows = [product(at) for at in range(1_001)]
        result = upsert_many(session, Product, rows, key="external_id")
        assert (len(result.refused), result.inserted + result.updated) == (1, 1_000)
        assert session.execute(text(SETTINGS)).one() == AS_EVER
