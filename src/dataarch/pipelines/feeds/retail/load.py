"""Write order lines of one tenant within a unit of work; what is there already is left as it is."""

from __future__ import annotations

from array import array
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, ClassVar, NamedTuple, cast, overload
from uuid import UUID

import msgspec
from sqlalchemy import TextClause, text

from dataarch.clock import Month, utcnow
from dataarch.database.unit_of_work import TenantSession
from dataarch.errors import AlreadyExists, Retryable
from dataarch.models import Base, UserActivity
from dataarch.models.base import new_id
from dataarch.pipelines.feeds.retail.statements import (
    ADD_ACTIVITY,
    ADD_NEW_ACTIVITY,
    ANY_THERE,
    HOLD_STOCK,
    LINES,
    MAKE_STAGE,
    MOVE_STOCK,
    ONE_FEED_A_TENANT,
    STAGE,
)
from dataarch.pipelines.feeds.retail.validate import OrderLine
from dataarch.pipelines.pipeline import Loaded, Referred, Written
from dataarch.pipelines.records import Row
from dataarch.repositories.bulk.encoding import Encoder
from dataarch.repositories.bulk.fields import EPOCH, MICROSECOND
from dataarch.repositories.bulk.months import Months
from dataarch.repositories.bulk.outcome import BulkResult, WrittenIds
from dataarch.repositories.bulk.stage import framed
from dataarch.repositories.bulk.wire import Wire

__all__ = ["CURRENCY", "RetailLines"]

CURRENCY = "GBP"

MONTHS_BEHIND = 3
"""Months that are made together with a missing one."""

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

    One load a tenant moves stock at a time, by advisory lock; stock that others move waits until it is committed.
    """

    whole: ClassVar[bool] = False
    all_or_nothing: ClassVar[bool] = True

    def begin(self, session: TenantSession) -> int:  # noqa: ARG002
        """Do nothing."""
        return 0

    def prepare(self, rows: Sequence[Row], tenant_id: UUID) -> Sequence[Row]:  # noqa: ARG002
        """Find what comes twice, and what lines refer to."""
        return Lines.of(rows)

    def refer(self, session: TenantSession, rows: Sequence[Row]) -> Referred:
        """Make the users and products of lines."""
        lines = Lines.of(rows)
        users = _Ids(session, USERS, lines.customers)
        users.find_or_make(lambda _: {})
        products = _Ids(session, PRODUCTS, lines.codes)
        products.find_or_make(lambda at: _product(lines[at]))
        return Referred(replace(lines, users=users.ids, products=products.ids), (users.written, products.written))

    def start(self, session: TenantSession, rows: Sequence[Row]) -> Callable[[], Loaded]:
        """Write the activity, and return what moves stock.

        The lock is not waited for: it may be rows before that have it. Where another load of the tenant comes in
        between, and has some of the same lines, the server sees both wait, and ends one, which is tried again.
        """
        wire = Wire(session)
        activity = _activity(session, wire, rows)

        def finish() -> Loaded:
            wire.rows(ONE_FEED_A_TENANT, (session.tenant_id,))
            return _loaded(session, wire, activity)

        return finish

    def load(self, session: TenantSession, rows: Sequence[Row]) -> Loaded:
        """Write lines of one tenant, in any order; their times say in which they happened."""
        wire = Wire(session)
        wire.rows(ONE_FEED_A_TENANT, (session.tenant_id,))
        return _loaded(session, wire, _activity(session, wire, rows))


@dataclass(frozen=True)
class Lines(Sequence[OrderLine]):
    """Order lines of one tenant, and what is known of them.

    Attributes:
        lines: all of them.
        places: where each line stands first.
        customers: where each customer comes first.
        codes: where each stock code does.
        users: the ids of customers, where they are made already.
        products: the ids of stock codes, likewise.
    """

    lines: Sequence[OrderLine]
    places: Sequence[int]
    customers: Mapping[str, int]
    codes: Mapping[str, int]
    users: Mapping[str, UUID] | None = None
    products: Mapping[str, UUID] | None = None

    @cached_property
    def distinct(self) -> Sequence[OrderLine]:
        """Each line once."""
        return self.lines if len(self.places) == len(self.lines) else [self.lines[place] for place in self.places]

    @classmethod
    def of(cls, rows: Sequence[Row]) -> Lines:
        """Return rows as lines, if they are not yet."""
        if isinstance(rows, Lines):
            return rows
        lines = cast("Sequence[OrderLine]", rows)
        # by numbers, which are compared faster than UUIDs
        first = {line["id"].int: place for place, line in reversed(list(enumerate(lines)))}
        places = sorted(first.values()) if len(first) < len(lines) else range(len(lines))
        customers = {lines[at]["customer"]: at for at in reversed(places)}
        return cls(lines, places, customers, {lines[at]["stock_code"]: at for at in reversed(places)})

    def __len__(self) -> int:
        return len(self.lines)

    @overload
    def __getitem__(self, at: int) -> OrderLine: ...

    @overload
    def __getitem__(self, at: slice) -> Sequence[OrderLine]: ...

    def __getitem__(self, at: int | slice) -> OrderLine | Sequence[OrderLine]:
        return self.lines[at]


class _Activity(NamedTuple):
    """Lines whose activity is written: the places of those that were not there, and what was made for them."""

    lines: Lines
    new: Sequence[int]
    written: tuple[Written, ...]


def _activity(session: TenantSession, wire: Wire, rows: Sequence[Row]) -> _Activity:
    lines = Lines.of(rows)
    written: tuple[Written, ...] = ()
    _make_months(session, wire, lines)
    if lines.users is None or lines.products is None:
        referred = RetailLines().refer(session, lines)
        lines, written = Lines.of(referred.rows), referred.written
    wire.execute(MAKE_STAGE)
    wire.copy(COPY, framed(_encoded(lines)))
    there = _added(session, wire, lines)
    new = [place for at, place in enumerate(lines.places) if at not in there] if there else lines.places
    return _Activity(lines, new, written)


def _added(session: TenantSession, wire: Wire, lines: Lines) -> set[int]:
    """Write the activity of the lines on the stage; return the places of those that were there already.

    To look for each line costs as much as to write it: where the log has nothing of their time, none is looked for.
    """
    tenant = session.tenant_id
    ids, times = ([line["id"].int for line in lines.distinct], [line["at"] for line in lines.distinct])
    span = (UUID(int=min(ids)), UUID(int=max(ids)), min(times), max(times)) if ids else None
    if span is None or wire.rows(ANY_THERE, (tenant, *span))[0][0]:
        return {place for (place,) in wire.rows(ADD_NEW_ACTIVITY, (tenant,))}
    try:
        wire.execute(ADD_ACTIVITY, (tenant,))
    except AlreadyExists as error:
        raise Retryable("Somebody else has loaded some of these lines meanwhile.") from error
    return set()


def _loaded(session: TenantSession, wire: Wire, activity: _Activity) -> Loaded:
    lines, new, referred = activity
    if new:
        _move_stock(session, wire)
    ids = _written(new, [lines.lines[place]["id"] for place in new])
    result = BulkResult(read=len(lines), inserted=len(new), duplicate=len(lines) - len(new))
    return Loaded(result, (Written("user_activity_log", ids), *referred))


COLUMNS = [column.name for column in LINES.columns]
COPY = f"COPY {STAGE} (position, {', '.join(COLUMNS)}) FROM STDIN (FORMAT binary)"
ENCODER = Encoder(LINES, COLUMNS, numbered=True)


def _encoded(lines: Lines) -> Iterator[bytes]:
    users, products = lines.users or {}, lines.products or {}
    for start in range(0, len(lines.distinct), PIECE):
        some = lines.distinct[start : start + PIECE]
        rows = [
            (
                line["id"],
                users[line["customer"]],
                products[line["stock_code"]],
                line["at"],
                line["quantity"],
                line["invoice"],
                line["stock_code"],
                line["price"].text,
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


def _make_months(session: TenantSession, wire: Wire, lines: Lines) -> None:
    """Make the months of lines, before anything else is read or written that this would wait for.

    While a month is made nobody else can write, and it waits for all who do: so the months behind a missing one, which
    orders in the order of their times come to next, are made with it.
    """
    months = Months(wire, Base.metadata.tables[UserActivity.__tablename__], session.unit.origin)
    needed = {Month(year, month) for year, month in {(line["at"].year, line["at"].month) for line in lines.lines}}
    if missing := months.missing(list(map(_begins, needed))):
        this_month = Month.of(utcnow())
        behind = {month.plus(by) for month in missing for by in range(1, MONTHS_BEHIND + 1)}
        missing |= months.missing([_begins(month) for month in behind if month <= this_month])
    months.make(missing)


def _begins(month: Month) -> int:
    """Return when a month begins, in microseconds since 2000."""
    return (month.start - EPOCH) // MICROSECOND


def _product(line: OrderLine) -> dict[str, Any]:
    return {"slug": line["product_slug"], "name": line["description"], "price": line["price"].pence}


class _Ids:
    """The ids of rows by their keys; ``places`` says which line each key comes from first."""

    def __init__(self, session: TenantSession, keyed: Keyed, places: Mapping[str, int]) -> None:
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
