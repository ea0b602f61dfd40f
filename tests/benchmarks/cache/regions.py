"""Measure reads through the cache: PYTHONPATH=tests python -m benchmarks.cache.regions

Beside each stands what redis-py and the same decoding take in the same run, repetitions in turn; medians. Limits: one
value 1.15 of a GET, a hundred 1.3 of an MGET; a cached profile half of the query's time over TCP; of a cold stampede of
200 callers, one query. Servers: as in main_job.py. Exit code 1 where a limit does not hold.
"""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from statistics import median
from typing import Any
from uuid import UUID

import redis
from rich.console import Console
from rich.table import Table
from sqlalchemy import event

from benchmarks.partitions.history import admin_url, fresh_database
from dataarch.caching.database import Database
from dataarch.caching.entity_views import PROFILE
from dataarch.models import Tenant, User, UserProfile, UserSettings
from dataarch.models.base import new_id

TURNS, CALLS = 60, 50
MANY = 100
CALLERS = 200

GET_LIMIT, MANY_LIMIT, QUERY_LIMIT, STAMPEDE_LIMIT = 1.15, 1.3, 0.5, 1.0

console = Console()


def inhabited(db: Database) -> tuple[UUID, list[UUID]]:
    """Make a tenant with users, profiles and settings."""
    tenant, ids = new_id(), [new_id() for _ in range(MANY)]
    with db.tenant(tenant) as session:
        session.add(Tenant(id=tenant, slug="bench", name="Bench"))
        session.flush()
        session.add_all(User(id=one, email=f"u{one.hex}@example.com", full_name="Ada Lovelace") for one in ids)
        session.flush()
        session.add_all(UserProfile(user_id=one, display_name="Ada", bio="b" * 200) for one in ids)
        session.add_all(UserSettings(user_id=one) for one in ids)
    return tenant, ids


def microseconds(ways: Mapping[str, Callable[[], object]], calls: int) -> dict[str, float]:
    """Return the median of what each way takes, the ways in turn."""
    took: dict[str, list[float]] = {name: [] for name in ways}
    for _ in range(TURNS):
        for name, way in ways.items():
            began = time.perf_counter()
            for _ in range(calls):
                way()
            took[name].append((time.perf_counter() - began) / calls * 1e6)
    return {name: median(values) for name, values in took.items()}


def queries_of_a_stampede(db: Database, tenant: UUID, user: UUID) -> int:
    """Return how many statements 200 callers send who miss one profile at once."""
    sent: list[str] = []

    def note(_connection: object, _cursor: object, statement: str, *_: object) -> None:
        if "full_name" in statement:
            sent.append(statement)

    event.listen(db.engine, "before_cursor_execute", note)
    together = threading.Barrier(CALLERS)

    def call(_: int) -> object:
        together.wait()
        return db.cache.profiles.get(tenant, user)

    db.cache.invalidate_kind(PROFILE.name)
    with ThreadPoolExecutor(CALLERS) as pool:
        found = list(pool.map(call, range(CALLERS)))
    event.remove(db.engine, "before_cursor_execute", note)
    assert all(one is not None for one in found)
    return len(sent)


def shown(rows: list[tuple[str, float, float, float]]) -> bool:
    """Print what was measured; return whether each ratio is within its limit."""
    table = Table("", "dataarch", "beside it", "ratio", "limit", title="Reads through the cache", title_justify="left")
    held = True
    for name, ours, other, limit in rows:
        held &= ours / other <= limit
        table.add_row(name, f"{ours:.1f}", f"{other:.1f}", f"{ours / other:.2f}", f"{limit}")
    console.print(table)
    return held


def measured(db: Database) -> bool:
    """Measure everything in one database."""
    tenant, ids = inhabited(db)
    profiles, region = db.cache.profiles, db.cache.region(PROFILE.name)
    backend: Any = region.kind_backend
    many: Any = region
    assert db.cache.wait_until_ready()
    profiles.get_many(tenant, ids)
    assert db.settings.redis_url is not None
    raw = redis.Redis.from_url(db.settings.redis_url)
    keys = [profiles.key(tenant, one) for one in ids]
    value, _ = backend.form(profiles.get(tenant, ids[0]))
    names = [f"raw{n}" for n in range(MANY)]
    raw.mset(dict.fromkeys(names, value))
    decode: Callable[[Any], Any] = backend._codec.decode

    one = microseconds(
        {
            "raw": lambda: decode(raw.get(names[0])),
            "region": lambda: region.get(keys[0]),
            "profile": lambda: profiles.get(tenant, ids[0]),
        },
        CALLS,
    )
    hundred = microseconds(
        {
            "raw": lambda: [decode(found) for found in raw.mget(names)],
            "region": lambda: many.get_multi(keys),
            "profiles": lambda: profiles.get_many(tenant, ids),
        },
        3,
    )

    def query() -> object:
        with db.tenant(tenant) as session:
            return profiles._rows(session, tenant, ids[:1])

    uncached = microseconds({"query": query, "profile": lambda: profiles.get(tenant, ids[0])}, 5)
    raw.delete(*names)
    return shown(
        [
            ("region.get: µs, beside GET", one["region"], one["raw"], GET_LIMIT),
            ("profiles.get: µs, beside GET", one["profile"], one["raw"], GET_LIMIT),
            (f"region.get_multi of {MANY}: µs, beside MGET", hundred["region"], hundred["raw"], MANY_LIMIT),
            (f"profiles.get_many of {MANY}: µs, beside MGET", hundred["profiles"], hundred["raw"], MANY_LIMIT),
            ("profiles.get: µs, beside the query", uncached["profile"], uncached["query"], QUERY_LIMIT),
            (
                f"a cold stampede of {CALLERS}: queries, beside one",
                queries_of_a_stampede(db, tenant, ids[0]),
                1,
                STAMPEDE_LIMIT,
            ),
        ]
    )


def main() -> None:
    """Measure and print; exit with 1 where a limit does not hold."""
    with fresh_database(admin_url()) as settings, Database(settings) as db:
        held = measured(db)
    sys.exit(not held)


if __name__ == "__main__":
    main()
