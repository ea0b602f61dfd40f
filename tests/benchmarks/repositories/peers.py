"""Measure dataarch beside its peers: PYTHONPATH=tests python -m benchmarks.repositories.peers

Three works: writing activities into a log of three months with all its indexes and keys, an upsert of products of which
half are there, and the latest 50 activities of a user. Everybody is given the same rows in Python's types; psycopg by
hand, with bytes that were encoded beforehand, is 1.00. Peers run as the owner of the tables, whom no policy binds, and
dataarch as the application role with its policies on. Ways take turns, so that other work on the machine slows all of
them. Peers that are not installed are said so: python -m pip install -r requirements/bench.txt. No limits: ends with 0.
Servers: as in main_job.py, of a superuser.
"""

from __future__ import annotations

import argparse
import gc
import platform
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, replace
from importlib.metadata import PackageNotFoundError, version
from statistics import median
from types import MappingProxyType
from typing import Any, Protocol
from uuid import UUID

import psycopg
from rich.console import Console
from rich.progress import Progress
from rich.table import Table

from benchmarks.partitions.history import admin_url, connected, fill, fresh_database, make_months, people, settle
from benchmarks.repositories import (
    peers_advanced_alchemy,
    peers_asyncpg,
    peers_dataarch,
    peers_django,
    peers_psycopg,
    peers_sqlalchemy,
)
from benchmarks.repositories.peers_ground import (
    MONTHS,
    WANTED,
    Ground,
    Opens,
    activities,
    before_upsert,
    check_activities,
    check_latest,
    check_products,
    products,
)
from benchmarks.repositories.peers_measure import Absent, Took, Turns, Way, measured, ratio

READS = 10
"""Reads of one turn: who reads once in a while pays for caches of the processor that others have filled."""

WARM_TURNS = 2
"""Turns of reads that do not count: psycopg prepares a statement the 6th time, PostgreSQL keeps a plan after 5 more."""

PACKAGES = ("SQLAlchemy", "psycopg", "advanced-alchemy", "Django", "asyncpg")


class Peer(Protocol):
    """A module that knows how one peer does the three works."""

    def ingest(self, stack: ExitStack, ground: Ground, /) -> Sequence[Way]: ...

    def upsert(self, stack: ExitStack, ground: Ground, /) -> Sequence[Way]: ...

    def latest(self, stack: ExitStack, ground: Ground, /) -> Sequence[Way]: ...


PEERS: Mapping[str, Peer] = MappingProxyType(
    {
        "psycopg": peers_psycopg,  # who comes first is what the others are measured by
        "dataarch": peers_dataarch,
        "SQLAlchemy": peers_sqlalchemy,
        "advanced-alchemy": peers_advanced_alchemy,
        "Django": peers_django,
        "asyncpg": peers_asyncpg,
    }
)


@dataclass
class Field:
    """Who is measured.

    Attributes:
        ways: of all peers, in the order they are shown.
        by_hand: how many of them are the first peer's: the fastest of these is 1.00.
        absent: why the peers without any way have none.
    """

    ways: list[Way] = field(default_factory=list)
    by_hand: int = 0
    absent: dict[str, str] = field(default_factory=dict)


def field_of(peers: Mapping[str, Opens], stack: ExitStack, ground: Ground) -> Field:
    """Connect all peers for as long as the stack lasts."""
    found = Field()
    for name, opens in peers.items():
        try:
            found.ways += opens(stack, ground)
        except Absent as why:
            found.absent[name] = str(why)
        found.by_hand = found.by_hand or len(found.ways)
    return found


def shown(title: str, rows: int, found: Field, took: Mapping[str, Sequence[Took]]) -> Table:
    """Return the table of one work."""
    table = Table(title=title)
    for header in ("by", "policies", "ms", "rows/s", "time", "speed", "client's CPU µs a row"):
        table.add_column(header, justify="left" if header in {"by", "policies"} else "right")
    seconds = {name: median(one.seconds for one in mine) for name, mine in took.items()}
    baseline = min((way.name for way in found.ways[: found.by_hand]), key=lambda name: seconds[name])
    for way in found.ways:
        times = ratio(took[baseline], took[way.name])
        processor = median(one.processor for one in took[way.name]) / rows * 1e6
        milliseconds = seconds[way.name] * 1e3
        table.add_row(
            way.name,
            "on" if way.policies else "off",
            f"{milliseconds:,.2f}" if milliseconds < 100 else f"{milliseconds:,.0f}",
            f"{rows / seconds[way.name]:,.0f}",
            f"{times:.2f}",
            f"{1 / times:.2f}",
            f"{processor:.1f}",
        )
    for name, why in found.absent.items():
        table.add_row(f"{name}: {why}")
    return table


@contextmanager
def ground_of(admin: Any, prepare: Callable[[psycopg.Connection[Any]], object]) -> Iterator[Ground]:
    """Make a database with months, tenants and users for as long as the block lasts."""
    with fresh_database(admin) as settings, connected(settings.owner) as owner:
        prepare(owner)
        busy = people(owner)[0]
        yield Ground(settings, owner, busy.tenant_id, busy.user_id)


def months_and_people(owner: psycopg.Connection[Any]) -> None:
    """Make an empty log and those who write into it."""
    make_months(owner, MONTHS)
    settle(owner)


def ingests(admin: Any, count: int, repetitions: int, progress: Progress) -> Table:
    """Measure writing so many activities."""
    with ground_of(admin, months_and_people) as empty, ExitStack() as stack:
        ground = replace(empty, rows=activities(count, empty.tenant_id, users_of(empty)))

        def emptied() -> None:
            ground.owner.execute("TRUNCATE user_activity_log")
            ground.owner.execute("CHECKPOINT")
            gc.collect()  # nobody pays for what another one left

        found = field_of({name: one.ingest for name, one in PEERS.items()}, stack, ground)
        took = measured(
            found.ways, Turns(repetitions), before=emptied, check=lambda _: check_activities(ground), progress=progress
        )
    return shown(f"{count:,} activities into {MONTHS} months", count, found, took)


def users_of(ground: Ground) -> list[UUID]:
    """Return the tenant's users."""
    found = ground.owner.execute("SELECT id FROM users WHERE tenant_id = %s ORDER BY id", [ground.tenant_id])
    return [user for (user,) in found]


def upserts(admin: Any, count: int, repetitions: int, progress: Progress) -> Table:
    """Measure an upsert of so many products."""
    with ground_of(admin, months_and_people) as empty, ExitStack() as stack:
        ground = replace(empty, rows=products(count, empty.tenant_id))

        def half_there() -> None:
            before_upsert(ground)
            gc.collect()  # nobody pays for what another one left

        found = field_of({name: one.upsert for name, one in PEERS.items()}, stack, ground)
        took = measured(
            found.ways,
            Turns(repetitions),
            before=half_there,
            check=lambda _: check_products(ground),
            progress=progress,
        )
    return shown(f"upsert of {count:,} products, half there", count, found, took)


def reads(admin: Any, log: int, months: int, repetitions: int, progress: Progress) -> Table:
    """Measure reading the latest activities of a user."""
    with ground_of(admin, lambda owner: fill(owner, months, log)) as ground, ExitStack() as stack:
        found = field_of({name: one.latest for name, one in PEERS.items()}, stack, ground)
        took = measured(found.ways, Turns(repetitions, WARM_TURNS, READS), check=check_latest, progress=progress)
    return shown(f"latest {WANTED} of a user, of {log:,} in {months} months", WANTED, found, took)


def versions(admin: Any) -> str:
    """Return what was measured, with versions."""
    with connected(admin) as connection:
        found = [
            f"PostgreSQL {connection.info.parameter_status('server_version')}",
            f"Python {platform.python_version()}",
        ]
    for package in PACKAGES:
        try:
            found.append(f"{package} {version(package)}")
        except PackageNotFoundError:
            continue
    return ", ".join(found)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument(
        "--work", nargs="+", choices=("ingest", "upsert", "latest"), default=["ingest", "upsert", "latest"]
    )
    parser.add_argument("--rows", type=int, nargs="+", default=[10_000], help="activities to write")
    parser.add_argument("--products", type=int, default=10_000)
    parser.add_argument("--repetitions", type=int, default=5, help="of each write")
    parser.add_argument("--reads", type=int, default=30, help=f"turns of {READS} reads each")
    parser.add_argument("--log", type=int, default=200_000, help="activities in the log that is read")
    parser.add_argument("--months", type=int, default=24, help="months of the log that is read")
    given = parser.parse_args()
    admin = admin_url()
    console = Console(width=130)
    console.print(versions(admin))
    with Progress(console=Console(stderr=True), transient=True) as progress:
        if "ingest" in given.work:
            for count in given.rows:
                console.print(ingests(admin, count, given.repetitions, progress))
        if "upsert" in given.work:
            console.print(upserts(admin, given.products, given.repetitions, progress))
        if "latest" in given.work:
            console.print(reads(admin, given.log, given.months, given.reads, progress))


if __name__ == "__main__":
    main()
