"""Measure the main job against what the server itself can take: python tests/benchmarks/main_job.py FOLDER [ROUNDS]

Each round loads the folder into a fresh database, and then copies the activity and the movements that came of it, with
COPY, into equal tables in another one: same columns, indexes and constraints, in one transaction. Rounds alternate, so
that other work on the machine slows both. The servers are those of DATAARCH_OWNER_URL and DATAARCH_DATABASE_URL, whose
role must be allowed to make databases, or the embedded ones.
"""

from __future__ import annotations

import os
import resource
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psycopg
from alembic import command
from rich.console import Console
from rich.table import Table
from sqlalchemy import URL

from dataarch.database.embedded import EmbeddedServer
from dataarch.database.settings import APP_ROLE, Settings, database_url
from dataarch.database.unit_of_work import Database
from dataarch.pipelines.feeds.retail import LINES, RETAIL, desk_of
from dataarch.pipelines.outcome import Outcome
from dataarch.pipelines.process import made_for_loading
from dataarch.pipelines.runner import run
from dataarch.rollout.revisions import revisions

# parents before children; what the server computes is not copied
COPIED = {
    "tenants": "*",
    "users": "*",
    "products": "*",
    "inventory": "tenant_id, product_id, quantity, last_sequence",
    "inventory_movements": "tenant_id, product_id, sequence, next_sequence, id, quantity_before, change,"
    " quantity_after, reason, reference, occurred_at, created_at",
    "user_activity_log": "*",
}

ENOUGH = {"pool_size": 10}
"""Connections that stay open, so that the time of none is missed."""

MONTHS = "SELECT DISTINCT date_trunc('month', created_at AT TIME ZONE 'UTC')::date FROM user_activity_log"


@dataclass(frozen=True)
class Measured:
    """Seconds by the clock, and of the processors of this process and of the server's, for a number of lines or rows.

    The server's are 0 where it does not run on this machine, or says it in another way than Linux.
    """

    what: str
    count: int
    seconds: float
    processor: float
    server: float

    @property
    def rate(self) -> float:
        """How many a second."""
        return self.count / self.seconds


def admin_url() -> URL:
    """Return the URL of a role that may make databases: of the environment, or of the embedded server."""
    settings = Settings.load()
    if settings.database_url is not None:
        return settings.owner
    status = EmbeddedServer(settings.server_dir).start()
    assert status.admin_url is not None
    return database_url(status.admin_url)


def connected(url: URL) -> psycopg.Connection[tuple[Any, ...]]:
    """Return a connection in autocommit mode."""
    return psycopg.connect(url.set(drivername="postgresql").render_as_string(hide_password=False), autocommit=True)


@contextmanager
def fresh_database(admin: URL, name: str) -> Iterator[Settings]:
    """Make a database at the newest revision, and drop it at the end."""
    name = f"dataarch_bench_{os.getpid()}_{name}"
    with connected(admin) as connection:
        connection.execute(f"CREATE DATABASE {name}".encode())
    try:
        urls = {role: admin.set(username=role, database=name) for role in (APP_ROLE, admin.username)}
        texts = {role: url.render_as_string(hide_password=False) for role, url in urls.items()}
        settings = Settings(database_url=texts[APP_ROLE], owner_url=texts[admin.username])
        command.upgrade(revisions(settings), "head")
        yield settings
    finally:
        with connected(admin) as connection:
            connection.execute(f"DROP DATABASE {name} WITH (FORCE)".encode())


def server_time(connection: psycopg.Connection[Any]) -> float:
    """Return the seconds of a processor that all connections to this database have taken so far."""
    pids = connection.execute("SELECT pid FROM pg_stat_activity WHERE datname = current_database()").fetchall()
    stats = [Path(f"/proc/{pid}/schedstat") for (pid,) in pids]
    return sum(int(stat.read_text().split()[0]) for stat in stats if stat.exists()) / 1e9


def measured(what: str, watcher: psycopg.Connection[Any], work: Callable[[], int]) -> Measured:
    """Run work that returns how many it has done, and measure it; its connections are still open at the end."""
    server, clock, processor = server_time(watcher), time.perf_counter(), time.process_time()
    count = work()
    seconds, processor = time.perf_counter() - clock, time.process_time() - processor
    return Measured(what, count, seconds, processor, server_time(watcher) - server)


def load(db: Database, folder: Path) -> Outcome:
    """Load the files as the application role, as the command does."""
    with made_for_loading():
        return run(db, RETAIL, folder, tenant_id=desk_of(db), batch=LINES)


def read_back(settings: Settings) -> dict[str, list[bytes]]:
    """Return the rows of every table as COPY writes them."""
    with connected(settings.owner) as connection, connection.cursor() as cursor:
        rows: dict[str, list[bytes]] = {}
        for table, columns in COPIED.items():
            with cursor.copy(f"COPY (SELECT {columns} FROM {table}) TO STDOUT".encode()) as copy:
                rows[table] = [bytes(row) for row in copy]
        return rows


def write_back(connection: psycopg.Connection[Any], rows: dict[str, list[bytes]]) -> int:
    """Copy the rows into empty tables, in one transaction; return how many activities and movements there were."""
    with connection.transaction(), connection.cursor() as cursor:
        for table, columns in COPIED.items():
            names = "" if columns == "*" else f"({columns})"
            with cursor.copy(f"COPY {table} {names} FROM STDIN".encode()) as copy:
                for row in rows[table]:
                    copy.write(row)
    return len(rows["user_activity_log"]) + len(rows["inventory_movements"])


def one_round(admin: URL, folder: Path) -> tuple[Outcome, list[Measured]]:
    """Measure the job and the server's limit once."""
    found: list[Outcome] = []

    def job() -> int:
        found.append(load(db, folder))
        return found[0].counts.read

    with fresh_database(admin, "job") as settings:
        with connected(settings.owner) as connection, Database(settings.model_copy(update=ENOUGH)) as db:
            jobs = measured("the main job: lines", connection, job)
            months = [name for (name,) in connection.execute(MONTHS)]
        rows = read_back(settings)
    with fresh_database(admin, "copy") as other, connected(other.owner) as connection:
        for month in months:
            connection.execute("SELECT create_activity_partition(%s)", [month])
        copied = measured("COPY of what came of it: rows", connection, lambda: write_back(connection, rows))
    return found[0], [jobs, copied]


def main() -> None:
    """Measure and print."""
    folder, rounds = Path(sys.argv[1] if len(sys.argv) > 1 else "examples/data"), int((sys.argv[2:] or ["3"])[0])
    admin, files = admin_url(), RETAIL.extract.sources(folder)
    with connected(admin) as connection:
        version = connection.info.server_version // 10_000
    table = Table(title=f"{len(files)} files, PostgreSQL {version}, {os.cpu_count()} processors, rounds interleaved")
    for header in (
        "round",
        "what",
        "count",
        "seconds",
        "a second",
        "CPU s, client",
        "CPU s, server",
        "job / COPY in time",
    ):
        table.add_column(header, justify="left" if header == "what" else "right")
    for number in range(1, rounds + 1):
        outcome, (job, copied) = one_round(admin, folder)
        for part in (job, copied):
            ratio = f"{job.seconds / copied.seconds:.2f}" if part is job else ""
            cells = (f"{part.seconds:.2f}", f"{part.rate:,.0f}", f"{part.processor:.2f}", f"{part.server:.2f}", ratio)
            table.add_row(str(number), part.what, f"{part.count:,}", *cells)
    console = Console()
    console.print(table)
    counts = outcome.counts
    console.print(f"{counts.loaded:,} lines loaded, {counts.unchanged:,} duplicates, {counts.rejected:,} rejected")
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (1024 if sys.platform == "linux" else 1024**2)
    console.print(f"peak memory of this process, the copied rows included: {peak:,.0f} MiB")


if __name__ == "__main__":
    main()
