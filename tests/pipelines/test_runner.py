"""A run accounts for every record: loaded, updated, unchanged or rejected, and what is stored says the same."""

from __future__ import annotations

import json
import signal
from collections.abc import Mapping
from dataclasses import replace
from importlib.metadata import version
from threading import main_thread
from typing import Any
from uuid import UUID

import pytest
from sqlalchemy import select, text, update

from dataarch.database.unit_of_work import Database
from dataarch.errors import CheckFailed, InvalidValue, PipelineBusy
from dataarch.models import PipelineBatch, PipelineReject, PipelineRun, PipelineSource, Product, Tenant
from dataarch.pipelines.loaders.append import Append
from dataarch.pipelines.loaders.replace import Replace
from dataarch.pipelines.outcome import Counts, Outcome, Progress
from dataarch.pipelines.records import Batch, Row, Stage, each
from dataarch.pipelines.replay import replay
from dataarch.pipelines.runner import run
from pipelines.listed import CUT_OFF, home, pipeline, product, shops, stored

pytestmark = pytest.mark.pipeline


@pytest.fixture
def db(shared_db: Database) -> Database:
    """One database for this file: each test makes tenants of its own."""
    return shared_db


@pytest.fixture
def tenant_id(db: Database) -> UUID:
    return home(db)


def positive(row: Row) -> Row:
    if row["price"] < 0:
        raise InvalidValue("A price is not negative.", column="price")
    return row


def not_negative(batch: Batch) -> Batch:
    return each(batch, Stage.VALIDATE, positive)


def load(db: Database, tenant_id: UUID, given: Mapping[str, Any], **options: Any) -> Outcome:
    return run(db, pipeline(), given, tenant_id=tenant_id, **options)


def the_run(db: Database, tenant_id: UUID, outcome: Outcome) -> PipelineRun:
    with db.tenant(tenant_id) as session:
        return session.get_one(PipelineRun, (tenant_id, outcome.run_id))


def test_m24_the_same_key_twice_is_one_row_with_the_newer_values(db: Database, tenant_id: UUID) -> None:
    first = load(db, tenant_id, {"a": [product(1), product(2)]})
    second = load(db, tenant_id, {"b": [product(2, name="Green tea"), product(3)]})
    assert first.counts == Counts(read=2, loaded=2)
    assert second.counts == Counts(read=2, loaded=1, updated=1)
    assert stored(db, tenant_id, Product, "name") == [("Green tea",), ("Tea 1",), ("Tea 3",)]


def test_m24_the_same_key_twice_in_one_batch_is_one_row_with_the_later_values(db: Database, tenant_id: UUID) -> None:
    outcome = load(db, tenant_id, {"a": [product(1), product(1, name="Green tea")]})
    assert outcome.counts == Counts(read=2, loaded=1, unchanged=1)
    assert stored(db, tenant_id, Product, "name") == [("Green tea",)]


def test_m26_of_three_records_with_one_negative_value_two_are_loaded_and_one_says_why(
    db: Database, tenant_id: UUID
) -> None:
    checked = replace(pipeline(), steps=(not_negative,))
    outcome = run(db, checked, {"a": [product(1), product(2, price=-1), product(3)]}, tenant_id=tenant_id)
    assert outcome.counts == Counts(read=3, loaded=2, rejected=1)
    assert outcome.reasons == {("validate", "price", "A price is not negative."): 1}
    with db.tenant(tenant_id) as session:
        reject = session.scalars(select(PipelineReject)).one()
    assert (reject.source, reject.number, reject.stage, reject.field) == ("a", 2, "validate", "price")
    assert reject.reason == "A price is not negative."
    assert (reject.form, json.loads(reject.record)) == ("record", product(2, price=-1))


def hinted(row: Row) -> Row:
    raise InvalidValue("It is dear.", hint="Ask for less.", column="price")


def refusing(batch: Batch) -> Batch:
    return each(batch, Stage.VALIDATE, hinted)


def test_a_reject_says_what_to_do_about_it_in_a_run_and_in_its_replay(db: Database, tenant_id: UUID) -> None:
    refused = replace(pipeline(), steps=(refusing,))
    first = run(db, refused, {"a": [product(1)]}, tenant_id=tenant_id)
    again = replay(db, refused, first.run_id, tenant_id=tenant_id)
    told = "It is dear. Ask for less."
    assert first.reasons == again.reasons == {("validate", "price", told): 1}
    assert stored(db, tenant_id, PipelineReject, "reason") == [(told,), (told,)]


def test_what_only_the_database_sees_is_rejected_with_the_constraints_name(db: Database, tenant_id: UUID) -> None:
    clash = product(2, slug="tea-1")
    outcome = load(db, tenant_id, {"a": [product(1), clash, product(3)]})
    assert outcome.counts == Counts(read=3, loaded=2, rejected=1)
    with db.tenant(tenant_id) as session:
        reject = session.scalars(select(PipelineReject)).one()
    assert (reject.stage, reject.field, reject.constraint_name) == ("load", "slug", "uq_products_tenant_id_slug")


def test_the_run_is_stored_with_numbers_that_add_up(db: Database, tenant_id: UUID) -> None:
    load(db, tenant_id, {"a": [product(1), product(2)]})
    outcome = load(db, tenant_id, {"b": [product(1), product(2, price=5), product(3), product(4, slug="No Slug"), "?"]})
    row = the_run(db, tenant_id, outcome)
    assert (row.read, row.loaded, row.updated, row.unchanged, row.rejected) == (5, 1, 1, 1, 2)
    assert (row.state, row.error, row.pipeline) == ("finished", None, "products")
    assert (row.pipeline_version, row.dataarch_version) == ("1", version("dataarch"))
    assert row.finished_at is not None
    assert row.finished_at >= row.started_at


def test_a_run_whose_numbers_do_not_add_up_is_refused_by_the_database(db: Database, tenant_id: UUID) -> None:
    load(db, tenant_id, {"a": [product(1)]})
    with pytest.raises(CheckFailed) as refused, db.tenant(tenant_id) as session:
        session.execute(text("UPDATE pipeline_runs SET loaded = 2"))
    assert refused.value.constraint == "ck_pipeline_runs_adds_up"


def test_a_step_that_loses_a_record_stops_the_run_and_nothing_is_loaded(db: Database, tenant_id: UUID) -> None:
    losing = replace(pipeline(), steps=(lambda batch: replace(batch, rows=batch.rows[1:]),))
    with pytest.raises(InvalidValue, match="unaccounted for: 2 were read, 1 go on and 0 are rejected"):
        run(db, losing, {"a": [product(1), product(2)]}, tenant_id=tenant_id)
    assert stored(db, tenant_id, Product, "name") == []
    with db.tenant(tenant_id) as session:
        row = session.scalars(select(PipelineRun)).one()
    assert row.state == "failed"
    assert row.error is not None
    assert "unaccounted for" in row.error


@pytest.mark.parametrize("batch", [1, 2, 3, 100])
def test_batches_of_any_size_give_the_same(db: Database, tenant_id: UUID, batch: int) -> None:
    rows = [product(1), "?", product(2, slug="No Slug"), product(1, price=4), product(3)]
    outcome = load(db, tenant_id, {"a": rows}, batch=batch)
    assert (outcome.counts.read, outcome.counts.rejected) == (5, 2)
    assert stored(db, tenant_id, Product, "external_id") == [("T1",), ("T3",)]
    with db.tenant(tenant_id) as session:
        assert sorted(session.scalars(select(PipelineReject.number))) == [2, 3]


def test_a_source_that_was_read_gives_nothing_and_one_that_grew_gives_what_is_new(
    db: Database, tenant_id: UUID
) -> None:
    load(db, tenant_id, {"a": [product(1)]})
    again = load(db, tenant_id, {"a": [product(1)]})
    grown = load(db, tenant_id, {"a": [product(1), product(2)]})
    assert (again.counts, again.sources) == (Counts(), 0)
    assert (grown.counts, grown.sources) == (Counts(read=1, loaded=1), 1)


def test_a_source_that_was_corrected_is_read_from_its_beginning(db: Database, tenant_id: UUID) -> None:
    load(db, tenant_id, {"a": [product(1), product(2)]})
    corrected = load(db, tenant_id, {"a": [product(1, name="Mended"), product(2), product(3)]})
    assert corrected.counts == Counts(read=3, loaded=1, updated=1, unchanged=1)


def test_a_source_that_is_cut_off_loads_what_is_there_and_does_not_stop_the_others(
    db: Database, tenant_id: UUID
) -> None:
    outcome = load(db, tenant_id, {"a": [product(1), CUT_OFF], "b": [product(2)]})
    assert outcome.counts == Counts(read=2, loaded=2)
    assert [failed.source for failed in outcome.failed] == ["a"]
    row = the_run(db, tenant_id, outcome)
    assert (row.state, row.error) == ("failed", "1 of its sources failed: The source a is cut off.")
    whole = load(db, tenant_id, {"a": [product(1), product(3)]})
    assert whole.counts == Counts(read=1, loaded=1)


def test_rows_know_the_run_source_record_and_times_that_brought_them(db: Database, tenant_id: UUID) -> None:
    load(db, tenant_id, {"a": [product(1)]})
    outcome = load(db, tenant_id, {"b": ["?", product(2), product(1), product(3), product(1, name="New")]}, batch=3)
    ids = dict(stored(db, tenant_id, Product, "external_id", "id"))
    with db.tenant(tenant_id) as session:
        found = session.scalars(
            select(PipelineBatch).where(PipelineBatch.run_id == outcome.run_id).order_by(PipelineBatch.number)
        ).all()
    # an unchanged row was not brought by this run
    assert [batch.rows for batch in found] == [{str(ids["T2"]): 1}, {str(ids["T3"]): 0, str(ids["T1"]): 1}]
    assert [(batch.source, batch.first_record, batch.table_name) for batch in found] == [
        ("b", 1, "products"),
        ("b", 4, "products"),
    ]
    for batch in found:
        assert batch.extracted_at <= batch.transformed_at <= batch.loaded_at
        assert batch.least_id <= min(map(UUID, batch.rows)) <= max(map(UUID, batch.rows)) <= batch.greatest_id


def test_appended_rows_are_new_ones_and_a_taken_value_is_rejected(db: Database, tenant_id: UUID) -> None:
    adding = pipeline(load=Append(Product))
    run(db, adding, {"a": [product(1)]}, tenant_id=tenant_id)
    outcome = run(db, adding, {"b": [product(1), product(2)]}, tenant_id=tenant_id)
    assert outcome.counts == Counts(read=2, loaded=1, rejected=1)
    with db.tenant(tenant_id) as session:
        assert session.scalars(select(PipelineReject.constraint_name)).one() is not None


def test_a_slice_is_replaced_as_a_whole_or_not_at_all(db: Database, tenant_id: UUID) -> None:
    load(db, tenant_id, {"euros": [product(9, currency="EUR")]})
    pounds = pipeline("pounds", load=Replace(Product, {"currency": "GBP"}))
    first = run(db, pounds, {"a": [product(1), product(2)]}, tenant_id=tenant_id)
    cut = run(db, pounds, {"a": [product(3), CUT_OFF]}, tenant_id=tenant_id)
    kept = stored(db, tenant_id, Product, "external_id")
    second = run(db, pounds, {"a": [product(2), product(3)]}, tenant_id=tenant_id, batch=1)
    again = run(db, pounds, {"a": [product(2), product(3)]}, tenant_id=tenant_id)
    assert first.counts == Counts(read=2, loaded=2)
    assert (cut.counts, len(cut.failed), kept) == (Counts(), 1, [("T1",), ("T2",), ("T9",)])
    assert second.counts == Counts(read=2, loaded=2, removed=2)
    assert again.counts == Counts()
    assert stored(db, tenant_id, Product, "external_id") == [("T2",), ("T3",), ("T9",)]


def test_ctrl_c_while_a_slice_is_replaced_leaves_it_as_it_was(db: Database, tenant_id: UUID) -> None:
    pounds = pipeline("pounds", load=Replace(Product, {"currency": "GBP"}))
    run(db, pounds, {"a": [product(1)]}, tenant_id=tenant_id)

    def press(batch: Batch) -> Batch:
        if batch.before.records == 1:
            signal.pthread_kill(main_thread().ident or 0, signal.SIGINT)
        return batch

    with pytest.raises(KeyboardInterrupt):
        run(db, replace(pounds, steps=(press,)), {"a": [product(2), product(3)]}, tenant_id=tenant_id, batch=1)
    assert stored(db, tenant_id, Product, "external_id") == [("T1",)]
    assert stored(db, tenant_id, PipelineRun, "state", "error") == [("failed", "KeyboardInterrupt"), ("finished", None)]
    assert run(db, pounds, {"a": [product(2), product(3)]}, tenant_id=tenant_id).counts.loaded == 2


def test_each_record_goes_to_its_tenant_and_one_of_nobody_is_rejected(db: Database, tenant_id: UUID) -> None:
    mine, theirs = f"mine-{tenant_id.hex[-12:]}", f"theirs-{tenant_id.hex[-12:]}"
    rows = [product(1, shop=mine), product(2, shop=theirs), product(3, shop=""), product(4, shop=mine, slug="No Slug")]
    outcome = run(db, shops(), {"a": rows}, tenant_id=tenant_id)
    assert outcome.counts == Counts(read=4, loaded=2, rejected=2)
    with db.owner() as owner:
        of = {one.slug: one.id for one in owner.scalars(select(Tenant).where(Tenant.slug.in_([mine, theirs])))}
    assert stored(db, of[mine], Product, "external_id") == [("T1",)]
    assert stored(db, of[theirs], Product, "external_id") == [("T2",)]
    for whose, numbers in ((tenant_id, [3]), (of[mine], [4]), (of[theirs], [])):
        with db.tenant(whose) as session:
            assert list(session.scalars(select(PipelineReject.number))) == numbers
            row = session.get_one(PipelineRun, (whose, outcome.run_id))
            assert row.state == "finished"
    again = run(db, shops(), {"a": rows}, tenant_id=tenant_id)
    assert again.counts == Counts()


def test_progress_is_told_after_each_commit(db: Database, tenant_id: UUID) -> None:
    told: list[Progress] = []
    load(db, tenant_id, {"a": [product(1), product(2)], "b": [product(3)]}, batch=1, on_progress=told.append)
    assert [(one.source, one.counts.read) for one in told] == [("a", 1), ("a", 2), ("b", 3)]


def test_how_far_a_source_is_read_is_kept_with_its_checksum(db: Database, tenant_id: UUID) -> None:
    outcome = load(db, tenant_id, {"a": [product(1), product(2)]}, batch=1)
    with db.tenant(tenant_id) as session:
        source = session.scalars(select(PipelineSource)).one()
    assert (source.records, source.begun_by, source.run_id) == (2, outcome.run_id, outcome.run_id)
    assert source.ended_at is not None


def test_a_batch_of_no_records_is_refused(db: Database, tenant_id: UUID) -> None:
    with pytest.raises(InvalidValue, match="A batch of 0 records is none"):
        load(db, tenant_id, {"a": []}, batch=0)


def test_a_run_whose_source_somebody_else_has_read_on_meanwhile_stops_and_loads_nothing(
    db: Database, tenant_id: UUID
) -> None:
    def overtaken(batch: Batch) -> Batch:
        with db.tenant(tenant_id) as session:
            session.execute(update(PipelineSource).values(records=1))
        return batch

    with pytest.raises(PipelineBusy):
        run(db, replace(pipeline(), steps=(overtaken,)), {"a": [product(1), product(2)]}, tenant_id=tenant_id)
    assert stored(db, tenant_id, Product, "external_id") == []
