"""Measure movements of stock a second: PYTHONPATH=tests python -m benchmarks.repositories.stock

Eight threads, each with a connection, take and add one item of one product, or of one out of 64, each time in a
transaction of its own: by the repository, with a key for each call; by psycopg with the four statements of a movement
written by hand (lock, insert, tell the predecessor, set the stock) in the same unit of work; and by psycopg alone, that
knows neither units of work nor keys nor reservations. Turns alternate, so that other work on the machine slows all. The
limit is for the repository beside the four statements in the same unit of work. No commit waits for the disk.
The exit code is 1 where the limit is broken. Servers: as in main_job.py.
"""

from __future__ import annotations

import argparse
import random
import sys
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass
from statistics import median
from typing import Any
from uuid import UUID

import psycopg
from rich.console import Console
from rich.table import Table

from benchmarks.partitions.history import admin_url, connected, fresh_database
from dataarch.database.settings import Settings
from dataarch.database.unit_of_work import Database
from dataarch.models.base import new_id
from dataarch.repositories.inventory import InventoryRepository
from fixtures.tenants import inhabit
from repositories.stock_support import assert_books_add_up, stocked

LIMIT = 1.0
"""Movements a second by the repository, for each one by hand, at least."""

OURS, HAND, ALONE = "repository", "four statements", "psycopg alone"
THREADS = 8
PRODUCTS = (1, 64)

LOCK = "SELECT quantity, last_sequence FROM inventory WHERE tenant_id = %s AND product_id = %s FOR UPDATE"
MOVE = """INSERT INTO inventory_movements
    (tenant_id, product_id, sequence, id, quantity_before, change, quantity_after, reason)
    VALUES (%s, %s, %s, %s, %s, %s, %s, 'adjustment')"""
TELL = """UPDATE inventory_movements SET next_sequence = %s
    WHERE tenant_id = %s AND product_id = %s AND sequence = %s"""
SET = "UPDATE inventory SET quantity = %s, last_sequence = %s WHERE tenant_id = %s AND product_id = %s"

Way = Callable[[int, UUID, int], None]
"""Moves, by a thread of this number, a product by so many."""


def by_repository(db: Database, tenant_id: UUID) -> Way:
    """Return the way of the library."""

    def move(_: int, product_id: UUID, change: int) -> None:
        with db.tenant(tenant_id) as session:
            InventoryRepository(session).adjust(product_id, change, key=new_id())

    return move


def movement(connection: psycopg.Connection[Any], tenant_id: UUID, product_id: UUID, change: int) -> None:
    """Make a movement with statements written by hand, each of which is prepared after its fifth time."""
    found = connection.execute(LOCK, (tenant_id, product_id)).fetchone()
    assert found is not None
    before, last = found
    after = before + change
    connection.execute(MOVE, (tenant_id, product_id, last + 1, new_id(), before, change, after))
    connection.execute(TELL, (last + 1, tenant_id, product_id, last))
    connection.execute(SET, (after, last + 1, tenant_id, product_id))


def by_hand(db: Database, tenant_id: UUID) -> Way:
    """Return the way of psycopg in the library's unit of work."""

    def move(_: int, product_id: UUID, change: int) -> None:
        with db.tenant(tenant_id) as session:
            connection = session.connection().connection.driver_connection
            assert isinstance(connection, psycopg.Connection)
            movement(connection, tenant_id, product_id, change)

    return move


def by_psycopg(connections: Sequence[psycopg.Connection[Any]], tenant_id: UUID) -> Way:
    """Return the way of psycopg alone."""
    # as one trip, as the library's unit of work begins
    begin = f"BEGIN; SELECT set_tenant('{tenant_id}')".encode()

    def move(thread: int, product_id: UUID, change: int) -> None:
        connection = connections[thread]
        connection.execute(begin)
        movement(connection, tenant_id, product_id, change)
        connection.execute("COMMIT")

    return move


def rate(way: Way, products: Sequence[UUID], each: int) -> float:
    """Return movements a second of all threads."""

    def work(thread: int) -> None:
        chance = random.Random(thread)
        for number in range(each):
            way(thread, chance.choice(products), 1 if number % 2 else -1)

    start = time.perf_counter()
    with ThreadPoolExecutor(THREADS) as pool:
        list(pool.map(work, range(THREADS)))
    return THREADS * each / (time.perf_counter() - start)


def opened(stack: ExitStack, settings: Settings) -> list[psycopg.Connection[Any]]:
    """Return a connection of the application's role for each thread."""
    assert settings.database_url is not None
    url = settings.application.set(drivername="postgresql").render_as_string(hide_password=False)
    return [stack.enter_context(psycopg.connect(url, autocommit=True)) for _ in range(THREADS)]


@dataclass(frozen=True)
class Found:
    """Movements a second of each way, one number for each turn."""

    products: int
    rates: dict[str, list[float]]

    def rate(self, way: str) -> float:
        """The median of a way."""
        return median(self.rates[way])

    def ratio(self, way: str) -> float:
        """How many movements the repository makes for each one of a way: the median over the turns."""
        return median(mine / other for mine, other in zip(self.rates[OURS], self.rates[way], strict=True))


def measured(turns: int, each: int) -> list[Found]:
    """Measure each number of products."""
    found = []
    with ExitStack() as stack:
        bare = stack.enter_context(fresh_database(admin_url()))
        with connected(bare.owner) as owner:
            # the disk takes ten times as long as a movement, and is the same for all
            owner.execute(f"ALTER DATABASE {bare.owner.database} SET synchronous_commit = off".encode())
        db = stack.enter_context(Database(bare.model_copy(update={"pool_size": THREADS})))
        tenant_id = inhabit(db).id
        ways = {
            OURS: by_repository(db, tenant_id),
            HAND: by_hand(db, tenant_id),
            ALONE: by_psycopg(opened(stack, bare), tenant_id),
        }
        for count in PRODUCTS:
            products = stocked(db, tenant_id, [1_000_000] * count)
            for way in ways.values():
                rate(way, products, 20)
            rates: dict[str, list[float]] = {name: [] for name in ways}
            for _ in range(turns):
                for name, way in ways.items():
                    rates[name].append(rate(way, products, each))
            assert_books_add_up(db, tenant_id)
            found.append(Found(count, rates))
    return found


def main() -> int:
    """Print the figures beside their limit."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--turns", type=int, default=9)
    parser.add_argument("--each", type=int, default=100, help="movements of a thread in a turn")
    given = parser.parse_args()
    found = measured(given.turns, given.each)
    table = Table(title=f"movements of stock a second, {THREADS} threads; ratio at least {LIMIT}")
    for header in ("products", OURS, HAND, "ratio", ALONE, "ratio, no limit"):
        table.add_column(header, justify="right")
    for one in found:
        rates = [f"{one.rate(way):,.0f}" for way in (OURS, HAND, ALONE)]
        ratios = [f"{one.ratio(way):.2f}" for way in (HAND, ALONE)]
        table.add_row(str(one.products), *rates[:2], ratios[0], rates[2], ratios[1])
    console = Console(width=120)
    console.print(table)
    broken = [one.products for one in found if one.ratio(HAND) < LIMIT]
    for count in broken:
        console.print(f"BROKEN: {count} products")
    return 1 if broken else 0


if __name__ == "__main__":
    sys.exit(main())
