"""Measure ingest against COPY: PYTHONPATH=tests python -m benchmarks.repositories.ingest

The limit is COPY BINARY of bytes that were encoded beforehand, as the owner, into the same log of three months with all
its indexes. Ends with 1 where a median is below what it must be, or the client's processor needs more than it may.
Servers: as in main_job.py, of a superuser.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass
from statistics import median
from typing import Any

import psycopg
from rich.console import Console
from rich.table import Table

from benchmarks.partitions.history import admin_url, connected, fresh_database, make_months, people, settle
from benchmarks.partitions.verdict import Verdict, together
from benchmarks.repositories.peers_ground import activities
from dataarch.database.unit_of_work import Database
from dataarch.models import UserActivity
from dataarch.repositories.bulk.encoding import HEADER, TRAILER, Encoder
from dataarch.repositories.bulk.ingest import ingest

MONTHS = 3
LIMIT = "COPY BINARY, encoded beforehand"
OWNER = "ingest, owner"
APPLICATION = "ingest, application role"

MOST_CPU = 5.0
"""Microseconds of the client's processor a row."""


@dataclass(frozen=True)
class Goal:
    """What part of the limit's speed a way must reach, and should."""

    rows: int
    way: str
    least: float
    aim: float


GOALS = [
    Goal(100_000, OWNER, 0.90, 0.97),
    Goal(100_000, APPLICATION, 0.80, 0.92),
    Goal(10_000, OWNER, 0.80, 0.88),
    Goal(10_000, APPLICATION, 0.80, 0.88),
]

Rows = list[dict[str, Any]]
Took = dict[str, list[tuple[float, float]]]
"""By way, seconds and seconds of the client's processor, repetition by repetition."""


def encoded(rows: Rows) -> tuple[str, bytes]:
    """Return the statement and the bytes that COPY takes."""
    encoder = Encoder(UserActivity.metadata.tables["user_activity_log"])
    columns = ", ".join(column.name for column in encoder.columns)
    pieces = b"".join(encoder.encode(rows[at : at + 500]).data for at in range(0, len(rows), 500))
    return f"COPY user_activity_log ({columns}) FROM STDIN (FORMAT binary)", HEADER + pieces + TRAILER


def ways_of(db: Database, owner: psycopg.Connection[Any], rows: Rows) -> dict[str, Callable[[], None]]:
    """Return what is measured, by its name; each writes all rows, and commits them."""
    tenant = rows[0]["tenant_id"]
    statement, data = encoded(rows)

    def limit() -> None:
        with owner.transaction(), owner.cursor() as cursor, cursor.copy(statement.encode()) as copy:
            copy.write(data)

    def as_owner() -> None:
        with db.owner() as session:
            assert ingest(session, rows).inserted == len(rows)

    def as_application() -> None:
        with db.tenant(tenant) as session:
            assert ingest(session, rows).inserted == len(rows)

    return {LIMIT: limit, OWNER: as_owner, APPLICATION: as_application}


def measured(owner: psycopg.Connection[Any], ways: dict[str, Callable[[], None]], repetitions: int) -> Took:
    """Return what each way took; the first repetition, which warms up, is left out."""
    took: Took = defaultdict(list)
    for repetition in range(repetitions + 1):
        # who comes first alternates too
        for name in sorted(ways, reverse=bool(repetition % 2)):
            owner.execute("TRUNCATE user_activity_log")
            owner.execute("CHECKPOINT")
            processor, start = time.process_time(), time.perf_counter()
            ways[name]()
            took[name].append((time.perf_counter() - start, time.process_time() - processor))
    return {name: found[1:] for name, found in took.items()}


def ratio(took: Took, way: str) -> float:
    """Return the median of a way's speed in parts of the limit's, taken in pairs."""
    return median(limit / mine for (limit, _), (mine, _) in zip(took[LIMIT], took[way], strict=True))


def judged(goal: Goal, took: Took, table: Table) -> Verdict:
    """Show a way beside its goal, and return whether it reaches it."""
    found = ratio(took, goal.way)
    processor = median(mine for _, mine in took[goal.way]) / goal.rows * 1e6
    seconds = median(mine for mine, _ in took[goal.way])
    table.add_row(
        f"{goal.rows:,}",
        goal.way,
        f"{goal.rows / seconds:,.0f}",
        f"{found:.3f}",
        f"{goal.least:.2f}",
        f"{goal.aim:.2f}",
        f"{processor:.2f}",
    )
    return Verdict.HOLDS if found >= goal.least and processor <= MOST_CPU else Verdict.BROKEN


def main() -> None:
    """Measure and print, and end with what was found."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--repetitions", type=int, default=9)
    repetitions = parser.parse_args().repetitions
    found = []
    with fresh_database(admin_url()) as settings, connected(settings.owner) as owner, Database(settings) as db:
        make_months(owner, MONTHS)
        settle(owner)
        tenant = people(owner)[0].tenant_id
        users = [user for (user,) in owner.execute("SELECT id FROM users WHERE tenant_id = %s", [tenant])]
        version = owner.info.server_version // 10_000
        table = Table(title=f"PostgreSQL {version}; limit: {LIMIT}")
        for header in ("rows", "by", "rows/s", "of the limit", "at least", "aim", f"client µs a row (≤ {MOST_CPU})"):
            table.add_column(header)
        for count in sorted({goal.rows for goal in GOALS}):
            many = repetitions if count > 50_000 else 3 * repetitions
            took = measured(owner, ways_of(db, owner, activities(count, tenant, users)), many)
            found += [judged(goal, took, table) for goal in GOALS if goal.rows == count]
    Console(width=130).print(table)
    sys.exit(together(found))


if __name__ == "__main__":
    main()
