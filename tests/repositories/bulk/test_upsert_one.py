"""One row that is added or brought up to date, and what the cache is told of rows that were written by COPY."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from decimal import Decimal
from typing import Any

import pytest
from sqlalchemy import select, text

from dataarch.database.changes import Change
from dataarch.database.unit_of_work import AsyncDatabase, Database
from dataarch.errors import CheckFailed, InvalidValue, MissingValue, SlugTaken, TenantMismatch, TenantNotSet
from dataarch.models import Product, User
from dataarch.models.base import new_id
from dataarch.repositories.bulk.one_row import upsert
from dataarch.repositories.bulk.upsert import insert_many, upsert_many
from fixtures.tenants import Inhabited
from repositories.bulk.test_upsert_concurrency import wait_for_locks
from repositories.bulk.upsert_support import product, products

pytestmark = pytest.mark.integrity


def test_m24_one_row_is_added_or_brought_up_to_date_and_comes_back(db: Database, acme: Inhabited) -> None:
    with db.tenant(acme.id) as session:
        added = upsert(session, Product, product(1), key="external_id")
    with db.tenant(acme.id) as session:
        changed = upsert(session, Product, product(1, name="Other", id=new_id()), key="external_id")
        assert (changed.id, changed.created_at, changed.name) == (added.id, added.created_at, "Other")
    with db.tenant(acme.id) as session:
        same = upsert(session, Product, {"external_id": "x00001", "price": Decimal("9.950")}, key="external_id")
    assert (same.name, same.updated_at) == ("Other", changed.updated_at)
    assert changed.updated_at > added.updated_at


def test_a_value_that_its_type_writes_in_another_way_is_no_change(db: Database, acme: Inhabited) -> None:
    with db.tenant(acme.id) as session:
        before = session.scalars(select(User)).one().updated_at
        user = upsert(session, User, {"external_id": "1", "email": "ADA@ACME.example.com"}, key="external_id")
        assert user.updated_at == before


@pytest.mark.parametrize(
    ("row", "error"),
    [
        (product(1, slug="tea-pot"), SlugTaken),
        (product(1, price=Decimal(-1)), InvalidValue),
        (product(1, colour="red"), InvalidValue),
        (product(1, external_id=None), MissingValue),
        ({"external_id": "x"}, MissingValue),
        (product(1, tenant_id=new_id()), TenantMismatch),
        (product(1, price=Decimal(13)), CheckFailed),
    ],
    ids=lambda value: getattr(value, "__name__", ""),
)
def test_a_row_that_is_refused_raises_and_leaves_the_transaction_usable(
    db: Database, acme: Inhabited, row: dict[str, Any], error: type[Exception]
) -> None:
    with db.owner() as session:
        session.execute(text("ALTER TABLE products ADD CONSTRAINT rule_of_old CHECK (price <> 1300)"))
    with db.tenant(acme.id) as session:
        with pytest.raises(error):
            upsert(session, Product, row, key="external_id")
        upsert(session, Product, product(2), key="external_id")
    assert set(products(db, acme.id)) == {"T1", "x00002"}


def test_a_session_of_no_tenant_is_refused(db: Database) -> None:
    with db.session() as session, pytest.raises(TenantNotSet):
        upsert(session, Product, product(1), key="external_id")


def test_a_row_that_another_adds_meanwhile_is_brought_up_to_date(db: Database, acme: Inhabited) -> None:
    def later() -> str:
        with db.tenant(acme.id) as session:
            return upsert(session, Product, product(1, name="Later"), key="external_id").name

    with ThreadPoolExecutor(1) as pool, db.tenant(acme.id) as session:
        session.add(Product(**product(1)))
        session.flush()
        waiting = pool.submit(later)
        wait_for_locks(db)
    assert waiting.result() == "Later"
    assert len(products(db, acme.id)) == 2


async def test_one_row_under_asyncio(db: Database, acme: Inhabited) -> None:
    async with AsyncDatabase(db.settings) as asynchronous, asynchronous.tenant(acme.id) as session:
        for price in (1, 2):
            await session.run_sync(upsert, Product, product(1, price=Decimal(price)), key="external_id")
    assert products(db, acme.id)["x00001"].price == Decimal(2)


def test_the_unit_of_work_knows_each_row_of_few_and_the_table_of_many(db: Database, acme: Inhabited) -> None:
    with db.tenant(acme.id) as session:
        rows = [product(1), product(2, external_id="T1"), product(3, slug="tea-pot")]
        upsert_many(session, Product, rows, key="external_id")
        added = session.scalars(select(Product.id).where(Product.external_id == "x00001")).one()
        assert set(session.unit.changes) == {
            Change("products", acme.id, (str(key),)) for key in (added, acme.product_id)
        }
    with db.tenant(acme.id) as session:
        upsert_many(session, Product, rows[:2], key="external_id")
        assert not session.unit.changes
        insert_many(session, Product, [product(n) for n in range(10, 211)])
        assert session.unit.changes == (Change("products", acme.id),)
