"""Rows that were prepared are written as such rows are, and for anything else they are rows like any others."""

from __future__ import annotations

from decimal import Decimal

import pytest

from dataarch.database.unit_of_work import Database
from dataarch.errors import InvalidValue
from dataarch.models import Product, Tenant
from dataarch.repositories.bulk.prepared import prepare
from dataarch.repositories.bulk.upsert import insert_many, upsert_many
from fixtures.tenants import Inhabited
from repositories.bulk.upsert_support import numbers, product, products, why

pytestmark = pytest.mark.integrity


def test_prepared_rows_are_one_batch_however_many_they_are(db: Database, acme: Inhabited) -> None:
    rows = prepare(Product, [product(1), product(2), product(1, name="New")], key="external_id", tenant_id=acme.id)
    with db.tenant(acme.id) as session:
        # batches of one would have updated the first
        assert numbers(upsert_many(session, Product, rows, key="external_id", batch=1)) == (2, 0, 0, 1, 0)
    with db.tenant(acme.id) as session:
        assert numbers(upsert_many(session, Product, rows, key="external_id", batch=1)) == (0, 0, 2, 1, 0)
    assert products(db, acme.id)["x00001"].name == "New"


def test_prepared_rows_are_the_rows_that_they_were_made_of(acme: Inhabited) -> None:
    given = [product(at) for at in range(3)]
    rows = prepare(Product, given, tenant_id=acme.id)
    assert (list(rows), len(rows), rows[1], rows[1:]) == (given, 3, given[1], given[1:])


def test_what_a_type_refuses_is_said_each_time_that_they_are_written(db: Database, acme: Inhabited) -> None:
    rows = prepare(Product, [product(1), product(2, price="much"), 7], key="external_id", tenant_id=acme.id)
    for _ in range(2):
        with db.tenant(acme.id) as session:
            result = upsert_many(session, Product, rows, key="external_id")
        assert why(result) == [(1, "InvalidMoney", "price", None), (2, "InvalidValue", None, None)]
        assert [one.row for one in result.refused] == [rows[1], 7]


def test_prepared_for_another_tenant_they_are_rows_of_this_one(db: Database, acme: Inhabited, rival: Inhabited) -> None:
    own = product(2, tenant_id=acme.id)
    rows = prepare(Product, [product(1), own], key="external_id", tenant_id=acme.id)
    with db.tenant(rival.id) as session:
        result = upsert_many(session, Product, rows, key="external_id")
    assert why(result) == [(1, "TenantMismatch", "tenant_id", None)]
    assert "x00001" in products(db, rival.id)
    assert "x00001" not in products(db, acme.id)


def test_prepared_for_another_key_or_none_they_are_rows_like_any_others(db: Database, acme: Inhabited) -> None:
    taken = [product(1, external_id="T1", slug="tea-pot", price=Decimal(3))]
    with db.tenant(acme.id) as session:
        added = prepare(Product, taken, tenant_id=acme.id)
        assert numbers(upsert_many(session, Product, added, key="external_id")) == (0, 1, 0, 0, 0)
        upserted = prepare(Product, taken, key="external_id", tenant_id=acme.id)
        assert numbers(insert_many(session, Product, upserted)) == (0, 0, 0, 0, 1)


def test_what_cannot_be_written_is_refused_before_it_is_encoded(acme: Inhabited) -> None:
    with pytest.raises(InvalidValue, match="No constraint of products"):
        prepare(Product, [product(1)], key="name", tenant_id=acme.id)
    with pytest.raises(InvalidValue, match="no model whose rows belong to a tenant"):
        prepare(Tenant, [], tenant_id=acme.id)
