"""Stock is never negative, and its ledger is whole or nothing is committed."""

from __future__ import annotations

import time
from collections.abc import Sequence
from concurrent.futures import Executor, ProcessPoolExecutor, ThreadPoolExecutor
from decimal import Decimal
from multiprocessing import get_context
from uuid import UUID

import pytest
from sqlalchemy import func, select, text
from sqlalchemy.orm import Session

from dataarch.database.settings import Settings
from dataarch.database.unit_of_work import Database
from dataarch.errors import AlreadyExists, CheckFailed, InsufficientStock, LedgerBroken, PrivilegeMissing
from dataarch.models import Inventory, InventoryMovement, Product
from dataarch.models.base import new_id
from fixtures.tenants import Inhabited

pytestmark = pytest.mark.integrity

# one statement: the foreign keys look at commit, so the parts may refer to each other
ONE_STATEMENT = """
WITH stock AS (
    UPDATE inventory SET quantity = quantity + :change, last_sequence = last_sequence + 1
    WHERE product_id = :product RETURNING tenant_id, product_id, quantity, last_sequence
), closed AS (
    UPDATE inventory_movements AS movement SET next_sequence = stock.last_sequence FROM stock
    WHERE movement.tenant_id = stock.tenant_id AND movement.product_id = stock.product_id
      AND movement.sequence = stock.last_sequence - 1
)
INSERT INTO inventory_movements (tenant_id, product_id, sequence, quantity_before, change, quantity_after, reason)
SELECT tenant_id, product_id, last_sequence, quantity - :change, :change, quantity, 'adjustment' FROM stock
"""

LOCK = "SELECT FROM inventory WHERE product_id = :product FOR UPDATE"
MOVE = """INSERT INTO inventory_movements
    (tenant_id, product_id, sequence, next_sequence, quantity_before, change, quantity_after, reason)
    VALUES (:tenant, :product, :sequence, :next, :before, :change, :before + :change, 'adjustment')"""
CLOSE = "UPDATE inventory_movements SET next_sequence = :next WHERE product_id = :product AND sequence = :sequence"
STOCK = "UPDATE inventory SET quantity = :quantity, last_sequence = :last WHERE product_id = :product"


@pytest.fixture
def db(shared_db: Database) -> Database:
    """One database for this file: each test makes tenants of its own."""
    return shared_db


Steps = Sequence[tuple[str, tuple[int, ...], dict[str, int]]]


class Books:
    """The parts of a movement, one by one; a tenant of the fixtures begins with 5 on hand after movement 1."""

    def __init__(self, session: Session, tenant: Inhabited) -> None:
        self.session = session
        self.ids = {"tenant": tenant.id, "product": tenant.product_id}

    def move(self, sequence: int, before: int, change: int, *, then: int = 0) -> None:
        values = {"sequence": sequence, "before": before, "change": change, "next": then}
        self.session.execute(text(MOVE), {**self.ids, **values})

    def close(self, sequence: int, then: int) -> None:
        self.session.execute(text(CLOSE), {**self.ids, "sequence": sequence, "next": then})

    def stock(self, quantity: int, last: int) -> None:
        self.session.execute(text(STOCK), {**self.ids, "quantity": quantity, "last": last})


def ship(session: Session, product_id: UUID, change: int) -> None:
    session.execute(text(ONE_STATEMENT), {"product": product_id, "change": change})


def assert_ledger_holds(db: Database, tenant_id: UUID, quantity: int) -> None:
    with db.tenant(tenant_id) as session:
        assert session.scalars(select(Inventory.quantity)).one() == quantity
        assert session.scalar(select(func.sum(InventoryMovement.change))) == quantity


def test_a_movement_in_one_statement_is_committed(db: Database, acme: Inhabited) -> None:
    for change in (-2, 4, -7):
        with db.tenant(acme.id) as session:
            ship(session, acme.product_id, change)
    assert_ledger_holds(db, acme.id, 0)


def test_a_movement_in_several_statements_is_committed_in_any_order(db: Database, acme: Inhabited) -> None:
    with db.tenant(acme.id) as session:
        books = Books(session, acme)
        books.move(2, before=5, change=-2)
        books.close(1, then=2)
        books.stock(3, last=2)
    with db.tenant(acme.id) as session:
        books = Books(session, acme)
        books.stock(9, last=4)
        books.move(4, before=8, change=1)
        books.move(3, before=3, change=5, then=4)
        books.close(2, then=3)
    assert_ledger_holds(db, acme.id, 9)


def test_m10_the_last_item_cannot_be_shipped_twice(db: Database, acme: Inhabited) -> None:
    with pytest.raises(InsufficientStock) as refused, db.tenant(acme.id) as session:
        ship(session, acme.product_id, -6)
    assert refused.value.constraint == "ck_inventory_quantity_not_negative"
    assert_ledger_holds(db, acme.id, 5)


def test_m10_a_movement_below_nothing_is_refused_by_itself(db: Database, acme: Inhabited) -> None:
    with pytest.raises(InsufficientStock), db.tenant(acme.id) as session:
        Books(session, acme).move(2, before=5, change=-6)


def take_one(db: Database, tenant_id: UUID, product_id: UUID, *, lock: bool) -> bool:
    """Ship one item; return whether there was one. Without the lock, a race that is lost is tried again."""
    while True:
        try:
            with db.tenant(tenant_id) as session:
                if lock:
                    session.execute(text(LOCK), {"product": product_id})
                ship(session, product_id, -1)
        except InsufficientStock:
            return False
        except LedgerBroken:
            if lock:
                raise
        else:
            return True


def race(settings: Settings, tenant: Inhabited, lock: bool) -> int:
    with Database(settings) as db:
        return sum(take_one(db, tenant.id, tenant.product_id, lock=lock) for _ in range(3))


def shipped_by_eight(racers: Executor, db: Database, tenant: Inhabited, *, lock: bool) -> int:
    with racers:
        running = [racers.submit(race, db.settings, tenant, lock) for _ in range(8)]
        return sum(racer.result(timeout=60) for racer in running)


def test_m10_processes_that_race_for_the_last_items_ship_exactly_what_is_there(db: Database, acme: Inhabited) -> None:
    racers = ProcessPoolExecutor(8, mp_context=get_context("spawn"))
    assert shipped_by_eight(racers, db, acme, lock=True) == 5
    assert_ledger_holds(db, acme.id, 0)


def test_m10_threads_that_try_again_instead_of_locking_ship_exactly_what_is_there(
    db: Database, acme: Inhabited
) -> None:
    assert shipped_by_eight(ThreadPoolExecutor(8), db, acme, lock=False) == 5
    assert_ledger_holds(db, acme.id, 0)


def test_a_movement_whose_predecessor_came_while_it_waited_is_refused_and_nothing_is_lost(
    db: Database, acme: Inhabited
) -> None:
    """One statement has one snapshot: it cannot close a movement that was committed after it began to wait."""
    with ThreadPoolExecutor(1) as other, db.tenant(acme.id) as session:
        ship(session, acme.product_id, -1)
        waiting = other.submit(ship_alone, db, acme)
        with db.owner() as owner:
            wait_for_a_lock(owner)
        session.commit()
        with pytest.raises(LedgerBroken):
            waiting.result(timeout=30)
    assert_ledger_holds(db, acme.id, 4)


def ship_alone(db: Database, tenant: Inhabited) -> None:
    with db.tenant(tenant.id) as session:
        ship(session, tenant.product_id, -1)


def wait_for_a_lock(owner: Session) -> None:
    """Wait until a statement of this database waits for a row."""
    waits = text("SELECT count(*) FROM pg_locks WHERE NOT granted")
    deadline = time.monotonic() + 10
    while not owner.scalar(waits):
        assert time.monotonic() < deadline, "no statement came to wait"
        time.sleep(0.01)


def write(db: Database, tenant: Inhabited, steps: Steps) -> None:
    with db.tenant(tenant.id) as session:
        books = Books(session, tenant)
        for step, values, named in steps:
            getattr(books, step)(*values, **named)


@pytest.mark.parametrize(
    ("steps", "constraint"),
    [
        pytest.param(
            [("move", (2, 5, -1), {}), ("close", (1, 2), {})],
            "fk_inventory_last_movement",
            id="forgetting the stock",
        ),
        pytest.param([("stock", (4, 1), {})], "fk_inventory_last_movement", id="changing the quantity alone"),
        pytest.param([("stock", (5, 2), {})], "fk_inventory_last_movement", id="naming a movement that is not there"),
        pytest.param(
            [("move", (2, 5, -1), {}), ("stock", (4, 2), {})],
            "fk_inventory_movements_previous",
            id="forgetting to close the predecessor",
        ),
        pytest.param(
            [("move", (3, 5, -1), {}), ("close", (1, 3), {}), ("stock", (4, 3), {})],
            "fk_inventory_movements_previous",
            id="leaving a gap",
        ),
        pytest.param(
            [("move", (2, 9, -1), {}), ("close", (1, 2), {}), ("stock", (8, 2), {})],
            "fk_inventory_movements_previous",
            id="forging the quantity before",
        ),
        pytest.param(
            [("move", (2, 5, 1), {}), ("close", (1, 2), {}), ("stock", (7, 2), {})],
            "fk_inventory_last_movement",
            id="forging the quantity on hand",
        ),
        pytest.param([("close", (1, 2), {})], "fk_inventory_last_movement", id="closing the last movement"),
    ],
)
def test_a_ledger_that_does_not_add_up_is_refused_at_commit(
    db: Database, acme: Inhabited, steps: Steps, constraint: str
) -> None:
    with pytest.raises(LedgerBroken) as refused:
        write(db, acme, steps)
    assert refused.value.constraint == constraint
    assert_ledger_holds(db, acme.id, 5)


def test_a_movement_that_starts_a_second_ledger_is_refused(db: Database, acme: Inhabited) -> None:
    with pytest.raises(AlreadyExists), db.tenant(acme.id) as session:
        Books(session, acme).move(1, before=0, change=3)
    with pytest.raises(CheckFailed) as refused, db.tenant(acme.id) as session:
        Books(session, acme).move(0, before=0, change=3)
    assert refused.value.constraint == "ck_inventory_movements_starts_from_nothing"


def test_a_ledger_does_not_fork(db: Database, acme: Inhabited) -> None:
    with db.tenant(acme.id) as session:
        ship(session, acme.product_id, -1)
    with pytest.raises(AlreadyExists):
        write(db, acme, [("close", (1, 2), {}), ("move", (2, 5, -3), {})])


def test_deleting_the_last_movement_is_refused_to_the_owner_too(db: Database, acme: Inhabited) -> None:
    with db.tenant(acme.id) as session:
        ship(session, acme.product_id, -1)
    delete = text("DELETE FROM inventory_movements WHERE tenant_id = :tenant AND sequence = :at")
    for sequence in (2, 1):
        with pytest.raises(LedgerBroken), db.owner() as owner:
            owner.execute(delete, {"tenant": acme.id, "at": sequence})
    assert_ledger_holds(db, acme.id, 4)


@pytest.mark.parametrize("change", ["quantity_after = 6", "change = 6", "reference = 'x'", "occurred_at = now()"])
def test_the_application_may_not_rewrite_a_movement(db: Database, acme: Inhabited, change: str) -> None:
    with pytest.raises(PrivilegeMissing), db.tenant(acme.id) as session:
        session.execute(text(f"UPDATE inventory_movements SET {change}"))


def test_the_application_may_not_delete_a_movement_or_stock(db: Database, acme: Inhabited) -> None:
    for table in ("inventory_movements", "inventory"):
        with pytest.raises(PrivilegeMissing), db.tenant(acme.id) as session:
            session.execute(text(f"DELETE FROM {table}"))


def test_deleting_a_product_deletes_its_stock_and_ledger(db: Database, acme: Inhabited) -> None:
    with db.tenant(acme.id) as session:
        ship(session, acme.product_id, -1)
    with db.tenant(acme.id) as session:
        session.delete(session.get_one(Product, (acme.id, acme.product_id)))
    with db.tenant(acme.id) as session:
        assert session.scalars(select(InventoryMovement.sequence)).all() == []


def test_stock_without_a_movement_is_refused_at_commit(db: Database, acme: Inhabited) -> None:
    other = new_id()
    with db.tenant(acme.id) as session:
        session.add(Product(id=other, slug="kettle", name="Kettle", price=Decimal(5), currency="EUR"))
    with pytest.raises(LedgerBroken), db.tenant(acme.id) as session:
        session.add(Inventory(product_id=other, quantity=0, last_sequence=1))
