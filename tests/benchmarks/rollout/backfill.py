"""Measure backfills beside one UPDATE: PYTHONPATH=tests python -m benchmarks.rollout.backfill

A column of a table is filled by one UPDATE, by a backfill of one worker and by one of two, each on a table made anew,
while a writer changes random rows of it, one in a transaction: the longest of these is its longest stall. Then
tables of several sizes are filled: the rate, from the first batch to the last, must not depend on it. Ends with 1 where
one worker has less than 0.90 of the speed of the UPDATE, two less than 1.5, a writer stalls for more than 30 ms under
one worker, or a rate is not within 10 % of the median; with 2 where the machine is too busy to tell. Servers: as in
main_job.py, of a superuser.
"""

from __future__ import annotations

import argparse
import os
import random
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
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


@dataclass(frozen=True)
class Measured:
    """Seconds, and the writer's longest transaction in milliseconds."""

    seconds: float
    stall: float


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


def compared(given: argparse.Namespace, owner: Any, engine: Engine, url: str) -> dict[str, list[Measured]]:
    """Return what each form took, in each repetition."""
    found: dict[str, list[Measured]] = {"one UPDATE": [], "one worker": [], "two workers": []}
    for repetition in range(given.repetitions):
        for what, workers in zip(found, (0, 1, 2), strict=True):
            fresh(owner, given.rows)
            with writer(url, given.rows) as stalls:
                if workers:
                    seconds, _ = backfilled(engine, f"{what} {repetition}", workers, given.batch_ms / 1_000)
                else:
                    began = time.perf_counter()
                    owner.execute("UPDATE people SET display_name = full_name")
                    seconds = time.perf_counter() - began
            found[what].append(Measured(seconds, stalls[0]))
    return found


def rates(given: argparse.Namespace, owner: Any, engine: Engine) -> dict[int, float]:
    """Return rows a second by the size of the table, without a writer."""
    found = {}
    for rows in given.sizes:
        measured = []
        # a table that takes a moment is measured more often
        for repetition in range(given.repetitions * (5 if rows < 500_000 else 1)):
            fresh(owner, rows)
            measured.append(backfilled(engine, f"{rows} rows {repetition}", 1, given.batch_ms / 1_000)[1])
        found[rows] = median(measured)
    return found


def judged(found: dict[str, list[Measured]], by_size: dict[int, float], console: Console) -> Verdict:
    """Print what was measured; return whether it holds."""
    single = median(one.seconds for one in found["one UPDATE"])
    table = Table(title=f"limits: one worker {ONE}, two {TWO}, stall {STALL:.0f} ms, rates within {FLAT:.0%}")
    for heading in ("form", "seconds", "speed / UPDATE", "longest stall, ms"):
        table.add_column(heading, justify="left" if heading == "form" else "right")
    broken = False
    for what, measured in found.items():
        ratio = single / median(one.seconds for one in measured)
        stall = median(one.stall for one in measured)
        broken |= ratio < {"one worker": ONE, "two workers": TWO}.get(what, 0)
        broken |= what == "one worker" and stall > STALL
        table.add_row(what, f"{median(one.seconds for one in measured):.2f}", f"{ratio:.2f}", f"{stall:.1f}")
    middle = median(by_size.values()) if by_size else 0.0
    for rows, rate in by_size.items():
        broken |= abs(rate / middle - 1) > FLAT
        table.add_row(f"{rows:,} rows", "", f"{rate:,.0f}/s", f"{rate / middle - 1:+.0%} of the median")
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
        by_size = rates(given, owner, engine)
        engine.dispose()
    verdict = judged(found, by_size, console)
    console.print(f"load before: {busy:.1f}, after: {os.getloadavg()[0]:.1f}, on {os.cpu_count()} cores")
    if verdict is Verdict.BROKEN and busy > (os.cpu_count() or 1) / 2:
        console.print("The machine was busy: this is no judgement.")
        verdict = Verdict.CANNOT_TELL
    sys.exit(verdict)


if __name__ == "__main__":
    main()
