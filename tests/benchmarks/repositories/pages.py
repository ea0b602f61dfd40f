"""Measure what a page deep in a list costs: PYTHONPATH=tests python -m benchmarks.repositories.pages

A page of 1000 activities of one user, from the middle of the list, in an open transaction of the application role: read
by psycopg with a prepared statement of the same SQL, by read_page() as rows and as objects of the ORM, and by OFFSET.
The ways take turns, so that other work on the machine slows all of them. The exit code is 1 where the rows cost more
than they may. Servers: as in main_job.py.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable
from statistics import median
from typing import Any

import psycopg
from rich.console import Console
from rich.table import Table
from sqlalchemy import event, select
from sqlalchemy.orm import Session

from benchmarks.partitions.history import Person, admin_url, connected, fill, fresh_database, people
from benchmarks.partitions.verdict import Verdict
from dataarch.database.settings import Settings
from dataarch.database.unit_of_work import Database
from dataarch.models import UserActivity
from dataarch.repositories.pages import LARGEST_PAGE, read_page

SIZE = 1000
LIMIT = 2.0
"""Times what psycopg takes."""

WARM = 15
"""Reads that do not count: psycopg prepares a statement the 6th time, and PostgreSQL keeps a plan after 5 more."""

PSYCOPG = "psycopg, prepared"
ROWS = "read_page, rows"

ORDER = [UserActivity.created_at.desc()]
COLUMNS = (UserActivity.id, UserActivity.activity_type, UserActivity.metadata_, UserActivity.created_at)


def sent_by(session: Session, read: Callable[[], object]) -> tuple[str, dict[str, Any]]:
    """Return the one statement that a read sends, with its parameters."""
    sent: list[tuple[str, dict[str, Any]]] = []

    def note(_connection: object, _cursor: object, statement: str, parameters: Any, *_rest: object) -> None:
        sent.append((statement, dict(parameters)))

    event.listen(session.connection(), "before_cursor_execute", note)
    read()
    event.remove(session.connection(), "before_cursor_execute", note)
    (only,) = sent
    return only


def behind(session: Session, statement: Any, deep: int) -> str | None:
    """Return the cursor of the page behind so many rows."""
    cursor = None
    for _ in range(deep // LARGEST_PAGE):
        cursor = read_page(session, statement, order=ORDER, size=LARGEST_PAGE, cursor=cursor).next
        session.expunge_all()
    return cursor


def ways(session: Session, driver: psycopg.Connection[Any], person: Person, deep: int) -> dict[str, Callable[[], Any]]:
    """Return each way to read the page."""
    mine = select(*COLUMNS).where(UserActivity.user_id == person.user_id)
    objects = select(UserActivity).where(UserActivity.user_id == person.user_id)
    cursors = [behind(session, one, deep) for one in (mine, objects)]

    def read() -> Any:
        return read_page(session, mine, order=ORDER, size=SIZE, cursor=cursors[0]).items

    def read_objects() -> Any:
        session.expunge_all()
        return read_page(session, objects, order=ORDER, size=SIZE, cursor=cursors[1]).items

    def read_by_offset() -> Any:
        ordered = mine.order_by(UserActivity.created_at.desc(), UserActivity.id.desc())
        return session.execute(ordered.offset(deep).limit(SIZE)).all()

    statement, parameters = sent_by(session, read)

    def read_by_driver() -> Any:
        return driver.execute(statement.encode(), parameters, prepare=True).fetchall()[:SIZE]

    return {PSYCOPG: read_by_driver, ROWS: read, "read_page, objects": read_objects, "rows by OFFSET": read_by_offset}


def same(found: dict[str, Callable[[], Any]]) -> None:
    """Refuse to compare ways that do not read the same rows."""
    ids = {name: [getattr(row, "id", None) or row[0] for row in read()] for name, read in found.items()}
    if any(one != ids[PSYCOPG] or len(one) != SIZE for one in ids.values()):
        raise SystemExit("The ways do not read the same rows.")


def measured(settings: Settings, person: Person, deep: int, repetitions: int) -> dict[str, float]:
    """Return the median milliseconds of each way."""
    with Database(settings) as db, db.tenant(person.tenant_id) as session, connected(settings.application) as driver:
        driver.execute("BEGIN")
        driver.execute("SELECT set_tenant(%s)", [person.tenant_id])
        found = ways(session, driver, person, deep)
        same(found)
        times: dict[str, list[float]] = {name: [] for name in found}
        for _ in range(WARM + repetitions):
            for name, read in found.items():
                start = time.perf_counter()
                read()
                times[name].append(time.perf_counter() - start)
    return {name: median(taken[WARM:]) * 1e3 for name, taken in times.items()}


def main() -> None:
    """Measure and print; end with 1 where the limit is broken."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--rows", type=int, default=200_000)
    parser.add_argument("--months", type=int, default=12)
    parser.add_argument("--repetitions", type=int, default=100)
    given = parser.parse_args()
    deep = given.rows // 2
    with fresh_database(admin_url()) as settings:
        with connected(settings.owner) as connection:
            # every second row is of the busy user
            fill(connection, given.months, 2 * given.rows, every=2)
            busy = people(connection)[0]
        taken = measured(settings, busy, deep, given.repetitions)
    made = Table(title=f"a page of {SIZE} behind {deep:,} rows; limit for rows: {LIMIT} of psycopg")
    for header in ("way", "ms", "/ psycopg"):
        made.add_column(header, justify="left" if header == "way" else "right")
    for name, ms in taken.items():
        made.add_row(name, f"{ms:.2f}", f"{ms / taken[PSYCOPG]:.2f}")
    console = Console(width=120)
    console.print(made)
    ratio = taken[ROWS] / taken[PSYCOPG]
    if ratio > LIMIT:
        console.print(f"BROKEN: {ratio:.2f} of psycopg (limit {LIMIT})")
    sys.exit(Verdict.BROKEN if ratio > LIMIT else Verdict.HOLDS)


if __name__ == "__main__":
    main()
