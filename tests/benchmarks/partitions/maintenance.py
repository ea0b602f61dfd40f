"""Measure what a maintenance costs: PYTHONPATH=tests python -m benchmarks.partitions.maintenance

First, how long a busy writer waits for a single row while months are carved out of the catch-all of a log of 120
months, beside how long it waits when nobody does; limit of the longest wait of all: 50 ms. Then, where the server has
pg_partman 4.7, how long 60 months take beside its run_maintenance() on an equal table; limit: twice as long. Ends with
1 where a limit is broken, and with 2 where the writer waits for longer than the limit while nobody else is at work.
"""

from __future__ import annotations

import sys
import time
from multiprocessing import Event, Process, Queue
from multiprocessing.synchronize import Event as Stop
from statistics import median
from typing import Any

import psycopg
from rich.console import Console
from rich.table import Table

from benchmarks.partitions.history import TENANTS, admin_url, connected, fresh_database, make_months, settle
from benchmarks.partitions.verdict import Verdict, together
from dataarch.database.settings import Settings
from dataarch.database.unit_of_work import Database
from dataarch.models import Policy, UserActivity
from dataarch.models.partitioning import table_of
from dataarch.partitions.maintenance import Maintenance
from dataarch.partitions.survey import survey

MONTHS = 120
STALL_LIMIT = 0.050
PARTMAN_LIMIT = 2.0
MADE_AT_ONCE = 60

WRITE = """
INSERT INTO user_activity_log (tenant_id, user_id, activity_type, created_at)
VALUES (md5('t' || %(n)s)::uuid, md5('u' || %(n)s || '-1')::uuid, 'view', clock_timestamp())
"""

PARTMAN = """
CREATE SCHEMA partman;
CREATE EXTENSION pg_partman SCHEMA partman;
CREATE TABLE public.partman_log (
    LIKE public.user_activity_log INCLUDING DEFAULTS INCLUDING CONSTRAINTS INCLUDING INDEXES,
    FOREIGN KEY (tenant_id, user_id) REFERENCES public.users (tenant_id, id) ON DELETE CASCADE
) PARTITION BY RANGE (created_at);
"""

CREATE_PARENT = "SELECT partman.create_parent('public.partman_log', 'created_at', 'native', 'monthly', p_premake := 12)"
MORE = f"UPDATE partman.part_config SET premake = {12 + MADE_AT_ONCE} WHERE parent_table = 'public.partman_log'"
RUN = "SELECT partman.run_maintenance('public.partman_log')"

console = Console()


def write_all_the_time(settings: Settings, stop: Stop, waits: Queue[list[tuple[float, float]]]) -> None:
    """Write one row after the other, and tell when each was begun and how long it took."""
    seen = []
    with connected(settings.owner) as connection:
        n = 0
        while not stop.is_set():
            n = n % TENANTS + 1
            began = time.monotonic()
            connection.execute(WRITE, {"n": str(n)})
            seen.append((began, time.monotonic() - began))
    waits.put(seen)


def longest(waits: list[tuple[float, float]], spans: list[tuple[float, float]]) -> list[float]:
    """Return the longest wait of each span of time."""
    return [max((wait for at, wait in waits if at < end and at + wait > start), default=0.0) for start, end in spans]


def stalls(settings: Settings, rounds: int) -> tuple[list[float], list[float], list[float]]:
    """Return the writer's longest wait in each quiet span and in each maintenance, and how long each of these took."""
    stop: Stop = Event()
    waits: Queue[list[tuple[float, float]]] = Queue()
    with connected(settings.owner) as connection:
        make_months(connection, MONTHS - 13)
        settle(connection)
    writer = Process(target=write_all_the_time, args=(settings, stop, waits))
    writer.start()
    quiet, busy = [], []
    with Database(settings) as db:
        assert len(partitions(db)) >= MONTHS, len(partitions(db))
        Maintenance(db, UserActivity).maintain()
        for ahead in range(1, rounds + 1):
            began = time.monotonic()
            time.sleep(0.5)
            quiet.append((began, time.monotonic()))
            began = time.monotonic()
            done = Maintenance(db, UserActivity, policy=Policy(premake=12 + ahead)).maintain()
            busy.append((began, time.monotonic()))
            assert len(done.made) == 2, done
    stop.set()
    seen = waits.get()
    writer.join()
    return longest(seen, quiet), longest(seen, busy), [end - start for start, end in busy]


def partitions(db: Database) -> tuple[Any, ...]:
    """Return the partitions of the log."""
    with db.maintenance() as connection:
        return survey(connection, table_of(UserActivity)).partitions


def show_stalls(rounds: int) -> Verdict:
    """Measure and print the first table; return whether the limit holds."""
    with fresh_database(admin_url()) as settings:
        quiet, busy, lasted = stalls(settings, rounds)
    table = Table(
        "", "median of the longest waits", "worst", "limit",
        title=f"A busy writer into {MONTHS} months; {rounds} maintenances carve one each", title_justify="left",
    )  # fmt: skip
    table.add_row("nobody else at work", ms(median(quiet)), ms(max(quiet)), "")
    table.add_row("a month is carved", ms(median(busy)), ms(max(busy)), ms(STALL_LIMIT))
    console.print(table)
    console.print(f"A maintenance took {ms(median(lasted))} (median).")
    found = stall_verdict(quiet, busy)
    if found is Verdict.CANNOT_TELL:
        console.print(f"CANNOT TELL: with nobody else at work the writer waited {ms(max(quiet))} on this machine.")
    return found


def stall_verdict(quiet: list[float], busy: list[float]) -> Verdict:
    """Return whether no wait during a maintenance reached the limit; waits without one show what the machine adds."""
    if max(quiet) >= STALL_LIMIT:
        return Verdict.CANNOT_TELL
    return Verdict.HOLDS if max(busy) < STALL_LIMIT else Verdict.BROKEN


def ms(seconds: float) -> str:
    """Return seconds as milliseconds."""
    return f"{seconds * 1000:.1f} ms"


def show_partman(rounds: int) -> Verdict:
    """Measure and print the second table; return whether the limit holds, or there is nothing to compare with."""
    with connected(admin_url()) as connection:
        found = connection.execute("SELECT FROM pg_available_extensions WHERE name = 'pg_partman'").fetchone()
    if found is None:
        console.print("SKIPPED: the comparison with pg_partman, which is not installed beside this server.")
        return Verdict.HOLDS
    ours, theirs, idle, idle_theirs = [], [], [], []
    for _ in range(rounds):
        with fresh_database(admin_url()) as settings, Database(settings) as db, connected(settings.owner) as connection:
            connection.execute(PARTMAN)
            connection.execute(CREATE_PARENT)
            connection.execute(MORE)
            # run_maintenance() reckons from the newest row, and makes nothing without one
            settle(connection)
            connection.execute(f"{WRITE}; {WRITE.replace('user_activity_log', 'partman_log')}" % {"n": "'1'"})
            work = Maintenance(db, UserActivity, policy=Policy(premake=12 + MADE_AT_ONCE))
            theirs.append(timed(lambda: connection.execute(RUN)))
            ours.append(timed(work.maintain))
            idle_theirs.append(timed(lambda: connection.execute(RUN)))
            idle.append(timed(work.maintain))
            assert count(connection, "partman_log") >= MADE_AT_ONCE + 13
            assert count(connection, "user_activity_log") >= MADE_AT_ONCE + 13
    ratio = median(one / other for one, other in zip(ours, theirs, strict=True))
    table = Table("", "dataarch", "pg_partman", "ratio", "limit", title="Maintenance, medians", title_justify="left")
    table.add_row(
        f"{MADE_AT_ONCE} months made", ms(median(ours)), ms(median(theirs)), f"{ratio:.2f}", f"{PARTMAN_LIMIT}"
    )
    table.add_row("nothing to do", ms(median(idle)), ms(median(idle_theirs)), "", "")
    console.print(table)
    return Verdict.HOLDS if ratio < PARTMAN_LIMIT else Verdict.BROKEN


def count(connection: psycopg.Connection[Any], table: str) -> int:
    """Return how many partitions a table has."""
    found = connection.execute("SELECT count(*) FROM pg_inherits WHERE inhparent = %s::regclass", [table]).fetchone()
    assert found is not None
    return int(found[0])


def timed(work: Any) -> float:
    """Return how many seconds something takes."""
    began = time.perf_counter()
    work()
    return time.perf_counter() - began


def main() -> None:
    """Measure both, and end with what was found."""
    rounds = int(sys.argv[1]) if len(sys.argv) > 1 else 12
    sys.exit(together([show_stalls(rounds), show_partman(max(3, rounds // 3))]))


if __name__ == "__main__":
    main()
