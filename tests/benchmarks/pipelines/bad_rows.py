"""Measure what bad rows cost: PYTHONPATH=tests python -m benchmarks.pipelines.bad_rows

A file of products is loaded by a pipeline into an empty table: clean, with one bad record in 10,000, and with 1 % bad.
What is bad only the database sees: a slug that is taken, which is found for all rows at once; or a rule that is in the
database and not in the model, for which halves of halves are tried until the bad rows are single. Ends with 1 where one
in 10,000 takes 20 % more time than none, or 1 % takes 100 % more. Servers: as in main_job.py, of a superuser.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections import defaultdict
from contextlib import ExitStack
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from uuid import UUID

from rich.console import Console
from rich.table import Table

from benchmarks.cache.near import redis_url
from benchmarks.partitions.history import admin_url, connected, fresh_database
from benchmarks.partitions.verdict import Verdict
from benchmarks.pipelines.csv_upsert import PRODUCTS
from dataarch.caching.database import Database
from dataarch.models.base import new_id
from dataarch.pipelines.runner import run

LIMITS = {"1 in 10,000": 1.2, "1 %": 2.0}
EVERY = {"none": 0, "1 in 10,000": 10_000, "1 %": 100}
TAKEN, BY_HAND = "a slug that is taken", "a rule that the model has not"
RULE = "ALTER TABLE products ADD CONSTRAINT ck_products_by_hand CHECK (name <> 'Forbidden')"
SOMEBODY = """
    INSERT INTO products (tenant_id, slug, external_id, name, price, currency)
    VALUES (%s, 'taken', 'taken', 'Somebody has it', 100, 'GBP')
"""


def write(file: Path, count: int, kind: str, every: int) -> int:
    """Write so many records, and return how many are bad."""
    bad = 0
    with file.open("w") as stream:
        stream.write("external_id,slug,name,price,currency\n")
        for n in range(count):
            wrong = every and n % every == every // 2
            bad += bool(wrong)
            slug = "taken" if wrong and kind == TAKEN else f"product-{n}"
            name = "Forbidden" if wrong and kind == BY_HAND else f"Product number {n}"
            stream.write(f"x{n},{slug},{name},9.95,GBP\n")
    return bad


def measured(folder: Path, count: int, repetitions: int) -> dict[tuple[str, str], float]:
    """Return the median seconds by what is bad and how often."""
    times: dict[tuple[str, str], list[float]] = defaultdict(list)
    with ExitStack() as stack:
        settings = stack.enter_context(fresh_database(admin_url()))
        owner = stack.enter_context(connected(settings.owner))
        owner.execute(RULE)
        db = stack.enter_context(Database(settings.model_copy(update={"redis_url": redis_url()})))
        tenant_id = new_id()
        owner.execute("INSERT INTO tenants (id, slug, name) VALUES (%s, 'acme', 'Acme')", [tenant_id])
        for repetition in range(repetitions + 1):
            for kind in (TAKEN, BY_HAND):
                for name, every in EVERY.items():
                    file = folder / "products.csv"
                    bad = write(file, count, kind, every)
                    owner.execute("TRUNCATE products, pipeline_runs, pipeline_sources CASCADE")
                    owner.execute(SOMEBODY, [tenant_id])
                    owner.execute("VACUUM (ANALYZE) products")
                    owner.execute("CHECKPOINT")
                    took = loaded(db, tenant_id, file, count, bad)
                    if repetition:
                        times[kind, name].append(took)
    return {what: median(took) for what, took in times.items()}


def loaded(db: Database, tenant_id: UUID, file: Path, count: int, bad: int) -> float:
    """Load a file; return the seconds it took."""
    start = time.perf_counter()
    counts = run(db, PRODUCTS, str(file), tenant_id=tenant_id).counts
    assert (counts.loaded, counts.rejected) == (count - bad, bad), counts
    return time.perf_counter() - start


def main() -> None:
    """Measure and print, and end with what was found."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--rows", type=int, default=100_000)
    parser.add_argument("--repetitions", type=int, default=5)
    given = parser.parse_args()
    with TemporaryDirectory() as folder:
        times = measured(Path(folder), given.rows, given.repetitions)
    table = Table(title=f"{given.rows:,} new products from CSV; limits {LIMITS}")
    for header in ("what is bad", "how many", "seconds", "/ none"):
        table.add_column(header, justify="left" if header.startswith("what") else "right")
    broken = False
    for (kind, name), took in times.items():
        ratio = took / times[kind, "none"]
        broken |= ratio > LIMITS.get(name, 1.0)
        table.add_row(kind, name, f"{took:.2f}", f"{ratio:.2f}")
    Console(width=100).print(table)
    sys.exit(Verdict.BROKEN if broken else Verdict.HOLDS)


if __name__ == "__main__":
    main()
