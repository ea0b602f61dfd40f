"""Measure backfills beside raw UPDATEs: PYTHONPATH=tests python -m benchmarks.rollout.backfill

A column of a table is filled by one UPDATE, by two UPDATEs of a half each at the same time, by a backfill of one worker
and by one of two, each on a table made anew; and again while a writer changes random rows of it, one in a transaction:
the longest of these is its longest stall. Then tables of several sizes are filled by a backfill and by one UPDATE, each
in its turn: what the backfill has of the UPDATE's rate must not depend on the size. The UPDATE's own rate does, as soon
as a table is larger than the server's cache. That is measured on a server of the benchmark's own, which makes no
checkpoint meanwhile: after one, each page is written to the log as a whole once more, and only the largest table takes
long enough to meet with any.

Ends with 1 where one worker has less than 0.90 of the speed of the UPDATE; where two have less than 1.5, and less than
two UPDATEs have at the same time, which is what the server can do at all; where a writer stalls for more than 30 ms
under one worker; or where what a backfill has of the UPDATE's rate is not within 10 % of the median. Ends with 2 where
the machine is too busy to tell. Servers: as in main_job.py, of a superuser; Debian's PostgreSQL 15 for the other one.
"""

from __future__ import annotations

import argparse
import os
import random
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from itertools import pairwise
from multiprocessing import get_context
from statistics import median
from typing import Any

import psycopg
from rich.console import Console
from rich.table import Table
from sqlalchemy import Engine

from benchmarks.partitions.history import admin_url, connected, fresh_database
from benchmarks.partitions.verdict import Verdict
from dataarch.database.engine import owner_engine
from dataarch.rollout.backfill import Definition, Limits, Options, Pace, Progress, register, run
from fixtures.clusters import debian_postgres, own_cluster
from fixtures.servers import libpq

ONE, TWO, STALL, FLAT = 0.90, 1.5, 30.0, 0.10
PAUSE = 0.002
"""Seconds between two of the writer's transactions."""

UNTROUBLED = Limits(lag=None, transaction=None, waiting=None)
MAKE = """
DROP TABLE IF EXISTS people;
CREATE TABLE people (id bigint PRIMARY KEY, full_name text NOT NULL, display_name text, seen integer DEFAULT 0);
INSERT INTO people (id, full_name) SELECT n, 'Person number ' || n FROM generate_series(1, {rows}) AS n
"""


NO_CHECKPOINT = {"max_wal_size": "32GB", "checkpoint_timeout": "1d", "shared_buffers": "128MB"}


@dataclass(frozen=True)
class Measured:
    """Seconds when nobody else was there; and the writer's longest transaction in milliseconds, when he was."""

    seconds: float
    stall: float


@dataclass(frozen=True)
class Rates:
    """Rows a second of a backfill, from its first batch to its last, and of one UPDATE of the same table."""

    backfill: float
    update: float

    @property
    def share(self) -> float:
        """What the backfill has of the UPDATE's rate."""
        return self.backfill / self.update


def write(url: str, rows: int, ready: Any, stop: Any, told: Any) -> None:
    """Change a row at a time until told to stop, and tell the longest that one took."""
    longest = 0.0
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute("UPDATE people SET seen = seen WHERE id = 1")
        ready.set()
        while not stop.is_set():
            began = time.perf_counter()
            connection.execute("UPDATE people SET seen = seen + 1 WHERE id = %s", [random.randint(1, rows)])
            longest = max(longest, time.perf_counter() - began)
            time.sleep(PAUSE)
    told.put(longest * 1_000)


@contextmanager
def writer(url: str, rows: int) -> Iterator[list[float]]:
    """Have rows written meanwhile; at the end the list has the longest stall."""
    context = get_context("spawn")
    ready, stop, told = context.Event(), context.Event(), context.Queue()
    process = context.Process(target=write, args=(url, rows, ready, stop, told))
    process.start()
    ready.wait()
    found: list[float] = []
    yield found
    stop.set()
    found.append(told.get())
    process.join()


def fresh(owner: psycopg.Connection[Any], rows: int) -> None:
    """Make the table anew, as one that has been there for long."""
    for statement in MAKE.format(rows=rows).split(";"):
        owner.execute(statement.encode())
    owner.execute("VACUUM (FREEZE, ANALYZE) people")
    owner.execute("CHECKPOINT")


def backfilled(engine: Engine, name: str, workers: int, batch: float) -> tuple[float, float]:
    """Run a backfill; return the seconds it took, and its rate from the first batch to the last."""
    with engine.begin() as connection:
        register(connection, Definition.of(name, "people", {"display_name": "full_name"}))
    batches: list[tuple[float, int]] = []

    def tell(told: Progress) -> None:
        batches.append((time.perf_counter(), told.seen))

    began = time.perf_counter()
    done = run(engine, name, Options(workers, Pace(seconds=batch), UNTROUBLED), on_progress=tell)
    took = time.perf_counter() - began
    assert not done.failed
    (first, seen_first), (last, seen_last) = batches[0], batches[-1]
    return took, (seen_last - seen_first) / (last - first)


def updated(url: str, rows: int, parts: int = 1) -> float:
    """Fill the column with UPDATEs of a part each, all at the same time; return the seconds it took."""
    bounds = [rows * at // parts for at in range(parts + 1)]
    with ThreadPoolExecutor(parts) as pool, ExitStack() as open_ones:
        work = []
        for lower, upper in pairwise(bounds):
            connection = open_ones.enter_context(psycopg.connect(url, autocommit=True))
            statement = f"UPDATE people SET display_name = full_name WHERE id > {lower} AND id <= {upper}"
            work.append((connection, statement.encode()))
        began = time.perf_counter()
        for done in [pool.submit(connection.execute, statement) for connection, statement in work]:
            done.result()
        return time.perf_counter() - began


def compared(given: argparse.Namespace, owner: Any, engine: Engine, url: str) -> dict[str, list[Measured]]:
    """Return what each form took, in each repetition."""
    batch = given.batch_ms / 1_000
    forms: dict[str, Callable[[str], float]] = {
        "one UPDATE": lambda _: updated(url, given.rows),
        "two UPDATEs": lambda _: updated(url, given.rows, 2),
        "one worker": lambda name: backfilled(engine, name, 1, batch)[0],
        "two workers": lambda name: backfilled(engine, name, 2, batch)[0],
    }
    found: dict[str, list[Measured]] = {what: [] for what in forms}
    for repetition in range(given.repetitions):
        for what, filled in forms.items():
            fresh(owner, given.rows)
            seconds = filled(f"{what} {repetition} alone")
            fresh(owner, given.rows)
            with writer(url, given.rows) as stalls:
                filled(f"{what} {repetition}")
            found[what].append(Measured(seconds, stalls[0]))
    return found


def rates(given: argparse.Namespace, owner: Any, engine: Engine, url: str) -> dict[int, Rates]:
    """Return the rates by the size of the table, without a writer."""
    found = {}
    for rows in given.sizes:
        backfills, updates = [], []
        # a table that takes a moment is measured more often
        for repetition in range(given.repetitions * (5 if rows < 500_000 else 1)):
            fresh(owner, rows)
            backfills.append(backfilled(engine, f"{rows} rows {repetition}", 1, given.batch_ms / 1_000)[1])
            fresh(owner, rows)
            updates.append(rows / updated(url, rows))
        found[rows] = Rates(median(backfills), median(updates))
    return found


def judged(found: dict[str, list[Measured]], by_size: dict[int, Rates], console: Console) -> Verdict:
    """Print what was measured; return whether it holds."""
    seconds = {what: median(one.seconds for one in measured) for what, measured in found.items()}
    speed = {what: seconds["one UPDATE"] / one for what, one in seconds.items()}
    stall = {what: median(one.stall for one in measured) for what, measured in found.items()}
    table = Table(title=f"limits: one worker {ONE}, two {TWO} or as two UPDATEs, stall {STALL:.0f} ms")
    for heading in ("form", "seconds", "speed / UPDATE", "longest stall, ms"):
        table.add_column(heading, justify="left" if heading == "form" else "right")
    for what in found:
        table.add_row(what, f"{seconds[what]:.2f}", f"{speed[what]:.2f}", f"{stall[what]:.1f}")
    console.print(table)
    broken = speed["one worker"] < ONE or stall["one worker"] > STALL
    broken |= speed["two workers"] < min(TWO, speed["two UPDATEs"])
    table = Table(title=f"rows a second; what a backfill has of an UPDATE is within {FLAT:.0%} of the median")
    for heading in ("rows", "backfill", "one UPDATE", "backfill / UPDATE", "of the median"):
        table.add_column(heading, justify="right")
    middle = median(one.share for one in by_size.values()) if by_size else 1.0
    for rows, one in by_size.items():
        off = one.share / middle - 1
        broken |= abs(off) > FLAT
        table.add_row(f"{rows:,}", f"{one.backfill:,.0f}", f"{one.update:,.0f}", f"{one.share:.2f}", f"{off:+.0%}")
    console.print(table)
    return Verdict.BROKEN if broken else Verdict.HOLDS


def main() -> None:
    """Measure and print, and end with what was found."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--sizes", type=int, nargs="*", default=[10_000, 100_000, 1_000_000, 5_000_000])
    parser.add_argument("--repetitions", type=int, default=3)
    parser.add_argument("--batch-ms", type=float, default=Pace().seconds * 1_000)
    given = parser.parse_args()
    console = Console(width=110)
    busy = os.getloadavg()[0]
    with fresh_database(admin_url()) as settings, connected(settings.owner) as owner:
        engine = owner_engine(settings)
        found = compared(given, owner, engine, libpq(settings.owner))
        engine.dispose()
    with (
        own_cluster(NO_CHECKPOINT, debian_postgres()) as cluster,
        fresh_database(cluster.servers().admin) as own,
        connected(own.owner) as owner,
    ):
        engine = owner_engine(own)
        by_size = rates(given, owner, engine, libpq(own.owner))
        engine.dispose()
    verdict = judged(found, by_size, console)
    console.print(f"load before: {busy:.1f}, after: {os.getloadavg()[0]:.1f}, on {os.cpu_count()} cores")
    if verdict is Verdict.BROKEN and busy > (os.cpu_count() or 1) / 2:
        console.print("The machine was busy: this is no judgement.")
        verdict = Verdict.CANNOT_TELL
    sys.exit(verdict)


if __name__ == "__main__":
    main()
