"""A run that is killed at any moment, and run again, ends as one that nobody has disturbed."""

from __future__ import annotations

import os
import random
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from uuid import UUID

import pytest
from sqlalchemy import text

from dataarch.database.settings import Settings
from dataarch.database.unit_of_work import Database
from dataarch.pipelines.outcome import Outcome
from dataarch.pipelines.runner import run
from pipelines.killed_run import BATCH, PIPELINES, given
from pipelines.listed import home

pytestmark = pytest.mark.pipeline

TESTS = Path(__file__).resolve().parents[1]
RECORDS = {"own": 250, "shops": 100}
KILLS = {"own": 60, "shops": 40}

STATE = """
SELECT md5(string_agg(row::text, '|' ORDER BY row::text)) FROM (
    SELECT 'product', external_id, slug, name, price::text FROM products WHERE tenant_id = :tenant
    UNION ALL SELECT 'reject', source, number::text, reason, replace(record, :digits, '')
    FROM pipeline_rejects WHERE tenant_id = :tenant
    UNION ALL SELECT 'source', source, records::text, '', ended_at IS NOT NULL || ''
    FROM pipeline_sources WHERE tenant_id = :tenant
    UNION ALL SELECT 'sum', sum(read)::text, sum(loaded)::text, sum(updated + unchanged)::text, sum(rejected)::text
    FROM pipeline_runs WHERE tenant_id = :tenant
    UNION ALL SELECT 'row', source, external_id, (first_record + place::bigint)::text, ''
    FROM pipeline_batches AS b, jsonb_each_text(rows) AS r (id, place)
    JOIN products AS p ON p.id = r.id::uuid
    WHERE b.tenant_id = :tenant AND p.tenant_id = :tenant
) AS row
"""


TENANTS = "SELECT id FROM tenants WHERE id = :tenant OR slug LIKE 'shop-%-' || :digits ORDER BY id = :tenant, slug"


def state(db: Database, tenant_id: UUID) -> list[str]:
    """Return a checksum of all that a pipeline has left in each tenant, in the order of their slugs."""
    with db.owner() as owner:
        tenants = owner.scalars(text(TENANTS), {"tenant": tenant_id, "digits": tenant_id.hex[-12:]}).all()
        return [str(owner.scalar(text(STATE), {"tenant": one, "digits": tenant_id.hex[-12:]})) for one in tenants]


@contextmanager
def killer(settings: Settings) -> Iterator[subprocess.Popen[str]]:
    """Start the process whose children run the pipeline and are killed."""
    variables = {
        **os.environ,
        "PYTHONPATH": str(TESTS),
        "DATAARCH_DATABASE_URL": str(settings.database_url),
        "DATAARCH_OWNER_URL": str(settings.owner_url),
    }
    command = [sys.executable, "-m", "pipelines.killed_run"]
    with subprocess.Popen(
        command, env=variables, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=TESTS
    ) as process:
        yield process
        assert process.stdin is not None
        process.stdin.close()


def attempt(process: subprocess.Popen[str], name: str, tenant_id: UUID, seconds: float) -> bool:
    """Run a pipeline, kill it after some seconds, and return whether it was at work."""
    assert process.stdin is not None
    assert process.stdout is not None
    print(name, tenant_id, RECORDS[name], seconds, file=process.stdin, flush=True)
    answer = process.stdout.readline()
    assert answer in ("killed\n", "ended\n")
    return answer == "killed\n"


@pytest.mark.parametrize("name", PIPELINES)
def test_a_run_killed_at_a_hundred_random_points_ends_as_an_undisturbed_one(shared_db: Database, name: str) -> None:
    def whole(tenant_id: UUID) -> Outcome:
        return run(shared_db, PIPELINES[name], given(name, tenant_id, RECORDS[name]), tenant_id=tenant_id, batch=BATCH)

    undisturbed = home(shared_db)
    outcome = whole(undisturbed)
    wanted = state(shared_db, undisturbed)
    rng = random.Random(6)
    kills = 0
    with killer(shared_db.settings) as process:
        while kills < KILLS[name]:
            tenant_id = home(shared_db)
            for _ in range(8):
                kills += attempt(process, name, tenant_id, rng.uniform(0.0, outcome.seconds / 2))
            whole(tenant_id)
            assert state(shared_db, tenant_id) == wanted
    assert outcome.counts.rejected > 5
    assert len(wanted) == (4 if name == "shops" else 1)
