"""Measure what a dual write costs an insert: PYTHONPATH=tests python -m benchmarks.rollout.dual_write

The same people go into equal tables in turn, by COPY and one by one: without a dual write, without one again, and with
one, written by the previous version (the old form alone) and by the next one (the new form alone). There are two kinds
of tables: one as an application has it, with a key of two uuids, a unique e-mail address and a time, and one as narrow
as can be. Ends with 1 where an insert into the former takes more than 1.5 of the server's processor time of one without
a dual write, and with 2 where that cannot be told: a server on another machine, or equal tables that differ by a fifth.
The narrow one has no limit: a trigger that does nothing, shown beside, takes more than that of its COPY by itself,
since with a BEFORE trigger the server writes row by row. Servers: as in benchmarks/main_job.py, of a superuser.
"""

from __future__ import annotations

import argparse
import os
import sys
import time
from collections import defaultdict
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from pathlib import Path
from statistics import median
from typing import Any

import psycopg
from rich.console import Console
from rich.table import Table

from benchmarks.partitions.history import admin_url, connected, fresh_database
from benchmarks.partitions.verdict import Verdict, together
from dataarch.rollout.dual_write import DualWrite

LIMIT, LIMITED = 1.50, "wide"
WANDERING = 1.20
TICKS = os.sysconf("SC_CLK_TCK")

WITHOUT, AGAIN, IDLE = "without", "without, again", "a trigger that does nothing"
OLD, NEW = "with, old form written", "with, new form written"
COLUMNS = {WITHOUT: "full_name", AGAIN: "full_name", IDLE: "full_name", OLD: "full_name", NEW: "display_name"}

NOTHING = "CREATE OR REPLACE FUNCTION nothing() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NEW; END'"

KINDS = {
    "wide": """
        CREATE TABLE {name} (
            tenant_id uuid, id uuid, email text NOT NULL, full_name text, display_name text,
            created_at timestamptz NOT NULL DEFAULT now(), version bigint NOT NULL DEFAULT 1,
            PRIMARY KEY (tenant_id, id), UNIQUE (tenant_id, email))
    """,
    "narrow": "CREATE TABLE {name} (id bigint PRIMARY KEY, full_name text, display_name text)",
}

ROWS = {
    "wide": """
        SELECT md5('t' || n %% 20)::uuid, md5('u' || n)::uuid, 'user' || n || '@example.com', 'First Last ' || n
        FROM generate_series(1, %s) AS n
    """,
    "narrow": "SELECT n, 'First Last ' || n FROM generate_series(1, %s) AS n",
}

LEADING = {"wide": "tenant_id, id, email", "narrow": "id"}

Owner = psycopg.Connection[Any]
People = Sequence[tuple[Any, ...]]
Load = Callable[[Owner, str, str, People], None]
Times = dict[str, list[tuple[float, float]]]


def made(owner: Owner, kind: str) -> dict[str, str]:
    """Make the tables of a kind; return each one's name."""
    names = {way: f"people_{number}" for number, way in enumerate(COLUMNS)}
    for way, name in names.items():
        owner.execute(f"DROP TABLE IF EXISTS {name}".encode())
        owner.execute(KINDS[kind].format(name=name).encode())
        if way == IDLE:
            owner.execute(NOTHING)
            trigger = f"CREATE TRIGGER idle BEFORE INSERT ON {name} FOR EACH ROW EXECUTE FUNCTION nothing()"
            owner.execute(trigger.encode())
        elif way in {OLD, NEW}:
            write = DualWrite(
                f"{kind}_{name}", name, {"display_name": "full_name"}, {"full_name": "btrim(display_name)"}
            )
            owner.execute(write.create_sql().encode())
    return names


def copied(owner: Owner, table: str, columns: str, people: People) -> None:
    """Load by COPY."""
    with owner.cursor() as cursor, cursor.copy(f"COPY {table} ({columns}) FROM STDIN".encode()) as copy:
        copy.write("".join("\t".join(map(str, one)) + "\n" for one in people))


def singly(owner: Owner, table: str, columns: str, people: People) -> None:
    """Insert the first tenth one by one, in one transaction."""
    marks = ", ".join(["%s"] * len(people[0]))
    statement = f"INSERT INTO {table} ({columns}) VALUES ({marks})".encode()
    with owner.transaction():
        for one in people[: len(people) // 10]:
            owner.execute(statement, one, prepare=True)


WAYS: dict[str, Load] = {"COPY": copied, "one by one": singly}


def processor(owner: Owner) -> float:
    """Return the seconds that the server's process has computed; not a number where that cannot be seen."""
    try:
        fields = Path(f"/proc/{owner.info.backend_pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return float("nan")
    return (int(fields[11]) + int(fields[12])) / TICKS


def measured(owner: Owner, kind: str, load: Load, count: int, repetitions: int) -> Times:
    """Return the seconds of each table, by the clock and by the processor; the first, which warms up, is left out."""
    people = owner.execute(ROWS[kind].encode(), [count]).fetchall()
    names = made(owner, kind)
    times: Times = defaultdict(list)
    for repetition in range(repetitions + 1):
        # who comes first alternates
        for way in list(names)[:: 1 if repetition % 2 else -1]:
            owner.execute(f"TRUNCATE {names[way]}".encode())
            before, start = processor(owner), time.perf_counter()
            load(owner, names[way], f"{LEADING[kind]}, {COLUMNS[way]}", people)
            took = time.perf_counter() - start
            times[way].append((took, processor(owner) - before))
            assert_in_step(owner, names[way], both=way in {OLD, NEW})
    return {way: took[1:] for way, took in times.items()}


def assert_in_step(owner: Owner, table: str, *, both: bool) -> None:
    """Look whether each row has both forms, or none has."""
    found = owner.execute(f"SELECT DISTINCT full_name = display_name FROM {table}".encode()).fetchall()
    assert found == [(True if both else None,)], found


def ratio(times: Times, way: str, which: int) -> float:
    """Return the median of the ratios to the table without, taken in pairs, by the clock (0) or the processor (1)."""
    pairs = zip(times[way], times[WITHOUT], strict=True)
    return median(one[which] / base[which] if base[which] else float("nan") for one, base in pairs)


def verdict(times: Times) -> Verdict:
    """Return whether the limit holds for both versions of the application."""
    again = ratio(times, AGAIN, 1)
    # not a number where the processor's time cannot be seen
    if not 1 / WANDERING <= again <= WANDERING:
        return Verdict.CANNOT_TELL
    return Verdict.HOLDS if max(ratio(times, way, 1) for way in (OLD, NEW)) <= LIMIT else Verdict.BROKEN


def benchmark(count: int, repetitions: int) -> tuple[Table, Verdict]:
    """Measure so many rows; return also whether the limit holds."""
    found = []
    with ExitStack() as stack:
        settings = stack.enter_context(fresh_database(admin_url()))
        owner = stack.enter_context(connected(settings.owner))
        owner.execute("SET synchronous_commit = off")
        version = owner.info.server_version // 10_000
        table = Table(
            title=f"{count:,} people, a tenth one by one; PostgreSQL {version}; limit, {LIMITED}: {LIMIT:.2f}"
        )
        for header in ("table", "by", "dual write", "µs a row", "ratio", "server's CPU µs a row", "ratio"):
            table.add_column(header)
        for kind in KINDS:
            for by, load in WAYS.items():
                times = measured(owner, kind, load, count, repetitions)
                rows = count if load is copied else count // 10
                for way, took in times.items():
                    cells = [kind, by, way]
                    for which in (0, 1):
                        each = median(one[which] for one in took) / rows * 1e6
                        cells += [f"{each:.2f}", f"{ratio(times, way, which):.2f}"]
                    table.add_row(*cells)
                if kind == LIMITED:
                    found.append(verdict(times))
    return table, together(found)


def main() -> None:
    """Measure and print, and end with what was found."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--rows", type=int, default=100_000)
    parser.add_argument("--repetitions", type=int, default=9)
    given = parser.parse_args()
    table, found = benchmark(given.rows, given.repetitions)
    console = Console(width=130)
    console.print(table)
    if found is not Verdict.HOLDS:
        console.print(f"{found.name.replace('_', ' ')}: see the ratios of the server's CPU.")
    sys.exit(found)


if __name__ == "__main__":
    main()
