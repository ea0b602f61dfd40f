"""Measure reads beside psycopg's prepared statements: PYTHONPATH=tests python -m benchmarks.repositories.reads

Each read runs inside an open unit of work of a tenant, as the application role with policies on; beside it, on the same
connection, psycopg runs the plain statement prepared. Repetitions take turns, so that other work on the machine slows
all of them. Ends with 1 where a limit is broken. Servers: as in main_job.py.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from statistics import median
from typing import Any

from rich.console import Console
from rich.table import Table

from benchmarks.partitions.history import Person, admin_url, connected, fill, fresh_database, people
from benchmarks.partitions.verdict import Verdict, together
from dataarch import Database, TenantSession
from dataarch.clock import Month, utcnow
from dataarch.repositories import ActivityQueries

WANTED = 50
WARM = 12
"""Reads that do not count: psycopg prepares a statement the 6th time, and PostgreSQL keeps a plan after 5 more."""

PLAIN = """
SELECT tenant_id, id, user_id, activity_type, metadata, created_at FROM user_activity_log
WHERE tenant_id = %s AND user_id = %s ORDER BY created_at DESC LIMIT 50
"""

PRESENT = """
SELECT tenant_id, id, user_id, activity_type, metadata, created_at FROM user_activity_log
WHERE tenant_id = %s AND user_id = %s AND created_at >= '{since}' AND created_at < '{until}'
ORDER BY created_at DESC FETCH FIRST (SELECT 50) ROWS WITH TIES
"""
"""The statement that finds them all for a busy user, which only who knows of the windows would write."""


@dataclass(frozen=True)
class Work:
    """One way to do a read, and what it may cost."""

    name: str
    run: Callable[[TenantSession, Person], object]
    limit: float
    aim: float


def as_rows(session: TenantSession, person: Person) -> object:
    """The latest as rows of columns."""
    return ActivityQueries(session).latest_rows(person.user_id, WANTED)


def as_objects(session: TenantSession, person: Person) -> object:
    """The latest as objects of the session, which is empty before."""
    session.expunge_all()
    return ActivityQueries(session).latest(person.user_id, WANTED)


WORKS = (
    Work("latest 50 of a user, rows", as_rows, 1.6, 1.35),
    Work("latest 50 of a user, ORM objects", as_objects, 2.6, 2.2),
)


def timed(run: Callable[[], object]) -> float:
    """Return the seconds that something takes."""
    start = time.perf_counter()
    run()
    return time.perf_counter() - start


def measured(db: Database, person: Person, repetitions: int) -> dict[str, float]:
    """Return the median milliseconds of psycopg and of each way."""
    took: dict[str, list[float]] = defaultdict(list)
    with db.tenant(person.tenant_id) as session:
        driver: Any = session.connection().connection.driver_connection
        cursor = driver.cursor()
        month = Month.of(utcnow())
        present = PRESENT.format(since=month.plus(-3).start, until=month.plus(1).start)

        def by_psycopg(statement: str) -> object:
            return cursor.execute(statement, (person.tenant_id, person.user_id), prepare=True).fetchall()

        for _ in range(WARM + repetitions):
            took["psycopg"].append(timed(partial(by_psycopg, PLAIN)))
            took["psycopg, at its best"].append(timed(partial(by_psycopg, present)))
            for work in WORKS:
                took[work.name].append(timed(partial(work.run, session, person)))
    return {name: median(times[WARM:]) * 1e3 for name, times in took.items()}


def main() -> Verdict:
    """Measure, show, and judge."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=200_000)
    parser.add_argument("--months", type=int, default=24)
    parser.add_argument("--repetitions", type=int, default=300)
    given = parser.parse_args()
    with fresh_database(admin_url()) as settings:
        with connected(settings.owner) as connection:
            fill(connection, given.months, given.rows)
            busy = people(connection)[0]
        with Database(settings) as db:
            found = measured(db, busy, given.repetitions)
    table = Table(
        "read", "ms", "of psycopg prepared", "limit", "aim", title=f"{given.rows:,} rows, {given.months} months"
    )
    baseline = min(found["psycopg"], found["psycopg, at its best"])
    for name in ("psycopg", "psycopg, at its best"):
        table.add_row(f"{name}, prepared", f"{found[name]:.2f}", f"{found[name] / baseline:.2f}", "", "")
    verdicts = []
    for work in WORKS:
        ratio = found[work.name] / baseline
        verdicts.append(Verdict.HOLDS if ratio <= work.limit else Verdict.BROKEN)
        table.add_row(work.name, f"{found[work.name]:.2f}", f"{ratio:.2f}", f"{work.limit}", f"{work.aim}")
    Console().print(table)
    return together(verdicts)


if __name__ == "__main__":
    sys.exit(main())
