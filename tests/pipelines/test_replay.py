"""What was rejected is loaded once its cause is mended, and only that."""

from __future__ import annotations

from dataclasses import replace
from uuid import UUID

import pytest
from sqlalchemy import select, update

from dataarch.database.unit_of_work import Database
from dataarch.errors import InvalidValue, PipelineBusy, UnknownRun
from dataarch.models import PipelineBatch, PipelineReject, PipelineRun, Product, Tenant
from dataarch.models.base import new_id
from dataarch.pipelines.books import guarded
from dataarch.pipelines.outcome import Counts
from dataarch.pipelines.records import Batch, Row, Stage, each
from dataarch.pipelines.replay import replay
from dataarch.pipelines.runner import run
from pipelines.listed import home, pipeline, product, shops, stored

pytestmark = pytest.mark.pipeline


@pytest.fixture
def db(shared_db: Database) -> Database:
    """One database for this file: each test makes tenants of its own."""
    return shared_db


@pytest.fixture
def tenant_id(db: Database) -> UUID:
    return home(db)


def cheap(row: Row) -> Row:
    if row["price"] > 1000:
        raise InvalidValue("It is dear.", column="price")
    return row


def only_cheap(batch: Batch) -> Batch:
    return each(batch, Stage.VALIDATE, cheap)


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


def test_a_replay_loads_nothing_of_another_tenant(db: Database, tenant_id: UUID) -> None:
    strict = replace(shops("products"), steps=(only_cheap,))
    mine, theirs = f"mine-{tenant_id.hex[-12:]}", f"theirs-{tenant_id.hex[-12:]}"
    with db.tenant(tenant_id) as session:
        session.get_one(Tenant, tenant_id).slug = mine
    rows = [product(n, price=2000, shop=whose) for n, whose in enumerate((mine, theirs, mine, ""))]
    first = run(db, strict, {"a": rows}, tenant_id=tenant_id)
    again = replay(db, shops("products"), first.run_id, tenant_id=tenant_id)
    assert (first.counts.rejected, again.counts) == (4, Counts(read=4, loaded=2, rejected=2))
    assert stored(db, tenant_id, Product, "external_id") == [("T0",), ("T2",)]
    assert ("load", "", f"It belongs to the tenant {theirs}: load it from a source of its own.") in again.reasons


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
