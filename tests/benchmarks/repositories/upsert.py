"""Measure an upsert of many rows: PYTHONPATH=tests python -m benchmarks.repositories.upsert

100,000 products, half of them there with another price, 1 % bad in five ways. ``upsert_many`` takes all of them as
dicts and reports each bad one; the other way is written by hand: COPY of the good rows alone, encoded beforehand, into
a stage, and INSERT … ON CONFLICT DO UPDATE, in a session of the same role with the same policies. Ends with 1 where
``upsert_many`` has less than 0.80 of its speed. Servers: as in benchmarks/partitions/main_job.py, of a superuser.
"""

from __future__ import annotations

import argparse
import random
import sys
import time
from collections import Counter, defaultdict
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from decimal import Decimal
from statistics import median
from typing import Any
from uuid import UUID

import psycopg
from rich.console import Console
from rich.table import Table
from sqlalchemy import URL

from benchmarks.partitions.history import admin_url, connected, fresh_database
from benchmarks.partitions.verdict import Verdict
from dataarch.database.unit_of_work import Database
from dataarch.models import Product
from dataarch.models.base import new_id
from dataarch.repositories.bulk.encoding import HEADER, TRAILER, Encoder
from dataarch.repositories.bulk.outcome import BulkResult
from dataarch.repositories.bulk.upsert import upsert_many

LIMIT = 0.80
BAD_WAYS = 5
OURS, BY_HAND = "upsert_many", "COPY + ON CONFLICT of the good rows, encoded beforehand"

COLUMNS = "id, slug, external_id, name, price, currency"
MERGE = f"""
    INSERT INTO products AS p (tenant_id, {COLUMNS}) SELECT %s, {COLUMNS} FROM stage
    ON CONFLICT (tenant_id, external_id) DO UPDATE
    SET slug = EXCLUDED.slug, name = EXCLUDED.name, price = EXCLUDED.price, currency = EXCLUDED.currency,
        updated_at = EXCLUDED.updated_at
"""
STAGE = """
    CREATE TEMP TABLE stage (id uuid, slug text, external_id text, name text, price bigint, currency text)
    ON COMMIT DROP
"""
SEED = """
    INSERT INTO products (tenant_id, slug, external_id, name, price, currency)
    SELECT %(tenant)s, 'product-' || n, 'x' || n, 'Product number ' || n, 100, 'GBP'
    FROM generate_series(0, %(last)s, 2) AS n
    UNION ALL SELECT %(tenant)s, 'taken', 'taken', 'Somebody has it', 100, 'GBP'
"""

Row = dict[str, Any]


@dataclass(frozen=True)
class Case:
    """The rows, and what must become of them.

    Attributes:
        rows: good and bad ones in any order.
        good: the good ones as COPY reads them.
        bad: how many are bad.
    """

    rows: list[Row]
    good: bytes
    bad: int


def case(tenant_id: UUID, count: int) -> Case:
    """Make so many rows."""
    rows: list[Row] = [
        {
            "external_id": f"x{n}",
            "slug": f"product-{n}",
            "name": f"Product number {n}",
            "price": Decimal(n % 10_000 + 200) / 100,
            "currency": "GBP",
        }
        for n in range(count)
    ]
    spoiled = range(0, count, 100)
    for n in spoiled:
        rows[n] |= wrong(n // 100, rows[n + 1]["slug"])
    good = [row for n, row in enumerate(rows) if n % 100]
    random.Random(1).shuffle(good)
    return Case(in_any_order(good, [rows[n] for n in spoiled]), encoded(tenant_id, good), len(spoiled))


def wrong(number: int, next_slug: str) -> Row:
    """Return what spoils a row."""
    ways: list[Row] = [
        {"price": Decimal("-0.01")},
        {"slug": "No Slug"},
        {"name": None},
        {"slug": "taken"},
        {"slug": next_slug},
    ]
    return ways[number % BAD_WAYS]


def in_any_order(good: list[Row], bad: list[Row]) -> list[Row]:
    """Mix the bad rows among the good ones, none before the row whose slug it wants."""
    places = {row["slug"]: place for place, row in enumerate(good)}
    chance = random.Random(2)
    at = defaultdict(list)
    for row in bad:
        at[chance.randrange(places.get(row["slug"], 0), len(good))].append(row)
    return [each for place, row in enumerate(good) for each in (row, *at[place])]


def encoded(tenant_id: UUID, rows: list[Row]) -> bytes:
    """Return rows as COPY BINARY reads them."""
    encoder = Encoder(Product.__table__, COLUMNS.split(", "), tenant_id=tenant_id)  # type: ignore[arg-type]
    return HEADER + encoder.encode(rows).data + TRAILER


def ours(db: Database, tenant_id: UUID, given: Case) -> None:
    """Upsert, and look at what is said of the rows."""
    with db.tenant(tenant_id) as session:
        result = upsert_many(session, Product, given.rows, key="external_id")
    assert told(result, given), result.counts


def told(result: BulkResult, given: Case) -> bool:
    """Return whether each row is accounted for as it should be."""
    reasons = Counter(type(one.error).__name__ for one in result.refused)
    each = given.bad // BAD_WAYS
    expected = {"InvalidMoney": each, "InvalidSlug": each, "MissingValue": each, "SlugTaken": 2 * each}
    good = len(given.rows) - given.bad
    return reasons == expected and result.inserted + result.updated == good and not result.unchanged


def by_hand(db: Database, tenant_id: UUID, given: Case) -> None:
    """Do the same with the good rows alone."""
    with db.tenant(tenant_id) as session:
        driver = session.connection().connection.driver_connection
        assert isinstance(driver, psycopg.Connection)
        with driver.cursor() as cursor:
            cursor.execute(STAGE)
            with cursor.copy(f"COPY stage ({COLUMNS}) FROM STDIN (FORMAT binary)".encode()) as copy:
                copy.write(given.good)
            cursor.execute(MERGE.encode(), [tenant_id])


WAYS: dict[str, Callable[[Database, UUID, Case], None]] = {OURS: ours, BY_HAND: by_hand}


def prepared(owner: psycopg.Connection[Any], tenant_id: UUID, count: int) -> None:
    """Make the table as it is before an upsert."""
    owner.execute("TRUNCATE products CASCADE")
    owner.execute(SEED, {"tenant": tenant_id, "last": count - 1})
    owner.execute("VACUUM (ANALYZE) products")


def found(owner: psycopg.Connection[Any]) -> object:
    """Return a digest of what the table holds, but for ids and times."""
    row = "concat_ws('|', slug, external_id, name, price, currency)"
    return owner.execute(f"SELECT count(*), sum(hashtextextended({row}, 0)) FROM products".encode()).fetchone()


def measured(admin: URL, count: int, repetitions: int) -> dict[str, list[tuple[float, float]]]:
    """Return the seconds of each way, and its client's seconds of processor; the first, which warms up, is left out."""
    times: dict[str, list[tuple[float, float]]] = defaultdict(list)
    with ExitStack() as stack:
        settings = stack.enter_context(fresh_database(admin))
        owner = stack.enter_context(connected(settings.owner))
        db = stack.enter_context(Database(settings))
        tenant_id = new_id()
        owner.execute("INSERT INTO tenants (id, slug, name) VALUES (%s, 'acme', 'Acme')", [tenant_id])
        given = case(tenant_id, count)
        for repetition in range(repetitions + 1):
            digests = set()
            # who comes first alternates
            for name in list(WAYS)[:: 1 if repetition % 2 else -1]:
                prepared(owner, tenant_id, count)
                owner.execute("CHECKPOINT")
                start, processor = time.perf_counter(), time.process_time()
                WAYS[name](db, tenant_id, given)
                times[name].append((time.perf_counter() - start, time.process_time() - processor))
                digests.add(found(owner))
            assert len(digests) == 1, digests
    return {name: took[1:] for name, took in times.items()}


def ratio(times: dict[str, list[tuple[float, float]]]) -> float:
    """Return the median of the speeds in terms of that by hand, taken in pairs."""
    return median(hand[0] / mine[0] for mine, hand in zip(times[OURS], times[BY_HAND], strict=True))


def verdict(times: dict[str, list[tuple[float, float]]]) -> Verdict:
    """Return whether the limit holds."""
    return Verdict.HOLDS if ratio(times) >= LIMIT else Verdict.BROKEN


def main() -> None:
    """Measure and print, and end with what was found."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--rows", type=int, default=100_000)
    parser.add_argument("--repetitions", type=int, default=7)
    given = parser.parse_args()
    times = measured(admin_url(), given.rows, given.repetitions)
    table = Table(title=f"{given.rows:,} products, half there, 1 % bad; at least {LIMIT:.2f} of the speed by hand")
    for header in ("way", "seconds", "speed", "client's CPU µs a row"):
        table.add_column(header)
    for name, took in times.items():
        speed = f"{ratio(times):.2f}" if name == OURS else "1.00"
        processor = median(one[1] for one in took) / given.rows * 1e6
        table.add_row(name, f"{median(one[0] for one in took):.2f}", speed, f"{processor:.2f}")
    Console(width=130).print(table)
    sys.exit(verdict(times))


if __name__ == "__main__":
    main()
