"""Measure what a unit of work with one read costs: PYTHONPATH=tests python -m benchmarks.repositories.trips

All go through the same relay, which adds half a millisecond to each round trip, and then nothing. The limit is a bare
read: psycopg, autocommit, prepared. Repetitions are interleaved, so that other work on the machine slows all of them.
Beside the time stands the processor time of this process. Ends with 1 where a limit is broken. Servers: as in
main_job.py.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from statistics import median
from typing import Any
from uuid import UUID

import psycopg
from rich.console import Console
from rich.table import Table
from sqlalchemy import URL, select

from benchmarks.partitions.history import admin_url, connected, fresh_database, settle
from benchmarks.partitions.verdict import Verdict
from benchmarks.repositories.relay import relay
from dataarch.database.settings import Settings
from dataarch.database.unit_of_work import Database
from dataarch.models import User

ADDED = 0.0005
WARM = 12
"""Units that do not count: psycopg prepares a statement the 6th time, and PostgreSQL keeps a plan after 5 more."""
LIMIT = 2.0
AIM = 1.3

BARE = "SELECT full_name FROM users WHERE tenant_id = %s AND id = %s"
IDS = "SELECT md5('t1')::uuid, md5('u1-1')::uuid"

Work = Callable[[], object]


@contextmanager
def bare_connection(url: URL, tenant_id: UUID) -> Iterator[psycopg.Connection[Any]]:
    """Connect as any program might, with the tenant set once and for all."""
    text = url.set(drivername="postgresql").render_as_string(hide_password=False)
    with psycopg.connect(text, autocommit=True) as connection:
        connection.execute("SELECT set_config('dataarch.tenant_id', %s, false)", [str(tenant_id)])
        yield connection


def works(db: Database, bare: psycopg.Connection[Any], tenant_id: UUID, user_id: UUID) -> dict[str, Work]:
    """Return what is measured, by name."""
    query = select(User.full_name).where(User.id == user_id)

    def read_bare() -> object:
        return bare.execute(BARE, [tenant_id, user_id], prepare=True).fetchone()

    def read_in_tenant() -> object:
        with db.tenant(tenant_id) as session:
            return session.scalars(query).one()

    def read_in_reading() -> object:
        with db.reading(tenant_id) as session:
            return session.scalars(query).one()

    return {"bare": read_bare, "db.tenant": read_in_tenant, "db.reading": read_in_reading}


def measured(done: dict[str, Work], repetitions: int) -> dict[str, tuple[float, float]]:
    """Return the median seconds of each, and the mean seconds of this process's processor."""
    times: dict[str, list[float]] = defaultdict(list)
    spent: dict[str, float] = defaultdict(float)
    for each in range(WARM + repetitions):
        for name, work in done.items():
            processor, start = time.process_time(), time.perf_counter()
            work()
            took = time.perf_counter() - start
            if each >= WARM:
                times[name].append(took)
                spent[name] += time.process_time() - processor
    return {name: (median(took), spent[name] / len(took)) for name, took in times.items()}


def benchmark(settings: Settings, added: float, repetitions: int) -> dict[str, tuple[float, float]]:
    """Measure through a relay that adds so many seconds to each round trip."""
    with connected(settings.owner) as connection:
        ids = connection.execute(IDS).fetchone()
    assert ids is not None
    tenant_id, user_id = ids
    with relay(settings.application, added) as url:
        here = settings.model_copy(update={"database_url": url.render_as_string(hide_password=False)})
        with Database(here) as db, bare_connection(url, tenant_id) as bare:
            return measured(works(db, bare, tenant_id, user_id), repetitions)


def main() -> None:
    """Measure and print; end with 1 where a limit is broken."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--repetitions", type=int, default=500)
    given = parser.parse_args()
    made = Table(title=f"one read; limit of db.reading {LIMIT} of the bare read, aim {AIM}")
    for header in ("added ms", "work", "ms", "/ bare", "processor ms"):
        made.add_column(header, justify="left" if header == "work" else "right")
    broken = []
    with fresh_database(admin_url()) as settings:
        with connected(settings.owner) as connection:
            settle(connection)
            connection.execute("VACUUM (ANALYZE)")
        for added in (ADDED, 0.0):
            found = benchmark(settings, added, given.repetitions)
            for name, (took, spent) in found.items():
                ratio = took / found["bare"][0]
                made.add_row(f"{added * 1e3}", name, f"{took * 1e3:.3f}", f"{ratio:.2f}", f"{spent * 1e3:.3f}")
                if added and name == "db.reading" and ratio > LIMIT:
                    broken.append(f"BROKEN: {name} takes {ratio:.2f} of a bare read (limit {LIMIT})")
    console = Console(width=120)
    console.print(made)
    for one in broken:
        console.print(one)
    sys.exit(Verdict.BROKEN if broken else Verdict.HOLDS)


if __name__ == "__main__":
    main()
