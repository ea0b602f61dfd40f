"""Turn the order lines of one product into movements of its stock; pure."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import datetime
from itertools import groupby
from uuid import UUID

from dataarch.models.base import new_id
from dataarch.pipelines.feeds.retail.validate import OrderLine

__all__ = ["RECEIPT", "Movement", "Stock", "movements"]

RECEIPT = "feed: needed by the day's orders"
"""How a receipt of the feed is marked, in ``reference``."""


@dataclass(frozen=True, slots=True)
class Stock:
    """What is on hand of a product, and the number of its last movement; nothing and 0 for one never stocked."""

    quantity: int = 0
    last_sequence: int = 0


@dataclass(frozen=True, slots=True)
class Movement:
    """One movement as the ledger holds it."""

    id: UUID
    sequence: int
    before: int
    change: int
    reason: str
    reference: str
    at: datetime

    @property
    def after(self) -> int:
        """What is on hand after it."""
        return self.before + self.change


def movements(stock: Stock, lines: Iterable[OrderLine]) -> Iterator[Movement]:
    """Yield the movements that one product's lines make, in their order.

    The source has no deliveries, and stock may not go negative: so each day begins with one receipt for what the day
    needs beyond what is on hand. It is marked as made by the feed.
    """
    for _, day in groupby(lines, key=lambda line: line.at.date()):
        for movement in _movements_of_a_day(stock, list(day)):
            yield movement
            stock = Stock(movement.after, movement.sequence)


def _movements_of_a_day(stock: Stock, lines: list[OrderLine]) -> Iterator[Movement]:
    quantity, sequence = stock.quantity, stock.last_sequence
    if missing := shortfall(quantity, (-line.quantity for line in lines)):
        sequence += 1
        yield Movement(new_id(), sequence, quantity, missing, "receipt", RECEIPT, lines[0].at)
        quantity += missing
    for line in lines:
        sequence += 1
        reason = "sale" if line.quantity > 0 else "return"
        yield Movement(line.id, sequence, quantity, -line.quantity, reason, line.invoice, line.at)
        quantity -= line.quantity


def shortfall(quantity: int, changes: Iterable[int]) -> int:
    """Return how much is missing at the lowest point of a series of changes; 0 if it never falls below nothing."""
    lowest = 0
    for change in changes:
        quantity += change
        lowest = min(lowest, quantity)
    return -lowest
