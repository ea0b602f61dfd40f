"""No batch reads more than its own rows, whatever other indexes the table has and however old its statistics are."""

from __future__ import annotations

import json
from typing import Any

import pytest

from dataarch.rollout.backfill import Definition, Pace
from dataarch.rollout.backfill.session import ask, session
from dataarch.rollout.backfill.shape import shape_of
from dataarch.rollout.backfill.statements import Key, Statements
from rollout.backfill.backfill_support import SETS, Ground

pytestmark = [pytest.mark.migration, pytest.mark.performance]

TENANT = "00000000-0000-7000-8000-000000000001"
OTHER = "00000000-0000-7000-8000-000000000002"

ROWS = 30_000


def scans(plan: dict[str, Any]) -> list[dict[str, Any]]:
    """Return the nodes of a plan that read rows of a table."""
    below = [node for child in plan.get("Plans", []) for node in scans(child)]
    # the heap scan above a bitmap counts what is left of its entries
    reads = "Scan" in plan["Node Type"] and plan["Node Type"] not in {"Subquery Scan", "Bitmap Index Scan"}
    return [plan, *below] if reads else below


@pytest.fixture(scope="module")
def statements(ground: Ground) -> Statements:
    """Two tenants with 30,000 rows each, an index that begins as the key does, and statistics from before."""
    ground.do(
        "CREATE TABLE orders (tenant_id uuid, id text, at timestamptz DEFAULT now(), full_name text, display_name text,"
        " PRIMARY KEY (tenant_id, id))",
        "ANALYZE orders",
        "CREATE INDEX ON orders (tenant_id)",
        "CREATE INDEX ON orders (tenant_id, at)",
        f"INSERT INTO orders (tenant_id, id, full_name) SELECT t::uuid, lpad(n::text, 8, '0'), 'User ' || n"
        f" FROM generate_series(1, {ROWS}) AS n, unnest(ARRAY['{TENANT}', '{OTHER}']) AS t",
    )
    definition = Definition.of("plans", "orders", SETS)
    with session(ground.engine, "plans") as connection:
        return Statements(definition, shape_of(connection, definition))


PLACES: dict[str, tuple[Key | None, Key | None]] = {
    "in the middle of a tenant": ((TENANT, "00010000"), (TENANT, "00011000")),
    "across the border of two": ((TENANT, "00029500"), (OTHER, "00000500")),
    "at the beginning": (None, (TENANT, "00001000")),
}


@pytest.mark.parametrize("analyzed", [False, True], ids=["never analyzed", "analyzed"])
@pytest.mark.parametrize("place", PLACES)
def test_a_batch_reads_its_own_rows_alone(ground: Ground, statements: Statements, place: str, analyzed: bool) -> None:
    lower, upper = PLACES[place]
    assert upper is not None
    equal = 1 if lower is not None and lower[0] == upper[0] else 0
    if analyzed:
        ground.do("ANALYZE orders")
    asked = [
        statements.end(("public", "orders"), lower, None, 1_000),
        *statements.updates(("public", "orders"), lower, upper, equal),
    ]
    read = 0
    with session(ground.engine, "plans") as connection:
        for statement in asked:
            [[found]] = ask(connection, f"EXPLAIN (ANALYZE, FORMAT JSON) {statement}")
            plan = (found if isinstance(found, list) else json.loads(found))[0]["Plan"]
            for node in scans(plan):
                assert node["Node Type"] != "Seq Scan", statement
                read += (node["Actual Rows"] + node.get("Rows Removed by Filter", 0)) * node["Actual Loops"]
        connection.rollback()
    assert 2_000 <= read <= 2_010


def test_the_last_batch_of_a_tenant_does_not_read_the_next_one(ground: Ground, statements: Statements) -> None:
    upper: Key = (TENANT, "99999999")
    query = statements.last(("public", "orders"), (TENANT, "00029900"), upper, 500)
    with session(ground.engine, "plans") as connection:
        [[key, equal, rows]] = ask(connection, query)
        assert (tuple(key), equal, rows) == ((TENANT, "00030000"), [True, False], 100)
        [[found]] = ask(connection, f"EXPLAIN (ANALYZE, FORMAT JSON) {query}")
    plan = (found if isinstance(found, list) else json.loads(found))[0]["Plan"]
    assert sum(node["Actual Rows"] + node.get("Rows Removed by Filter", 0) for node in scans(plan)) <= 110


READ = """
SELECT (SELECT sum(idx_tup_read) FROM pg_stat_user_indexes WHERE relname = 'lines')
     + (SELECT seq_tup_read FROM pg_stat_user_tables WHERE relname = 'lines')
"""


@pytest.mark.parametrize(("tenants", "most"), [(2, 500), (2_000, 500), (1, 4_000)])
def test_a_whole_run_reads_each_row_a_few_times_and_not_a_tenant_for_each_batch(
    ground: Ground, tenants: int, most: int
) -> None:
    rows = 20_000
    ground.do(
        "DROP TABLE IF EXISTS lines",
        "CREATE TABLE lines (tenant_id integer, id uuid DEFAULT gen_random_uuid(), full_name text, display_name text,"
        " PRIMARY KEY (tenant_id, id))",
        "ALTER TABLE lines SET (autovacuum_enabled = off)",
        "CREATE INDEX ON lines (tenant_id)",
        f"INSERT INTO lines (tenant_id, full_name) SELECT n % {tenants}, n FROM generate_series(1, {rows}) AS n",
        "ANALYZE lines",
        f"INSERT INTO lines (tenant_id, full_name) SELECT n % {tenants}, n FROM generate_series(1, {rows}) AS n",
    )
    name = ground.register("lines", SETS)
    before = ground.value(READ)
    outcome = ground.run(name, pace=Pace(seconds=10, most=most, first=most))
    assert outcome.changed == 2 * rows
    assert outcome.batches >= 2 * rows / most
    filled = ground.value(READ)
    assert filled - before < 5 * 2 * rows
    ground.verify(name)
    # twice each, and what the server counts late of the run before; a tenant for each chunk would be eight times each
    assert ground.value(READ) - filled < 3 * 2 * rows
