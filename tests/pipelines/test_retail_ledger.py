"""The ledger of a product: never below nothing, no gaps, one marked receipt a day for exactly what is missing."""

from __future__ import annotations

from collections import Counter
from datetime import UTC, datetime, timedelta
from itertools import accumulate, pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dataarch.pipelines.feeds.retail import OrderLine
from dataarch.pipelines.feeds.retail.ledger import RECEIPT, Movement, Stock, movements
from pipelines.retail_support import valid

pytestmark = pytest.mark.pipeline

quantities = st.integers(-1_000_000_000, 1_000_000_000).filter(bool)
stocks = st.builds(Stock, st.integers(0, 10_000), st.integers(0, 10_000))


def line(hour: int, quantity: int) -> OrderLine:
    """Return an order of this quantity, some hours after the beginning of December."""
    at = datetime(2010, 12, 1, tzinfo=UTC) + timedelta(hours=hour)
    return valid(InvoiceDate=at.isoformat(), Quantity=str(quantity), InvoiceNo="5" if quantity > 0 else "C5")


orders = st.lists(st.builds(line, st.integers(0, 100), quantities), max_size=40).map(
    lambda lines: sorted(lines, key=lambda one: one.at)
)


def receipts(steps: list[Movement]) -> list[Movement]:
    return [step for step in steps if step.reason == "receipt"]


def test_a_days_sales_beyond_the_stock_are_preceded_by_one_marked_receipt() -> None:
    steps = list(movements(Stock(), [line(1, 4), line(2, 3), line(25, 2)]))
    assert [(step.sequence, step.before, step.change, step.reason) for step in steps] == [
        (1, 0, 7, "receipt"), (2, 7, -4, "sale"), (3, 3, -3, "sale"), (4, 0, 2, "receipt"), (5, 2, -2, "sale"),
    ]  # fmt: skip
    assert [step.reference for step in steps] == [RECEIPT, "5", "5", RECEIPT, "5"]


def test_what_is_on_hand_and_what_came_back_needs_no_receipt() -> None:
    assert receipts(list(movements(Stock(10, 3), [line(1, 10)]))) == []
    steps = list(movements(Stock(), [line(1, -5), line(2, 5)]))
    assert [(step.change, step.reason) for step in steps] == [(5, "return"), (-5, "sale")]


def test_a_return_after_a_sale_of_the_same_day_does_not_make_its_receipt_smaller() -> None:
    steps = list(movements(Stock(), [line(1, 5), line(2, -5)]))
    assert [step.change for step in steps] == [5, -5, 5]


def test_no_lines_make_no_movements() -> None:
    assert list(movements(Stock(3, 1), [])) == []


@given(stocks, orders)
def test_the_movements_of_any_lines_never_fall_below_nothing_and_chain_without_gaps(
    stock: Stock, lines: list[OrderLine]
) -> None:
    steps = list(movements(stock, lines))
    assert [step.sequence for step in steps] == list(
        range(stock.last_sequence + 1, stock.last_sequence + len(steps) + 1)
    )
    assert all(step.after >= 0 and step.change != 0 for step in steps)
    assert all(step.after == following.before for step, following in pairwise(steps))
    assert all(step.before == stock.quantity for step in steps[:1])
    final = steps[-1].after if steps else stock.quantity
    assert final == stock.quantity + sum(step.change for step in steps)
    assert [step.id for step in steps if step.reason != "receipt"] == [one.id for one in lines]
    assert all((step.change < 0) == (step.reason == "sale") for step in steps)


@given(stocks, orders)
def test_each_day_has_one_receipt_at_most_and_for_exactly_what_is_missing(stock: Stock, lines: list[OrderLine]) -> None:
    steps = list(movements(stock, lines))
    days = Counter(step.at.date() for step in receipts(steps))
    assert set(days.values()) <= {1}
    on_hand = stock.quantity
    for day in sorted({one.at.date() for one in lines}):
        changes = [-one.quantity for one in lines if one.at.date() == day]
        missing = -min(0, *accumulate(changes, initial=on_hand))
        assert [step.change for step in receipts(steps) if step.at.date() == day] == [missing] * (missing > 0)
        on_hand += missing + sum(changes)
