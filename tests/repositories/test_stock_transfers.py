"""Transfers and batches: all or none, in the order of the products' locks, each key once."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import timedelta
from uuid import UUID

import pytest
from sqlalchemy import text

from dataarch.clock import utcnow
from dataarch.database.unit_of_work import Database
from dataarch.errors import (
    DataArchError,
    IdempotencyKeyReused,
    InsufficientStock,
    InvalidValue,
    StockOverflow,
    UnknownProduct,
)
from dataarch.models.base import new_id
from dataarch.models.types import BIGINT_MOST
from dataarch.repositories.inventory import InventoryRepository
from dataarch.repositories.stock_results import Move
from fixtures.tenants import Inhabited
from repositories.stock_support import assert_books_add_up, let_expire, stocked

pytestmark = pytest.mark.integrity


@pytest.fixture
def db(shared_db: Database) -> Database:
    """One database for this file: each test makes tenants of its own."""
    return shared_db


@pytest.fixture
def products(db: Database, acme: Inhabited) -> list[UUID]:
    """Products of acme with 5 on hand each, in the order of their ids, the last one never stocked."""
    return stocked(db, acme.id, [5, 5, 5, 0])


def on_hand(db: Database, tenant: Inhabited, products: Sequence[UUID]) -> list[int]:
    with db.tenant(tenant.id) as session:
        return [InventoryRepository(session).on_hand(one) for one in products]


def test_a_transfer_takes_from_one_and_gives_to_the_other(db: Database, acme: Inhabited, products: list[UUID]) -> None:
    key = new_id()
    with db.tenant(acme.id) as session:
        stock = InventoryRepository(session)
        left, arrived = stock.transfer(products[0], products[1], 2, key=key, reference="repacked")
        assert (left.key, left.product_id, left.change, left.quantity_after) == (key, products[0], -2, 3)
        assert (arrived.product_id, arrived.change, arrived.quantity_after) == (products[1], 2, 7)
        assert [one.reason for one in stock.movements(products[1], limit=1)] == ["transfer"]
    with db.tenant(acme.id) as session:
        again = InventoryRepository(session).transfer(products[0], products[1], 2, key=key, reference="repacked")
        assert again == (left, arrived)
        assert [one.repeated for one in again] == [True, True]
    assert on_hand(db, acme, products) == [3, 7, 5, 0]
    assert_books_add_up(db, acme.id)


def test_a_case_of_twelve_arrives_as_twelve_even_where_there_was_no_stock(
    db: Database, acme: Inhabited, products: list[UUID]
) -> None:
    with db.tenant(acme.id) as session:
        _, arrived = InventoryRepository(session).transfer(products[0], products[3], 1, key=new_id(), arriving=12)
        assert (arrived.sequence, arrived.quantity_before, arrived.quantity_after) == (1, 0, 12)
    assert_books_add_up(db, acme.id)


def test_a_transfer_with_the_key_of_another_is_refused_whole(
    db: Database, acme: Inhabited, products: list[UUID]
) -> None:
    key, one, two, three = new_id(), *products[:3]
    with db.tenant(acme.id) as session:
        stock = InventoryRepository(session)
        stock.transfer(one, two, 2, key=key)
        for other in (
            lambda: stock.transfer(one, three, 2, key=key),
            lambda: stock.transfer(three, two, 2, key=key),
            lambda: stock.transfer(two, one, 2, key=key),
            lambda: stock.transfer(one, two, 1, key=key),
            lambda: stock.transfer(one, two, 2, key=key, arriving=3),
            lambda: stock.transfer(one, two, 2, key=key, reference="x"),
            lambda: stock.ship(one, 2, key=key),
            lambda: stock.adjust(one, -2, key=key),
        ):
            with pytest.raises(IdempotencyKeyReused):
                other()
    assert on_hand(db, acme, products) == [3, 7, 5, 0]
    assert_books_add_up(db, acme.id)


REFUSED: dict[str, tuple[Callable[[list[UUID]], Move], type[DataArchError]]] = {
    "too many": (lambda ids: Move(new_id(), ids[1], -6, "sale"), InsufficientStock),
    "from nothing": (lambda ids: Move(new_id(), ids[3], -1, "sale"), InsufficientStock),
    "unknown": (lambda _: Move(new_id(), new_id(), 1, "receipt"), UnknownProduct),
    "beyond bigint": (lambda ids: Move(new_id(), ids[1], BIGINT_MOST, "receipt"), StockOverflow),
}


@pytest.mark.parametrize(("made", "error"), REFUSED.values(), ids=REFUSED)
def test_a_batch_with_one_that_is_refused_changes_nothing_and_names_it(
    db: Database, acme: Inhabited, products: list[UUID], made: Callable[[list[UUID]], Move], error: type[DataArchError]
) -> None:
    refused = made(products)
    good = [Move(new_id(), products[2], -1, "sale"), Move(new_id(), products[3], 4, "receipt")]
    with db.tenant(acme.id) as session:
        stock = InventoryRepository(session)
        with pytest.raises(error) as told:
            stock.move_many([good[0], refused, good[1]])
        assert told.value.value == refused
        assert [one.quantity_after for one in stock.move_many(good)] == [4, 4]
    assert on_hand(db, acme, products) == [5, 5, 4, 4]
    assert_books_add_up(db, acme.id)


def test_a_batch_is_made_in_its_order_whatever_the_order_of_locks(
    db: Database, acme: Inhabited, products: list[UUID]
) -> None:
    with db.tenant(acme.id) as session:
        stock = InventoryRepository(session)
        moves = [
            Move(new_id(), products[3], 2, "receipt", "note 1"),
            Move(new_id(), products[0], -5, "sale"),
            Move(new_id(), products[3], -2, "sale", occurred_at=utcnow()),
            Move(new_id(), products[0], 1, "return"),
        ]
        made = stock.move_many(iter(moves))
        assert [one.key for one in made] == [one.key for one in moves]
        assert [one.quantity_after for one in made] == [2, 0, 0, 1]
        assert made[2].occurred_at == moves[2].occurred_at
        assert stock.move_many(moves) == made
        assert stock.move_many([]) == []
    assert_books_add_up(db, acme.id)


def test_a_batch_grows_and_makes_only_what_is_new(db: Database, acme: Inhabited, products: list[UUID]) -> None:
    moves = [Move(new_id(), one, -1, "sale") for one in products[:3]]
    with db.tenant(acme.id) as session:
        stock = InventoryRepository(session)
        stock.move_many(moves[:2])
        assert [one.repeated for one in stock.move_many([*moves, moves[2]])] == [True, True, False, True]
    assert on_hand(db, acme, products) == [4, 4, 4, 0]


def test_a_batch_takes_what_expired_reservations_held(db: Database, acme: Inhabited, products: list[UUID]) -> None:
    key = new_id()
    with db.tenant(acme.id) as session:
        InventoryRepository(session).reserve(products[0], 5, key=key, expires_at=utcnow() + timedelta(hours=1))
    let_expire(db, acme.id, key)
    with db.tenant(acme.id) as session:
        stock = InventoryRepository(session)
        with pytest.raises(InsufficientStock):
            stock.move_many([Move(new_id(), products[0], -5, "sale"), Move(new_id(), products[1], -6, "sale")])
        stock.transfer(products[0], products[1], 5, key=new_id())
    assert on_hand(db, acme, products) == [0, 10, 5, 0]
    assert_books_add_up(db, acme.id)


def test_a_product_is_not_transferred_to_itself(db: Database, acme: Inhabited) -> None:
    with db.tenant(acme.id) as session, pytest.raises(InvalidValue):
        InventoryRepository(session).transfer(acme.product_id, acme.product_id, 1, key=new_id())


def test_a_thousand_movements_are_one_call(db: Database, acme: Inhabited, products: list[UUID]) -> None:
    moves = [Move(new_id(), one, 1, "receipt") for one in products for _ in range(250)]
    with db.tenant(acme.id) as session:
        made = InventoryRepository(session).move_many(moves)
        assert [one.key for one in made] == [one.key for one in moves]
        assert session.execute(text("SELECT sum(quantity) FROM inventory")).scalar_one() == 1020
    assert_books_add_up(db, acme.id)
