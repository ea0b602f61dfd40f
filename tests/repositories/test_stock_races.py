"""Stock under 64 threads: never negative, never lost, and no deadlock, whatever meets whatever."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from threading import Barrier
from typing import Concatenate, ParamSpec, TypeVar
from uuid import UUID

import pytest

from dataarch.clock import utcnow
from dataarch.database.unit_of_work import Database
from dataarch.errors import IdempotencyKeyReused, InsufficientStock, ReservationEnded, ReservationExpired
from dataarch.models.base import new_id
from dataarch.repositories.inventory import InventoryRepository
from dataarch.repositories.stock_results import Move, Moved
from fixtures.tenants import Inhabited, inhabit
from repositories.stock_support import assert_books_add_up, product, stocked

pytestmark = pytest.mark.integrity

THREADS = 64
CONNECTIONS = 32
"""Of a server that allows 100, which other tests may be using."""

Stock = InventoryRepository
Given = ParamSpec("Given")
Made = TypeVar("Made")
Work = Callable[[Stock], Made]


@pytest.fixture(scope="module")
def db(shared_db: Database) -> Iterator[Database]:
    """A database with connections for many threads."""
    many = {"pool_size": CONNECTIONS, "pool_overflow": 0, "pool_timeout": 120.0}
    with Database(shared_db.settings.model_copy(update=many)) as database:
        yield database


@pytest.fixture
def home(db: Database) -> Inhabited:
    """A tenant of its own for each test."""
    return inhabit(db, "home")


def at_once(db: Database, tenant: Inhabited, works: Sequence[Sequence[Work[Made]]]) -> list[Made | Exception]:
    """Run lists of calls, each list in a thread of its own, each call in a unit of work; refusals are results too."""
    start = Barrier(len(works))

    def run(calls: Sequence[Work[Made]]) -> list[Made | Exception]:
        start.wait(timeout=60)
        return [one(db, tenant, each) for each in calls]

    with ThreadPoolExecutor(len(works)) as pool:
        return [result for results in pool.map(run, works) for result in results]


def one(db: Database, tenant: Inhabited, work: Work[Made]) -> Made | Exception:
    try:
        with db.tenant(tenant.id) as session:
            return work(Stock(session))
    except (IdempotencyKeyReused, InsufficientStock, ReservationEnded, ReservationExpired) as refused:
        return refused


def call(method: Callable[Concatenate[Stock, Given], Made], *given: Given.args, **named: Given.kwargs) -> Work[Made]:
    """Return a call of the repository, to be made in whatever unit of work."""
    return lambda stock: method(stock, *given, **named)


def refusals(found: Sequence[object]) -> list[Exception]:
    return [each for each in found if isinstance(each, Exception)]


def on_hand(db: Database, tenant: Inhabited, products: Sequence[UUID]) -> list[int]:
    with db.tenant(tenant.id) as session:
        return [Stock(session).on_hand(each) for each in products]


def test_m10_64_threads_on_one_product_ship_exactly_what_is_there(db: Database, home: Inhabited) -> None:
    (only,) = stocked(db, home.id, [100])
    found = at_once(db, home, [[call(Stock.ship, only, 1, key=new_id()) for _ in range(3)] for _ in range(THREADS)])
    assert len(refusals(found)) == 92
    assert on_hand(db, home, [only]) == [0]
    assert_books_add_up(db, home.id)


def any_call(chance: random.Random, products: Sequence[UUID]) -> Work[Sequence[Moved]]:
    """Return a movement, a transfer either way, or a batch that names its products in any order."""
    (one, other), number, key = chance.sample(products, 2), chance.randint(1, 9), new_id()
    changes = zip(chance.sample(products, 4), (1, -1, 2, -2), strict=True)
    moves = [Move(new_id(), each, change, "adjustment") for each, change in changes]
    return chance.choice(
        (
            lambda stock: [stock.ship(one, number, key=key)],
            lambda stock: [stock.receive(one, number, key=key)],
            call(Stock.transfer, one, other, number, key=key),
            call(Stock.move_many, moves),
        )
    )


def test_m10_64_threads_on_ten_products_lose_and_invent_nothing(db: Database, home: Inhabited) -> None:
    products, chance = stocked(db, home.id, [20] * 10), random.Random(7)
    found = at_once(db, home, [[any_call(chance, products) for _ in range(6)] for _ in range(THREADS)])
    sums = dict.fromkeys(products, 20)
    for each in found:
        for made in () if isinstance(each, Exception) else each:
            sums[made.product_id] += made.change
    assert on_hand(db, home, products) == list(sums.values())
    assert_books_add_up(db, home.id)


def test_transfers_in_both_directions_at_once_never_end_in_a_deadlock(db: Database, home: Inhabited) -> None:
    one, other = stocked(db, home.id, [1000, 1000])
    ways = [(one, other), (other, one)] * (THREADS // 2)
    found = at_once(db, home, [[call(Stock.transfer, *way, 1, key=new_id()) for _ in range(5)] for way in ways])
    assert refusals(found) == []
    assert on_hand(db, home, [one, other]) == [1000, 1000]
    assert_books_add_up(db, home.id)


def test_one_key_at_once_makes_one_movement_and_one_result(db: Database, home: Inhabited) -> None:
    found = at_once(db, home, [[call(Stock.ship, home.product_id, 2, key=new_id())]] * 16)
    made = [each for each in found if not isinstance(each, Exception)]
    assert len(made) == 16
    assert len(set(made)) == 1
    assert sorted(each.repeated for each in made) == [False, *[True] * 15]
    assert on_hand(db, home, [home.product_id]) == [3]


def test_one_key_for_two_products_at_once_moves_one_of_them(db: Database, home: Inhabited) -> None:
    products = stocked(db, home.id, [5, 5, 0, 0])
    for pair in (products[:2], products[2:]) * 5:
        before, key = sum(on_hand(db, home, pair)), new_id()
        found = at_once(db, home, [[call(Stock.receive, each, 1, key=key)] for each in pair])
        assert [type(each) for each in refusals(found)] == [IdempotencyKeyReused]
        assert sum(on_hand(db, home, pair)) == before + 1
    assert_books_add_up(db, home.id)


def test_first_movements_at_once_are_numbered_from_1_without_a_gap(db: Database, home: Inhabited) -> None:
    added = [product(f"new-{number}") for number in range(4)]
    with db.tenant(home.id) as session:
        session.add_all(added)
    ids, chance = [each.id for each in added], random.Random(3)
    works = []
    for _ in range(32):
        moves = [Move(new_id(), each, 1, "receipt") for each in chance.sample(ids, 4)]
        works.append([call(Stock.move_many, moves)])
    assert refusals(at_once(db, home, works)) == []
    assert on_hand(db, home, ids) == [32] * 4
    assert_books_add_up(db, home.id)


def test_first_movements_in_opposite_orders_never_end_in_a_deadlock(db: Database, home: Inhabited) -> None:
    """A product that was never stocked has its place in the order of locks too."""
    added = [product(f"new-{number}") for number in range(150)]
    with db.tenant(home.id) as session:
        session.add_all(added)
    works = []
    for way in (1, -1):
        moves = [Move(new_id(), each.id, 1, "receipt") for each in added[::way]]
        works.append([call(Stock.move_many, moves)])
    assert refusals(at_once(db, home, works)) == []
    assert on_hand(db, home, [each.id for each in added]) == [2] * len(added)
    assert_books_add_up(db, home.id)


def test_no_more_is_reserved_or_shipped_than_there_is(db: Database, home: Inhabited) -> None:
    until = utcnow() + timedelta(hours=1)
    works: list[list[Work[object]]] = []
    for _ in range(32):
        reserve = call(Stock.reserve, home.product_id, 1, key=new_id(), expires_at=until)
        works.append([reserve, call(Stock.ship, home.product_id, 1, key=new_id())])
    found = at_once(db, home, [each[::way] for each, way in zip(works, [1, -1] * 16, strict=True)])
    assert len(found) - len(refusals(found)) == 5
    assert_books_add_up(db, home.id)


def test_a_reservation_ends_in_one_way_only(db: Database, home: Inhabited) -> None:
    """Each is shipped by one thread and released by another, while it expires and a third one looks for such."""
    (only,) = stocked(db, home.id, [40])
    soon = utcnow() + timedelta(milliseconds=400)
    with db.tenant(home.id) as session:
        held = [Stock(session).reserve(only, 1, key=new_id(), expires_at=soon).id for _ in range(40)]
    ships: list[Work[object]] = [call(Stock.ship_reserved, each, key=new_id()) for each in held]
    releases: list[Work[object]] = [call(Stock.release, each) for each in reversed(held)]
    random.Random(5).shuffle(ships)
    parts = [[*ships[at::8], call(Stock.release_expired)] for at in range(8)]
    parts += [[*releases[at::8], call(Stock.release_expired)] for at in range(8)]
    found = at_once(db, home, parts)
    shipped = sum(isinstance(each, Moved) for each in found)
    assert on_hand(db, home, [only]) == [40 - shipped]
    assert_books_add_up(db, home.id)


def test_who_ships_while_reservations_expire_gets_each_item_once(db: Database, home: Inhabited) -> None:
    (only,) = stocked(db, home.id, [32])
    with db.tenant(home.id) as session:
        for number in range(32):
            expires_at = utcnow() + timedelta(milliseconds=100 + 5 * number)
            Stock(session).reserve(only, 1, key=new_id(), expires_at=expires_at)
    shipped, deadline = 0, utcnow() + timedelta(seconds=60)
    while shipped < 32 and utcnow() < deadline:
        ship: list[Work[object]] = [call(Stock.ship, only, 1, key=new_id()) for _ in range(8)]
        found = at_once(db, home, [[each, call(Stock.release_expired)] for each in ship])
        shipped += sum(isinstance(each, Moved) for each in found)
    assert (shipped, on_hand(db, home, [only])) == (32, [0])
    assert_books_add_up(db, home.id)
