"""Write order lines of one tenant within a unit of work; what is there already is left as it is."""

from __future__ import annotations

from array import array
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, NamedTuple, cast
from uuid import UUID

import msgspec
from sqlalchemy import TextClause, text

from dataarch.clock import Month
from dataarch.database.unit_of_work import TenantSession
from dataarch.models import Base, UserActivity
from dataarch.models.base import new_id
from dataarch.pipelines.feeds.retail.statements import (
    ADD_ACTIVITY,
    HOLD_STOCK,
    LINES,
    MAKE_STAGE,
    MOVE_STOCK,
    ONE_FEED_A_TENANT,
    STAGE,
)
from dataarch.pipelines.feeds.retail.validate import OrderLine
from dataarch.pipelines.pipeline import Loaded, Written
from dataarch.pipelines.records import Row
from dataarch.repositories.bulk.encoding import Encoder
from dataarch.repositories.bulk.fields import EPOCH, MICROSECOND
from dataarch.repositories.bulk.months import Months
from dataarch.repositories.bulk.outcome import BulkResult, WrittenIds
from dataarch.repositories.bulk.stage import framed
from dataarch.repositories.bulk.wire import Wire

__all__ = ["CURRENCY", "RetailLines"]

CURRENCY = "GBP"

PIECE = 1_000
"""Lines that are encoded while the server digests the ones before."""


def rows_of(**columns: str) -> str:
    """Return SQL that turns the parameter ``rows``, a JSON array of objects, into rows of these columns."""
    typed = ", ".join(f"{name} {kind}" for name, kind in columns.items())
    return f"json_to_recordset(CAST(:rows AS json)) AS given ({typed})"


class Keyed(NamedTuple):
    """A table whose rows are known by a key of the source: how to find their ids, and how to add some."""

    table: str
    find: TextClause
    add: TextClause


USERS = Keyed(
    "users",
    text(
        """
        SELECT external_id, id FROM unnest(CAST(:keys AS text[])) AS key
        JOIN users ON users.tenant_id = :tenant AND users.external_id = key
        """
    ),
    text(
        f"""
        INSERT INTO users (tenant_id, id, external_id, full_name)
        SELECT :tenant, id, external_id, 'Customer ' || external_id FROM {rows_of(id="uuid", external_id="text")}
        ON CONFLICT (tenant_id, external_id) DO NOTHING RETURNING external_id, id
        """
    ),
)

PRODUCTS = Keyed(
    "products",
    text(
        """
        SELECT external_id, id FROM unnest(CAST(:keys AS text[])) AS key
        JOIN products ON products.tenant_id = :tenant AND products.external_id = key
        """
    ),
    text(
        f"""
        INSERT INTO products (tenant_id, id, external_id, slug, name, price, currency)
        SELECT :tenant, id, external_id, slug, name, price, '{CURRENCY}'
        FROM {rows_of(id="uuid", external_id="text", slug="text", name="text", price="bigint")}
        ON CONFLICT (tenant_id, external_id) DO NOTHING RETURNING external_id, id
        """
    ),
)


@dataclass(frozen=True)
class RetailLines:
    """Makes activity, stock movements, and the users and products that they are of, from order lines.

    A line whose activity is there already changes nothing, whatever file it comes from. The source has no deliveries,
    and stock may not go negative: so each day begins with one receipt for what the day needs beyond what is on hand,
    marked as the feed's. A day whose lines are loaded in two parts has a receipt in each; together they are what one
    would have been, and all sums are the same.

    One load a tenant runs at a time, by advisory lock; stock that others move waits until it is committed.
    """

    whole: ClassVar[bool] = False

    def begin(self, session: TenantSession) -> int:  # noqa: ARG002
        """Do nothing."""
        return 0

    def prepare(self, rows: Sequence[Row], tenant_id: UUID) -> Sequence[Row]:  # noqa: ARG002
        """Do nothing."""
        return rows

    def load(self, session: TenantSession, rows: Sequence[Row]) -> Loaded:
        """Write lines of one tenant, in any order; their times say in which they happened."""
        lines = cast("Sequence[OrderLine]", rows)
        wire = Wire(session)
        wire.rows(ONE_FEED_A_TENANT, (session.tenant_id,))
        _make_months(session, wire, lines)
        # by numbers, which are compared faster than UUIDs
        first = {line["id"].int: place for place, line in reversed(list(enumerate(lines)))}
        places = sorted(first.values()) if len(first) < len(lines) else range(len(lines))
        users = _Ids(session, USERS, {lines[at]["customer"]: at for at in reversed(places)})
        users.find_or_make(lambda _: {})
        products = _Ids(session, PRODUCTS, {lines[at]["stock_code"]: at for at in reversed(places)})
        products.find_or_make(lambda at: _product(lines[at]))
        wire.execute(MAKE_STAGE)
        wire.copy(COPY, framed(_encoded(lines, places, users.ids, products.ids)))
        there = {place for (place,) in wire.rows(ADD_ACTIVITY, (session.tenant_id,))}
        new = [place for at, place in enumerate(places) if at not in there] if there else places
        if new:
            _move_stock(session, wire)
        activity = _written(new, [lines[place]["id"] for place in new])
        written = (Written("user_activity_log", activity), users.written, products.written)
        result = BulkResult(read=len(lines), inserted=len(new), duplicate=len(lines) - len(new))
        return Loaded(result, written)


COLUMNS = [column.name for column in LINES.columns]
COPY = f"COPY {STAGE} (position, {', '.join(COLUMNS)}) FROM STDIN (FORMAT binary)"
ENCODER = Encoder(LINES, COLUMNS, numbered=True)


def _encoded(
    lines: Sequence[OrderLine], places: Sequence[int], users: dict[str, UUID], products: dict[str, UUID]
) -> Iterator[bytes]:
    for start in range(0, len(places), PIECE):
        some = [lines[place] for place in places[start : start + PIECE]]
        rows = [
            (
                line["id"],
                users[line["customer"]],
                products[line["stock_code"]],
                line["at"],
                line["quantity"],
                line["invoice"],
                line["stock_code"],
                line["price"],
            )
            for line in some
        ]
        yield ENCODER.encode(rows, start).data


def _move_stock(session: TenantSession, wire: Wire) -> None:
    tenant = session.tenant_id
    wire.rows(HOLD_STOCK, (tenant,))
    wire.execute(MOVE_STOCK, (tenant,) * MOVE_STOCK.count("%s"))
    for table in ("user_activity_log", "inventory", "inventory_movements"):
        session.unit.changed(Base.metadata.tables[table])


def _make_months(session: TenantSession, wire: Wire, lines: Sequence[OrderLine]) -> None:
    """Make the months of lines, before anything else is read or written that this would wait for."""
    months = Months(wire, Base.metadata.tables[UserActivity.__tablename__], session.unit.origin)
    needed = {Month(year, month) for year, month in {(line["at"].year, line["at"].month) for line in lines}}
    months.make(months.missing([(month.start - EPOCH) // MICROSECOND for month in needed]))


def _product(line: OrderLine) -> dict[str, Any]:
    return {"slug": line["product_slug"], "name": line["description"], "price": line["pence"]}


class _Ids:
    """The ids of rows by their keys; ``places`` says which line each key comes from first."""

    def __init__(self, session: TenantSession, keyed: Keyed, places: dict[str, int]) -> None:
        self._session = session
        self._keyed = keyed
        self._places = places
        self.ids: dict[str, UUID] = {}
        self.written = Written(keyed.table, WrittenIds())

    def find_or_make(self, values: Any) -> None:
        """Find them, and add those that are missing, with the values that a line gives."""
        keys = sorted(self._places)
        self.ids = self._found(keys)
        missing = {key: new_id() for key in keys if key not in self.ids}
        if missing:
            rows = [{"id": made, "external_id": key, **values(self._places[key])} for key, made in missing.items()]
            given = msgspec.json.encode(rows).decode()
            added = self._session.execute(self._keyed.add, {"tenant": self._session.tenant_id, "rows": given})
            self.ids |= {row[0]: row[1] for row in added}
            # somebody else may have made some of them in between
            if others := [key for key in missing if key not in self.ids]:
                self.ids |= self._found(others)
            ours = [key for key, made in missing.items() if self.ids[key] == made]
            self.written = Written(
                self._keyed.table, _written([self._places[key] for key in ours], [missing[key] for key in ours])
            )

    def _found(self, keys: list[str]) -> dict[str, UUID]:
        found = self._session.execute(self._keyed.find, {"tenant": self._session.tenant_id, "keys": keys})
        return {row[0]: row[1] for row in found}


def _written(places: Sequence[int], ids: Sequence[UUID]) -> WrittenIds:
    """Return what was written as the lineage takes it."""
    written = WrittenIds()
    numbers = array("i", range(len(ids)))
    numbers.byteswap()
    written.add(b"".join([one.bytes for one in ids]), numbers.tobytes(), 0, places)
    return written
