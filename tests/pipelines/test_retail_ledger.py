"""The ledger of a product: never below nothing, no gaps, one marked receipt a day for exactly what is missing."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import UTC, datetime, timedelta
from itertools import accumulate, groupby
from typing import NamedTuple
from uuid import UUID

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sqlalchemy import text

from dataarch.database.unit_of_work import Database
from dataarch.pipelines.feeds.retail import OrderLine, RetailLines
from dataarch.pipelines.feeds.retail.statements import RECEIPT
from pipelines.listed import home
from pipelines.retail_support import valid

pytestmark = pytest.mark.pipeline


class Step(NamedTuple):
    """A movement as the ledger holds it."""

    product: str
    sequence: int
    next_sequence: int
    before: int
    change: int
    reason: str
    reference: str


@pytest.fixture
def db(shared_db: Database) -> Database:
    """One database for this file: each test makes tenants of its own."""
    return shared_db


def line(hour: int, quantity: int, product: str = "A") -> OrderLine:
    """Return an order of this quantity, some hours after the beginning of December."""
    at = datetime(2010, 12, 1, tzinfo=UTC) + timedelta(hours=hour)
    invoice = "5" if quantity > 0 else "C5"
    return valid(InvoiceDate=at.isoformat(), Quantity=str(quantity), InvoiceNo=invoice, StockCode=product)


def moved(db: Database, tenant_id: UUID, *loads: Sequence[OrderLine]) -> list[Step]:
    """Load lines, each sequence in a transaction of its own, and return all movements of the tenant."""
    for lines in loads:
        with db.tenant(tenant_id) as session:
            RetailLines().load(session, lines)
    with db.tenant(tenant_id) as session:
        steps = session.execute(
            text(
                "SELECT external_id, sequence, next_sequence, quantity_before, change, reason, reference"
                " FROM inventory_movements m JOIN products p ON p.tenant_id = m.tenant_id AND p.id = product_id"
                " ORDER BY external_id, sequence"
            )
        )
        return [Step(*step) for step in steps]


def expected(lines: Iterable[OrderLine]) -> list[Step]:
    """Return the movements that lines make, day by day, as one would book them by hand."""
    steps: list[Step] = []
    by_product = sorted(lines, key=lambda one: (one["stock_code"], one["at"]))
    for product, some in groupby(by_product, key=lambda one: one["stock_code"]):
        on_hand = 0
        made: list[Step] = []
        for _, day in groupby(some, key=lambda one: one["at"].date()):
            changes = [(-one["quantity"], one["invoice"]) for one in day]
            missing = -min(0, *accumulate((change for change, _ in changes), initial=on_hand))
            for change, reference in [(missing, RECEIPT)] * (missing > 0) + changes:
                reason = "receipt" if reference == RECEIPT else "sale" if change < 0 else "return"
                sequence = len(made) + 1
                made.append(Step(product, sequence, sequence + 1, on_hand, change, reason, reference))
                on_hand += change
        steps += [*made[:-1], made[-1]._replace(next_sequence=0)]
    return steps


def unique(lines: Iterable[OrderLine]) -> list[OrderLine]:
    """Return lines, each of them once."""
    return list({one["id"]: one for one in lines}.values())


def test_a_days_sales_beyond_the_stock_are_preceded_by_one_marked_receipt(db: Database) -> None:
    steps = moved(db, home(db), [line(1, 4), line(2, 3), line(25, 2)])
    assert [step[1:] for step in steps] == [
        (1, 2, 0, 7, "receipt", RECEIPT),
        (2, 3, 7, -4, "sale", "5"),
        (3, 4, 3, -3, "sale", "5"),
        (4, 5, 0, 2, "receipt", RECEIPT),
        (5, 0, 2, -2, "sale", "5"),
    ]


def test_what_is_on_hand_and_what_came_back_needs_no_receipt(db: Database) -> None:
    steps = moved(db, home(db), [line(1, -5), line(2, 3)], [line(3, 2)])
    assert [(step.change, step.reason) for step in steps] == [(5, "return"), (-3, "sale"), (-2, "sale")]


def test_a_return_after_a_sale_of_the_same_day_does_not_make_its_receipt_smaller(db: Database) -> None:
    assert [step.change for step in moved(db, home(db), [line(1, 5), line(2, -5)])] == [5, -5, 5]


def test_no_lines_make_no_movements(db: Database) -> None:
    assert moved(db, home(db), []) == []


def test_lines_that_are_there_already_move_nothing_again(db: Database) -> None:
    lines = [line(1, 4), line(2, 3)]
    once = moved(db, home(db), lines)
    assert moved(db, home(db), lines, lines, [lines[1], lines[1], lines[0]]) == once


def test_a_receipt_has_the_id_that_follows_from_the_line_before_which_it_is_booked(db: Database) -> None:
    lines = [line(1, 4), line(25, 3)]
    ids = "SELECT id FROM inventory_movements WHERE reason = 'receipt' ORDER BY sequence"
    found = []
    for tenant_id in (home(db), home(db)):
        moved(db, tenant_id, lines)
        with db.tenant(tenant_id) as session:
            found.append(session.scalars(text(ids)).all())
    assert found[0] == found[1] == [UUID(int=one["id"].int ^ 0xFF) for one in lines]


MANY = 1_000_000_000
quantities = (st.integers(-9, 9) | st.integers(-MANY, MANY)).filter(bool)
orders = st.lists(st.builds(line, st.integers(0, 100), quantities, st.sampled_from("AB")), max_size=30).map(unique)


@settings(max_examples=25)
@given(lines=orders)
def test_the_movements_of_any_lines_are_those_that_one_would_book_by_hand(
    shared_db: Database, lines: list[OrderLine]
) -> None:
    assert moved(shared_db, home(shared_db), lines) == expected(lines)


@settings(max_examples=15)
@given(lines=orders)
def test_days_that_are_loaded_one_by_one_make_what_all_at_once_make(
    shared_db: Database, lines: list[OrderLine]
) -> None:
    lines.sort(key=lambda one: one["at"])
    days = [list(day) for _, day in groupby(lines, key=lambda one: one["at"].date())]
    assert moved(shared_db, home(shared_db), *days) == expected(lines)


@settings(max_examples=15)
@given(lines=orders, part=st.integers(1, 7))
def test_a_day_that_is_loaded_in_parts_receives_in_parts_what_it_would_have_received_at_once(
    shared_db: Database, lines: list[OrderLine], part: int
) -> None:
    lines.sort(key=lambda one: one["at"])
    parts = [lines[start : start + part] for start in range(0, len(lines), part)]
    divided, whole = moved(shared_db, home(shared_db), *parts), expected(lines)
    for product in "AB":
        of_divided, of_whole = ([step for step in steps if step.product == product] for steps in (divided, whole))
        orders_of = [[(step.change, step.reference) for step in steps if step.reason != "receipt"]
                     for steps in (of_divided, of_whole)]  # fmt: skip
        assert orders_of[0] == orders_of[1]
        assert sum(step.change for step in of_divided) == sum(step.change for step in of_whole)
