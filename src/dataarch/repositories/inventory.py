"""Stock: what is on hand, and movements and reservations that are never lost, never twice and never too many.

::

    with db.tenant(tenant_id) as session:
        stock = InventoryRepository(session)
        stock.receive(product_id, 10, key=delivery_line_id)
        stock.reserve(product_id, 2, key=order_line_id, expires_at=utcnow() + timedelta(minutes=15))
        stock.ship_reserved(order_line_id, key=shipment_line_id)

A key names one call. Make it once, where the work begins, and keep it with the work: whoever does not know whether a
call came through repeats it, in this unit of work or any later one, and gets the same result.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import datetime
from typing import Any
from uuid import UUID, uuid5

from sqlalchemy import select, text
from sqlalchemy.orm import Session

from dataarch.database.row_keys import row_id
from dataarch.errors import InvalidValue
from dataarch.models import InventoryMovement, InventoryReservation
from dataarch.repositories.queries import OfTenant
from dataarch.repositories.stock_calls import StockCalls
from dataarch.repositories.stock_refusals import refusal
from dataarch.repositories.stock_results import Move, Moved, Reservation, Stock
from dataarch.repositories.stock_values import change_of, how_many, instant, reason_for, reference_of

__all__ = ["InventoryQueries", "InventoryRepository"]

MOST_READ = 10_000

# a reservation that has expired keeps nothing, even where nobody has found it out
STOCKS = text(
    """
    SELECT product.id, coalesce(stock.quantity, 0), coalesce(stock.last_sequence, 0),
           coalesce(stock.quantity - stock.reserved, 0) + CAST(coalesce((
               SELECT sum(gone.quantity) FROM inventory_reservations AS gone
               WHERE gone.tenant_id = :tenant AND gone.product_id = product.id AND gone.state = 'held'
                 AND gone.expires_at <= clock_timestamp()
           ), 0) AS bigint)
    FROM products AS product
    LEFT JOIN inventory AS stock ON stock.tenant_id = :tenant AND stock.product_id = product.id
    WHERE product.tenant_id = :tenant AND product.id = ANY(:ids)
    """
)


class InventoryQueries(OfTenant):
    """Reads of a tenant's stock; may run on a replica."""

    def on_hand(self, product_id: UUID | str) -> int:
        """Return how many of a product are on hand, reserved ones among them; 0 where it was never stocked.

        Raises:
            UnknownProduct: the tenant has no such product.
            InvalidValue: the id is no UUID.
        """
        return self._known(product_id).quantity

    def available(self, product_id: UUID | str) -> int:
        """Return how many of a product can be shipped or reserved now; raises as :meth:`on_hand`."""
        return self._known(product_id).available

    def get(self, product_id: UUID | str) -> Stock | None:
        """Return what there is of a product, or None where the tenant has no such product."""
        return self.get_many([product_id])[0]

    def get_many(self, product_ids: Iterable[UUID | str]) -> list[Stock | None]:
        """Return what there is of products, in the order given, with None for those that the tenant does not have."""
        ids = [_product(one) for one in product_ids]
        if not ids:
            return []
        self.session.flush()
        found = self.session.execute(STOCKS, {"tenant": self.tenant_id, "ids": list(dict.fromkeys(ids))})
        stocks = {product: Stock(product, quantity, free, last) for product, quantity, last, free in found}
        return [stocks.get(one) for one in ids]

    def movements(
        self, product_id: UUID | str, *, before: int | None = None, limit: int = 50
    ) -> Sequence[InventoryMovement]:
        """Return movements of a product, the newest first.

        Args:
            product_id: the product.
            before: only those with smaller numbers: the last one's ``sequence`` gives the next page.
            limit: how many at the most, 1 to 10,000.

        Raises:
            InvalidValue: the id is no UUID, or a number is out of bounds.

        Guarantee: the ledger only grows at its new end, so pages by ``before`` neither skip nor repeat a movement.
        """
        of_product = select(InventoryMovement).where(InventoryMovement.product_id == _product(product_id))
        if before is not None:
            of_product = of_product.where(InventoryMovement.sequence < how_many(before))
        newest = of_product.order_by(InventoryMovement.sequence.desc()).limit(how_many(limit, most=MOST_READ))
        return self.session.scalars(newest, execution_options={"populate_existing": True}).all()

    def reservation(self, reservation_id: UUID | str) -> Reservation | None:
        """Return a reservation as it stands in the table, or None."""
        one = InventoryReservation.id == _reservation_id(reservation_id)
        row = self.session.execute(select(*RESERVATION).where(one)).one_or_none()
        return None if row is None else _reservation(row)

    def reservations(self, product_id: UUID | str, *, limit: int = 1000) -> list[Reservation]:
        """Return what is held of a product, the first to expire first; those that nobody found expired among it."""
        held = (
            select(*RESERVATION)
            .where(InventoryReservation.product_id == _product(product_id))
            .where(InventoryReservation.state == "held")
            .order_by(InventoryReservation.expires_at, InventoryReservation.id)
            .limit(how_many(limit, most=MOST_READ))
        )
        return [_reservation(row) for row in self.session.execute(held)]

    def _known(self, product_id: UUID | str) -> Stock:
        found = self.get(product_id)
        if found is None:
            raise refusal("unknown product", _product(product_id), 0, None)
        return found


RESERVATION = (
    InventoryReservation.id,
    InventoryReservation.product_id,
    InventoryReservation.quantity,
    InventoryReservation.expires_at,
    InventoryReservation.state,
    InventoryReservation.created_at,
    InventoryReservation.ended_at,
)


def _reservation(row: Sequence[Any]) -> Reservation:
    return Reservation(*row)


class InventoryRepository(InventoryQueries):
    """Reads and writes of a tenant's stock. Each write is one round trip, in the caller's unit of work.

    A write raises before anything has changed, and the unit of work goes on where the error is caught:

    - InvalidValue: an id, key or number is none, or a datetime is naive (NaiveDatetime).
    - UnknownProduct: the tenant has no such product, another tenant's among them.
    - InsufficientStock: ``asked`` for more than is ``available``. What expired reservations held is taken first.
    - StockOverflow: more than a bigint would be on hand.
    - IdempotencyKeyReused: the key named another call.

    SerializationFailure, of a stricter isolation level, and Deadlock, where a unit of work makes several calls on
    products in no order, end the transaction: try the whole unit of work again, with the same keys.
    """

    def __init__(self, session: Session) -> None:
        """As :class:`InventoryQueries`."""
        super().__init__(session)
        self._calls = StockCalls(self.session)

    def receive(
        self,
        product_id: UUID | str,
        quantity: int,
        *,
        key: UUID | str,
        reference: str | None = None,
        occurred_at: datetime | None = None,
    ) -> Moved:
        """Add what was delivered.

        Args:
            product_id: the product.
            quantity: how many, 1 or more.
            key: names this call.
            reference: the delivery note or the like, of 1 to 200 characters.
            occurred_at: when it happened, aware; None for now.

        Returns:
            The movement; the same for each call with this key.

        Raises:
            As the class says.
        """
        return self._calls.move(_checked(key, product_id, how_many(quantity), "receipt", reference, occurred_at))

    def return_(
        self,
        product_id: UUID | str,
        quantity: int,
        *,
        key: UUID | str,
        reference: str | None = None,
        occurred_at: datetime | None = None,
    ) -> Moved:
        """Add what a customer gave back; as :meth:`receive`."""
        return self._calls.move(_checked(key, product_id, how_many(quantity), "return", reference, occurred_at))

    def ship(
        self,
        product_id: UUID | str,
        quantity: int,
        *,
        key: UUID | str,
        reference: str | None = None,
        occurred_at: datetime | None = None,
    ) -> Moved:
        """Take what is sold from what nobody has reserved; as :meth:`receive`."""
        return self._calls.move(_checked(key, product_id, -how_many(quantity), "sale", reference, occurred_at))

    def ship_reserved(
        self,
        reservation_id: UUID | str,
        *,
        key: UUID | str,
        reference: str | None = None,
        occurred_at: datetime | None = None,
    ) -> Moved:
        """Take all that a reservation holds.

        Raises:
            UnknownReservation: the tenant has none with this id.
            ReservationExpired: it came too late, even where nobody has taken the stock yet.
            ReservationEnded: it was shipped, by another call, or released.
        """
        at = None if occurred_at is None else instant(occurred_at)
        return self._calls.ship_reserved(_reservation_id(reservation_id), _key(key), reference_of(reference), at)

    def adjust(
        self,
        product_id: UUID | str,
        change: int,
        *,
        key: UUID | str,
        reference: str | None = None,
        occurred_at: datetime | None = None,
    ) -> Moved:
        """Correct what is on hand, as after a count, by what is missing (negative) or too many; as :meth:`receive`.

        What is reserved cannot be counted away: release it first.
        """
        return self._calls.move(_checked(key, product_id, change, "adjustment", reference, occurred_at))

    def transfer(
        self,
        source: UUID | str,
        target: UUID | str,
        quantity: int,
        *,
        key: UUID | str,
        arriving: int | None = None,
        reference: str | None = None,
    ) -> tuple[Moved, Moved]:
        """Move stock from one product to another, as when it is repacked.

        Args:
            source: the product that it leaves; only what nobody has reserved does.
            target: the product that it becomes; another one.
            quantity: how many leave.
            key: names this call.
            arriving: how many arrive: 1 case of 12 bottles arrives as 12; None for as many as leave.
            reference: of 1 to 200 characters.

        Returns:
            The movement of the source, whose id is the key, and that of the target.

        Both or none. Deadlock-free: both stocks are locked in the order of the products.
        """
        leaves, arrives = _product(source), _product(target)
        if leaves == arrives:
            raise InvalidValue("A transfer leads from a product to another one.", value=leaves)
        named, into = _key(key), how_many(quantity if arriving is None else arriving)
        taken = Move(named, leaves, -how_many(quantity), "transfer", reference)
        # derived, so that whoever repeats the call names the same movement
        given = Move(uuid5(named, "arrival"), arrives, into, "transfer", reference)
        left, arrived = self.move_many([taken, given])
        return left, arrived

    def move_many(self, moves: Iterable[Move]) -> list[Moved]:
        """Make many movements in one round trip.

        Args:
            moves: in the order in which they are made; each has a key of its own.

        Returns:
            A result for each, in their order.

        Raises:
            As the class says; the error's ``value`` is the movement that was refused, and none is made.

        All or none. Deadlock-free: all stocks are locked first, in the order of the products.
        """
        checked = [
            _checked(move.key, move.product_id, move.change, move.reason, move.reference, move.occurred_at)
            for move in moves
        ]
        return self._calls.move_many(checked) if checked else []

    def reserve(self, product_id: UUID | str, quantity: int, *, key: UUID | str, expires_at: datetime) -> Reservation:
        """Keep a part of what nobody has reserved until a moment.

        Args:
            product_id: the product.
            quantity: how many, 1 or more.
            key: names this call, and is the reservation's id.
            expires_at: until when it is kept, aware, by the clock of the database.

        Returns:
            The reservation; for a call that is repeated, in the state that it is in by now.

        Raises:
            As the class says; InvalidValue where the moment has passed.

        From that moment on the stock goes to whoever needs it first.
        """
        until = instant(expires_at)
        return self._calls.reserve(_key(key), _product(product_id), how_many(quantity), until)

    def release(self, reservation_id: UUID | str) -> Reservation:
        """Let go of what a reservation holds.

        Returns:
            The reservation, released, or expired where its time had passed.

        Raises:
            UnknownReservation: the tenant has none with this id.
            ReservationEnded: it was shipped.

        Idempotent: the reservation's id is the key.
        """
        return self._calls.release(_reservation_id(reservation_id))

    def release_expired(self, limit: int = 1000) -> int:
        """Let go of reservations that have expired, the oldest first.

        Args:
            limit: how many at the most, 1 to 10,000.

        Returns:
            How many there were. Those of products that somebody is at work on are left for the next time.

        Waits for nobody. Nothing depends on it but the size of the table's index: whoever needs the stock of expired
        reservations takes it.
        """
        return self._calls.release_expired(how_many(limit, most=MOST_READ))


def _checked(
    key: UUID | str,
    product_id: UUID | str,
    change: int,
    reason: str,
    reference: str | None,
    occurred_at: datetime | None,
) -> Move:
    """Return a movement as it can be sent; raises :class:`InvalidValue`."""
    return Move(
        _key(key),
        _product(product_id),
        change_of(change),
        reason_for(reason, change),
        reference_of(reference),
        None if occurred_at is None else instant(occurred_at),
    )


def _key(value: UUID | str) -> UUID:
    return row_id(value, "key of a call")


def _product(value: UUID | str) -> UUID:
    return row_id(value, "id of a product")


def _reservation_id(value: UUID | str) -> UUID:
    return row_id(value, "id of a reservation")
