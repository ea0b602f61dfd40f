"""Write order lines of one tenant in one transaction; what is there already is left as it is."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any
from uuid import UUID

import msgspec
from sqlalchemy import Result, TextClause, func, select, text

from dataarch.database.unit_of_work import Database, TenantSession
from dataarch.errors import SlugTaken
from dataarch.models import Tenant
from dataarch.models.base import new_id
from dataarch.pipelines.feeds.retail.ledger import Movement, Stock, movements
from dataarch.pipelines.feeds.retail.validate import OrderLine

__all__ = ["CURRENCY", "load_lines", "tenant_of"]

CURRENCY = "GBP"


def rows_of(**columns: str) -> str:
    """Return SQL that turns the parameter ``rows``, a JSON array of objects, into rows of these columns.

    A batch is one statement whatever its size, and JSON is what Python writes fastest: psycopg's arrays cost the client
    three times as much.
    """
    typed = ", ".join(f"{name} {kind}" for name, kind in columns.items())
    return f"json_to_recordset(CAST(:rows AS json)) AS given ({typed})"


ONE_FEED_A_TENANT = text("SELECT pg_advisory_xact_lock(hashtextextended('dataarch.feed.' || :tenant, 0))")

ADD_USERS = text(
    f"""
    INSERT INTO users (tenant_id, id, external_id, full_name)
    SELECT :tenant, id, external_id, 'Customer ' || external_id FROM {rows_of(id="uuid", external_id="text")}
    ON CONFLICT (tenant_id, external_id) DO NOTHING
    """
)
USERS = text(
    """
    SELECT external_id, id FROM unnest(CAST(:keys AS text[])) AS key
    JOIN users ON users.tenant_id = :tenant AND users.external_id = key
    """
)

ADD_PRODUCTS = text(
    f"""
    INSERT INTO products (tenant_id, id, external_id, slug, name, price, currency)
    SELECT :tenant, id, external_id, slug, name, price, '{CURRENCY}'
    FROM {rows_of(id="uuid", external_id="text", slug="text", name="text", price="bigint")}
    ON CONFLICT (tenant_id, external_id) DO NOTHING
    """
)
PRODUCTS = text(
    """
    SELECT external_id, id FROM unnest(CAST(:keys AS text[])) AS key
    JOIN products ON products.tenant_id = :tenant AND products.external_id = key
    """
)

ADD_ACTIVITY = text(
    f"""
    INSERT INTO user_activity_log (tenant_id, id, user_id, activity_type, metadata, created_at)
    SELECT :tenant, id, user_id, activity_type, metadata, created_at
    FROM {rows_of(id="uuid", user_id="uuid", activity_type="text", metadata="jsonb", created_at="timestamptz")}
    ON CONFLICT (tenant_id, id, created_at) DO NOTHING
    RETURNING id
    """
)

STOCK = text(
    """
    SELECT product_id, quantity, last_sequence FROM inventory
    WHERE tenant_id = :tenant AND product_id = ANY(:keys) ORDER BY product_id FOR UPDATE
    """
)
TELL_PREDECESSORS = text(
    f"""
    UPDATE inventory_movements AS movement SET next_sequence = given.sequence + 1
    FROM {rows_of(product_id="uuid", sequence="bigint")}
    WHERE movement.tenant_id = :tenant AND movement.product_id = given.product_id
      AND movement.sequence = given.sequence
    """
)
ADD_MOVEMENTS = text(
    f"""
    INSERT INTO inventory_movements (tenant_id, product_id, sequence, next_sequence, id, quantity_before, change,
                                     quantity_after, reason, reference, occurred_at)
    SELECT :tenant, product_id, sequence, next_sequence, id, before, change, before + change, reason, reference, at
    FROM {
        rows_of(
            product_id="uuid",
            sequence="bigint",
            next_sequence="bigint",
            id="uuid",
            before="bigint",
            change="bigint",
            reason="text",
            reference="text",
            at="timestamptz",
        )
    }
    """
)
SET_STOCK = text(
    f"""
    INSERT INTO inventory (tenant_id, product_id, quantity, last_sequence)
    SELECT :tenant, product_id, quantity, last_sequence
    FROM {rows_of(product_id="uuid", quantity="bigint", last_sequence="bigint")}
    ON CONFLICT (tenant_id, product_id) DO UPDATE
    SET quantity = EXCLUDED.quantity, last_sequence = EXCLUDED.last_sequence
    """
)


def tenant_of(db: Database, slug: str, name: str) -> UUID:
    """Return the id of the tenant with this slug, made if there is none yet. Safe to run at the same time."""
    find = select(func.find_tenant(slug))
    with db.session() as session:
        found: UUID | None = session.scalar(find)
    if found is not None:
        return found
    made = new_id()
    try:
        with db.tenant(made) as session:
            session.add(Tenant(id=made, slug=slug, name=name))
    except SlugTaken:
        # somebody else made it in between
        with db.session() as session:
            return UUID(str(session.scalars(find).one()))
    return made


def load_lines(session: TenantSession, lines: Sequence[OrderLine], source: str) -> int:
    """Write lines of one tenant within the session's transaction.

    Args:
        session: a unit of work of the tenant.
        lines: in the order in which they happened; ids may repeat.
        source: the file's name, kept with each activity.

    Returns:
        How many lines were new; the others were there already and changed nothing.

    Idempotent. One load a tenant runs at a time, by advisory lock. Stock and activity commit together or not at all.
    """
    session.execute(ONE_FEED_A_TENANT, {"tenant": str(session.tenant_id)})
    users = _users(session, lines)
    products = _products(session, lines)
    rows = [_activity(line, users[line.customer], products[line.stock_code], source) for line in lines]
    new = set(_run(session, ADD_ACTIVITY, rows).scalars())
    fresh = [line for line in lines if line.id in new]
    _move_stock(session, fresh, products)
    return len(fresh)


def _run(session: TenantSession, statement: TextClause, rows: Sequence[Mapping[str, object]]) -> Result[Any]:
    batch = msgspec.json.encode(rows).decode()
    return session.execute(statement, {"tenant": session.tenant_id, "rows": batch})


def _ids(session: TenantSession, statement: TextClause, keys: Sequence[str]) -> dict[str, UUID]:
    found = session.execute(statement, {"tenant": session.tenant_id, "keys": keys})
    return {row[0]: row[1] for row in found}


def _users(session: TenantSession, lines: Iterable[OrderLine]) -> dict[str, UUID]:
    customers = sorted({line.customer for line in lines})
    found = _ids(session, USERS, customers)
    if missing := [customer for customer in customers if customer not in found]:
        _run(session, ADD_USERS, [{"id": new_id(), "external_id": customer} for customer in missing])
        found = _ids(session, USERS, customers)
    return found


def _products(session: TenantSession, lines: Sequence[OrderLine]) -> dict[str, UUID]:
    first = {line.stock_code: line for line in reversed(lines)}
    found = _ids(session, PRODUCTS, sorted(first))
    if missing := [first[code] for code in sorted(first) if code not in found]:
        _run(session, ADD_PRODUCTS, [_product(line) for line in missing])
        found = _ids(session, PRODUCTS, sorted(first))
    return found


def _product(line: OrderLine) -> dict[str, object]:
    return {
        "id": new_id(),
        "external_id": line.stock_code,
        "slug": line.product_slug,
        "name": line.description,
        "price": line.price_in_pence,
    }


def _activity(line: OrderLine, user_id: UUID, product_id: UUID, source: str) -> dict[str, object]:
    return {
        "id": line.id,
        "user_id": user_id,
        "activity_type": "purchase" if line.quantity > 0 else "return",
        "created_at": line.at,
        "metadata": {
            "invoice": line.invoice,
            "product": product_id,
            "stock_code": line.stock_code,
            "quantity": line.quantity,
            "unit_price": line.price,
            "source": source,
            "line": line.number,
        },
    }


def _move_stock(session: TenantSession, lines: Iterable[OrderLine], products: Mapping[str, UUID]) -> None:
    by_product: dict[UUID, list[OrderLine]] = defaultdict(list)
    for line in lines:
        by_product[products[line.stock_code]].append(line)
    if not by_product:
        return
    stocks = _stocks(session, sorted(by_product))
    made = {
        product: list(movements(stocks.get(product, Stock()), by_product[product])) for product in sorted(by_product)
    }
    _run(
        session,
        TELL_PREDECESSORS,
        [{"product_id": product, "sequence": stock.last_sequence} for product, stock in stocks.items()],
    )
    _run(session, ADD_MOVEMENTS, [_movement(product, step, last) for product, step, last in _with_last(made)])
    _run(
        session,
        SET_STOCK,
        [
            {"product_id": product, "quantity": steps[-1].after, "last_sequence": steps[-1].sequence}
            for product, steps in made.items()
        ],
    )


def _stocks(session: TenantSession, products: Sequence[UUID]) -> dict[UUID, Stock]:
    found = session.execute(STOCK, {"tenant": session.tenant_id, "keys": products})
    return {product: Stock(quantity, last) for product, quantity, last in found}


def _with_last(made: Mapping[UUID, Sequence[Movement]]) -> Iterator[tuple[UUID, Movement, bool]]:
    for product, steps in made.items():
        for step in steps:
            yield product, step, step is steps[-1]


def _movement(product_id: UUID, step: Movement, last: bool) -> dict[str, object]:  # noqa: FBT001  # a fact, not a switch
    return {
        "product_id": product_id,
        "sequence": step.sequence,
        "next_sequence": 0 if last else step.sequence + 1,
        "id": step.id,
        "before": step.before,
        "change": step.change,
        "reason": step.reason,
        "reference": step.reference,
        "at": step.at,
    }
