"""The same repository under asyncio, by ``run_sync``."""

from __future__ import annotations

import asyncio

import pytest

from dataarch.database.unit_of_work import AsyncDatabase, Database
from dataarch.errors import InsufficientStock
from dataarch.models.base import new_id
from dataarch.repositories import InventoryRepository
from fixtures.tenants import inhabit
from repositories.stock_support import assert_books_add_up

pytestmark = pytest.mark.integrity


def test_m10_tasks_that_race_for_the_last_items_ship_exactly_what_is_there(shared_db: Database) -> None:
    tenant = inhabit(shared_db, "home")

    async def ship(db: AsyncDatabase) -> bool:
        try:
            async with db.tenant(tenant.id) as session:
                await session.run_sync(lambda sync: InventoryRepository(sync).ship(tenant.product_id, 1, key=new_id()))
        except InsufficientStock:
            return False
        return True

    async def race() -> list[bool]:
        async with AsyncDatabase(shared_db.settings) as db:
            return await asyncio.gather(*(ship(db) for _ in range(12)))

    assert sum(asyncio.run(race())) == 5
    assert_books_add_up(shared_db, tenant.id)
