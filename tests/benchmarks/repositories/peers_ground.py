"""What peers are measured on: one database for all, its rows, and what must be in it when the work is done."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence, Sized
from contextlib import ExitStack
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any
from uuid import UUID

import psycopg
from psycopg.types.json import Jsonb

from benchmarks.partitions.history import connected
from benchmarks.repositories.peers_measure import Took, Way
from dataarch.clock import Month, utcnow
from dataarch.database.settings import Settings
from dataarch.models.base import new_id

__all__ = [
    "ACTIVITY_COLUMNS", "LATEST", "MONTHS", "PRODUCT_COLUMNS", "UPDATED", "UPSERT", "WANTED", "Ground", "Opens",
    "Row", "activities", "before_upsert", "check_activities", "check_latest", "check_products", "encoded", "minor",
    "products", "values",
]  # fmt: skip

MONTHS = 3
WANTED = 50

ACTIVITY_COLUMNS = ("tenant_id", "id", "user_id", "activity_type", "metadata", "created_at")
PRODUCT_COLUMNS = (
    "tenant_id", "id", "slug", "external_id", "name", "price", "currency", "created_at", "updated_at",
)  # fmt: skip
UPDATED = ("slug", "name", "price", "currency", "updated_at")

LATEST = f"""
SELECT {", ".join(ACTIVITY_COLUMNS)} FROM user_activity_log
WHERE tenant_id = {{}} AND user_id = {{}} ORDER BY created_at DESC LIMIT {{}}
"""
"""The plain statement, with the driver's own parameters."""

UPSERT = f"""
INSERT INTO products ({", ".join(PRODUCT_COLUMNS)}) {{}}
ON CONFLICT (tenant_id, external_id) DO UPDATE SET {", ".join(f"{name} = EXCLUDED.{name}" for name in UPDATED)}
"""

SEED = """
INSERT INTO products (tenant_id, slug, external_id, name, price, currency)
    SELECT %s, 'product-' || n, 'x' || n, 'Product number ' || n, 100, 'GBP' FROM generate_series(0, %s - 1, 2) AS n
"""

Row = dict[str, Any]


@dataclass(frozen=True)
class Ground:
    """A database, and the rows that everybody is given.

    Attributes:
        settings: of the application role and of the owner.
        owner: the owner's connection, in autocommit mode.
        tenant_id: whose rows they are.
        user_id: whose latest activities are asked for.
        rows: by the names of columns, in Python's own types.
    """

    settings: Settings
    owner: psycopg.Connection[Any]
    tenant_id: UUID
    user_id: UUID
    rows: list[Row] = field(default_factory=list)

    def login(self) -> dict[str, Any]:
        """Return how the owner connects, as libpq names it."""
        found = self.owner.info
        names = ("host", "port", "user", "password", "dbname")
        return {name: value for name in names if (value := getattr(found, name))}

    def connect(self) -> psycopg.Connection[Any]:
        """Return one more connection of the owner's."""
        return connected(self.settings.owner)


Opens = Callable[[ExitStack, Ground], Sequence[Way]]
"""Connects a peer for as long as the stack lasts, and returns its ways."""


def activities(count: int, tenant_id: UUID, users: Sequence[UUID]) -> list[Row]:
    """Return activities of three months, in the order of time, as a log grows."""
    chance = random.Random(count)
    newest = utcnow()
    oldest = Month.of(newest).plus(1 - MONTHS).start
    return [
        {
            "tenant_id": tenant_id,
            "id": new_id(),
            "user_id": chance.choice(users),
            "activity_type": chance.choice(("view", "login", "purchase")),
            "metadata": {"page": number % 1000, "referrer": "home", "price": number / 100},
            "created_at": oldest + (newest - oldest) * (number / count),
        }
        for number in range(count)
    ]


def products(count: int, tenant_id: UUID) -> list[Row]:
    """Return products in any order; each second one is there already at another price."""
    now = utcnow()
    rows = [
        {
            "tenant_id": tenant_id,
            "id": new_id(),
            "slug": f"product-{n}",
            "external_id": f"x{n}",
            "name": f"Product number {n}",
            "price": Decimal(n % 10_000 + 200) / 100,
            "currency": "GBP",
            "created_at": now,
            "updated_at": now,
        }
        for n in range(count)
    ]
    random.Random(1).shuffle(rows)
    return rows


def before_upsert(ground: Ground) -> None:
    """Make the table of products as it is before an upsert."""
    ground.owner.execute("TRUNCATE products CASCADE")
    ground.owner.execute(SEED, [ground.tenant_id, len(ground.rows)])
    ground.owner.execute("VACUUM (ANALYZE) products")
    ground.owner.execute("CHECKPOINT")


def check_activities(ground: Ground) -> None:
    """Raise where not all activities are in the log."""
    _same(ground, "SELECT count(*), count(DISTINCT id) FROM user_activity_log", (len(ground.rows), len(ground.rows)))


def check_products(ground: Ground) -> None:
    """Raise where the products are not as they were given."""
    digest = "SELECT count(*), sum(price), max(slug), max(name) FROM products"
    price = sum(row["price"] for row in minor(ground.rows))
    _same(
        ground, digest, (len(ground.rows), price, *(max(row[name] for row in ground.rows) for name in ("slug", "name")))
    )


def _same(ground: Ground, query: str, expected: tuple[object, ...]) -> None:
    found = ground.owner.execute(query.encode()).fetchone()
    if found != expected:
        raise AssertionError(f"{found} is there and not {expected}")


def check_latest(took: Took) -> None:
    """Raise where a read has not found as many as it should."""
    found = len(took.result) if isinstance(took.result, Sized) else 0
    if found != WANTED:
        raise AssertionError(f"{found} activities were found and not {WANTED}: has the log enough of the last months?")


def minor(rows: Sequence[Row]) -> list[Row]:
    """Return products with prices as the table has them, for those who know nothing of the models' type."""
    return [{**row, "price": int(row["price"] * 100)} for row in rows]


def values(row: Row, columns: Sequence[str]) -> tuple[Any, ...]:
    """Return a row as a tuple."""
    return tuple(row[name] for name in columns)


def encoded(ground: Ground, table: str, columns: Sequence[str], rows: Sequence[Row]) -> bytes:
    """Return rows as COPY BINARY has them, written by the server itself."""
    names = ", ".join(columns)
    with ground.owner.transaction(), ground.owner.cursor() as cursor:
        cursor.execute(f"CREATE TEMP TABLE given ON COMMIT DROP AS SELECT {names} FROM {table} WITH NO DATA".encode())
        with cursor.copy(f"COPY given ({names}) FROM STDIN".encode()) as copy:
            for row in rows:
                copy.write_row([Jsonb(value) if isinstance(value, dict) else value for value in values(row, columns)])
        with cursor.copy("COPY given TO STDOUT (FORMAT binary)") as copy:
            return b"".join(copy)
