"""Measure what a hit in the near cache costs: PYTHONPATH=tests python -m benchmarks.cache.near

A profile is read over and over, from the near cache, from Redis and from the database, in turns, so that other work on
the machine slows all of them. Servers: as in main_job.py. The exit code is 1 where a hit takes longer than it may.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable
from statistics import median

from rich.console import Console
from rich.table import Table

from benchmarks.partitions.history import admin_url, fresh_database
from dataarch.caching.database import Database
from dataarch.caching.entity_views import PROFILE
from dataarch.database.embedded import EmbeddedServer
from dataarch.database.settings import Settings
from fixtures.caches import opened, quicken
from fixtures.tenants import inhabit

LIMIT = 12.0
"""Microseconds that a hit may take."""

TURNS = 400
"""Short ones: a turn that another process interrupts says nothing of the hit, and the median leaves it out."""


def redis_url() -> str:
    """Return the URL of the Redis of the environment, or of the embedded one."""
    settings = Settings.load()
    found = settings.redis_url or EmbeddedServer(settings.server_dir).start().redis_url
    assert found is not None
    return found


def microseconds(read: Callable[[], object], times: int) -> float:
    """Return how long a read takes."""
    start = time.perf_counter()
    for _ in range(times):
        read()
    return (time.perf_counter() - start) / times * 1e6


def measured(hits: int) -> dict[str, float]:
    """Return the median microseconds of each way to read a profile."""
    with fresh_database(admin_url()) as bare:
        settings = bare.model_copy(update={"redis_url": redis_url()})
        quicken(settings, 2000)
        with Database(settings) as near, Database(settings) as far:
            home = inhabit(near)
            opened(near).cache.keep_near(PROFILE.name)
            opened(far)
            region = near.cache.region(PROFILE.name)
            key = near.cache.profiles.key(home.id, home.user_id)
            ways: dict[str, tuple[Callable[[], object], int]] = {
                "profiles.get, near": (lambda: near.cache.profiles.get(home.id, home.user_id), hits),
                "region.get, near": (lambda: region.get(key), hits),
                "profiles.get, Redis": (lambda: far.cache.profiles.get(home.id, home.user_id), hits // 20),
            }
            took: dict[str, list[float]] = {name: [] for name in ways}
            for _ in range(TURNS):
                for name, (read, times) in ways.items():
                    read()
                    took[name].append(microseconds(read, times))
            assert near.cache.fencing.near is not None
            assert near.cache.fencing.near.hits >= hits * TURNS
    return {name: median(found) for name, found in took.items()}


def main() -> int:
    """Print the figures beside their limit."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--hits", type=int, default=200, help="reads in a turn")
    found = measured(parser.parse_args().hits)
    table = Table(title="a profile that is remembered")
    for header in ("read", "µs", "limit"):
        table.add_column(header, justify="left" if header == "read" else "right")
    for name, took in found.items():
        table.add_row(name, f"{took:.1f}", f"{LIMIT:.0f}" if "near" in name else "")
    Console().print(table)
    return int(any(took > LIMIT for name, took in found.items() if "near" in name))


if __name__ == "__main__":
    sys.exit(main())
