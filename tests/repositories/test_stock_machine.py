"""A tenant's stock and a model of it in Python, taken through any sequence of calls."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any
from uuid import UUID, uuid5

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    Bundle,
    RuleBasedStateMachine,
    consumes,
    initialize,
    invariant,
    multiple,
    rule,
    run_state_machine_as_test,
)

from dataarch.database.unit_of_work import Database
from dataarch.errors import IdempotencyKeyReused, InsufficientStock, ReservationEnded, ReservationExpired
from dataarch.models.base import new_id
from dataarch.repositories.inventory import InventoryRepository
from fixtures.tenants import inhabit
from repositories.stock_support import assert_books_add_up, let_expire, product

pytestmark = pytest.mark.integrity

FUTURE = datetime(2090, 1, 1, tzinfo=UTC)
WHICH = st.integers(0, 2)
NUMBERS = st.integers(1, 6)


@dataclass
class Held:
    """A reservation as the model has it; ``free``: its time has passed, so that its stock is there for anybody."""

    product: int
    quantity: int
    state: str = "held"
    free: bool = False


@dataclass
class Model:
    """Three products: what is on hand, and what is held."""

    on_hand: list[int] = field(default_factory=lambda: [0, 0, 0])
    held: dict[UUID, Held] = field(default_factory=dict)

    def available(self, at: int) -> int:
        """How many nobody has reserved any more."""
        holding = [one for one in self.held.values() if one.product == at and one.state == "held" and not one.free]
        return self.on_hand[at] - sum(one.quantity for one in holding)


class StockMachine(RuleBasedStateMachine):
    """Every call is made with a new key, and may be made again later with the same one."""

    db: Database
    made = Bundle("made")
    reservations = Bundle("reservations")

    @initialize()
    def begin(self) -> None:
        self.tenant_id = inhabit(self.db, "machine").id
        added = [product(f"machine-{number}") for number in range(3)]
        with self.db.tenant(self.tenant_id) as session:
            session.add_all(added)
        self.products = [one.id for one in added]
        self.model = Model()

    def call(self, work: Callable[[InventoryRepository], Any], *, refused: type[Exception] | None = None) -> Any:
        with self.db.tenant(self.tenant_id) as session:
            if refused is None:
                return work(InventoryRepository(session))
            with pytest.raises(refused):
                work(InventoryRepository(session))
        return None

    def moved(self, work: Callable[[InventoryRepository], Any], changes: dict[int, int]) -> Any:
        """Make a call that the model foresees; give it as one that can be repeated, with its result."""
        short = any(self.model.available(at) + change < 0 for at, change in changes.items() if change < 0)
        result = self.call(work, refused=InsufficientStock if short else None)
        if short:
            return multiple()
        for at, change in changes.items():
            self.model.on_hand[at] += change
        return (work, result)

    @rule(target=made, at=WHICH, number=NUMBERS, reason=st.sampled_from(["receive", "return_"]))
    def add(self, at: int, number: int, reason: str) -> Any:
        key = new_id()
        return self.moved(lambda stock: getattr(stock, reason)(self.products[at], number, key=key), {at: number})

    @rule(target=made, at=WHICH, number=NUMBERS)
    def ship(self, at: int, number: int) -> Any:
        key = new_id()
        return self.moved(lambda stock: stock.ship(self.products[at], number, key=key), {at: -number})

    @rule(target=made, at=WHICH, change=st.integers(-6, 6).filter(bool))
    def adjust(self, at: int, change: int) -> Any:
        key = new_id()
        return self.moved(lambda stock: stock.adjust(self.products[at], change, key=key), {at: change})

    @rule(target=made, ways=st.permutations([0, 1, 2]), number=NUMBERS, arriving=NUMBERS)
    def transfer(self, ways: list[int], number: int, arriving: int) -> Any:
        key, source, target = new_id(), ways[0], ways[1]
        ids = self.products[source], self.products[target]
        return self.moved(
            lambda stock: stock.transfer(*ids, number, key=key, arriving=arriving),
            {source: -number, target: arriving},
        )

    @rule(target=reservations, at=WHICH, number=NUMBERS)
    def reserve(self, at: int, number: int) -> Any:
        key = new_id()
        short = self.model.available(at) < number
        result = self.call(
            lambda stock: stock.reserve(self.products[at], number, key=key, expires_at=FUTURE),
            refused=InsufficientStock if short else None,
        )
        if short:
            return multiple()
        self.model.held[key] = Held(at, number)
        assert (result.quantity, result.state) == (number, "held")
        return key

    @rule(target=made, which=reservations)
    def ship_reserved(self, which: UUID) -> Any:
        one, key = self.model.held[which], uuid5(which, "shipped")
        if one.state == "held" and not one.free:
            result = self.call(lambda stock: stock.ship_reserved(which, key=key))
            one.state = "shipped"
            self.model.on_hand[one.product] -= one.quantity
            return (lambda stock: stock.ship_reserved(which, key=key), result)
        if one.state == "shipped":
            self.call(lambda stock: stock.ship_reserved(which, key=new_id()), refused=ReservationEnded)
        else:
            refused = ReservationEnded if one.state == "released" else ReservationExpired
            self.call(lambda stock: stock.ship_reserved(which, key=key), refused=refused)
        return multiple()

    @rule(which=reservations)
    def release(self, which: UUID) -> None:
        one = self.model.held[which]
        if one.state == "shipped":
            self.call(lambda stock: stock.release(which), refused=ReservationEnded)
            return
        result = self.call(lambda stock: stock.release(which))
        if one.state == "held" and not one.free:
            one.state = "released"
        # of one that expired nobody knows when it was found out
        assert result.state == (one.state if one.state == "released" else "expired")

    @rule(which=reservations)
    def expire(self, which: UUID) -> None:
        one = self.model.held[which]
        if one.state == "held":
            let_expire(self.db, self.tenant_id, which)
            one.free = True

    @rule(most=st.integers(1, 3))
    def release_expired(self, most: int) -> None:
        assert 0 <= self.call(lambda stock: stock.release_expired(most)) <= most

    @rule(which=made)
    def repeat(self, which: Any) -> None:
        work, result = which
        assert self.call(work) == result

    @rule(which=consumes(made), at=WHICH)
    def reuse_the_key(self, which: Any, at: int) -> None:
        _, result = which
        key = result[0].key if isinstance(result, tuple) else result.key
        self.call(lambda stock: stock.receive(self.products[at], 1_000_003, key=key), refused=IdempotencyKeyReused)

    @invariant()
    def the_database_has_what_the_model_has(self) -> None:
        with self.db.tenant(self.tenant_id) as session:
            found = InventoryRepository(session).get_many(self.products)
        assert [(one.quantity, one.available) for one in found if one] == [
            (self.model.on_hand[at], self.model.available(at)) for at in range(3)
        ]
        assert_books_add_up(self.db, self.tenant_id)


def test_m10_any_sequence_of_calls_does_what_the_model_does(shared_db: Database) -> None:
    class OnThisDatabase(StockMachine):
        db = shared_db

    run_state_machine_as_test(OnThisDatabase, settings=settings(max_examples=15, stateful_step_count=40))
