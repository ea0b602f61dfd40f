"""Rows that an upsert refuses: each is named with its position, column, constraint and error; no other row pays."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from decimal import Decimal
from hashlib import sha256
from typing import Any

import psycopg
import pytest
from sqlalchemy import event, text

from dataarch.clock import utcnow
from dataarch.database.unit_of_work import Database
from dataarch.models import Product, User, UserProfile, UserSession
from dataarch.models.base import new_id
from dataarch.repositories.bulk.upsert import insert_many, upsert_many
from fixtures.tenants import Inhabited
from repositories.bulk.upsert_support import numbers, product, products, upserted, why

pytestmark = pytest.mark.integrity

SLUG, EXTERNAL_ID = "uq_products_tenant_id_slug", "uq_products_tenant_id_external_id"


@contextmanager
def also(db: Database, rule: str, table: str = "products") -> Iterator[None]:
    """A constraint of the table that the model does not know."""
    with db.owner() as session:
        session.execute(text(f"ALTER TABLE {table} ADD CONSTRAINT rule_of_old {rule}"))
    yield


def test_each_bad_row_is_named_and_the_good_ones_are_written(db: Database, acme: Inhabited, rival: Inhabited) -> None:
    rows = [
        product(1),
        product(2, price=Decimal("-0.01")),
        product(3, slug="No Slug"),
        product(4, name=None),
        product(5, external_id=None),
        product(6, slug="tea-pot"),
        product(7, tenant_id=rival.id),
        product(8, tenant_id=acme.id),
        product(9, colour="red"),
        product(10, name="a\x00b"),
        product(11, price="much"),
        product(12, created_at=utcnow().replace(tzinfo=None)),
        product(13, id=acme.product_id),
    ]
    result = upserted(db, acme.id, rows)
    assert why(result) == [
        (1, "InvalidMoney", "price", None),
        (2, "InvalidSlug", "slug", None),
        (3, "MissingValue", "name", None),
        (4, "MissingValue", "external_id", None),
        (5, "SlugTaken", "slug", SLUG),
        (6, "TenantMismatch", "tenant_id", None),
        (8, "InvalidValue", None, None),
        (9, "InvalidText", "name", None),
        (10, "InvalidMoney", "price", None),
        (11, "NaiveDatetime", "created_at", None),
        (12, "AlreadyExists", "id", "pk_products"),
    ]
    assert all(one.row is rows[one.position] and one.reason and one.error.hint for one in result.refused)
    assert all(one.error.table == "products" for one in result.refused if one.position != 8)
    assert numbers(result) == (2, 0, 0, 0, 11)
    assert set(products(db, acme.id)) == {"T1", "x00001", "x00008"}
    assert set(products(db, rival.id)) == {"T1"}


def test_no_message_of_a_constraint_shows_a_value(db: Database, acme: Inhabited) -> None:
    with db.tenant(acme.id) as session:
        result = upsert_many(
            session, User, [{"external_id": "2", "email": "ada@acme.example.com", "full_name": "A"}], key="external_id"
        )
    assert why(result) == [(0, "EmailTaken", "email", "uq_users_tenant_id_email")]
    assert "ada" not in str(result.refused[0].error)


def test_of_rows_that_want_the_same_value_the_first_gets_it(db: Database, acme: Inhabited) -> None:
    rows = [product(1, slug="x"), product(2, slug="x"), product(3), product(4, slug="x")]
    result = upserted(db, acme.id, rows)
    assert why(result) == [(1, "SlugTaken", "slug", SLUG), (3, "SlugTaken", "slug", SLUG)]
    assert set(products(db, acme.id)) == {"T1", "x00001", "x00003"}


def test_a_row_stands_in_for_a_later_one_of_its_key_that_wants_what_another_has(db: Database, acme: Inhabited) -> None:
    rows = [product(1), product(2, slug="x"), product(1, slug="x"), product(3, slug="x"), product(3, slug="product-1")]
    result = upserted(db, acme.id, rows)
    # the last row of 3 wants what the first one of 1 has, once that stands in
    assert [position for position, *_ in why(result)] == [2, 3, 4]
    assert {name: row.slug for name, row in products(db, acme.id).items()} == {
        "T1": "tea-pot",
        "x00001": "product-1",
        "x00002": "x",
    }


def test_a_value_that_a_row_has_when_the_batch_begins_is_taken_though_that_row_gives_it_up(
    db: Database, acme: Inhabited
) -> None:
    upserted(db, acme.id, [product(1), product(2)])
    swapped = [product(1, slug="product-2"), product(2, slug="product-1")]
    result = upserted(db, acme.id, swapped)
    assert [name for _, name, *_ in why(result)] == ["SlugTaken", "SlugTaken"]


def test_a_check_over_several_columns_and_a_reference_are_tried_before(
    db: Database, acme: Inhabited, rival: Inhabited
) -> None:
    def signed_in(user: object, hours: int, name: str) -> dict[str, Any]:
        now = utcnow()
        return {
            "token_hash": sha256(name.encode()).hexdigest(),
            "user_id": user,
            "created_at": now,
            "expires_at": now + timedelta(hours=hours),
        }

    rows = [
        signed_in(acme.user_id, 1, "a"),
        signed_in(acme.user_id, -1, "b"),
        signed_in(new_id(), 1, "c"),
        signed_in(rival.user_id, 1, "d"),
    ]
    with db.tenant(acme.id) as session:
        result = upsert_many(session, UserSession, rows, key="token_hash")
    assert why(result) == [
        (1, "CheckFailed", None, "ck_user_sessions_expires_after_creation"),
        (2, "UnknownUser", "user_id", "fk_user_sessions_users"),
        (3, "UnknownUser", "user_id", "fk_user_sessions_users"),
    ]
    assert result.inserted == 1


def test_a_check_sees_what_stays_of_a_row_that_is_there(db: Database, acme: Inhabited) -> None:
    with db.tenant(acme.id) as session:
        added = upsert_many(session, User, [{"external_id": "7", "full_name": "Seven"}], key="external_id")
        nameless = upsert_many(session, User, [{"email": None, "external_id": "7"}], key="external_id")
        both = insert_many(session, User, [{"full_name": "Nobody"}, {"full_name": "B", "external_id": "8"}])
    assert (added.inserted, nameless.unchanged, both.inserted) == (1, 1, 1)
    assert why(both) == [(0, "CheckFailed", None, "ck_users_identified")]


def test_a_tenant_that_does_not_exist_has_no_rows(db: Database) -> None:
    result = upserted(db, new_id(), [product(1)])
    assert why(result) == [(0, "UnknownTenant", "tenant_id", "fk_products_tenants")]


def test_what_only_the_server_knows_is_found_row_by_row(db: Database, acme: Inhabited) -> None:
    upserted(db, acme.id, [product(20)])
    rows = [product(n, price=Decimal(13 if n in {3, 4, 9, 20} else 1)) for n in range(1, 21)]
    rows.insert(8, product(9, price=Decimal(2), name="Stands in"))
    with also(db, "CHECK (price <> 1300)"):
        result = upserted(db, acme.id, rows)
        assert why(result) == [(at, "CheckFailed", "price", "rule_of_old") for at in (2, 3, 9, 20)]
        assert numbers(result) == (17, 0, 0, 0, 4)
        found = products(db, acme.id)
        assert (len(found), found["x00009"].name) == (19, "Stands in")


def test_a_unique_constraint_that_the_model_does_not_know_is_found_row_by_row(db: Database, acme: Inhabited) -> None:
    with also(db, "UNIQUE (tenant_id, name)"):
        result = upserted(db, acme.id, [product(1), product(2, name="Product 1"), product(3, name="Tea pot")])
    assert why(result) == [(1, "AlreadyExists", None, "rule_of_old"), (2, "AlreadyExists", None, "rule_of_old")]
    assert set(products(db, acme.id)) == {"T1", "x00001"}


def test_insert_many_adds_and_refuses_what_is_there(db: Database, acme: Inhabited) -> None:
    rows = [product(1), product(1), product(2, slug="product-1"), product(3, id=acme.product_id), {"slug": "bare"}]
    with db.tenant(acme.id) as session:
        result = insert_many(session, Product, rows)
        profiles = insert_many(session, UserProfile, [{"user_id": acme.user_id}, {"user_id": new_id()}])
    assert why(result) == [
        (1, "ExternalIdTaken", "external_id", EXTERNAL_ID),
        (2, "SlugTaken", "slug", SLUG),
        (3, "AlreadyExists", "id", "pk_products"),
        (4, "MissingValue", "name", None),
    ]
    assert why(profiles) == [
        (0, "AlreadyExists", "user_id", "pk_user_profiles"),
        (1, "UnknownUser", "user_id", "fk_user_profiles_users"),
    ]
    assert numbers(result) == (1, 0, 0, 0, 4)


def test_a_failure_that_is_no_rows_fault_is_raised_and_leaves_the_transaction_usable(
    db: Database, acme: Inhabited
) -> None:
    with db.owner() as session:
        session.execute(text("REVOKE UPDATE ON products FROM dataarch_app"))
    with db.tenant(acme.id) as session:
        with pytest.raises(Exception, match="may not do this"):
            upsert_many(session, Product, [product(1), product(2, external_id="T1")], key="external_id")
        assert numbers(upsert_many(session, Product, [product(5)], key="external_id")) == (1, 0, 0, 0, 0)


def test_nothing_of_ours_is_left_on_the_connection(db: Database, acme: Inhabited) -> None:
    with db.tenant(acme.id) as session:
        upsert_many(session, Product, [product(1), product(1, slug="tea-pot")], key="external_id")
        left = "SELECT count(*) FROM pg_class WHERE relnamespace = pg_my_temp_schema() AND relkind = 'r'"
        assert session.execute(text(left)).scalar_one() == 0
        driver = session.connection().connection.driver_connection
        assert isinstance(driver, psycopg.Connection)
        assert driver.info.transaction_status == psycopg.pq.TransactionStatus.INTRANS


def test_a_check_that_only_the_database_has_is_asked_of_all_rows_at_once(db: Database, acme: Inhabited) -> None:
    rows = [product(number) for number in range(200)]
    for at in range(0, 200, 20):
        rows[at]["name"] = "100 % Bad"
    sent: list[str] = []
    with also(db, "CHECK (name NOT LIKE '100 %% Bad%' AND length(name) < 150)".replace("%%", "%")):
        event.listen(db.engine, "before_cursor_execute", lambda _c, _cursor, statement, *_: sent.append(statement))
        result = upserted(db, acme.id, rows)
    assert [one.position for one in result.refused] == list(range(0, 200, 20))
    assert {(type(one.error).__name__, one.constraint) for one in result.refused} == {("CheckFailed", "rule_of_old")}
    assert sum("INSERT INTO products" in statement for statement in sent) == 1
