"""Measure what the latest 50 activities of a user cost: PYTHONPATH=tests python -m benchmarks.partitions.latest

For each number of rows there is one database for each number of months. Three users are asked about: one who wrote a
hundredth of all rows, one with 60 rows in the newest months, and one with 3 rows in the oldest month. Repetitions go
through all databases in turn, so that other work on the machine slows all of them. ``--rows 100000 1000000 10000000``
takes about a quarter of an hour and 20 GB. Ends with 1 where a limit is broken. Servers: as in main_job.py.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections import defaultdict
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from statistics import median
from typing import Any

import psycopg
from rich.console import Console
from rich.table import Table
from sqlalchemy import select
from sqlalchemy.orm import Session

from benchmarks.partitions.history import Person, admin_url, connected, fill, fresh_database, people
from benchmarks.partitions.plans import Cost, Planned, costs
from benchmarks.partitions.verdict import Verdict
from dataarch.database.unit_of_work import Database
from dataarch.models import UserActivity
from dataarch.partitions.windows import latest

WANTED = 50
WARM = 12
"""Reads that do not count: psycopg prepares a statement the 6th time, and PostgreSQL keeps a plan after 5 more."""

BUFFERS_LIMIT = 1.25
TIME_LIMIT = 1.5

Read = Callable[[Session, Person], Sequence[UserActivity]]

DEFAULT_PARTITION = """
DO $replace$
DECLARE
    child regclass;
BEGIN
    FOR child IN SELECT activity_partitions.child FROM activity_partitions() WHERE lower IS NULL OR upper IS NULL LOOP
        EXECUTE format('DROP TABLE %s', child);
    END LOOP;
    CREATE TABLE user_activity_log_other PARTITION OF user_activity_log DEFAULT;
END
$replace$
"""


def by_windows(session: Session, person: Person) -> Sequence[UserActivity]:
    """Read as dataarch does."""
    return latest(session, select(UserActivity).where(UserActivity.user_id == person.user_id), limit=WANTED)


def naive(session: Session, person: Person) -> Sequence[UserActivity]:
    """Read by ORDER BY and LIMIT."""
    mine = select(UserActivity).where(UserActivity.user_id == person.user_id)
    return session.scalars(mine.order_by(UserActivity.created_at.desc()).limit(WANTED)).all()


@dataclass(frozen=True)
class Log:
    """A filled database, reached by connections that plan each statement, and by ones that prepare it."""

    months: int
    planning: Database
    prepared: Database
    people: list[Person]


@dataclass(frozen=True)
class Case:
    """One read of one user in one database."""

    way: str
    months: int
    kind: str


def opened(stack: ExitStack, admin: Any, months: int, rows: int) -> Log:
    """Make and fill a database that lasts as long as the stack."""
    settings = stack.enter_context(fresh_database(admin))
    with connected(settings.owner) as connection:
        fill(connection, months, rows)
        found = people(connection)
    planning = settings.model_copy(update={"prepare_threshold": None})
    return Log(months, stack.enter_context(Database(planning)), stack.enter_context(Database(settings)), found)


def seconds(db: Database, read: Read, person: Person) -> float:
    """Run a unit of work that reads, and return how long it took: begin, planning, round trips, objects, commit."""
    start = time.perf_counter()
    with db.tenant(person.tenant_id) as session:
        read(session, person)
    return time.perf_counter() - start


def measured(logs: list[Log], ways: dict[str, Read], repetitions: int) -> dict[Case, tuple[float, float]]:
    """Return the median milliseconds of each case: with planning, and prepared."""
    times: dict[Case, list[tuple[float, float]]] = defaultdict(list)
    for _ in range(WARM + repetitions):
        for log in logs:
            for person in log.people:
                for way, read in ways.items():
                    took = seconds(log.planning, read, person), seconds(log.prepared, read, person)
                    times[Case(way, log.months, person.kind)].append(took)
    return {
        case: (median(one for one, _ in took[WARM:]) * 1e3, median(two for _, two in took[WARM:]) * 1e3)
        for case, took in times.items()
    }


def touched(logs: list[Log], ways: dict[str, Read]) -> dict[Case, tuple[Cost, Cost]]:
    """Return what each case touches: planned for this user, and for any user."""
    found = {}
    for log in logs:
        for person in log.people:
            for way, read in ways.items():
                found[Case(way, log.months, person.kind)] = (
                    _cost(log, read, person, Planned.FOR_THESE_VALUES),
                    _cost(log, read, person, Planned.FOR_ALL_VALUES),
                )
    return found


def _cost(log: Log, read: Read, person: Person, planned: Planned) -> Cost:
    with log.planning.tenant(person.tenant_id) as session:
        return costs(session, lambda: read(session, person), planned)


def with_default(logs: list[Log]) -> None:
    """Put a DEFAULT partition in the place of the catch-alls by range."""
    for log in logs:
        with connected(log.planning.settings.owner) as connection:
            connection.execute(DEFAULT_PARTITION.encode())


def table(title: str) -> Table:
    """Return the empty table of results."""
    made = Table(title=title)
    for header in (
        "user", "read", "months", "trips", "partitions", "buffers", "same, any user's plan",
        "/ 1st", "ms planned", "/ 1st", "ms prepared", "/ 1st",
    ):  # fmt: skip
        made.add_column(header, justify="left" if header in {"user", "read"} else "right")
    return made


Touched = dict[Case, tuple[Cost, Cost]]
Times = dict[Case, tuple[float, float]]


def first_of(case: Case, found: Touched) -> Case:
    """Return the same read in the database of the fewest months."""
    return min((one for one in found if (one.way, one.kind) == (case.way, case.kind)), key=lambda one: one.months)


def broken(found: Touched, times: Times) -> list[str]:
    """Return where a read of the busy or the rare user by windows costs too much more than in the fewest months."""
    said = []
    for case in found:
        if case.way != "windows" or case.kind not in {"busy", "rare"}:
            continue
        first = first_of(case, found)
        for what, mine, base, limit in (
            ("buffers", found[case][0].buffers, found[first][0].buffers, BUFFERS_LIMIT),
            ("time", times[case][0], times[first][0], TIME_LIMIT),
        ):
            if mine / base > limit:
                grown = f"{mine / base:.2f} of the {what} of {first.months} (limit {limit})"
                said.append(f"{case.kind}, {case.months} months: {grown}")
    return said


def show(made: Table, found: Touched, times: Times) -> None:
    """Add a row for each case, the ratios being those to the fewest months."""
    for case in sorted(found, key=lambda one: (one.kind, one.way, one.months)):
        first = first_of(case, found)
        (mine, any_users), (planned, prepared) = found[case], times[case]
        made.add_row(
            case.kind, case.way, str(case.months), str(mine.trips), str(mine.partitions), str(mine.buffers),
            str(any_users.buffers), f"{mine.buffers / found[first][0].buffers:.2f}",
            f"{planned:.2f}", f"{planned / times[first][0]:.2f}",
            f"{prepared:.2f}", f"{prepared / times[first][1]:.2f}",
        )  # fmt: skip


def benchmark(admin: Any, rows: int, months: list[int], repetitions: int) -> tuple[Table, list[str]]:
    """Measure one number of rows in databases of so many months; return also which limits are broken."""
    version = psycopg.connect(admin.set(drivername="postgresql").render_as_string(False)).info.server_version // 10_000
    made = table(
        f"latest {WANTED} of {rows:,} rows, PostgreSQL {version}; limits for busy and rare by windows: "
        f"buffers {BUFFERS_LIMIT}, time {TIME_LIMIT} of the first"
    )
    with ExitStack() as stack:
        logs = [opened(stack, admin, count, rows) for count in months]
        ways: dict[str, Read] = {"windows": by_windows, "naive": naive}
        pages, times = touched(logs, ways), measured(logs, ways, repetitions)
        show(made, pages, times)
        with_default(logs)
        ways = {"naive, DEFAULT": naive}
        show(made, touched(logs, ways), measured(logs, ways, repetitions))
    return made, broken(pages, times)


def main() -> None:
    """Measure and print; end with 1 where a limit is broken."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--rows", type=int, nargs="+", default=[100_000, 1_000_000])
    parser.add_argument("--months", type=int, nargs="+", default=[1, 12, 60, 120])
    parser.add_argument("--repetitions", type=int, default=25)
    given = parser.parse_args()
    console = Console(width=160)
    found: list[str] = []
    for rows in given.rows:
        made, beyond = benchmark(admin_url(), rows, given.months, given.repetitions)
        console.print(made)
        found += [f"BROKEN: {rows:,} rows, {one}" for one in beyond]
    for one in found:
        console.print(one)
    sys.exit(Verdict.BROKEN if found else Verdict.HOLDS)


if __name__ == "__main__":
    main()
