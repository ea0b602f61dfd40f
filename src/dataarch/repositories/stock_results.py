"""What the inventory's calls take and give: plain values, which never change."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime
from uuid import UUID

__all__ = ["Move", "Moved", "Reservation", "Stock"]


@dataclass(frozen=True, slots=True)
class Stock:
    """What there is of a product.

    Attributes:
        product_id: the product.
        quantity: how many are on hand.
        available: how many of them nobody has reserved, or only by reservations that have expired.
        last_sequence: number of the last movement; 0 where there was none.
    """

    product_id: UUID
    quantity: int
    available: int
    last_sequence: int

    @property
    def reserved(self) -> int:
        """How many are reserved, and not expired."""
        return self.quantity - self.available


@dataclass(frozen=True, slots=True)
class Move:
    """A movement to be made, one of many.

    Attributes:
        key: names this movement; made again with the same key, it changes nothing.
        product_id: the product.
        change: what is added, or taken where it is negative; not 0.
        reason: receipt and return add, sale takes, adjustment and transfer do either.
        reference: the order, the delivery note or the like, of 1 to 200 characters.
        occurred_at: when it happened, aware; None for now.
    """

    key: UUID
    product_id: UUID
    change: int
    reason: str
    reference: str | None = None
    occurred_at: datetime | None = None


@dataclass(frozen=True, slots=True)
class Moved:
    """A movement that was made.

    Attributes:
        key: the call's, which is the movement's id.
        product_id: the product.
        sequence: its number among the product's movements, counted from 1 without a gap.
        quantity_before: on hand before it.
        change: what it added or took.
        occurred_at: when it happened.
        repeated: whether an earlier call with this key had made it, so that this one changed nothing. Two results are
            equal without regard to it.
    """

    key: UUID
    product_id: UUID
    sequence: int
    quantity_before: int
    change: int
    occurred_at: datetime
    repeated: bool = field(default=False, compare=False)

    @property
    def quantity_after(self) -> int:
        """On hand after it."""
        return self.quantity_before + self.change


@dataclass(frozen=True, slots=True)
class Reservation:
    """A part of a product's stock that is kept for somebody.

    Attributes:
        id: the key of the call that made it.
        product_id: the product.
        quantity: how many.
        expires_at: until when it is kept.
        state: held, shipped, released or expired, as it is in the table: one that nobody needed the stock of may be
            held there beyond its time.
        created_at: when it was made.
        ended_at: when it was shipped or released, or found to have expired; None while it is held.
        repeated: whether an earlier call had done the same, so that this one changed nothing. Two results are equal
            without regard to it.
    """

    id: UUID
    product_id: UUID
    quantity: int
    expires_at: datetime
    state: str
    created_at: datetime
    ended_at: datetime | None = None
    repeated: bool = field(default=False, compare=False)
