"""What tests of stock share: products, and the books that must add up."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from decimal import Decimal
from uuid import UUID

from sqlalchemy import text

from dataarch.database.unit_of_work import Database
from dataarch.models import Product
from dataarch.models.base import new_id
from dataarch.repositories.inventory import InventoryRepository

BOOKS = text(
    """
    SELECT i.product_id, i.quantity, i.reserved, i.last_sequence,
           (SELECT coalesce(sum(m.change), 0) FROM inventory_movements AS m
            WHERE m.tenant_id = i.tenant_id AND m.product_id = i.product_id),
           (SELECT coalesce(sum(r.quantity), 0) FROM inventory_reservations AS r
            WHERE r.tenant_id = i.tenant_id AND r.product_id = i.product_id AND r.state = 'held'),
           (SELECT array_agg(m.sequence ORDER BY m.sequence) FROM inventory_movements AS m
            WHERE m.tenant_id = i.tenant_id AND m.product_id = i.product_id)
    FROM inventory AS i WHERE i.tenant_id = :tenant
    """
)


def product(slug: str) -> Product:
    """Return a new product, in no session yet."""
    return Product(id=new_id(), slug=slug, name=slug, price=Decimal(5), currency="EUR")


def assert_books_add_up(db: Database, tenant_id: UUID) -> None:
    """Assert that the sum of the ledger is the quantity, and the sum of what is held is what is reserved."""
    with db.tenant(tenant_id) as session:
        books = session.execute(BOOKS, {"tenant": tenant_id}).all()
    for product_id, quantity, reserved, last, moved, held, numbers in books:
        assert quantity == moved >= 0, product_id
        assert reserved == held <= quantity, product_id
        assert numbers == list(range(1, last + 1)), product_id


EXPIRE = text(
    """
    UPDATE inventory_reservations
    SET created_at = now() - interval '2 hours', expires_at = now() - interval '1 hour'
    WHERE tenant_id = :tenant AND id = :id RETURNING expires_at
    """
)


def let_expire(db: Database, tenant_id: UUID, reservation_id: UUID) -> datetime:
    """Turn a reservation's time back, as its owner alone can, and return when it has expired."""
    with db.owner() as owner:
        expired: datetime = owner.execute(EXPIRE, {"tenant": tenant_id, "id": reservation_id}).scalar_one()
    return expired


def stocked(db: Database, tenant_id: UUID, quantities: Sequence[int]) -> list[UUID]:
    """Make products of a tenant with so many on hand each, and return their ids, which are in order."""
    made = [product(f"stocked-{new_id()}") for _ in quantities]
    with db.tenant(tenant_id) as session:
        session.add_all(made)
        stock = InventoryRepository(session)
        for one, quantity in zip(made, quantities, strict=True):
            if quantity:
                stock.receive(one.id, quantity, key=new_id())
    return [one.id for one in made]
