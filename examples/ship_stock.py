"""Ship stock: each movement follows its predecessor, and nothing goes below nothing.

Run it after ``make demo``, or with DATAARCH_DATABASE_URL set: ``python examples/ship_stock.py``
"""

from __future__ import annotations

from decimal import Decimal
from uuid import UUID

from sqlalchemy.orm import Session

from dataarch import Database, Inventory, InventoryMovement, Product, Tenant, TenantSession
from dataarch.errors import InsufficientStock
from dataarch.models.base import new_id


def move(session: TenantSession, product_id: UUID, change: int, reason: str) -> int:
    """Book one movement in the session's transaction and return what is on hand after it."""
    stock = session.get(Inventory, (session.tenant_id, product_id), with_for_update=True)
    if stock is None:
        stock = Inventory(tenant_id=session.tenant_id, product_id=product_id, quantity=0, last_sequence=0)
        session.add(stock)
    else:
        last = session.get_one(InventoryMovement, (session.tenant_id, product_id, stock.last_sequence))
        last.next_sequence = stock.last_sequence + 1
    movement = InventoryMovement(
        tenant_id=session.tenant_id,
        product_id=product_id,
        sequence=stock.last_sequence + 1,
        quantity_before=stock.quantity,
        change=change,
        quantity_after=stock.quantity + change,
        reason=reason,
    )
    session.add(movement)
    stock.quantity, stock.last_sequence = movement.quantity_after, movement.sequence
    session.flush()
    return stock.quantity


def new_product(session: Session, tenant_id: UUID) -> UUID:
    """Make a tenant with a product, and return the product's id."""
    product_id = new_id()
    session.add(Tenant(id=tenant_id, slug=f"shop-{tenant_id}", name="A shop"))
    session.flush()
    session.add(Product(id=product_id, slug="tea-pot", name="Tea pot", price=Decimal("9.95"), currency="EUR"))
    session.flush()
    return product_id


def main() -> None:
    """Receive five, ship two, and fail to ship four."""
    with Database() as db:
        tenant_id = new_id()
        with db.tenant(tenant_id) as session:
            product_id = new_product(session, tenant_id)
            print("received, on hand:", move(session, product_id, 5, "receipt"))
        with db.tenant(tenant_id) as session:
            print("shipped, on hand:", move(session, product_id, -2, "sale"))
        try:
            with db.tenant(tenant_id) as session:
                move(session, product_id, -4, "sale")
        except InsufficientStock as refused:
            print("refused by", refused.constraint)
        with db.tenant(tenant_id) as session:
            print("still on hand:", session.get_one(Inventory, (tenant_id, product_id)).quantity)


if __name__ == "__main__":
    main()
