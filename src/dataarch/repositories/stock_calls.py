"""The stock's functions in the database, one round trip each; the unit of work is told what they change."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from datetime import datetime
from typing import Any, cast
from uuid import UUID

from sqlalchemy import Row, Table
from sqlalchemy.orm import Session

from dataarch.database.unit_of_work import TenantSession
from dataarch.models import Inventory, InventoryMovement, InventoryReservation
from dataarch.repositories.stock_refusals import refusal
from dataarch.repositories.stock_results import Move, Moved, Reservation

__all__ = ["StockCalls"]

MADE = "outcome, product_id, sequence, quantity_before, moved, occurred_at, available, freed"

# in the driver's own words: what SQLAlchemy has to compile costs the client three times as much
MOVE = f"SELECT {MADE} FROM public.stock_move(%s, %s, %s::bigint, %s, %s, %s, NULL)"
SHIP_RESERVED = f"SELECT {MADE} FROM public.stock_ship_reserved(%s, %s, %s, %s)"
MOVE_MANY = f"SELECT {MADE}, place FROM public.stock_move_many(%s::json)"
RESERVE = """SELECT outcome, state, created_at, ended_at, available, freed
    FROM public.stock_reserve(%s, %s, %s::bigint, %s)"""
RELEASE = "SELECT outcome, product_id, quantity, expires_at, state, created_at, ended_at FROM public.stock_release(%s)"
RELEASE_EXPIRED = "SELECT public.stock_release_expired(%s::bigint)"

MADE_NOW, MADE_BEFORE = "done", "repeated"


class StockCalls:
    """Calls within a unit of work, whose arguments have been looked at."""

    def __init__(self, session: TenantSession) -> None:
        self.session = session

    def move(self, move: Move) -> Moved:
        """Make one movement."""
        row = self._row(MOVE, move.key, move.product_id, move.change, move.reason, move.reference, move.occurred_at)
        return self._moved(row, move.key, about=move.product_id, asked=abs(move.change))

    def move_many(self, moves: Sequence[Move]) -> list[Moved]:
        """Make movements in the order given, all or none, with the stocks locked in the order of their products."""
        rows = self._rows(MOVE_MANY, _as_json(moves))
        if len(rows) == 1 and rows[0].outcome not in (MADE_NOW, MADE_BEFORE):
            refused = moves[rows[0].place - 1]
            error = refusal(rows[0].outcome, refused.product_id, abs(refused.change), rows[0].available)
            error.value = refused
            raise error
        return [self._moved(row, moves[row.place - 1].key, about=row.product_id, asked=0) for row in rows]

    def ship_reserved(self, reservation: UUID, key: UUID, reference: str | None, moved_at: datetime | None) -> Moved:
        """Ship what a reservation holds."""
        row = self._row(SHIP_RESERVED, key, reservation, reference, moved_at)
        made = self._moved(row, key, about=reservation, asked=0)
        if not made.repeated:
            self._told(InventoryReservation, reservation)
        return made

    def reserve(self, key: UUID, product_id: UUID, quantity: int, expires_at: datetime) -> Reservation:
        """Hold a part of a product's stock."""
        row = self._row(RESERVE, key, product_id, quantity, expires_at)
        self._freed(row.freed)
        if row.outcome not in (MADE_NOW, MADE_BEFORE):
            raise refusal(row.outcome, product_id, quantity, row.available)
        repeated = row.outcome == MADE_BEFORE
        if not repeated:
            self._told(Inventory, product_id)
            self._told(InventoryReservation, key)
        return Reservation(
            key, product_id, quantity, expires_at, row.state, row.created_at, row.ended_at, repeated=repeated
        )

    def release(self, reservation: UUID) -> Reservation:
        """Let go of what a reservation holds."""
        row = self._row(RELEASE, reservation)
        if row.outcome not in (MADE_NOW, MADE_BEFORE):
            raise refusal(row.outcome, reservation, 0, None)
        repeated = row.outcome == MADE_BEFORE
        if not repeated:
            self._told(Inventory, row.product_id)
            self._told(InventoryReservation, reservation)
        return Reservation(
            reservation,
            row.product_id,
            row.quantity,
            row.expires_at,
            row.state,
            row.created_at,
            row.ended_at,
            repeated=repeated,
        )

    def release_expired(self, most: int) -> int:
        """Let go of what has expired, where nobody else is at work."""
        released = int(self._rows(RELEASE_EXPIRED, most)[0][0])
        if released:
            self._told_all(Inventory)
            self._told_all(InventoryReservation)
        return released

    # ── sending, and telling who remembers ────────────────────────────────────────────────────────────────────────

    def _rows(self, statement: str, *values: object) -> Sequence[Row[Any]]:
        # such a statement flushes nothing by itself: a product that was just added must be there
        self.session.flush()
        return self.session.connection().exec_driver_sql(statement, values).all()

    def _row(self, statement: str, *values: object) -> Row[Any]:
        return self._rows(statement, *values)[0]

    def _moved(self, row: Row[Any], key: UUID, *, about: UUID, asked: int) -> Moved:
        self._freed(row.freed)
        if row.outcome not in (MADE_NOW, MADE_BEFORE):
            raise refusal(row.outcome, about, asked, row.available)
        repeated = row.outcome == MADE_BEFORE
        made = Moved(
            key, row.product_id, row.sequence, row.quantity_before, row.moved, row.occurred_at, repeated=repeated
        )
        if not repeated:
            self._told(Inventory, made.product_id)
            self._told(InventoryMovement, made.product_id, made.sequence)
            if made.sequence > 1:
                self._told(InventoryMovement, made.product_id, made.sequence - 1)
        return made

    def _freed(self, freed: int | None) -> None:
        """Tell that reservations of a product, nobody knows which, were found to have expired."""
        if freed:
            self._told_all(Inventory)
            self._told_all(InventoryReservation)

    def _told(self, model: type[Inventory | InventoryMovement | InventoryReservation], *key: object) -> None:
        # nobody else collects where nobody listens
        if self.session.unit.listener is not None:
            self.session.unit.changed(_table(model), key)
        if len(self.session.identity_map):
            known = self.session.identity_map.get(Session.identity_key(model, (self.session.tenant_id, *key)))
            if known is not None:
                self.session.expire(known)

    def _told_all(self, model: type[Inventory | InventoryReservation]) -> None:
        self.session.unit.changed(_table(model))
        for known in self.session.identity_map.values():
            if isinstance(known, model):
                self.session.expire(known)


def _table(model: type[Inventory | InventoryMovement | InventoryReservation]) -> Table:
    return cast("Table", model.__table__)


def _as_json(moves: Iterable[Move]) -> str:
    return json.dumps(
        [
            {
                "key": str(move.key),
                "product_id": str(move.product_id),
                "change": move.change,
                "reason": move.reason,
                "reference": move.reference,
                "occurred_at": None if move.occurred_at is None else move.occurred_at.isoformat(),
            }
            for move in moves
        ]
    )
