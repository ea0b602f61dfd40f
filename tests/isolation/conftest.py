"""Two tenants: the attacker, new for each attempt, and the attacked, one for a whole file."""

from __future__ import annotations

from collections.abc import Callable
from uuid import uuid4

import pytest
from sqlalchemy import text

from dataarch.database.unit_of_work import Database
from fixtures.tenants import Inhabited, inhabit
from isolation.attack import Attempt, Picture, Target, judge, picture

MARKS = (
    "UPDATE tenants SET name = :secret WHERE id = :id",
    "UPDATE users SET full_name = :secret WHERE tenant_id = :id",
    "UPDATE user_profiles SET bio = :secret WHERE tenant_id = :id",
    "UPDATE user_settings SET preferences = jsonb_build_object('secret', CAST(:secret AS text)) WHERE tenant_id = :id",
    "UPDATE user_sessions SET data = jsonb_build_object('secret', CAST(:secret AS text)) WHERE tenant_id = :id",
    "UPDATE products SET name = :secret WHERE tenant_id = :id",
    "UPDATE pipeline_runs SET pipeline_version = :secret WHERE tenant_id = :id",
    "UPDATE pipeline_sources SET state = jsonb_build_object('secret', CAST(:secret AS text)) WHERE tenant_id = :id",
    "UPDATE pipeline_batches SET source = :secret WHERE tenant_id = :id",
    "UPDATE pipeline_rejects SET record = :secret WHERE tenant_id = :id",
    "UPDATE inventory_movements SET reference = :secret WHERE tenant_id = :id",
    (
        "UPDATE user_activity_log SET metadata = jsonb_set(metadata, '{hidden}', to_jsonb(CAST(:secret AS text)))"
        " WHERE tenant_id = :id"
    ),
)


def mark(db: Database, tenant: Inhabited) -> str:
    """Write a word that nobody can know into the rows of a tenant, and let the planner gather its statistics."""
    secret = f"secret-{uuid4().hex}"
    with db.owner() as session:
        for statement in MARKS:
            session.execute(text(statement), {"secret": secret, "id": tenant.id})
        session.execute(text("ANALYZE"))
    return secret


@pytest.fixture(scope="module")
def attacked(shared_db: Database) -> tuple[Inhabited, str, Picture]:
    """The rival, its secret, and how all of it looks before any attempt."""
    rival = inhabit(shared_db, "rival")
    secret = mark(shared_db, rival)
    return rival, secret, picture(shared_db, rival)


@pytest.fixture
def target(shared_db: Database, attacked: tuple[Inhabited, str, Picture]) -> Target:
    """The attacker and the attacked."""
    rival, secret, _ = attacked
    return Target(shared_db, inhabit(shared_db, "acme"), rival, secret)


@pytest.fixture
def defended(target: Target, attacked: tuple[Inhabited, str, Picture]) -> Callable[[Attempt], None]:
    """Make an attempt and judge it."""
    return lambda attempt: judge(attempt, target, attacked[2])
