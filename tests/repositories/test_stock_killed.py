"""Processes that move stock are killed with SIGKILL and started anew: each key has moved once."""

from __future__ import annotations

import random
import time
from collections import Counter
from uuid import UUID

import pytest
from sqlalchemy import text

from dataarch.database.unit_of_work import Database
from dataarch.models.base import new_id
from dataarch.repositories.inventory import InventoryRepository
from fixtures.tenants import inhabit
from repositories.stock_support import assert_books_add_up, stocked
from repositories.stock_workers import jobs, start

pytestmark = pytest.mark.integrity

PROCESSES = 4
ROUNDS = 2
PLENTY = 10_000

MOVEMENTS = text("SELECT count(*) FROM inventory_movements WHERE tenant_id = :tenant")


def movements(db: Database, tenant_id: UUID) -> int:
    with db.tenant(tenant_id) as session:
        count: int = session.execute(MOVEMENTS, {"tenant": tenant_id}).scalar_one()
    return count


def wait_for_more(db: Database, tenant_id: UUID, than: int) -> None:
    """Wait until some movements more are committed: the workers are at it."""
    deadline = time.monotonic() + 60
    while movements(db, tenant_id) < than + 20:
        assert time.monotonic() < deadline, "nobody moves anything"
        time.sleep(0.01)


@pytest.mark.parametrize("kinds_of_products", [3, 10])
def test_m10_processes_killed_in_between_lose_nothing_and_do_nothing_twice(
    shared_db: Database, kinds_of_products: int
) -> None:
    tenant_id = inhabit(shared_db, "home").id
    chance = random.Random(11)
    products = stocked(shared_db, tenant_id, [PLENTY] * kinds_of_products)
    todo = jobs(chance, products, 400)
    workers = [start(shared_db.settings, tenant_id, todo, seed) for seed in range(PROCESSES)]
    try:
        for turn in range(ROUNDS):
            wait_for_more(shared_db, tenant_id, movements(shared_db, tenant_id))
            for at in range(turn % 2, PROCESSES, 2):
                workers[at].kill()
                workers[at].join()
                assert workers[at].exitcode == -9, "it was done before it was killed"
                workers[at] = start(shared_db.settings, tenant_id, todo, seed=100 * turn + at)
            assert_books_add_up(shared_db, tenant_id)
        for each in workers:
            each.join(timeout=300)
        assert [each.exitcode for each in workers] == [0] * PROCESSES
    finally:
        for each in workers:
            each.kill()
    expected = Counter(dict.fromkeys(products, PLENTY))
    for job in todo:
        expected.update(job.changes())
    with shared_db.tenant(tenant_id) as session:
        found = InventoryRepository(session).get_many(products)
        assert {each.product_id: each.quantity for each in found if each} == dict(expected)
        assert [each.reserved for each in found if each] == [0] * len(products)
    assert_books_add_up(shared_db, tenant_id)


def test_a_transaction_whose_end_nobody_heard_of_is_repeated_with_its_key(shared_db: Database) -> None:
    """The commit came through and the answer did not: the same call tells what became of it."""
    tenant = inhabit(shared_db, "home")
    committed, lost = new_id(), new_id()
    with shared_db.tenant(tenant.id) as session:
        InventoryRepository(session).ship(tenant.product_id, 1, key=committed)
    with shared_db.tenant(tenant.id) as session:
        InventoryRepository(session).ship(tenant.product_id, 1, key=lost)
        session.rollback()
    with shared_db.tenant(tenant.id) as session:
        stock = InventoryRepository(session)
        again = [stock.ship(tenant.product_id, 1, key=key) for key in (committed, lost)]
        assert [each.repeated for each in again] == [True, False]
        assert stock.on_hand(tenant.product_id) == 3
    assert_books_add_up(shared_db, tenant.id)
