"""Measure JSON search under row-level security: PYTHONPATH=tests python -m benchmarks.repositories.search

One tenant has a million activities over two years. The repository searches as the application role with policies on;
beside it the owner, whom no policy binds, runs the same query as a prepared statement of psycopg. Repetitions take
turns. Ends with 1 where the limit is broken. Servers: as in main_job.py.
"""

from __future__ import annotations

import argparse
import sys
from collections import defaultdict
from collections.abc import Callable, Sequence
from functools import partial
from statistics import median
from uuid import UUID

import psycopg
from psycopg.types.json import Jsonb
from rich.console import Console
from rich.progress import track
from rich.table import Table

from benchmarks.partitions.history import admin_url, connected, fresh_database, make_months, settle
from benchmarks.partitions.verdict import Verdict
from benchmarks.repositories.reads import WARM, timed
from dataarch import Database
from dataarch.clock import utcnow
from dataarch.repositories import ActivityQueries

LIMIT, AIM = 1.6, 1.3

ROWS = """
INSERT INTO user_activity_log (tenant_id, id, user_id, activity_type, metadata, created_at)
    SELECT md5('t1')::uuid, lpad(to_hex(n), 32, '0')::uuid, md5('u1-' || n %% 50 + 1)::uuid, 'view',
           jsonb_build_object('order', n / 20, 'page', n %% 97, 'item', jsonb_build_object('sku', 'S' || n %% 1000)),
           %(oldest)s::timestamptz + n * ((%(newest)s::timestamptz - %(oldest)s::timestamptz) / (%(rows)s::int + 1))
    FROM generate_series(%(first)s::int, %(last)s::int) AS n
"""

OWNERS = """
SELECT tenant_id, id, user_id, activity_type, metadata, created_at FROM user_activity_log
WHERE tenant_id = %s AND metadata @> %s::jsonb ORDER BY created_at DESC, id LIMIT 1000
"""

SEARCHES = {"20 rows of one day": {"order": 777}, "some 10 rows in all months": {"page": 3, "item": {"sku": "S5"}}}


def filled(connection: psycopg.Connection[tuple[object, ...]], months: int, rows: int) -> UUID:
    """Write the activities, and bring the indexes and statistics up to date."""
    given = {"oldest": make_months(connection, months).start, "newest": utcnow(), "rows": rows}
    settle(connection)
    step = 50_000
    for first in track(range(1, rows + 1, step), "filling"):
        connection.execute(ROWS, {**given, "first": first, "last": min(first + step - 1, rows)})
    connection.execute("VACUUM (ANALYZE) user_activity_log")
    return connection.execute("SELECT md5('t1')::uuid").fetchone()[0]  # type: ignore[index,return-value]


def _all(execute: Callable[[], psycopg.Cursor[tuple[object, ...]]]) -> Sequence[object]:
    return execute().fetchall()


def main() -> Verdict:
    """Measure, show, and judge."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--months", type=int, default=24)
    parser.add_argument("--repetitions", type=int, default=100)
    given = parser.parse_args()
    took: dict[tuple[str, str], list[float]] = defaultdict(list)
    with fresh_database(admin_url()) as settings, connected(settings.owner) as owner:
        tenant = filled(owner, given.months, given.rows)
        with Database(settings) as db, db.tenant(tenant) as session:
            log = ActivityQueries(session)
            for name, metadata in SEARCHES.items():
                text = Jsonb(metadata)
                plain = partial(owner.execute, OWNERS, (tenant, text), prepare=True)
                ways: dict[str, Callable[[], Sequence[object]]] = {
                    "owner": partial(_all, plain),
                    "rows": partial(log.search_rows, metadata),
                    "objects": partial(log.search, metadata),
                }
                found = {way: len(read()) for way, read in ways.items()}
                if len(set(found.values())) != 1 or not found["owner"]:
                    raise AssertionError(f"the ways do not find the same: {found}")
                for _ in range(WARM + given.repetitions):
                    for way, read in ways.items():
                        took[name, way].append(timed(read))
    table = Table(
        "search", "owner, ms", "as rows", "as objects", title=f"a tenant of {given.rows:,} rows; limit {LIMIT}"
    )
    worst = 0.0
    for name in SEARCHES:
        medians = {way: median(took[name, way][WARM:]) for way in ("owner", "rows", "objects")}
        ratios = {way: medians[way] / medians["owner"] for way in medians}
        worst = max(worst, ratios["rows"])
        table.add_row(name, f"{medians['owner'] * 1e3:.2f}", f"{ratios['rows']:.2f}", f"{ratios['objects']:.2f}")
    Console().print(table)
    return Verdict.HOLDS if worst <= LIMIT else Verdict.BROKEN


if __name__ == "__main__":
    sys.exit(main())
