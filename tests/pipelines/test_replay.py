"""What was rejected is loaded once its cause is mended, and only that."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any
from uuid import UUID

import pytest
from sqlalchemy import select, update

from dataarch.database.unit_of_work import Database, TenantSession
from dataarch.errors import PipelineBusy, UnknownRun
from dataarch.models import PipelineBatch, PipelineReject, PipelineRun, Product, Tenant
from dataarch.models.base import new_id
from dataarch.pipelines.books import guarded
from dataarch.pipelines.outcome import Counts
from dataarch.pipelines.pipeline import Loaded
from dataarch.pipelines.records import Batch, Row
from dataarch.pipelines.replay import replay
from dataarch.pipelines.runner import run
from dataarch.pipelines.tenants import find_tenant
from dataarch.pipelines.transformers.fields import computed
from pipelines.listed import LostFor, OfShops, home, only_cheap, pipeline, product, shops, stored

pytestmark = pytest.mark.pipeline


@pytest.fixture
def db(shared_db: Database) -> Database:
    """One database for this file: each test makes tenants of its own."""
    return shared_db


@pytest.fixture
def tenant_id(db: Database) -> UUID:
    return home(db)


STRICT = replace(pipeline(), steps=(only_cheap,))


@pytest.mark.parametrize("batch", [1, 2, 100])
def test_after_a_fix_just_the_rejects_are_loaded_and_each_once(db: Database, tenant_id: UUID, batch: int) -> None:
    rows = [product(1), product(2, price=2000), '{"external_id": "T5", "slug": "tea-5"}', product(3, price=3000)]
    first = run(db, STRICT, {"a": rows, "b": [product(4, price=4000)]}, tenant_id=tenant_id)
    again = replay(db, pipeline(), first.run_id, tenant_id=tenant_id, batch=batch)
    assert first.counts == Counts(read=5, loaded=1, rejected=4)
    assert again.counts == Counts(read=4, loaded=3, rejected=1)
    assert stored(db, tenant_id, Product, "external_id") == [("T1",), ("T2",), ("T3",), ("T4",)]
    assert replay(db, pipeline(), first.run_id, tenant_id=tenant_id).counts == Counts()


def test_what_is_rejected_again_is_a_reject_of_the_replay_and_can_be_replayed_itself(
    db: Database, tenant_id: UUID
) -> None:
    first = run(
        db, STRICT, {"a": [product(1, price=2000), product(2, price=3000, slug="No Slug")]}, tenant_id=tenant_id
    )
    second = replay(db, pipeline(), first.run_id, tenant_id=tenant_id)
    with db.tenant(tenant_id) as session:
        [left] = session.scalars(select(PipelineReject).where(PipelineReject.replayed_by.is_(None)))
        assert (left.run_id, left.source, left.number, left.stage) == (second.run_id, "a", 2, "load")
        row = session.get_one(PipelineRun, (tenant_id, second.run_id))
        assert (row.replay_of, row.read, row.loaded, row.rejected) == (first.run_id, 2, 1, 1)
    third = replay(db, pipeline(), second.run_id, tenant_id=tenant_id)
    assert third.counts == Counts(read=1, rejected=1)


def test_a_row_that_a_replay_has_loaded_knows_its_record(db: Database, tenant_id: UUID) -> None:
    first = run(db, STRICT, {"a": [product(n, price=2000 * (n % 2)) for n in range(1, 6)]}, tenant_id=tenant_id)
    again = replay(db, pipeline(), first.run_id, tenant_id=tenant_id)
    ids = dict(stored(db, tenant_id, Product, "external_id", "id"))
    with db.tenant(tenant_id) as session:
        batch = session.scalars(select(PipelineBatch).where(PipelineBatch.run_id == again.run_id)).one()
    assert (batch.source, batch.first_record) == ("a", 1)
    assert batch.rows == {str(ids["T1"]): 0, str(ids["T3"]): 2, str(ids["T5"]): 4}


def test_a_run_of_another_pipeline_or_of_nobody_is_refused(db: Database, tenant_id: UUID) -> None:
    first = run(db, STRICT, {"a": [product(1, price=2000)]}, tenant_id=tenant_id)
    for name, run_id in (("others", first.run_id), ("products", new_id())):
        with pytest.raises(UnknownRun, match="dataarch pipeline runs"):
            replay(db, pipeline(name), run_id, tenant_id=tenant_id)


@pytest.fixture
def slugs(db: Database, tenant_id: UUID) -> tuple[str, str]:
    """The slug of the tenant that runs are for, and one that nobody has yet."""
    mine, theirs = f"mine-{tenant_id.hex[-12:]}", f"theirs-{tenant_id.hex[-12:]}"
    with db.tenant(tenant_id) as session:
        session.get_one(Tenant, tenant_id).slug = mine
    return mine, theirs


def shops_of(slugs: tuple[str, str]) -> dict[str, list[dict[str, Any]]]:
    """Return records of two tenants and of nobody, all of which are too dear."""
    mine, theirs = slugs
    return {"a": [product(n, price=2000, shop=whose) for n, whose in enumerate((mine, theirs, mine, "", theirs))]}


DEAR_SHOPS = replace(shops("products"), steps=(only_cheap,))
SUMS = ("read", "loaded", "unchanged", "rejected")


def sums(db: Database, tenant_id: UUID) -> list[int]:
    return [sum(row) for row in zip(*stored(db, tenant_id, PipelineRun, *SUMS), strict=True)]


def test_a_replay_loads_each_reject_for_the_tenant_that_it_turns_out_to_be_of(
    db: Database, tenant_id: UUID, slugs: tuple[str, str]
) -> None:
    first = run(db, DEAR_SHOPS, shops_of(slugs), tenant_id=tenant_id)
    again = replay(db, shops("products"), first.run_id, tenant_id=tenant_id, batch=2)
    assert (first.counts.rejected, again.counts) == (5, Counts(read=5, loaded=4, rejected=1))
    assert stored(db, tenant_id, Product, "external_id") == [("T0",), ("T2",)]
    theirs = find_tenant(db, slugs[1])
    assert theirs is not None
    assert stored(db, theirs, Product, "external_id") == [("T1",), ("T4",)]
    assert stored(db, theirs, PipelineRun, "id", "replay_of", "state", *SUMS) == [
        (again.run_id, first.run_id, "finished", 2, 2, 0, 0)
    ]
    assert stored(db, theirs, PipelineReject, "number", "replayed_by") == [(2, again.run_id), (5, again.run_id)]
    assert stored(db, theirs, PipelineBatch, "run_id", "source") == [(again.run_id, "a")] * 2
    assert replay(db, shops("products"), first.run_id, tenant_id=tenant_id).counts == Counts()


def test_a_replay_that_is_stopped_between_two_tenants_loads_nothing_twice(
    db: Database, tenant_id: UUID, slugs: tuple[str, str]
) -> None:
    class Lost(OfShops):
        def load(self, session: TenantSession, rows: Sequence[Row]) -> Loaded:
            if session.tenant_id == tenant_id:
                raise RuntimeError("The process is killed.")
            return super().load(session, rows)

    first = run(db, DEAR_SHOPS, shops_of(slugs), tenant_id=tenant_id)
    lost = replace(shops("products"), load=Lost(Product, key="external_id"))
    with pytest.raises(RuntimeError):
        replay(db, lost, first.run_id, tenant_id=tenant_id)
    theirs = find_tenant(db, slugs[1])
    assert theirs is not None
    assert stored(db, theirs, Product, "external_id") == [("T1",), ("T4",)]
    again = replay(db, shops("products"), first.run_id, tenant_id=tenant_id)
    assert again.counts == Counts(read=3, loaded=2, rejected=1)
    assert sums(db, theirs) == [2, 2, 0, 0]
    assert stored(db, tenant_id, Product, "external_id") == [("T0",), ("T2",)]


@pytest.mark.parametrize("mended", ["a third tenant", "the run's own", "nobody"])
def test_what_a_stopped_replay_has_handed_over_stays_there_whoever_it_is_of_now(
    db: Database, tenant_id: UUID, slugs: tuple[str, str], mended: str
) -> None:
    mine, theirs = slugs
    third = f"third-{tenant_id.hex[-12:]}"
    first = run(db, DEAR_SHOPS, shops_of(slugs), tenant_id=tenant_id)
    with pytest.raises(RuntimeError):
        replay(db, replace(shops("products"), load=LostFor(db, mine)), first.run_id, tenant_id=tenant_id)
    handed_to = find_tenant(db, theirs)
    assert handed_to is not None
    with db.tenant(handed_to) as session:
        # a process that is killed does not say so
        session.execute(update(PipelineRun).values(state="running", error=None, finished_at=None))
    now = {"a third tenant": third, "the run's own": mine, "nobody": ""}[mended]
    moved = computed(shop=lambda row: now if row["shop"] == theirs else row["shop"])
    again = replay(db, replace(shops("products"), steps=(moved,)), first.run_id, tenant_id=tenant_id)
    assert again.counts == Counts(read=3, loaded=2, rejected=1)
    assert stored(db, handed_to, PipelineRun, "state", "loaded") == [("failed", 2), ("finished", 0)]
    assert stored(db, handed_to, Product, "external_id") == [("T1",), ("T4",)]
    assert stored(db, tenant_id, Product, "external_id") == [("T0",), ("T2",)]
    assert find_tenant(db, third) is None
    with db.tenant(tenant_id) as session:
        waiting = session.scalars(select(PipelineReject.number).where(PipelineReject.replayed_by.is_(None))).all()
    assert waiting == [4]
    assert replay(db, shops("products"), first.run_id, tenant_id=tenant_id).counts == Counts()


def test_what_a_stopped_replay_was_about_to_hand_over_is_loaded_for_the_tenant_that_it_is_of_now(
    db: Database, tenant_id: UUID, slugs: tuple[str, str]
) -> None:
    _, theirs = slugs
    third = f"third-{tenant_id.hex[-12:]}"
    first = run(db, DEAR_SHOPS, shops_of(slugs), tenant_id=tenant_id)
    with pytest.raises(RuntimeError):
        replay(db, replace(shops("products"), load=LostFor(db, theirs)), first.run_id, tenant_id=tenant_id)
    moved = computed(shop=lambda row: third if row["shop"] == theirs else row["shop"])
    again = replay(db, replace(shops("products"), steps=(moved,)), first.run_id, tenant_id=tenant_id)
    assert again.counts == Counts(read=5, loaded=4, rejected=1)
    loaded = {slug: found for slug in (theirs, third) if (found := find_tenant(db, slug)) is not None}
    assert stored(db, loaded[theirs], Product, "external_id") == []
    assert stored(db, loaded[third], Product, "external_id") == [("T1",), ("T4",)]
    assert stored(db, tenant_id, Product, "external_id") == [("T0",), ("T2",)]


def test_what_the_database_refuses_of_another_tenant_waits_there(
    db: Database, tenant_id: UUID, slugs: tuple[str, str]
) -> None:
    given = {"a": [product(n, price=2000, shop=slugs[1], slug="tea") for n in range(2)]}
    first = run(db, DEAR_SHOPS, given, tenant_id=tenant_id)
    again = replay(db, shops("products"), first.run_id, tenant_id=tenant_id)
    assert again.counts == Counts(read=2, loaded=1, rejected=1)
    theirs = find_tenant(db, slugs[1])
    assert theirs is not None
    with db.tenant(theirs) as session:
        [waits] = session.scalars(select(PipelineReject).where(PipelineReject.replayed_by.is_(None)))
    assert (waits.run_id, waits.constraint_name) == (again.run_id, "uq_products_tenant_id_slug")
    mended = replace(shops("products"), steps=(computed(slug=lambda row: row["external_id"].lower()),))
    assert replay(db, mended, again.run_id, tenant_id=theirs).counts == Counts(read=1, loaded=1)


def test_while_somebody_runs_the_pipeline_another_run_is_refused_and_other_pipelines_and_tenants_are_not(
    db: Database, tenant_id: UUID
) -> None:
    with guarded(db, tenant_id, "products"):
        with pytest.raises(PipelineBusy, match="running for this tenant already"):
            run(db, pipeline(), {"a": [product(1)]}, tenant_id=tenant_id)
        assert run(db, pipeline("others"), {"a": [product(1)]}, tenant_id=tenant_id).counts.loaded == 1
        assert run(db, pipeline(), {"a": [product(1)]}, tenant_id=home(db)).counts.loaded == 1
    assert run(db, pipeline(), {"a": [product(1)]}, tenant_id=tenant_id).counts.read == 1


def test_rejects_that_somebody_else_has_replayed_meanwhile_are_not_loaded_twice(db: Database, tenant_id: UUID) -> None:
    first = run(db, STRICT, {"a": [product(1, price=2000), product(2, price=2000)]}, tenant_id=tenant_id)

    def overtaken(batch: Batch) -> Batch:
        with db.tenant(tenant_id) as session:
            session.execute(update(PipelineReject).where(PipelineReject.number == 2).values(replayed_by=new_id()))
        return batch

    with pytest.raises(PipelineBusy):
        replay(db, replace(pipeline(), steps=(overtaken,)), first.run_id, tenant_id=tenant_id)
    assert stored(db, tenant_id, Product, "external_id") == []
