"""Measure whether many partitions slow down ingest: PYTHONPATH=tests python -m benchmarks.partitions.ingest

The same rows of one tenant go into logs of 3 and of 120 months in turn, by COPY as the owner and by a stage and INSERT
SELECT as the application role. With ``--register`` also into logs of 3 months whose triggers keep a register of the
months in which a user was active. Ends with 1 where 120 months take more than 1.10 of the server's processor time of 3
months, and with 2 where that cannot be told: a server on another machine, or equal logs that differ as much. Servers:
as in main_job.py, of a superuser.
"""

from __future__ import annotations

import argparse
import os
import random
import sys
import time
from collections import defaultdict
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from statistics import median
from typing import Any

import psycopg
from psycopg import sql
from rich.console import Console
from rich.table import Table
from sqlalchemy import URL, func, select

from benchmarks.partitions.history import USERS, admin_url, connected, fresh_database, make_months, people, settle
from benchmarks.partitions.verdict import Verdict, together
from dataarch.clock import Month, utcnow
from dataarch.database.unit_of_work import Database
from dataarch.models.base import new_id

LIMIT = 1.10
FEW = "3 months"
AGAIN = "3 months, again"
MANY = "120 months"
LOGS = {FEW: 3, AGAIN: 3, MANY: 120}
"""The second log of 3 months shows how far ratios wander by themselves."""
COLUMNS = "tenant_id, id, user_id, activity_type, metadata, created_at"

ONLY_THE_PAST = """
DO $drop$
DECLARE
    child regclass;
BEGIN
    FOR child IN SELECT p.child FROM activity_partitions() AS p WHERE p.lower > now() AND p.upper IS NOT NULL LOOP
        EXECUTE format('DROP TABLE %s', child);
    END LOOP;
END
$drop$
"""

REGISTER = """
CREATE TABLE user_months (
    tenant_id uuid, user_id uuid, month date, CONSTRAINT pk_user_months PRIMARY KEY (tenant_id, user_id, month)
)
"""

BY_STATEMENT = """
CREATE FUNCTION register_months() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER AS $$
BEGIN
    INSERT INTO user_months
        SELECT DISTINCT tenant_id, user_id, date_trunc('month', created_at AT TIME ZONE 'UTC')::date FROM added
        ORDER BY 1, 2, 3
        ON CONFLICT DO NOTHING;
    RETURN NULL;
END
$$;
CREATE TRIGGER register_months AFTER INSERT ON user_activity_log REFERENCING NEW TABLE AS added
    FOR EACH STATEMENT EXECUTE FUNCTION register_months()
"""

BY_ROW = """
CREATE FUNCTION register_months() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER AS $$
BEGIN
    INSERT INTO user_months
        VALUES (NEW.tenant_id, NEW.user_id, date_trunc('month', NEW.created_at AT TIME ZONE 'UTC')::date)
        ON CONFLICT DO NOTHING;
    RETURN NULL;
END
$$;
CREATE TRIGGER register_months AFTER INSERT ON user_activity_log FOR EACH ROW EXECUTE FUNCTION register_months()
"""


@dataclass(frozen=True)
class Log:
    """A log of so many months, reached as the owner and as the application."""

    name: str
    owner: psycopg.Connection[Any]
    db: Database


Load = Callable[[Log, bytes], None]
Times = dict[tuple[str, str], list[tuple[float, float]]]
TICKS = os.sysconf("SC_CLK_TCK")


def opened(stack: ExitStack, admin: URL, name: str, months: int, *triggers: str) -> Log:
    """Make an empty log that lasts as long as the stack."""
    settings = stack.enter_context(fresh_database(admin))
    owner = stack.enter_context(connected(settings.owner))
    make_months(owner, months)
    settle(owner)
    for statement in (ONLY_THE_PAST, *triggers):
        owner.execute(statement.encode())
    return Log(name, owner, stack.enter_context(Database(settings)))


def rows(owner: psycopg.Connection[Any], count: int, months: int) -> bytes:
    """Return rows of the newest months as COPY reads them."""
    tenant, newest = people(owner)[0].tenant_id, utcnow()
    users = [user for (user,) in owner.execute("SELECT id FROM users WHERE tenant_id = %s", [tenant])]
    assert len(users) == USERS
    oldest = Month.of(newest).plus(1 - months).start
    chance = random.Random(months)  # the same rows in each run

    def line(number: int) -> str:
        instant: datetime = oldest + chance.random() * (newest - oldest)
        return (
            f'{tenant}\t{new_id()}\t{chance.choice(users)}\tview\t{{"page": {number % 1000}}}\t{instant.isoformat()}\n'
        )

    return "".join(map(line, range(count))).encode()


def copied(log: Log, data: bytes) -> None:
    """Load by COPY as the owner."""
    command = f"COPY user_activity_log ({COLUMNS}) FROM STDIN".encode()
    with log.owner.transaction(), log.owner.cursor() as cursor, cursor.copy(command) as copy:
        copy.write(data)


def staged(log: Log, data: bytes) -> None:
    """Load by a temporary stage and INSERT SELECT as the application role."""
    with log.db.tenant(people(log.owner)[0].tenant_id) as session:
        driver = session.connection().connection.driver_connection
        assert driver is not None
        with driver.cursor() as cursor:
            cursor.execute("CREATE TEMP TABLE stage (LIKE user_activity_log) ON COMMIT DROP")
            with cursor.copy(f"COPY stage ({COLUMNS}) FROM STDIN") as copy:
                copy.write(data)
            cursor.execute(f"INSERT INTO user_activity_log ({COLUMNS}) SELECT {COLUMNS} FROM stage")


def singly(log: Log, data: bytes) -> None:
    """Write the first thousand rows one by one in one transaction, as the owner."""
    command = f"INSERT INTO user_activity_log ({COLUMNS}) VALUES (%s, %s, %s, %s, %s, %s)".encode()
    with log.owner.transaction():
        for line in data.splitlines()[:1000]:
            log.owner.execute(command, line.decode().split("\t"))


def emptied(log: Log, months: int) -> None:
    """Empty the newest months; the others are empty."""
    names = [f"user_activity_log_{Month.of(utcnow()).plus(-back)}" for back in range(months)]
    log.owner.execute(sql.SQL("TRUNCATE {}").format(sql.SQL(", ").join(map(sql.Identifier, names))))


def processor(log: Log) -> float:
    """Return the seconds that the log's two server processes have computed; 0 where that cannot be seen."""
    with log.db.tenant(people(log.owner)[0].tenant_id) as session:
        pids = log.owner.info.backend_pid, session.scalar(select(func.pg_backend_pid()))
    try:
        fields = [Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split() for pid in pids]
    except OSError:
        return 0.0
    return sum(int(each[11]) + int(each[12]) for each in fields) / TICKS


def measured(logs: list[Log], ways: dict[str, Load], data: bytes, repetitions: int) -> Times:
    """Return the seconds of each way and log, repetition by repetition; the first, which warms up, is left out."""
    times: Times = defaultdict(list)
    for repetition in range(repetitions + 1):
        for way, load in ways.items():
            # who comes first alternates too
            for log in logs if repetition % 2 else reversed(logs):
                emptied(log, 3)
                before, start = processor(log), time.perf_counter()
                load(log, data)
                took = time.perf_counter() - start
                times[way, log.name].append((took, processor(log) - before))
    return {key: took[1:] for key, took in times.items()}


def ratio(times: Times, way: str, log: str, which: int) -> float:
    """Return the median of the ratios to the log of 3 months, taken in pairs, by the clock (0) or the processor (1)."""
    mine, few = ([one[which] for one in times[way, name]] for name in (log, FEW))
    return median(one / base for one, base in zip(mine, few, strict=True)) if all(mine + few) else float("nan")


def verdict(times: Times) -> Verdict:
    """Return whether 120 months cost no more of the processor than the limit, by each way that was measured there."""
    return together(_verdict(times, way) for way, log in times if log == MANY)


def _verdict(times: Times, way: str) -> Verdict:
    again, many = (ratio(times, way, log, 1) for log in (AGAIN, MANY))
    # not a number where the processor's time cannot be seen
    if not again <= LIMIT:
        return Verdict.CANNOT_TELL
    return Verdict.HOLDS if many <= LIMIT else Verdict.BROKEN


def show(table: Table, spread: str, times: Times) -> None:
    """Add a row for each way and log."""
    for (way, log), took in times.items():
        cells = [spread, way, log]
        for which in (0, 1):
            cells += [f"{median(one[which] for one in took):.2f}", f"{ratio(times, way, log, which):.3f}"]
        table.add_row(*cells)


def benchmark(admin: URL, count: int, repetitions: int, *, register: bool) -> tuple[Table, Verdict]:
    """Measure so many rows; return also whether the limit holds."""
    found = []
    with ExitStack() as stack:
        logs = [opened(stack, admin, name, months) for name, months in LOGS.items()]
        ways: dict[str, Load] = {"COPY, owner": copied, "stage + INSERT, application": staged}
        if register:
            logs.append(opened(stack, admin, "3 months, statement trigger", 3, REGISTER, BY_STATEMENT))
            logs.append(opened(stack, admin, "3 months, row trigger", 3, REGISTER, BY_ROW))
            ways["1,000 rows one by one, owner"] = singly
        version = logs[0].owner.info.server_version // 10_000
        table = Table(title=f"{count:,} activities, PostgreSQL {version}; limit for 120 months: {LIMIT:.2f}")
        for header in ("rows of", "by", "into", "seconds", "ratio", "server's CPU s", "ratio"):
            table.add_column(header)
        for months, spread in ((1, "the newest month"), (3, "3 months")):
            data = rows(logs[0].owner, count, months)
            times = measured(logs, ways, data, repetitions)
            show(table, spread, times)
            found.append(verdict(times))
    return table, together(found)


def main() -> None:
    """Measure and print, and end with what was found."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--rows", type=int, default=100_000)
    parser.add_argument("--repetitions", type=int, default=9)
    parser.add_argument("--register", action="store_true", help="also measure triggers that keep users' months")
    given = parser.parse_args()
    table, found = benchmark(admin_url(), given.rows, given.repetitions, register=given.register)
    console = Console(width=130)
    console.print(table)
    if found is not Verdict.HOLDS:
        console.print(f"{found.name.replace('_', ' ')}: see the ratios of the server's CPU.")
    sys.exit(found)


if __name__ == "__main__":
    main()
