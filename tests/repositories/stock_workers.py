"""Processes that move stock until they are killed, and do the same again when they are started anew."""

from __future__ import annotations

import multiprocessing
import random
from collections import Counter
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import UTC, datetime
from multiprocessing.process import BaseProcess
from uuid import UUID, uuid5

from dataarch.database.settings import Settings
from dataarch.database.unit_of_work import Database
from dataarch.models.base import new_id
from dataarch.repositories.inventory import InventoryRepository
from dataarch.repositories.stock_results import Move

CONTEXT = multiprocessing.get_context("spawn")

THREADS = 16
"""Of each process."""

FUTURE = datetime(2090, 1, 1, tzinfo=UTC)

KINDS = ("receive", "ship", "transfer", "many", "reserve and ship", "reserve and release")


@dataclass(frozen=True)
class Job:
    """Something to be done once, by whoever comes first; its keys derive from its own."""

    key: UUID
    kind: str
    products: tuple[UUID, ...]
    quantity: int

    def changes(self) -> Counter[UUID]:
        """Return what it does to each product, once."""
        one, other, third = self.products
        match self.kind:
            case "receive":
                return Counter({one: self.quantity})
            case "ship" | "reserve and ship":
                return Counter({one: -self.quantity})
            case "transfer":
                return Counter({one: -self.quantity, other: self.quantity})
            case "many":
                return Counter({one: -self.quantity, other: self.quantity, third: self.quantity})
        return Counter()

    def do(self, db: Database, tenant_id: UUID) -> None:
        """Do it, in one unit of work or in two."""
        one, other, third = self.products
        with db.tenant(tenant_id) as session:
            stock = InventoryRepository(session)
            match self.kind:
                case "receive":
                    stock.receive(one, self.quantity, key=self.key)
                case "ship":
                    stock.ship(one, self.quantity, key=self.key)
                case "transfer":
                    stock.transfer(one, other, self.quantity, key=self.key)
                case "many":
                    changes = {one: -self.quantity, other: self.quantity, third: self.quantity}
                    stock.move_many(
                        Move(uuid5(self.key, str(each)), each, change, "adjustment") for each, change in changes.items()
                    )
                case _:
                    stock.reserve(one, self.quantity, key=self.key, expires_at=FUTURE)
        if self.kind.startswith("reserve"):
            with db.tenant(tenant_id) as session:
                stock = InventoryRepository(session)
                if self.kind == "reserve and ship":
                    stock.ship_reserved(self.key, key=uuid5(self.key, "shipped"))
                else:
                    stock.release(self.key)


def jobs(chance: random.Random, products: Sequence[UUID], count: int) -> list[Job]:
    """Return jobs of all kinds on any products."""
    return [
        Job(new_id(), KINDS[number % len(KINDS)], tuple(chance.sample(products, 3)), chance.randint(1, 5))
        for number in range(count)
    ]


def work(settings: Settings, tenant_id: UUID, todo: Sequence[Job], seed: int) -> None:
    """Do all jobs, in an order of this process's own, in several threads; what fails ends the process with an error."""
    order = random.Random(seed).sample(todo, len(todo))
    limits = {"pool_size": THREADS, "pool_overflow": 0, "pool_timeout": 120.0}
    with Database(settings.model_copy(update=limits)) as db, ThreadPoolExecutor(THREADS) as pool:
        for done in [pool.submit(job.do, db, tenant_id) for job in order]:
            done.result(timeout=300)


def start(settings: Settings, tenant_id: UUID, todo: Sequence[Job], seed: int) -> BaseProcess:
    """Start a process that does all jobs."""
    process = CONTEXT.Process(target=work, args=(settings, tenant_id, todo, seed))
    process.start()
    return process
