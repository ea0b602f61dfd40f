"""Movements of stock: each is made once, none takes what is not there, and a refusal leaves the unit of work usable."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta, timezone
from uuid import UUID

import pytest
from sqlalchemy import event, func, select, text

from dataarch.clock import utcnow
from dataarch.database.commit_hooks import Unit
from dataarch.database.tenancy import Isolation
from dataarch.database.unit_of_work import Database
from dataarch.errors import (
    IdempotencyKeyReused,
    InsufficientStock,
    InvalidText,
    InvalidValue,
    NaiveDatetime,
    SerializationFailure,
    StockOverflow,
    TenantNotSet,
    UnknownProduct,
)
from dataarch.models import Inventory, InventoryMovement, Product
from dataarch.models.base import new_id
from dataarch.models.types import BIGINT_MOST
from dataarch.repositories.inventory import InventoryQueries, InventoryRepository
from dataarch.repositories.stock_results import Move, Stock
from fixtures.tenants import Inhabited
from repositories.stock_support import assert_books_add_up, let_expire, product

pytestmark = pytest.mark.integrity


@pytest.fixture
def db(shared_db: Database) -> Database:
    """One database for this file: each test makes tenants of its own."""
    return shared_db


Call = Callable[[InventoryRepository, UUID, UUID], object]

PAST, FUTURE = datetime(2020, 1, 1, tzinfo=UTC), datetime(2090, 1, 1, tzinfo=UTC)

CALLS: dict[str, Call] = {
    "receive": lambda stock, product_id, key: stock.receive(product_id, 2, key=key, reference="note 7"),
    "return": lambda stock, product_id, key: stock.return_(product_id, 2, key=key),
    "ship": lambda stock, product_id, key: stock.ship(product_id, 2, key=key, occurred_at=PAST),
    "adjust": lambda stock, product_id, key: stock.adjust(product_id, -2, key=key),
    "reserve": lambda stock, product_id, key: stock.reserve(product_id, 2, key=key, expires_at=FUTURE),
}
OTHERS: dict[str, Call] = {
    "another quantity": lambda stock, product_id, key: stock.receive(product_id, 3, key=key, reference="note 7"),
    "another reason": lambda stock, product_id, key: stock.return_(product_id, 2, key=key, reference="note 7"),
    "another sign": lambda stock, product_id, key: stock.ship(product_id, 2, key=key, reference="note 7"),
    "another reference": lambda stock, product_id, key: stock.receive(product_id, 2, key=key),
    "another moment": lambda stock, product_id, key: stock.receive(
        product_id, 2, key=key, reference="note 7", occurred_at=PAST
    ),
    "a reservation": lambda stock, product_id, key: stock.reserve(product_id, 2, key=key, expires_at=FUTURE),
    "a product that is not there": lambda stock, _, key: stock.receive(new_id(), 2, key=key, reference="note 7"),
}


def test_stock_comes_and_goes_and_each_movement_says_what_was_before_and_after(db: Database, acme: Inhabited) -> None:
    key = new_id()
    with db.tenant(acme.id) as session:
        stock = InventoryRepository(session)
        first = stock.receive(acme.product_id, 10, key=key, reference="note 7")
        assert (first.key, first.product_id, first.sequence, first.change) == (key, acme.product_id, 2, 10)
        assert (first.quantity_before, first.quantity_after, first.repeated) == (5, 15, False)
        shipped = stock.ship(acme.product_id, 4, key=new_id())
        assert (shipped.sequence, shipped.quantity_before, shipped.quantity_after) == (3, 15, 11)
        assert stock.return_(acme.product_id, 1, key=new_id()).quantity_after == 12
        assert stock.adjust(acme.product_id, -2, key=new_id()).quantity_after == 10
        assert stock.adjust(acme.product_id, 1, key=new_id()).quantity_after == 11
    with db.tenant(acme.id) as session:
        stock = InventoryRepository(session)
        assert stock.get(acme.product_id) == Stock(acme.product_id, 11, 11, 6)
        assert [one.reason for one in stock.movements(acme.product_id)] == [
            "adjustment", "adjustment", "return", "sale", "receipt", "receipt",
        ]  # fmt: skip
    assert_books_add_up(db, acme.id)


def test_the_first_movement_of_a_product_brings_its_stock(db: Database, acme: Inhabited) -> None:
    with db.tenant(acme.id) as session:
        stock = InventoryRepository(session)
        added = product("kettle")
        session.add(added)  # not flushed by the caller
        assert stock.on_hand(added.id) == 0
        with pytest.raises(InsufficientStock) as refused:
            stock.ship(added.id, 1, key=new_id())
        assert (refused.value.available, refused.value.asked) == (0, 1)
        made = stock.receive(added.id, 3, key=new_id())
        assert (made.sequence, made.quantity_before, made.quantity_after) == (1, 0, 3)
    assert_books_add_up(db, acme.id)


@pytest.mark.parametrize("call", CALLS.values(), ids=CALLS)
def test_the_same_call_again_gives_the_same_result_and_changes_nothing(
    db: Database, acme: Inhabited, call: Call
) -> None:
    key = new_id()
    with db.tenant(acme.id) as session:
        first = call(InventoryRepository(session), acme.product_id, key)
        again = call(InventoryRepository(session), acme.product_id, key)
        assert again == first
        before = InventoryQueries(session).get(acme.product_id)
    with db.tenant(acme.id) as session:
        later = call(InventoryRepository(session), acme.product_id, key)
        assert later == first
        assert getattr(later, "repeated") is True  # noqa: B009  # of a result of either kind
        assert InventoryQueries(session).get(acme.product_id) == before
    assert_books_add_up(db, acme.id)


@pytest.mark.parametrize("other", OTHERS.values(), ids=OTHERS)
def test_a_key_used_for_something_else_is_refused_and_the_unit_of_work_goes_on(
    db: Database, acme: Inhabited, other: Call
) -> None:
    key = new_id()
    with db.tenant(acme.id) as session:
        stock = InventoryRepository(session)
        stock.receive(acme.product_id, 2, key=key, reference="note 7")
        with pytest.raises(IdempotencyKeyReused):
            other(stock, acme.product_id, key)
        assert stock.ship(acme.product_id, 7, key=new_id()).quantity_after == 0
    assert_books_add_up(db, acme.id)


def test_a_reservations_key_is_no_key_for_a_movement_or_another_reservation(db: Database, acme: Inhabited) -> None:
    key, until = new_id(), FUTURE
    with db.tenant(acme.id) as session:
        stock = InventoryRepository(session)
        stock.reserve(acme.product_id, 2, key=key, expires_at=until)
        for other in (
            lambda: stock.receive(acme.product_id, 2, key=key),
            lambda: stock.reserve(acme.product_id, 1, key=key, expires_at=until),
            lambda: stock.reserve(acme.product_id, 2, key=key, expires_at=until + timedelta(days=1)),
        ):
            with pytest.raises(IdempotencyKeyReused):
                other()
    assert_books_add_up(db, acme.id)


def test_another_tenant_may_use_the_same_key(db: Database, acme: Inhabited, rival: Inhabited) -> None:
    key = new_id()
    for tenant in (acme, rival):
        with db.tenant(tenant.id) as session:
            made = InventoryRepository(session).receive(tenant.product_id, 1, key=key)
            assert (made.quantity_after, made.repeated) == (6, False)


def test_m10_more_than_there_is_cannot_be_shipped_and_the_unit_of_work_goes_on(db: Database, acme: Inhabited) -> None:
    with db.tenant(acme.id) as session:
        stock = InventoryRepository(session)
        for take in (
            lambda: stock.ship(acme.product_id, 6, key=new_id()),
            lambda: stock.adjust(acme.product_id, -6, key=new_id()),
            lambda: stock.reserve(acme.product_id, 6, key=new_id(), expires_at=utcnow() + timedelta(hours=1)),
        ):
            with pytest.raises(InsufficientStock) as refused:
                take()
            assert (refused.value.available, refused.value.asked, refused.value.table) == (5, 6, "inventory")
        stock.ship(acme.product_id, 5, key=new_id())
    with db.tenant(acme.id) as session:
        assert InventoryQueries(session).on_hand(acme.product_id) == 0
    assert_books_add_up(db, acme.id)


def test_a_sum_beyond_bigint_is_refused_by_name(db: Database, acme: Inhabited) -> None:
    with db.tenant(acme.id) as session:
        stock = InventoryRepository(session)
        with pytest.raises(StockOverflow):
            stock.receive(acme.product_id, BIGINT_MOST - 4, key=new_id())
        assert stock.receive(acme.product_id, BIGINT_MOST - 5, key=new_id()).quantity_after == BIGINT_MOST
        with pytest.raises(StockOverflow):
            stock.receive(acme.product_id, BIGINT_MOST, key=new_id())
        assert stock.ship(acme.product_id, BIGINT_MOST, key=new_id()).quantity_after == 0
    assert_books_add_up(db, acme.id)


@pytest.mark.parametrize("quantity", [0, -1, 1.0, True, "1", None, BIGINT_MOST + 1, float("nan"), float("inf")])
def test_what_is_no_number_of_items_is_refused_before_anything_is_sent(
    db: Database, acme: Inhabited, quantity: object
) -> None:
    with db.tenant(acme.id) as session:
        stock = InventoryRepository(session)
        for call in (
            lambda: stock.receive(acme.product_id, quantity, key=new_id()),  # type: ignore[arg-type]
            lambda: stock.ship(acme.product_id, quantity, key=new_id()),  # type: ignore[arg-type]
            lambda: stock.return_(acme.product_id, quantity, key=new_id()),  # type: ignore[arg-type]
            lambda: stock.transfer(acme.product_id, new_id(), quantity, key=new_id()),  # type: ignore[arg-type]
            lambda: stock.reserve(acme.product_id, quantity, key=new_id(), expires_at=utcnow()),  # type: ignore[arg-type]
        ):
            with pytest.raises(InvalidValue):
                call()


@pytest.mark.parametrize("change", [0, 1.5, True, "1", BIGINT_MOST + 1, -BIGINT_MOST - 1])
def test_what_is_no_change_is_refused(db: Database, acme: Inhabited, change: object) -> None:
    with db.tenant(acme.id) as session, pytest.raises(InvalidValue):
        InventoryRepository(session).adjust(acme.product_id, change, key=new_id())  # type: ignore[arg-type]


def test_ids_instants_reasons_and_references_are_looked_at(db: Database, acme: Inhabited) -> None:
    with db.tenant(acme.id) as session:
        stock = InventoryRepository(session)
        assert stock.receive(str(acme.product_id), 1, key=str(new_id())).quantity_after == 6
        for wrong in ("", "x", 7, None, b"x" * 16):
            with pytest.raises(InvalidValue):
                stock.receive(wrong, 1, key=new_id())  # type: ignore[arg-type]
            with pytest.raises(InvalidValue):
                stock.receive(acme.product_id, 1, key=wrong)  # type: ignore[arg-type]
        for reference in ("", "x" * 201, "a\x00b", "\ud800", 7):
            with pytest.raises(InvalidText):
                stock.receive(acme.product_id, 1, key=new_id(), reference=reference)  # type: ignore[arg-type]
        with pytest.raises(NaiveDatetime):
            stock.receive(acme.product_id, 1, key=new_id(), occurred_at=datetime(2026, 1, 1))  # noqa: DTZ001  # meant
        with pytest.raises(NaiveDatetime):
            stock.reserve(acme.product_id, 1, key=new_id(), expires_at=datetime(2090, 1, 1))  # noqa: DTZ001  # meant
        with pytest.raises(InvalidValue):
            stock.reserve(acme.product_id, 1, key=new_id(), expires_at="tomorrow")  # type: ignore[arg-type]
        for change, reason in ((1, "sale"), (-1, "receipt"), (-1, "return"), (1, "gift")):
            with pytest.raises(InvalidValue):
                stock.move_many([Move(new_id(), acme.product_id, change, reason)])
        assert stock.on_hand(acme.product_id) == 6


def test_a_moment_is_the_same_in_any_zone(db: Database, acme: Inhabited) -> None:
    key, moment = new_id(), datetime(2026, 3, 1, 12, tzinfo=UTC)
    with db.tenant(acme.id) as session:
        stock = InventoryRepository(session)
        made = stock.receive(acme.product_id, 1, key=key, occurred_at=moment)
        assert made.occurred_at == moment
        tokyo = moment.astimezone(timezone(timedelta(hours=9)))
        assert stock.receive(acme.product_id, 1, key=key, occurred_at=tokyo) == made


def test_another_tenants_product_is_an_unknown_one(db: Database, acme: Inhabited, rival: Inhabited) -> None:
    with db.tenant(acme.id) as session:
        stock = InventoryRepository(session)
        for call in (
            lambda: stock.receive(rival.product_id, 1, key=new_id()),
            lambda: stock.ship(rival.product_id, 1, key=new_id()),
            lambda: stock.reserve(rival.product_id, 1, key=new_id(), expires_at=utcnow() + timedelta(hours=1)),
            lambda: stock.transfer(acme.product_id, rival.product_id, 1, key=new_id()),
            lambda: stock.transfer(rival.product_id, acme.product_id, 1, key=new_id()),
            lambda: stock.on_hand(rival.product_id),
            lambda: stock.available(new_id()),
        ):
            with pytest.raises(UnknownProduct):
                call()
        assert stock.get(rival.product_id) is None
        assert stock.movements(rival.product_id) == []
    for tenant in (acme, rival):
        with db.tenant(tenant.id) as session:
            assert InventoryQueries(session).on_hand(tenant.product_id) == 5


def test_many_are_read_in_the_order_given(db: Database, acme: Inhabited, rival: Inhabited) -> None:
    with db.tenant(acme.id) as session:
        stock = InventoryQueries(session)
        known = stock.get(acme.product_id)
        assert stock.get_many([rival.product_id, acme.product_id, str(acme.product_id)]) == [None, known, known]
        assert stock.get_many([]) == []


def test_movements_are_read_in_pages(db: Database, acme: Inhabited) -> None:
    with db.tenant(acme.id) as session:
        stock = InventoryRepository(session)
        for _ in range(6):
            stock.receive(acme.product_id, 1, key=new_id())
        page = stock.movements(acme.product_id, limit=3)
        assert [one.sequence for one in page] == [7, 6, 5]
        stock.receive(acme.product_id, 1, key=new_id())
        assert [one.sequence for one in stock.movements(acme.product_id, before=5, limit=3)] == [4, 3, 2]
        for wrong in (0, 10_001, True):
            with pytest.raises(InvalidValue):
                stock.movements(acme.product_id, limit=wrong)


def test_objects_that_the_session_has_read_show_what_a_call_has_changed(db: Database, acme: Inhabited) -> None:
    with db.tenant(acme.id) as session:
        row = session.get_one(Inventory, (acme.id, acme.product_id))
        first = session.get_one(InventoryMovement, (acme.id, acme.product_id, 1))
        InventoryRepository(session).ship(acme.product_id, 2, key=new_id())
        assert (row.quantity, row.last_sequence, first.next_sequence) == (3, 2, 2)


def test_a_call_is_one_round_trip(db: Database, acme: Inhabited) -> None:
    sent: list[str] = []
    with Database(db.settings) as watched, watched.tenant(acme.id) as session:
        other = product("other")
        session.add(other)
        session.flush()
        event.listen(watched.engine, "before_cursor_execute", lambda *given: sent.append(given[2]))
        stock = InventoryRepository(session)
        stock.receive(acme.product_id, 1, key=new_id())
        held = stock.reserve(acme.product_id, 1, key=new_id(), expires_at=utcnow() + timedelta(hours=1))
        stock.ship_reserved(held.id, key=new_id())
        stock.release_expired()
        stock.transfer(acme.product_id, other.id, 1, key=new_id())
    assert len(sent) == 5


@pytest.mark.parametrize("isolation", [Isolation.REPEATABLE_READ, Isolation.SERIALIZABLE])
def test_a_stricter_level_is_told_to_try_again_and_never_gets_wrong_stock(
    db: Database, acme: Inhabited, isolation: Isolation
) -> None:
    for call in ("ship", "reserve"):
        with pytest.raises(SerializationFailure), db.tenant(acme.id, isolation=isolation) as session:
            stock = InventoryRepository(session)
            assert stock.on_hand(acme.product_id) > 0
            with db.tenant(acme.id) as other:
                InventoryRepository(other).ship(acme.product_id, 1, key=new_id())
            CALLS[call](stock, acme.product_id, new_id())
    with db.tenant(acme.id, isolation=isolation) as session:
        assert InventoryRepository(session).ship(acme.product_id, 3, key=new_id()).quantity_after == 0
    assert_books_add_up(db, acme.id)


def test_a_key_that_came_after_the_snapshot_is_found_by_a_stricter_level(db: Database, acme: Inhabited) -> None:
    key, other = new_id(), product("kettle")
    with db.tenant(acme.id) as session:
        session.add(other)
    with pytest.raises(SerializationFailure), db.tenant(acme.id, isolation=Isolation.REPEATABLE_READ) as session:
        assert InventoryQueries(session).on_hand(acme.product_id) == 5
        with db.tenant(acme.id) as sooner:
            InventoryRepository(sooner).receive(other.id, 1, key=key)
        InventoryRepository(session).receive(acme.product_id, 1, key=key)
    assert_books_add_up(db, acme.id)


def test_the_functions_need_a_tenant(db: Database) -> None:
    with pytest.raises(TenantNotSet), db.owner() as owner:
        owner.execute(text("SELECT stock_release_expired(1)"))


def test_what_is_rolled_back_was_never_there_and_the_key_is_free_again(db: Database, acme: Inhabited) -> None:
    key = new_id()
    with pytest.raises(ZeroDivisionError), db.tenant(acme.id) as session:
        InventoryRepository(session).ship(acme.product_id, 2, key=key)
        raise ZeroDivisionError
    with db.tenant(acme.id) as session:
        made = InventoryRepository(session).ship(acme.product_id, 3, key=key)
        assert (made.quantity_after, made.repeated) == (2, False)
    assert_books_add_up(db, acme.id)


class Listening:
    """Who is told of commits, as the cache is."""

    def before_commit(self, unit: Unit, _connection: object, /) -> None:
        self.told = {(change.table, change.key) for change in unit.changes}

    def after_end(self, _ticket: object, _ending: object, /) -> None:
        pass


def test_who_listens_to_commits_is_told_what_the_functions_changed(db: Database, acme: Inhabited) -> None:
    product_id, listening, until = str(acme.product_id), Listening(), utcnow() + timedelta(hours=1)
    with Database(db.settings) as other:
        other.listener = listening
        with other.tenant(acme.id) as session:
            InventoryRepository(session).ship(acme.product_id, 2, key=new_id())
        assert listening.told == {
            ("inventory", (product_id,)),
            ("inventory_movements", (product_id, "2")),
            ("inventory_movements", (product_id, "1")),
        }
        with other.tenant(acme.id) as session:
            held = InventoryRepository(session).reserve(acme.product_id, 2, key=new_id(), expires_at=until)
        assert listening.told == {("inventory", (product_id,)), ("inventory_reservations", (str(held.id),))}
        let_expire(db, acme.id, held.id)
        with other.tenant(acme.id) as session:
            InventoryRepository(session).release_expired()
        assert listening.told == {("inventory", None), ("inventory_reservations", None)}


def test_the_number_of_movements_is_that_of_the_keys(db: Database, acme: Inhabited) -> None:
    keys = [new_id() for _ in range(5)]
    for _ in range(3):
        with db.tenant(acme.id) as session:
            for key in keys:
                InventoryRepository(session).ship(acme.product_id, 1, key=key)
    with db.tenant(acme.id) as session:
        assert session.scalar(select(func.count()).select_from(InventoryMovement)) == 1 + len(keys)
        assert session.scalars(select(Product.id)).one() == acme.product_id
    assert_books_add_up(db, acme.id)


def test_a_session_of_no_tenant_is_refused_by_name(shared_db: Database) -> None:
    for opened in (shared_db.session, shared_db.owner):
        with (
            opened() as session,
            pytest.raises(TenantNotSet, match=r"InventoryRepository reads the rows of one tenant"),
        ):
            InventoryRepository(session)
