"""Reservations go down and up again, and what is reserved with them, whatever was sold in between."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta
from uuid import UUID

import psycopg
import pytest

from dataarch.clock import utcnow
from dataarch.database.settings import Settings
from dataarch.database.unit_of_work import Database
from dataarch.models.base import new_id
from dataarch.repositories.inventory import InventoryRepository
from fixtures.catalogs import contents, owner_connection
from fixtures.databases import MigrateTo
from fixtures.tenants import inhabit
from repositories.stock_support import assert_books_add_up, stocked

pytestmark = pytest.mark.migration

BEFORE = "0016"

SELL = """
WITH moved AS (
    INSERT INTO inventory_movements (tenant_id, product_id, sequence, quantity_before, change, quantity_after, reason)
    SELECT tenant_id, product_id, last_sequence + 1, quantity, -%(number)s, quantity - %(number)s, 'sale'
    FROM inventory WHERE product_id = %(product)s
), told AS (
    UPDATE inventory_movements AS m SET next_sequence = m.sequence + 1 FROM inventory AS i
    WHERE i.product_id = %(product)s AND m.product_id = i.product_id AND m.sequence = i.last_sequence
)
UPDATE inventory SET quantity = quantity - %(number)s, last_sequence = last_sequence + 1
WHERE product_id = %(product)s
"""
A_TRANSFER = "UPDATE inventory_movements SET reason = 'transfer' WHERE product_id = %s"


def sell(settings: Settings, product_id: UUID, number: int) -> None:
    with owner_connection(settings) as connection:
        connection.execute(SELL, {"product": product_id, "number": number})


def reserved(db: Database, tenant_id: UUID, product_id: UUID, quantities: Sequence[int]) -> list[UUID]:
    with db.tenant(tenant_id) as session:
        stock, until = InventoryRepository(session), utcnow() + timedelta(days=1)
        return [stock.reserve(product_id, each, key=new_id(), expires_at=until).id for each in quantities]


def test_m27_what_is_reserved_comes_back_with_the_reservations(
    db: Database, settings: Settings, migrate: MigrateTo
) -> None:
    tenant_id = inhabit(db).id
    (product_id,) = stocked(db, tenant_id, [10])
    reserved(db, tenant_id, product_id, [3, 4])
    rows = contents(settings)
    migrate(settings, BEFORE, down=True)
    assert contents(settings) == rows
    migrate(settings, "head")
    assert contents(settings) == rows
    with db.tenant(tenant_id) as session:
        assert InventoryRepository(session).available(product_id) == 3
    assert_books_add_up(db, tenant_id)


def test_m27_what_was_sold_while_reservations_were_away_is_taken_from_the_newest(
    db: Database, settings: Settings, migrate: MigrateTo
) -> None:
    tenant_id = inhabit(db).id
    (product_id,) = stocked(db, tenant_id, [10])
    oldest, second, newest = reserved(db, tenant_id, product_id, [3, 2, 4])
    migrate(settings, BEFORE, down=True)
    sell(settings, product_id, 5)
    migrate(settings, "head")
    with db.tenant(tenant_id) as session:
        stock = InventoryRepository(session)
        states = [found.state for each in (oldest, second, newest) if (found := stock.reservation(each))]
        assert states == ["held", "held", "released"]
        assert (stock.on_hand(product_id), stock.available(product_id)) == (5, 0)
        assert stock.ship_reserved(oldest, key=new_id()).quantity_after == 2
    assert_books_add_up(db, tenant_id)


def test_m27_a_ledger_with_a_transfer_goes_on_at_the_older_revision(
    db: Database, settings: Settings, migrate: MigrateTo
) -> None:
    tenant_id = inhabit(db).id
    one, other = stocked(db, tenant_id, [10, 10])
    with db.tenant(tenant_id) as session:
        InventoryRepository(session).transfer(one, other, 2, key=new_id())
    migrate(settings, BEFORE, down=True)
    sell(settings, one, 1)
    migrate(settings, "head")
    with db.tenant(tenant_id) as session:
        assert [InventoryRepository(session).on_hand(each) for each in (one, other)] == [7, 12]
    assert_books_add_up(db, tenant_id)


def test_the_older_revision_knows_no_transfer_where_there_was_none(
    db: Database, settings: Settings, migrate: MigrateTo
) -> None:
    tenant_id = inhabit(db).id
    (product_id,) = stocked(db, tenant_id, [10])
    migrate(settings, BEFORE, down=True)
    with owner_connection(settings) as connection, pytest.raises(psycopg.errors.CheckViolation):
        connection.execute(A_TRANSFER, [product_id])
