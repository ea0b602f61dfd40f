"""Ingest beside others, and ingest that is killed: no row is lost, none is there twice, nothing is half there."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager
from multiprocessing import get_context
from typing import Any
from uuid import UUID

import pytest
from sqlalchemy import func, select, text
from sqlalchemy.orm import Session

from dataarch.database.settings import Settings
from dataarch.database.unit_of_work import Database
from dataarch.models import UserActivity
from dataarch.models.base import new_id
from dataarch.repositories.bulk.ingest import ingest
from dataarch.repositories.bulk.outcome import BulkResult
from fixtures.tenants import Inhabited

pytestmark = pytest.mark.pipeline

SPAWN = get_context("spawn")
PATIENCE = 30

Door = Callable[[Database, UUID], AbstractContextManager[Session]]


def as_tenant(db: Database, tenant_id: UUID) -> AbstractContextManager[Session]:
    return db.tenant(tenant_id)


def as_owner(db: Database, tenant_id: UUID) -> AbstractContextManager[Session]:
    return db.owner()


both = pytest.mark.parametrize("door", [as_tenant, as_owner])


def row(tenant_id: UUID, user_id: UUID) -> dict[str, Any]:
    return {"tenant_id": tenant_id, "id": new_id(), "user_id": user_id, "activity_type": "view"}


def dated(acme: Inhabited, db: Database, count: int) -> list[dict[str, Any]]:
    with db.tenant(acme.id) as session:
        at = session.scalar(select(func.now()))
    return [{**row(acme.id, acme.user_id), "created_at": at} for _ in range(count)]


def counted(db: Database, acme: Inhabited) -> int:
    with db.tenant(acme.id) as session:
        return session.scalar(select(func.count()).where(UserActivity.id != acme.activity_id)) or 0


@both
def test_the_same_rows_at_once_are_there_once(db: Database, acme: Inhabited, door: Door) -> None:
    rows = dated(acme, db, 3000)
    together = threading.Barrier(2, timeout=PATIENCE)

    def load() -> BulkResult:
        with door(db, acme.id) as session:
            together.wait()
            return ingest(session, rows, batch=1000)

    with ThreadPoolExecutor(2) as pool:
        one, other = pool.map(lambda _: load(), range(2))
    assert one.inserted + other.inserted == 3000
    assert one.duplicate + other.duplicate == 3000
    assert counted(db, acme) == 3000


@both
def test_a_user_who_goes_while_rows_are_written_refuses_its_rows_and_no_others(
    db: Database, acme: Inhabited, door: Door
) -> None:
    leaving = new_id()
    with db.owner() as session:
        session.execute(
            text("INSERT INTO users (tenant_id, id, external_id, full_name) VALUES (:t, :u, 'x', 'X')"),
            {"t": acme.id, "u": leaving},
        )
    rows = dated(acme, db, 200)
    for one in rows[::50]:
        one["user_id"] = leaving
    with db.owner() as going:
        going.execute(text("DELETE FROM users WHERE id = :u"), {"u": leaving})
        with ThreadPoolExecutor(1) as pool:

            def load() -> BulkResult:
                with door(db, acme.id) as session:
                    return ingest(session, rows)

            loaded = pool.submit(load)
            waits_for_a_lock(db)
            going.commit()
            result = loaded.result(PATIENCE)
    assert [one.position for one in result.refused] == [0, 50, 100, 150]
    assert {one.constraint for one in result.refused} == {"fk_user_activity_log_users"}
    assert result.inserted == counted(db, acme) == 196


def waits_for_a_lock(db: Database) -> None:
    """Wait until somebody waits for a lock."""
    until = time.monotonic() + PATIENCE
    while time.monotonic() < until:
        with db.owner() as session:
            if session.scalar(text("SELECT count(*) FROM pg_locks WHERE NOT granted")):
                return
        time.sleep(0.02)
    raise AssertionError("nobody waits")


@both
def test_a_rule_that_only_the_database_has_refuses_single_rows(db: Database, acme: Inhabited, door: Door) -> None:
    with db.owner() as session:
        session.execute(
            text("ALTER TABLE user_activity_log ADD CONSTRAINT ck_ours CHECK (activity_type <> 'forbidden')")
        )
    rows = dated(acme, db, 500)
    for at in (0, 77, 499):
        rows[at]["activity_type"] = "forbidden"
    with door(db, acme.id) as session:
        result = ingest(session, rows)
    assert [(one.position, one.constraint) for one in result.refused] == [(at, "ck_ours") for at in (0, 77, 499)]
    assert result.inserted == counted(db, acme) == 497


def endless(tenant_id: UUID, user_id: UUID, told: Any) -> Iterator[dict[str, Any]]:
    for number in range(10**9):
        if number == 5000:
            told.set()
        yield row(tenant_id, user_id)


def write_until_killed(settings: Settings, name: str, ids: tuple[UUID, UUID], told: Any) -> None:
    with Database(settings) as db, {"tenant": as_tenant, "owner": as_owner}[name](db, ids[0]) as session:
        ingest(session, endless(*ids, told), batch=1000)


@pytest.mark.parametrize("name", ["tenant", "owner"])
def test_a_process_that_is_killed_half_way_leaves_nothing(db: Database, acme: Inhabited, name: str) -> None:
    told = SPAWN.Event()
    process = SPAWN.Process(target=write_until_killed, args=(db.settings, name, (acme.id, acme.user_id), told))
    process.start()
    assert told.wait(PATIENCE)
    assert process.pid is not None
    os.kill(process.pid, signal.SIGKILL)
    process.join(PATIENCE)
    assert counted(db, acme) == 0
    # and its locks are gone with it
    with db.tenant(acme.id) as session:
        assert ingest(session, [row(acme.id, acme.user_id)]).inserted == 1
