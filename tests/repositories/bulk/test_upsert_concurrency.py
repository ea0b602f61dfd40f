"""Upserts of the same rows at the same time: none waits in a circle, none loses a row, none pays for another."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from decimal import Decimal
from threading import Barrier, Event
from time import monotonic, sleep
from typing import Any

import pytest
from sqlalchemy import event, func, select, text

from dataarch.database.tenancy import Isolation
from dataarch.database.unit_of_work import Database
from dataarch.errors import SerializationFailure
from dataarch.models import Product
from dataarch.repositories.bulk.outcome import BulkResult
from dataarch.repositories.bulk.upsert import insert_many, upsert_many
from fixtures.tenants import Inhabited
from repositories.bulk.upsert_support import numbers, product, products, upserted, why

pytestmark = pytest.mark.integrity

Rows = list[dict[str, Any]]


def at_once(works: list[Callable[[], BulkResult]]) -> list[BulkResult]:
    """Do several things at the same time."""
    start = Barrier(len(works))

    def begin(work: Callable[[], BulkResult]) -> BulkResult:
        start.wait()
        return work()

    with ThreadPoolExecutor(len(works)) as pool:
        return list(pool.map(begin, works))


def wait_for_locks(db: Database) -> None:
    """Return when somebody waits for a lock."""
    waiting = text("SELECT count(*) FROM pg_locks WHERE NOT granted AND locktype = 'transactionid'")
    until = monotonic() + 30
    while monotonic() < until:
        with db.owner() as session:
            if session.execute(waiting).scalar_one():
                return
        sleep(0.01)
    raise AssertionError("nobody waits")


def test_upserts_of_overlapping_rows_in_any_order_all_succeed_and_lose_none(db: Database, acme: Inhabited) -> None:
    upserted(db, acme.id, [product(n) for n in range(0, 300, 2)])

    def work(number: int) -> Callable[[], BulkResult]:
        chosen = random.Random(number).sample(range(300), 200)
        return lambda: upserted(db, acme.id, [product(n, name=f"By {number}") for n in chosen])

    for _ in range(3):
        results = at_once([work(number) for number in range(4)])
        assert all(not one.refused and one.read == 200 for one in results)
    touched = {n for number in range(4) for n in random.Random(number).sample(range(300), 200)}
    found = products(db, acme.id)
    assert len(found) == 1 + len(touched | set(range(0, 300, 2)))
    assert all(found[f"x{n:05d}"].name.startswith("By ") for n in touched)


def test_rows_that_others_add_meanwhile_are_brought_up_to_date(db: Database, acme: Inhabited) -> None:
    added = Event()
    with ThreadPoolExecutor(1) as pool:

        def later() -> BulkResult:
            added.wait()
            return upserted(db, acme.id, [product(1, name="Later"), product(2), product(3, name="Same")])

        waiting = pool.submit(later)
        with db.tenant(acme.id) as session:
            session.add_all([Product(**product(1)), Product(**product(3, name="Same"))])
            session.flush()
            added.set()
            wait_for_locks(db)
    assert numbers(waiting.result()) == (1, 1, 1, 0, 0)
    assert products(db, acme.id)["x00001"].name == "Later"


def test_a_row_that_others_remove_meanwhile_is_added_anew(db: Database, acme: Inhabited) -> None:
    upserted(db, acme.id, [product(1), product(2)])
    with ThreadPoolExecutor(1) as pool, db.tenant(acme.id) as session:
        session.delete(session.scalars(select(Product).where(Product.external_id == "x00001")).one())
        session.flush()
        rows = [product(1, name="Back"), product(2, name="Other")]
        waiting = pool.submit(upserted, db, acme.id, rows)
        wait_for_locks(db)
    assert numbers(waiting.result()) == (1, 1, 0, 0, 0)
    assert products(db, acme.id)["x00001"].name == "Back"


def test_a_slug_that_others_take_meanwhile_is_refused_to_the_row_that_wants_it(db: Database, acme: Inhabited) -> None:
    with ThreadPoolExecutor(1) as pool, db.tenant(acme.id) as session:
        session.add(Product(**product(9, slug="wanted")))
        session.flush()
        rows = [product(1), product(2, slug="wanted"), product(3)]
        waiting = pool.submit(upserted, db, acme.id, rows)
        wait_for_locks(db)
    assert why(waiting.result()) == [(1, "SlugTaken", "slug", "uq_products_tenant_id_slug")]
    assert numbers(waiting.result()) == (2, 0, 0, 0, 1)


def test_who_waits_in_a_circle_for_what_is_no_key_begins_again(db: Database, acme: Inhabited) -> None:
    """The slugs of the one are those of the other, in the opposite order of the keys."""
    slugs = [f"s{n}" for n in range(40)]

    def work(number: int, wanted: list[str]) -> Callable[[], BulkResult]:
        rows = [product(100 * number + n, slug=slug) for n, slug in enumerate(wanted)]
        return lambda: upserted(db, acme.id, rows)

    first, second = at_once([work(1, slugs), work(2, slugs[::-1])])
    assert first.inserted + second.inserted == 40
    assert len(first.refused) + len(second.refused) == 40
    assert Counter(type(one.error).__name__ for one in first.refused + second.refused) == {"SlugTaken": 40}


def test_inserts_of_the_same_rows_at_the_same_time_add_each_once(db: Database, acme: Inhabited) -> None:
    def work() -> BulkResult:
        with db.tenant(acme.id) as session:
            return insert_many(session, Product, [product(n) for n in range(100)])

    results = at_once([work] * 3)
    assert sorted(one.inserted for one in results) == [0, 0, 100]
    assert len(products(db, acme.id)) == 101


def test_a_stricter_transaction_that_cannot_see_what_others_wrote_is_to_be_tried_again(
    db: Database, acme: Inhabited
) -> None:
    with db.tenant(acme.id, isolation=Isolation.REPEATABLE_READ) as session:
        session.scalars(select(Product)).all()
        upserted(db, acme.id, [product(1)])
        with pytest.raises(SerializationFailure):
            upsert_many(session, Product, [product(1, name="Other"), product(2)], key="external_id")
    assert set(products(db, acme.id)) == {"T1", "x00001"}


def test_only_rows_that_differ_are_locked(db: Database, acme: Inhabited) -> None:
    upserted(db, acme.id, [product(1), product(2)])
    with db.tenant(acme.id) as session:
        session.scalars(select(Product).where(Product.external_id == "x00001").with_for_update()).one()
        assert numbers(upserted(db, acme.id, [product(1), product(2, price=Decimal(1))])) == (0, 1, 1, 0, 0)


def test_rows_are_locked_and_added_in_the_order_of_their_keys(db: Database, acme: Inhabited) -> None:
    """What the server is asked: without the order, the tests above pass on a good day."""
    sent: list[str] = []
    event.listen(db.engine, "before_cursor_execute", lambda *given: sent.append(given[2]))
    with db.tenant(acme.id) as session:
        upsert_many(session, Product, [product(1), product(2, external_id="T1")], key="external_id")
        assert session.scalar(select(func.count()).select_from(Product)) == 2
    for way in ("FOR NO KEY UPDATE", "INSERT INTO products"):
        asked = next(" ".join(one.split()) for one in sent if way in one)
        assert 'ORDER BY d."external_id" COLLATE "C"' in asked or 'ORDER BY "external_id" COLLATE "C"' in asked
