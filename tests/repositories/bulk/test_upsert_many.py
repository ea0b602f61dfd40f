"""What an upsert of many rows does to a table, and what it says of each row."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from datetime import timedelta
from decimal import Decimal
from typing import Any

import pytest
from sqlalchemy import select

from dataarch.clock import utcnow
from dataarch.database.unit_of_work import AsyncDatabase, Database
from dataarch.errors import InvalidValue, TenantNotSet
from dataarch.models import Product, User, UserActivity, UserProfile
from dataarch.models.base import new_id
from dataarch.repositories.bulk.outcome import BulkResult
from dataarch.repositories.bulk.upsert import upsert_many
from fixtures.tenants import Inhabited
from repositories.bulk.upsert_support import numbers, product, products, upserted, why

pytestmark = pytest.mark.integrity


def test_m24_rows_are_added_brought_up_to_date_or_left_as_they_are(db: Database, acme: Inhabited) -> None:
    assert numbers(upserted(db, acme.id, [product(1), product(2), product(3)])) == (3, 0, 0, 0, 0)
    before = products(db, acme.id)
    again = upserted(db, acme.id, [product(1), product(2, name="Other"), product(4)])
    assert numbers(again) == (1, 1, 1, 0, 0)
    after = products(db, acme.id)
    assert sorted(str(name) for name in after) == ["T1", "x00001", "x00002", "x00003", "x00004"]
    assert after["x00002"].name == "Other"
    for name in before:
        assert (after[name].id, after[name].created_at) == (before[name].id, before[name].created_at)
    assert {name for name in before if after[name].updated_at != before[name].updated_at} == {"x00002"}
    assert after["x00002"].updated_at > before["x00002"].updated_at


def test_m24_twice_the_same_key_is_one_row_with_the_newer_values(db: Database, acme: Inhabited) -> None:
    rows = [product(1, name="Old"), product(2), product(1, name="New")]
    assert numbers(upserted(db, acme.id, rows)) == (2, 0, 0, 1, 0)
    assert products(db, acme.id)["x00001"].name == "New"


def test_where_the_later_row_is_refused_the_earlier_one_counts(db: Database, acme: Inhabited) -> None:
    rows = [product(1, name="Good"), product(1, slug="tea-pot"), product(1, price=Decimal(-1))]
    result = upserted(db, acme.id, rows)
    assert numbers(result) == (1, 0, 0, 0, 2)
    assert products(db, acme.id)["x00001"].name == "Good"


def test_columns_that_are_not_given_stay_as_they_are(db: Database, acme: Inhabited) -> None:
    rows = [{"external_id": "T1", "price": Decimal("1.50")}, {"external_id": "T2", "price": Decimal("1.50")}]
    result = upserted(db, acme.id, rows)
    assert numbers(result) == (0, 1, 0, 0, 1)
    assert why(result) == [(1, "MissingValue", "slug", None)]
    row = products(db, acme.id)["T1"]
    assert (row.slug, row.name, row.price) == ("tea-pot", "Tea pot", Decimal("1.50"))


def test_rows_may_give_different_columns_and_count_as_if_written_one_after_the_other(
    db: Database, acme: Inhabited
) -> None:
    rows: list[dict[str, Any]] = [
        {"external_id": "T1", "price": Decimal(1)},
        {"external_id": "T1", "name": "A", "price": Decimal(2)},
        {"external_id": "T1", "price": Decimal(3)},
        product(1),
        {"external_id": "x00001", "name": "B"},
    ]
    result = upserted(db, acme.id, rows)
    assert (result.inserted, result.updated, result.refused) == (1, 4, ())
    found = products(db, acme.id)
    assert (found["T1"].name, found["T1"].price, found["x00001"].name) == ("A", Decimal("3.00"), "B")


def test_ids_and_times_of_creation_that_are_given_are_those_of_new_rows_only(db: Database, acme: Inhabited) -> None:
    mine, long_ago = new_id(), utcnow() - timedelta(days=1000)
    given = {"id": mine, "created_at": long_ago}
    assert numbers(
        upserted(db, acme.id, [product(1, **given), product(2, external_id="T1", id=new_id(), created_at=long_ago)])
    ) == (1, 1, 0, 0, 0)
    found = products(db, acme.id)
    assert (found["x00001"].id, found["x00001"].created_at) == (mine, long_ago)
    assert found["T1"].id == acme.product_id
    assert found["T1"].created_at > long_ago


def test_rows_are_dicts_instances_or_rows_of_a_query(db: Database, acme: Inhabited, rival: Inhabited) -> None:
    with db.tenant(rival.id) as session:
        copied = session.execute(
            select(Product.external_id, Product.slug, Product.name, Product.price, Product.currency)
        ).all()
        instances = [Product(**product(7, name="Seven"))]
    result = upserted(db, acme.id, [*copied, *instances, product(8), "no row", 5])
    assert numbers(result) == (2, 0, 1, 0, 2)
    assert [one.row for one in result.refused] == ["no row", 5]
    assert products(db, acme.id)["x00007"].name == "Seven"


@pytest.mark.parametrize("batch", [1, 2, 3, 100])
def test_any_batch_gives_the_same_table_and_positions_of_the_whole(db: Database, acme: Inhabited, batch: int) -> None:
    rows = [product(n % 4, name=f"Version {n}", currency="gbp" if n == 5 else "GBP") for n in range(9)]
    result = upserted(db, acme.id, iter(rows), batch=batch)
    assert (result.read, result.inserted) == (9, 4)
    assert why(result) == [(5, "InvalidText", "currency", None)]
    assert result.refused[0].row is rows[5]
    assert {name: row.name for name, row in products(db, acme.id).items() if name != "T1"} == {
        "x00000": "Version 8",
        "x00001": "Version 1",
        "x00002": "Version 6",
        "x00003": "Version 7",
    }


def test_any_unique_constraint_is_a_key_the_primary_one_too(db: Database, acme: Inhabited) -> None:
    with db.tenant(acme.id) as session:
        by_slug = upsert_many(session, Product, [product(1, slug="tea-pot")], key="slug")
        by_id = upsert_many(session, Product, [{"id": acme.product_id, "name": "By id"}], key=["tenant_id", "id"])
        by_email = upsert_many(session, User, [{"email": "Ada@ACME.example.com", "full_name": "A. L."}], key="email")
        profile = upsert_many(session, UserProfile, [{"user_id": acme.user_id, "bio": "Mathematician"}], key="user_id")
    assert [numbers(one) for one in (by_slug, by_id, by_email, profile)] == [(0, 1, 0, 0, 0)] * 4
    with db.tenant(acme.id) as session:
        assert session.scalars(select(Product.name)).one() == "By id"
        assert session.scalars(select(Product.external_id)).one() == "x00001"
        assert session.scalars(select(User.full_name)).one() == "A. L."
        assert session.scalars(select(UserProfile.display_name)).one() == "Ada"


@pytest.mark.parametrize(
    ("model", "key"),
    [(Product, "name"), (Product, "nothing"), (Product, []), (Product, ["slug", "external_id"]), (UserActivity, "id")],
)
def test_what_is_no_key_is_refused_before_anything_is_sent(
    db: Database, acme: Inhabited, model: type[Any], key: str
) -> None:
    with db.tenant(acme.id) as session, pytest.raises(InvalidValue) as refused:
        upsert_many(session, model, [product(1)], key=key)
    assert refused.value.hint


def test_sessions_of_no_tenant_and_models_of_none_are_refused(db: Database, acme: Inhabited) -> None:
    with db.session() as session, pytest.raises(TenantNotSet):
        upsert_many(session, Product, [product(1)], key="slug")
    with db.owner() as session, pytest.raises(TenantNotSet):
        upsert_many(session, Product, [product(1)], key="slug")
    with db.tenant(acme.id) as session, pytest.raises(InvalidValue):
        upsert_many(session, object, [], key="slug")  # type: ignore[arg-type]


def test_no_rows_are_no_work(db: Database, acme: Inhabited) -> None:
    assert upserted(db, acme.id, []) == BulkResult(read=0)


def test_an_iterator_that_raises_half_way_leaves_nothing_and_the_transaction_goes_on(
    db: Database, acme: Inhabited
) -> None:
    def rows() -> Iterator[dict[str, Any]]:
        yield from (product(n) for n in range(5))
        raise OSError("the source broke")

    with db.tenant(acme.id) as session:
        session.add(Product(**product(100)))
        with pytest.raises(OSError, match="broke"):
            upsert_many(session, Product, rows(), key="external_id", batch=2)
    assert set(products(db, acme.id)) == {"T1", "x00100"}


def test_what_the_session_has_pending_is_there_and_what_it_has_loaded_is_read_again(
    db: Database, acme: Inhabited
) -> None:
    with db.tenant(acme.id) as session:
        loaded = session.get_one(Product, (acme.id, acme.product_id))
        session.add(Product(**product(1)))
        rows = [product(1, name="Changed"), product(2, external_id="T1", name="Changed too")]
        assert numbers(upsert_many(session, Product, rows, key="external_id")) == (0, 2, 0, 0, 0)
        assert loaded.name == "Changed too"


async def test_the_same_code_runs_under_asyncio(db: Database, acme: Inhabited) -> None:
    async with AsyncDatabase(db.settings) as asynchronous, asynchronous.tenant(acme.id) as session:
        rows = [product(n, price=Decimal(n - 1)) for n in range(5)]
        result = await session.run_sync(upsert_many, Product, rows, key="external_id")
    assert numbers(result) == (4, 0, 0, 0, 1)
    assert len(products(db, acme.id)) == 5


def test_more_rows_than_a_statement_has_parameters_are_no_matter(db: Database, acme: Inhabited) -> None:
    result = upserted(db, acme.id, (product(n % 70_000) for n in range(70_001)))
    assert result == replace(BulkResult(read=0), read=70_001, inserted=70_000, duplicate=1)
