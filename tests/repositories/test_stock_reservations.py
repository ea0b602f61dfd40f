"""Reservations: what is held nobody else gets, until it is shipped, released or expired."""

from __future__ import annotations

from datetime import datetime, timedelta
from uuid import UUID

import pytest
from sqlalchemy import text, update

from dataarch.clock import utcnow
from dataarch.database.unit_of_work import Database
from dataarch.errors import (
    IdempotencyKeyReused,
    InsufficientStock,
    InvalidValue,
    ReservationEnded,
    ReservationExpired,
    UnknownReservation,
)
from dataarch.models import Inventory, InventoryReservation
from dataarch.models.base import new_id
from dataarch.repositories.inventory import InventoryQueries, InventoryRepository
from fixtures.tenants import Inhabited
from repositories.stock_support import assert_books_add_up, let_expire, product

pytestmark = pytest.mark.integrity


@pytest.fixture
def db(shared_db: Database) -> Database:
    """One database for this file: each test makes tenants of its own."""
    return shared_db


def soon() -> datetime:
    return utcnow() + timedelta(hours=1)


def held(db: Database, tenant: Inhabited, quantity: int, *, expired: bool = False) -> UUID:
    with db.tenant(tenant.id) as session:
        made = InventoryRepository(session).reserve(tenant.product_id, quantity, key=new_id(), expires_at=soon())
    if expired:
        let_expire(db, tenant.id, made.id)
    return made.id


def test_what_is_reserved_is_on_hand_and_not_available(db: Database, acme: Inhabited) -> None:
    with db.tenant(acme.id) as session:
        stock = InventoryRepository(session)
        made = stock.reserve(acme.product_id, 2, key=new_id(), expires_at=soon())
        assert (made.product_id, made.quantity, made.state, made.ended_at) == (acme.product_id, 2, "held", None)
        assert (stock.on_hand(acme.product_id), stock.available(acme.product_id)) == (5, 3)
        assert stock.reservation(made.id) == made
        assert stock.reservations(acme.product_id) == [made]
        for take in (
            lambda: stock.ship(acme.product_id, 4, key=new_id()),
            lambda: stock.adjust(acme.product_id, -4, key=new_id()),
            lambda: stock.reserve(acme.product_id, 4, key=new_id(), expires_at=soon()),
            lambda: stock.transfer(acme.product_id, _another(db, acme), 4, key=new_id()),
        ):
            with pytest.raises(InsufficientStock) as refused:
                take()
            assert (refused.value.available, refused.value.asked) == (3, 4)
        stock.ship(acme.product_id, 3, key=new_id())
    assert_books_add_up(db, acme.id)


def _another(db: Database, tenant: Inhabited) -> UUID:
    other = product("kettle")
    with db.tenant(tenant.id) as session:
        session.add(other)
    return other.id


def test_a_reservation_is_shipped_once(db: Database, acme: Inhabited) -> None:
    one, key = held(db, acme, 2), new_id()
    with db.tenant(acme.id) as session:
        stock = InventoryRepository(session)
        made = stock.ship_reserved(one, key=key, reference="order 7")
        assert (made.key, made.change, made.quantity_after) == (key, -2, 3)
        assert stock.ship_reserved(one, key=key, reference="order 7") == made
        with pytest.raises(ReservationEnded):
            stock.ship_reserved(one, key=new_id())
        with pytest.raises(ReservationEnded):
            stock.release(one)
        with pytest.raises(IdempotencyKeyReused):
            stock.ship_reserved(one, key=key, reference="order 8")
        with pytest.raises(IdempotencyKeyReused):
            stock.ship(acme.product_id, 2, key=key, reference="order 7")
        ended = stock.reservation(one)
        assert ended is not None
        assert ended.state == "shipped"
        assert (stock.on_hand(acme.product_id), stock.available(acme.product_id)) == (3, 3)
    with db.tenant(acme.id) as session:
        assert InventoryRepository(session).ship_reserved(one, key=key, reference="order 7").repeated
    assert_books_add_up(db, acme.id)


def test_a_key_of_a_shipment_is_no_key_for_a_reservation_to_be_shipped(db: Database, acme: Inhabited) -> None:
    one, key = held(db, acme, 2), new_id()
    with db.tenant(acme.id) as session:
        stock = InventoryRepository(session)
        stock.ship(acme.product_id, 2, key=key)
        with pytest.raises(IdempotencyKeyReused):
            stock.ship_reserved(one, key=key)
        assert stock.ship_reserved(one, key=new_id()).quantity_after == 1
    assert_books_add_up(db, acme.id)


def test_a_reservation_is_released_and_its_stock_free_again(db: Database, acme: Inhabited) -> None:
    one = held(db, acme, 5)
    with db.tenant(acme.id) as session:
        stock = InventoryRepository(session)
        released = stock.release(one)
        assert released.state == "released"
        assert released.ended_at is not None
        again = stock.release(one)
        assert (again, again.repeated, released.repeated) == (released, True, False)
        with pytest.raises(ReservationEnded):
            stock.ship_reserved(one, key=new_id())
        assert stock.ship(acme.product_id, 5, key=new_id()).quantity_after == 0
    assert_books_add_up(db, acme.id)


def test_who_needs_the_stock_takes_what_has_expired(db: Database, acme: Inhabited) -> None:
    one = held(db, acme, 3, expired=True)
    still = held(db, acme, 1)
    with db.tenant(acme.id) as session:
        stock = InventoryRepository(session)
        found = stock.get(acme.product_id)
        assert found is not None
        assert (found.quantity, found.available, found.reserved) == (5, 4, 1)
        with pytest.raises(InsufficientStock) as refused:
            stock.ship(acme.product_id, 5, key=new_id())
        assert refused.value.available == 4
        stock.ship(acme.product_id, 4, key=new_id())
        gone, kept = stock.reservation(one), stock.reservation(still)
        assert gone is not None
        assert kept is not None
        assert (gone.state, kept.state) == ("expired", "held")
        with pytest.raises(ReservationExpired):
            stock.ship_reserved(one, key=new_id())
        assert stock.release(one).state == "expired"
        assert stock.ship_reserved(still, key=new_id()).quantity_after == 0
    assert_books_add_up(db, acme.id)


def test_a_reservation_that_has_expired_is_refused_though_nobody_took_its_stock(db: Database, acme: Inhabited) -> None:
    one = held(db, acme, 3, expired=True)
    with db.tenant(acme.id) as session:
        stock = InventoryRepository(session)
        with pytest.raises(ReservationExpired):
            stock.ship_reserved(one, key=new_id())
        assert stock.available(acme.product_id) == 5
    assert_books_add_up(db, acme.id)


def test_a_late_release_says_that_it_had_expired(db: Database, acme: Inhabited) -> None:
    one = held(db, acme, 3, expired=True)
    with db.tenant(acme.id) as session:
        assert InventoryRepository(session).release(one).state == "expired"
    assert_books_add_up(db, acme.id)


def test_a_moment_that_has_passed_is_refused_but_not_for_a_call_that_is_repeated(db: Database, acme: Inhabited) -> None:
    key, until = new_id(), soon()
    with db.tenant(acme.id) as session:
        stock = InventoryRepository(session)
        with pytest.raises(InvalidValue):
            stock.reserve(acme.product_id, 1, key=key, expires_at=utcnow() - timedelta(seconds=1))
        stock.reserve(acme.product_id, 1, key=key, expires_at=until)
    past = let_expire(db, acme.id, key)
    with db.tenant(acme.id) as session:
        again = InventoryRepository(session).reserve(acme.product_id, 1, key=key, expires_at=past)
        assert (again.repeated, again.state) == (True, "held")
    assert_books_add_up(db, acme.id)


def test_expired_ones_are_released_the_oldest_first_and_no_more_than_asked(db: Database, acme: Inhabited) -> None:
    first, second = held(db, acme, 1, expired=True), held(db, acme, 1, expired=True)
    live = held(db, acme, 1)
    with db.tenant(acme.id) as session:
        stock = InventoryRepository(session)
        assert stock.release_expired(1) == 1
        assert [one.id for one in stock.reservations(acme.product_id)] == [second, live]
        assert stock.release_expired() == 1
        assert stock.release_expired() == 0
        gone = stock.reservation(first)
        assert gone is not None
        assert gone.state == "expired"
    assert_books_add_up(db, acme.id)


def test_stock_that_somebody_works_with_is_left_for_the_next_time(db: Database, acme: Inhabited) -> None:
    held(db, acme, 1, expired=True)
    with db.tenant(acme.id) as busy:
        InventoryRepository(busy).receive(acme.product_id, 1, key=new_id())
        with db.tenant(acme.id) as session:
            assert InventoryRepository(session).release_expired() == 0
    with db.tenant(acme.id) as session:
        assert InventoryRepository(session).release_expired() == 1
    assert_books_add_up(db, acme.id)


def test_an_unknown_reservation_and_another_tenants_are_the_same(
    db: Database, acme: Inhabited, rival: Inhabited
) -> None:
    theirs = held(db, rival, 2)
    held(db, rival, 1, expired=True)
    with db.tenant(acme.id) as session:
        stock = InventoryRepository(session)
        for wrong in (new_id(), theirs):
            with pytest.raises(UnknownReservation):
                stock.release(wrong)
            with pytest.raises(UnknownReservation):
                stock.ship_reserved(wrong, key=new_id())
            assert stock.reservation(wrong) is None
        assert stock.release_expired() == 0
    assert_books_add_up(db, rival.id)


def test_who_does_not_know_of_reservations_cannot_take_what_is_reserved(db: Database, acme: Inhabited) -> None:
    held(db, acme, 3)
    with pytest.raises(InsufficientStock) as refused, db.tenant(acme.id) as session:
        session.execute(update(Inventory).values(quantity=2))
    assert refused.value.constraint == "ck_inventory_reserved_within_quantity"
    with pytest.raises(InsufficientStock), db.tenant(acme.id) as session:
        session.execute(update(Inventory).values(reserved=6))
    assert_books_add_up(db, acme.id)


def test_deleting_a_product_deletes_its_reservations(db: Database, acme: Inhabited) -> None:
    one = held(db, acme, 3)
    with db.tenant(acme.id) as session:
        session.execute(text("DELETE FROM products"))
    with db.tenant(acme.id) as session:
        assert InventoryQueries(session).reservation(one) is None


def test_objects_that_the_session_has_read_show_how_a_reservation_ended(db: Database, acme: Inhabited) -> None:
    one, gone = held(db, acme, 2), held(db, acme, 2, expired=True)
    with db.tenant(acme.id) as session:
        rows = [session.get_one(InventoryReservation, (acme.id, each)) for each in (one, gone)]
        row = session.get_one(Inventory, (acme.id, acme.product_id))
        stock = InventoryRepository(session)
        stock.ship(acme.product_id, 2, key=new_id())
        stock.ship_reserved(one, key=new_id())
        assert [each.state for each in rows] == ["shipped", "expired"]
        assert (row.quantity, row.reserved) == (1, 0)
