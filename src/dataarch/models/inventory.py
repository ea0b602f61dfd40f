"""Stock as a ledger that constraints alone keep true.

The movements of a product are numbered 1, 2, 3 … without a gap. Each carries the quantity before it, its change and the
quantity after it, and three foreign keys, checked when the transaction commits, tie the ledger together::

    movement n+1 ──(sequence n, its quantity_before, n+1)──> movement n (sequence, quantity_after, next_sequence)
    inventory    ──(last_sequence, quantity, 0)────────────> movement n (sequence, quantity_after, next_sequence)
    movement     ──(tenant_id, product_id)─────────────────> inventory

A movement that has a successor names it in ``next_sequence``; the last one has 0 there, and it alone can be what the
inventory row refers to. So the quantity on hand always equals the last movement's quantity after, which is the sum of
all changes, whoever writes: there is no trigger to switch off.

What is reserved of a product stands beside the quantity, and within it: the sum of its reservations that are held.
"""

from __future__ import annotations

from datetime import datetime
from uuid import UUID

from sqlalchemy import BigInteger, CheckConstraint, Computed, ForeignKeyConstraint, Index, UniqueConstraint, text
from sqlalchemy.orm import Mapped, mapped_column

from dataarch.clock import utcnow
from dataarch.models.base import NEW_ID, Base, new_id
from dataarch.models.tenancy import TenantOwned
from dataarch.models.types import Choice, Text

__all__ = ["REASONS", "RESERVATION_STATES", "Inventory", "InventoryMovement", "InventoryReservation"]

REASONS = ("receipt", "sale", "return", "adjustment", "transfer")
"""Why stock moves. A receipt or return adds, a sale takes away, an adjustment does either, and so does a transfer."""

RESERVATION_STATES = ("held", "shipped", "released", "expired")
"""A reservation is held, until it ends in one of the other ways, for good."""

LEDGER_ENTRY = ["tenant_id", "product_id", "sequence", "quantity_after", "next_sequence"]


def _of_movement(*columns: str) -> list[str]:
    return [f"inventory_movements.{column}" for column in columns]


class Inventory(TenantOwned, Base):
    """What is on hand of a product; the row comes with the product's first movement."""

    __tablename__ = "inventory"
    __table_args__ = (
        ForeignKeyConstraint(["tenant_id", "product_id"], ["products.tenant_id", "products.id"], ondelete="CASCADE"),
        ForeignKeyConstraint(
            ["tenant_id", "product_id", "last_sequence", "quantity", "next_sequence"],
            _of_movement(*LEDGER_ENTRY),
            name="fk_inventory_last_movement",
            use_alter=True,
            deferrable=True,
            initially="DEFERRED",
        ),
        CheckConstraint("quantity >= 0", name="quantity_not_negative"),
        CheckConstraint("reserved BETWEEN 0 AND greatest(quantity, 0)", name="reserved_within_quantity"),
    )

    product_id: Mapped[UUID] = mapped_column(primary_key=True)
    quantity: Mapped[int] = mapped_column(BigInteger())
    last_sequence: Mapped[int] = mapped_column(BigInteger())
    next_sequence: Mapped[int] = mapped_column(BigInteger(), Computed("0", persisted=True), nullable=False)
    reserved: Mapped[int] = mapped_column(BigInteger(), default=0, server_default=text("0"))


class InventoryMovement(TenantOwned, Base):
    """One change of a product's stock; written once, and afterwards only told its successor's number."""

    __tablename__ = "inventory_movements"
    __table_args__ = (
        UniqueConstraint("tenant_id", "id"),
        UniqueConstraint(*LEDGER_ENTRY, name="uq_inventory_movements_ledger_entry"),
        ForeignKeyConstraint(
            ["tenant_id", "product_id"],
            ["inventory.tenant_id", "inventory.product_id"],
            ondelete="CASCADE",
            deferrable=True,
            initially="DEFERRED",
        ),
        ForeignKeyConstraint(
            ["tenant_id", "product_id", "previous_sequence", "quantity_before", "sequence"],
            _of_movement(*LEDGER_ENTRY),
            name="fk_inventory_movements_previous",
            deferrable=True,
            initially="DEFERRED",
        ),
        CheckConstraint("quantity_after = quantity_before + change", name="adds_up"),
        CheckConstraint("quantity_after >= 0", name="quantity_after_not_negative"),
        CheckConstraint("sequence > 1 OR (sequence = 1 AND quantity_before = 0)", name="starts_from_nothing"),
        CheckConstraint("change <> 0", name="changes_something"),
        CheckConstraint(
            "(reason <> 'sale' OR change < 0) AND (reason NOT IN ('receipt', 'return') OR change > 0)",
            name="reason_fits_change",
        ),
    )

    product_id: Mapped[UUID] = mapped_column(primary_key=True)
    sequence: Mapped[int] = mapped_column(BigInteger(), primary_key=True, autoincrement=False)
    previous_sequence: Mapped[int | None] = mapped_column(
        BigInteger(), Computed("nullif(sequence - 1, 0)", persisted=True)
    )
    next_sequence: Mapped[int] = mapped_column(BigInteger(), default=0, server_default=text("0"))
    id: Mapped[UUID] = mapped_column(default=new_id, server_default=text(NEW_ID))
    quantity_before: Mapped[int] = mapped_column(BigInteger())
    change: Mapped[int] = mapped_column(BigInteger())
    quantity_after: Mapped[int] = mapped_column(BigInteger())
    reason: Mapped[str] = mapped_column(Choice(*REASONS))
    reference: Mapped[str | None] = mapped_column(Text(200))
    occurred_at: Mapped[datetime] = mapped_column(default=utcnow, server_default=text("clock_timestamp()"))
    created_at: Mapped[datetime] = mapped_column(default=utcnow, server_default=text("clock_timestamp()"))


class InventoryReservation(TenantOwned, Base):
    """A part of a product's stock that is kept for somebody until a moment; its id is the key of the call.

    One that has expired counts as held until somebody needs the stock, or until expired ones are released.
    """

    __tablename__ = "inventory_reservations"
    __table_args__ = (
        ForeignKeyConstraint(
            ["tenant_id", "product_id"], ["inventory.tenant_id", "inventory.product_id"], ondelete="CASCADE"
        ),
        CheckConstraint("quantity > 0", name="quantity_positive"),
        CheckConstraint("expires_at > created_at", name="expires_after_creation"),
        CheckConstraint("(state = 'held') = (ended_at IS NULL)", name="ended_unless_held"),
        CheckConstraint("(state = 'shipped') = (shipped_by IS NOT NULL)", name="shipped_by_movement"),
        Index(
            "ix_inventory_reservations_held",
            "tenant_id",
            "product_id",
            "expires_at",
            postgresql_where=text("state = 'held'"),
        ),
        Index("ix_inventory_reservations_expiring", "tenant_id", "expires_at", postgresql_where=text("state = 'held'")),
    )

    id: Mapped[UUID] = mapped_column(primary_key=True, default=new_id, server_default=text(NEW_ID))
    product_id: Mapped[UUID]
    quantity: Mapped[int] = mapped_column(BigInteger())
    state: Mapped[str] = mapped_column(Choice(*RESERVATION_STATES), default="held", server_default=text("'held'"))
    expires_at: Mapped[datetime]
    created_at: Mapped[datetime] = mapped_column(default=utcnow, server_default=text("clock_timestamp()"))
    ended_at: Mapped[datetime | None]
    shipped_by: Mapped[UUID | None]
