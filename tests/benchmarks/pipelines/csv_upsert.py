"""Measure the upsert of a large CSV file: PYTHONPATH=tests python -m benchmarks.pipelines.csv_upsert

A million products, half of them there with another price. The pipeline reads the file, validates each record against
the model, upserts batch by batch, and writes down where every row came from. The other way is written by hand, in a
session of the same role with the same policies: COPY of the file itself into a stage, and INSERT … ON CONFLICT DO
UPDATE; it checks nothing and knows nothing of its rows afterwards. Ends with 1 where the pipeline has less than 0.60 of
its speed, or takes more than 300 MB of memory. Servers: as in main_job.py, of a superuser.
"""

from __future__ import annotations

import argparse
import resource
import sys
import time
from collections import defaultdict
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from typing import Any
from uuid import UUID

import psycopg
from rich.console import Console
from rich.table import Table

from benchmarks.cache.near import redis_url
from benchmarks.partitions.history import admin_url, connected, fresh_database
from benchmarks.partitions.verdict import Verdict
from dataarch.caching.database import Database
from dataarch.models import Product, Tenant
from dataarch.models.base import new_id
from dataarch.pipelines.extractors import CsvFiles
from dataarch.pipelines.loaders.upsert import Upsert
from dataarch.pipelines.pipeline import Pipeline
from dataarch.pipelines.runner import run
from dataarch.pipelines.validators.model_rules import valid

LIMIT = 0.60
MEMORY = 300
"""Megabytes."""

OURS, BY_HAND = "pipeline", "COPY of the file + ON CONFLICT"
PRODUCTS = Pipeline("products", CsvFiles(), (valid(Product),), Upsert(Product, key="external_id"))

COLUMNS = "external_id, slug, name, price, currency"
STAGE = """
    CREATE TEMP TABLE stage (external_id text, slug text, name text, price numeric, currency text) ON COMMIT DROP
"""
MERGE = """
    INSERT INTO products AS p (tenant_id, external_id, slug, name, price, currency)
    SELECT %s, external_id, slug, name, price * 100, currency FROM stage
    ON CONFLICT (tenant_id, external_id) DO UPDATE
    SET slug = EXCLUDED.slug, name = EXCLUDED.name, price = EXCLUDED.price, currency = EXCLUDED.currency,
        updated_at = EXCLUDED.updated_at
"""
SEED = """
    INSERT INTO products (tenant_id, slug, external_id, name, price, currency)
    SELECT %(tenant)s, 'product-' || n, 'x' || n, 'Product number ' || n, 100, 'GBP'
    FROM generate_series(0, %(last)s, 2) AS n
"""


def write(file: Path, count: int) -> None:
    """Write so many records."""
    with file.open("w") as stream:
        stream.write("external_id,slug,name,price,currency\n")
        for n in range(count):
            price = n % 10_000 + 200
            stream.write(f"x{n},product-{n},Product number {n},{price // 100}.{price % 100:02},GBP\n")


def ours(db: Database, tenant_id: UUID, file: Path) -> None:
    """Run the pipeline."""
    counts = run(db, PRODUCTS, str(file), tenant_id=tenant_id).counts
    assert counts.read == counts.loaded + counts.updated, counts


def by_hand(db: Database, tenant_id: UUID, file: Path) -> None:
    """Do the same by hand."""
    with db.tenant(tenant_id) as session:
        driver = session.connection().connection.driver_connection
        assert isinstance(driver, psycopg.Connection)
        # a unit of work may not take as long as this
        driver.execute("SET LOCAL statement_timeout = 0")
        driver.execute(STAGE)
        with (
            file.open("rb") as stream,
            driver.cursor().copy(f"COPY stage ({COLUMNS}) FROM STDIN (FORMAT csv, HEADER)".encode()) as copy,
        ):
            while block := stream.read(1 << 18):
                copy.write(block)
        driver.execute(MERGE.encode(), [tenant_id])


WAYS: dict[str, Callable[[Database, UUID, Path], None]] = {OURS: ours, BY_HAND: by_hand}


def prepared(owner: psycopg.Connection[Any], tenant_id: UUID, count: int) -> None:
    """Make the tables as they are before an upsert."""
    owner.execute("TRUNCATE products, pipeline_runs, pipeline_sources CASCADE")
    owner.execute(SEED, {"tenant": tenant_id, "last": count - 1})
    owner.execute("VACUUM (ANALYZE) products")
    owner.execute("CHECKPOINT")


def found(owner: psycopg.Connection[Any]) -> object:
    """Return a digest of what the table holds, but for ids and times."""
    row = "concat_ws('|', slug, external_id, name, price, currency)"
    return owner.execute(f"SELECT count(*), sum(hashtextextended({row}, 0)) FROM products".encode()).fetchone()


def measured(file: Path, count: int, repetitions: int) -> dict[str, list[tuple[float, float]]]:
    """Return the seconds of each way, and its client's seconds of processor."""
    times: dict[str, list[tuple[float, float]]] = defaultdict(list)
    with ExitStack() as stack:
        settings = stack.enter_context(fresh_database(admin_url()))
        owner = stack.enter_context(connected(settings.owner))
        db = stack.enter_context(Database(settings.model_copy(update={"redis_url": redis_url()})))
        tenant_id = new_id()
        # the first write to a database ever waits for whoever may remember something of it
        with db.tenant(tenant_id) as session:
            session.add(Tenant(id=tenant_id, slug="acme", name="Acme"))
        for repetition in range(repetitions):
            digests = set()
            # who comes first alternates
            for name in list(WAYS)[:: 1 if repetition % 2 else -1]:
                prepared(owner, tenant_id, count)
                start, processor = time.perf_counter(), time.process_time()
                WAYS[name](db, tenant_id, file)
                times[name].append((time.perf_counter() - start, time.process_time() - processor))
                digests.add(found(owner))
            assert len(digests) == 1, digests
    return times


def ratio(times: dict[str, list[tuple[float, float]]]) -> float:
    """Return the median of the speeds in terms of that by hand, taken in pairs."""
    return median(hand[0] / mine[0] for mine, hand in zip(times[OURS], times[BY_HAND], strict=True))


def main() -> None:
    """Measure and print, and end with what was found."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--repetitions", type=int, default=3)
    given = parser.parse_args()
    with TemporaryDirectory() as folder:
        file = Path(folder) / "products.csv"
        write(file, given.rows)
        times = measured(file, given.rows, given.repetitions)
    memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    table = Table(title=f"{given.rows:,} records of CSV, half there; at least {LIMIT:.2f} of the speed by hand")
    for header in ("way", "seconds", "rows/s", "speed", "client's CPU µs a row"):
        table.add_column(header, justify="left" if header == "way" else "right")
    for name, took in times.items():
        seconds = median(one[0] for one in took)
        speed = f"{ratio(times):.2f}" if name == OURS else "1.00"
        processor = median(one[1] for one in took) / given.rows * 1e6
        table.add_row(name, f"{seconds:.2f}", f"{given.rows / seconds:,.0f}", speed, f"{processor:.2f}")
    console = Console(width=130)
    console.print(table)
    console.print(f"peak memory of this process: {memory:.0f} MB (limit {MEMORY})")
    sys.exit(Verdict.HOLDS if ratio(times) >= LIMIT and memory <= MEMORY else Verdict.BROKEN)


if __name__ == "__main__":
    main()
