"""A server that is lost in the middle of a run, or has no room left: a named error, and the next run completes it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any
from uuid import UUID

import psycopg
import pytest
from sqlalchemy import text

from dataarch.database.unit_of_work import Database, TenantSession
from dataarch.errors import DiskFull, ServerError, ServerUnreachable
from dataarch.models import PipelineReject, PipelineRun, Product
from dataarch.pipelines.loaders.replace import Replace
from dataarch.pipelines.loaders.upsert import Upsert
from dataarch.pipelines.outcome import Progress
from dataarch.pipelines.pipeline import Loaded, Pipeline
from dataarch.pipelines.records import Row
from dataarch.pipelines.runner import run
from fixtures.servers import libpq
from pipelines.listed import home, pipeline, product, stored

pytestmark = pytest.mark.pipeline

GIVEN = {"a": [product(1), "?", product(2), product(3, slug="No Slug"), product(4)], "b": [product(1, name="Newer")]}

BACKENDS = "SELECT pid FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid()"

FULL = """
CREATE FUNCTION no_room() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF new.external_id = 'T4' THEN
        RAISE EXCEPTION USING ERRCODE = 'disk_full', MESSAGE = 'could not extend file: No space left on device';
    END IF;
    RETURN new;
END $$;
CREATE TRIGGER no_room BEFORE INSERT ON products FOR EACH ROW EXECUTE FUNCTION no_room();
"""


@pytest.fixture
def db(shared_db: Database) -> Database:
    """One database for this file: each test makes tenants of its own."""
    return shared_db


@pytest.fixture
def tenant_id(db: Database) -> UUID:
    return home(db)


def end_backends(db: Database, *pids: int) -> None:
    """End processes of the server as an administrator does, all of the application's where none is named."""
    with psycopg.connect(libpq(db.settings.application), autocommit=True) as connection:
        found = list(pids) or [pid for (pid,) in connection.execute(BACKENDS)]
        for pid in found:
            connection.execute("SELECT pg_terminate_backend(%s, 5000)", [pid])


@dataclass(frozen=True)
class Cut(Upsert):
    """Upserts, and loses its own connection before the n-th batch is committed."""

    db: Any = None
    at: int = 1
    seen: list[int] = field(default_factory=list)

    def load(self, session: TenantSession, rows: Sequence[Row]) -> Loaded:
        loaded = super().load(session, rows)
        self.seen.append(len(rows))
        if len(self.seen) == self.at:
            end_backends(self.db, int(session.execute(text("SELECT pg_backend_pid()")).scalar_one()))
        return loaded


def end_state(db: Database, tenant_id: UUID) -> tuple[Any, ...]:
    """Return what pipelines have left: rows, rejects, and the sums of all runs."""
    sums = ("read", "loaded", "updated", "unchanged", "rejected")
    numbers = [sum(row) for row in zip(*stored(db, tenant_id, PipelineRun, *sums), strict=True)]
    products = stored(db, tenant_id, Product, "external_id", "slug", "name")
    return products, stored(db, tenant_id, PipelineReject, "source", "number", "reason"), numbers


@pytest.fixture(scope="module")
def undisturbed(shared_db: Database) -> tuple[Any, ...]:
    tenant_id = home(shared_db)
    run(shared_db, pipeline(), GIVEN, tenant_id=tenant_id, batch=2)
    return end_state(shared_db, tenant_id)


def states(db: Database, tenant_id: UUID) -> list[tuple[str, str | None]]:
    with db.tenant(tenant_id) as session:
        runs = session.query(PipelineRun).order_by(PipelineRun.started_at)
        return [(one.state, one.error) for one in runs]


@pytest.mark.parametrize("at", [1, 2, 4])
def test_a_batch_whose_connection_is_lost_ends_the_run_and_the_next_one_completes_it(
    db: Database, tenant_id: UUID, undisturbed: tuple[Any, ...], at: int
) -> None:
    cut = Pipeline("products", pipeline().extract, (), Cut(Product, key="external_id", db=db, at=at))
    with pytest.raises(ServerUnreachable):
        run(db, cut, GIVEN, tenant_id=tenant_id, batch=2)
    [(state, error)] = states(db, tenant_id)
    assert state == "failed"
    assert error
    run(db, pipeline(), GIVEN, tenant_id=tenant_id, batch=2)
    assert end_state(db, tenant_id) == undisturbed


@pytest.mark.parametrize("at", [1, 2, 3, 4])
def test_a_server_that_restarts_between_two_batches_ends_the_run_and_the_next_one_completes_it(
    db: Database, tenant_id: UUID, undisturbed: tuple[Any, ...], at: int
) -> None:
    told: list[Progress] = []

    def lose(progress: Progress) -> None:
        told.append(progress)
        if len(told) == at:
            end_backends(db)

    with pytest.raises(ServerError):
        run(db, pipeline(), GIVEN, tenant_id=tenant_id, batch=2, on_progress=lose)
    run(db, pipeline(), GIVEN, tenant_id=tenant_id, batch=2)
    assert end_state(db, tenant_id) == undisturbed
    assert "running" not in {state for state, _ in states(db, tenant_id)}


@contextmanager
def full_disk(db: Database) -> Iterator[None]:
    """Let the server refuse a row as it does where a file cannot grow."""
    with psycopg.connect(libpq(db.settings.owner), autocommit=True) as connection:
        connection.execute(FULL)
        try:
            yield
        finally:
            connection.execute("DROP FUNCTION no_room() CASCADE")


@pytest.mark.parametrize("whole", [False, True], ids=["by batches", "as a whole"])
def test_a_full_disk_ends_the_run_and_the_next_one_completes_it_when_there_is_room(
    db: Database, tenant_id: UUID, undisturbed: tuple[Any, ...], *, whole: bool
) -> None:
    products = pipeline(load=Replace(Product, {"currency": "GBP"})) if whole else pipeline()
    given = {"a": GIVEN["a"]} if whole else GIVEN
    with full_disk(db), pytest.raises(DiskFull) as full:
        run(db, products, given, tenant_id=tenant_id, batch=2)
    assert full.value.sqlstate == "53100"
    assert "No space left on device" in str(full.value)
    before = stored(db, tenant_id, Product, "external_id")
    assert before == ([] if whole else [("T1",), ("T2",)])
    run(db, products, given, tenant_id=tenant_id, batch=2)
    if whole:
        assert stored(db, tenant_id, Product, "external_id") == [("T1",), ("T2",), ("T4",)]
    else:
        assert end_state(db, tenant_id) == undisturbed
    assert [state for state, _ in states(db, tenant_id)] == ["failed", "finished"]


LOCK_HOLDERS = """
SELECT pid FROM pg_locks WHERE locktype = 'advisory' AND database = (
    SELECT oid FROM pg_database WHERE datname = current_database())
"""


def test_a_run_whose_lock_is_lost_says_so_at_its_end_and_all_of_it_is_loaded(
    db: Database, tenant_id: UUID, undisturbed: tuple[Any, ...]
) -> None:
    told: list[Progress] = []

    def lose(progress: Progress) -> None:
        told.append(progress)
        if len(told) == 1:
            with db.tenant(tenant_id) as session:
                end_backends(db, *session.execute(text(LOCK_HOLDERS)).scalars())

    with pytest.raises(ServerUnreachable):
        run(db, pipeline(), GIVEN, tenant_id=tenant_id, batch=2, on_progress=lose)
    assert end_state(db, tenant_id) == undisturbed
    assert states(db, tenant_id) == [("finished", None)]
    assert run(db, pipeline(), GIVEN, tenant_id=tenant_id, batch=2).counts.read == 0
