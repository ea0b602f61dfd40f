"""Batches of several sources in one transaction: each source keeps its own position, rejects and lineage."""

from __future__ import annotations

import signal
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field, replace
from itertools import pairwise
from threading import Barrier
from threading import enumerate as enumerate_threads
from typing import Any, ClassVar
from uuid import UUID

import pytest
from sqlalchemy import event, select, text

from dataarch.database.unit_of_work import Database, TenantSession
from dataarch.errors import InvalidValue
from dataarch.models import PipelineReject, PipelineSource, Product
from dataarch.pipelines.loaders.append import Append
from dataarch.pipelines.outcome import Counts, Progress
from dataarch.pipelines.pipeline import Loaded, TenantName
from dataarch.pipelines.records import Row
from dataarch.pipelines.runner import run
from fixtures.interrupts import CtrlC
from pipelines.listed import CUT_OFF, home, name_of, pipeline, product, stored

pytestmark = pytest.mark.pipeline

LINEAGE = """
SELECT source, first_record + value::bigint, external_id, count(*) OVER () FROM pipeline_batches AS batch
CROSS JOIN jsonb_each_text(rows) JOIN products ON products.tenant_id = batch.tenant_id AND id = key::uuid ORDER BY 1, 2
"""


@pytest.fixture
def db(shared_db: Database) -> Database:
    """One database for this file: each test makes tenants of its own."""
    return shared_db


@pytest.fixture
def tenant_id(db: Database) -> UUID:
    return home(db)


TOGETHER = replace(pipeline(), together=True)


def test_small_sources_are_one_transaction_and_each_keeps_its_own_books(db: Database, tenant_id: UUID) -> None:
    told: list[Progress] = []
    sources = {
        "a": [product(1), product(9, slug="No Slug"), product(2)],
        "b": [],
        "c": ["?", product(3), CUT_OFF],
        "d": [product(8, slug="Nor here"), product(4)],
    }
    outcome = run(db, TOGETHER, sources, tenant_id=tenant_id, on_progress=told.append)
    assert outcome.counts == Counts(read=7, loaded=4, rejected=3)
    assert outcome.sources == 3
    assert [failed.source for failed in outcome.failed] == ["c"]
    assert [(one.first, one.source, one.counts.read) for one in told] == [("a", "d", 7)]
    with db.tenant(tenant_id) as session:
        rejects = session.execute(select(PipelineReject.source, PipelineReject.number, PipelineReject.stage))
        assert sorted(map(tuple, rejects)) == [("a", 2, "load"), ("c", 1, "extract"), ("d", 1, "load")]
        read = session.execute(select(PipelineSource.source, PipelineSource.records, PipelineSource.ended_at))
        assert sorted((name, count, ended is None) for name, count, ended in read) == [
            ("a", 3, False),
            ("b", 0, False),
            ("c", 2, True),
            ("d", 2, False),
        ]
        assert [tuple(row) for row in session.execute(text(LINEAGE))] == [
            ("a", 1, "T1", 4),
            ("a", 3, "T2", 4),
            ("c", 2, "T3", 4),
            ("d", 2, "T4", 4),
        ]
    assert run(db, TOGETHER, sources, tenant_id=tenant_id).counts == Counts()


@pytest.mark.parametrize(("batch", "groups"), [(1, 6), (2, 4), (3, 2), (4, 2), (5, 2), (6, 1)])
def test_no_transaction_has_more_records_than_a_batch_may_have(
    db: Database, tenant_id: UUID, batch: int, groups: int
) -> None:
    told: list[Progress] = []
    sources = {name: [product(3 * at + n) for n in range(at + 1)] for at, name in enumerate("abc")}
    outcome = run(db, TOGETHER, sources, tenant_id=tenant_id, batch=batch, on_progress=told.append)
    assert outcome.counts == Counts(read=6, loaded=6)
    read = [0, *(one.counts.read for one in told)]
    assert max(after - before for before, after in pairwise(read)) <= batch
    assert len(told) == groups


def test_what_comes_twice_in_sources_of_one_transaction_is_one_row_with_the_later_values(
    db: Database, tenant_id: UUID
) -> None:
    sources = {"a": [product(1)], "b": [product(1, name="Green tea")]}
    assert run(db, TOGETHER, sources, tenant_id=tenant_id).counts == Counts(read=2, loaded=1, unchanged=1)
    assert stored(db, tenant_id, Product, "name") == [("Green tea",)]


def test_records_whose_tenants_have_other_names_and_the_same_slug_are_all_loaded(db: Database, tenant_id: UUID) -> None:
    by_slug = replace(TOGETHER, tenant_by=lambda _: TenantName(f"shop-{tenant_id.hex[-12:]}", next(names)))
    names = iter(["Shop", "SHOP", "Shop"])
    outcome = run(db, by_slug, {"a": [product(1), product(2)], "b": [product(3)]}, tenant_id=tenant_id)
    assert outcome.counts == Counts(read=3, loaded=3)


@dataclass(frozen=True)
class NotFor:
    """Adds products, and cannot do it for one tenant."""

    tenant_id: UUID | None
    whole: ClassVar[bool] = False

    def begin(self, session: TenantSession) -> int:  # noqa: ARG002
        return 0

    def prepare(self, rows: Sequence[Row], tenant_id: UUID) -> Sequence[Row]:  # noqa: ARG002
        return rows

    def load(self, session: TenantSession, rows: Sequence[Row]) -> Loaded:
        if session.tenant_id == self.tenant_id:
            raise InvalidValue("Killed in the midst.")
        return Append(Product).load(session, rows)


@pytest.mark.parametrize("batch", [1, 2, 3, 7, 100])
@pytest.mark.parametrize("together", [True, False])
def test_what_other_tenants_have_is_not_loaded_twice_however_small_the_batches_are_after_a_kill(
    db: Database, tenant_id: UUID, batch: int, *, together: bool
) -> None:
    other = home(db)
    names = {one: name_of(db, one) for one in (tenant_id, other)}
    whose = {f"T{at}": names[tenant_id if at % 4 == 3 else other] for at in range(8)}

    def by(loader: NotFor) -> Any:
        given = pipeline(load=loader, tenant_by=lambda row: whose[row["external_id"]])
        return replace(given, together=together)

    sources = {"a": [product(at) for at in range(5)], "b": [product(at) for at in range(5, 8)]}
    with pytest.raises(InvalidValue, match="Killed"):
        run(db, by(NotFor(tenant_id)), sources, tenant_id=tenant_id)
    assert stored(db, other, Product, "external_id")[:1] == [("T0",)]
    outcome = run(db, by(NotFor(None)), sources, tenant_id=tenant_id, batch=batch)
    assert outcome.counts.rejected == 0
    assert stored(db, other, Product, "external_id") == [(f"T{at}",) for at in range(8) if at % 4 != 3]
    assert stored(db, tenant_id, Product, "external_id") == [("T3",), ("T7",)]


@dataclass(frozen=True)
class Meeting(NotFor):
    """Adds products once two tenants are being loaded at the same time; one of them may then fail."""

    both: Barrier = field(default_factory=lambda: Barrier(2, timeout=20))
    ended: list[UUID] = field(default_factory=list)

    def load(self, session: TenantSession, rows: Sequence[Row]) -> Loaded:
        self.both.wait()
        if session.tenant_id == self.tenant_id:
            raise InvalidValue("Killed in the midst.")
        # what the other one does after that must not be overlooked
        session.execute(text("SELECT pg_sleep(0.2)"))
        loaded = Append(Product).load(session, rows)
        self.ended.append(session.tenant_id)
        return loaded


@pytest.mark.parametrize("fails", [False, True])
def test_tenants_are_loaded_at_the_same_time_and_none_goes_on_when_the_run_has_ended(
    db: Database, tenant_id: UUID, *, fails: bool
) -> None:
    others = [home(db), home(db)]
    whose = {f"T{at}": name_of(db, one) for at, one in enumerate(others)}
    load = Meeting(others[0] if fails else None)
    given = pipeline(load=load, tenant_by=lambda row: whose[row["external_id"]])
    with pytest.raises(InvalidValue, match="Killed") if fails else nullcontext():
        run(db, given, {"a": [product(0), product(1)]}, tenant_id=tenant_id)
    assert sorted(load.ended) == sorted(others[1:] if fails else others)
    assert [stored(db, one, Product, "external_id") for one in others] == [[] if fails else [("T0",)], [("T1",)]]


def test_after_an_error_no_further_tenant_is_begun(db: Database, tenant_id: UUID) -> None:
    others = [home(db) for _ in range(12)]
    whose = {f"T{at}": name_of(db, one) for at, one in enumerate((*others, others[0]))}
    # the one with most rows comes first
    load = Meeting(others[0], both=Barrier(1))
    given = pipeline(load=load, tenant_by=lambda row: whose[row["external_id"]])
    with pytest.raises(InvalidValue, match="Killed"):
        run(db, given, {"a": [product(at) for at in range(13)]}, tenant_id=tenant_id)
    assert len(load.ended) < 6


def interrupt(_: Progress) -> None:
    raise KeyboardInterrupt


def press(_: Progress) -> None:
    signal.raise_signal(signal.SIGINT)


@pytest.mark.parametrize("stop", [interrupt, press])
def test_after_ctrl_c_no_further_tenant_is_begun(
    db: Database, tenant_id: UUID, stop: Callable[[Progress], None]
) -> None:
    others = [home(db) for _ in range(13)]
    whose = {f"T{at}": name_of(db, one) for at, one in enumerate(others)}
    load = Meeting(None, both=Barrier(1))
    given = pipeline(load=load, tenant_by=lambda row: whose[row["external_id"]])

    # the second source waits for its turns when the first one is told of
    sources = {"a": [product(0)], "b": [product(at) for at in range(1, 13)]}
    with pytest.raises(KeyboardInterrupt):
        run(db, given, sources, tenant_id=tenant_id, on_progress=stop)
    assert len(load.ended) < 8


@pytest.mark.parametrize("at", [1, 2, 3, 5, 8, 13])
def test_ctrl_c_in_the_midst_of_a_lock_ends_the_run_and_the_next_one_goes_on(
    db: Database, tenant_id: UUID, ctrl_c_in_a_lock: CtrlC, at: int
) -> None:
    sources = {"a": [product(at) for at in range(4)]}
    ctrl_c_in_a_lock(at)
    with pytest.raises(KeyboardInterrupt):
        run(db, TOGETHER, sources, tenant_id=tenant_id, batch=1)
    assert not [one for one in enumerate_threads() if one.name.startswith("dataarch-")]
    before = len(stored(db, tenant_id, Product, "external_id"))
    assert run(db, TOGETHER, sources, tenant_id=tenant_id).counts.loaded == 4 - before


def test_all_new_sources_are_begun_in_one_statement(db: Database, tenant_id: UUID) -> None:
    moved: list[str] = []

    def watch(_connection: Any, _cursor: Any, statement: str, *_: Any) -> None:
        if "INSERT INTO pipeline_sources" in statement:
            moved.append(statement)

    event.listen(db.engine, "before_cursor_execute", watch)
    try:
        run(db, TOGETHER, {f"s{at}": [product(at)] for at in range(5)}, tenant_id=tenant_id)
    finally:
        event.remove(db.engine, "before_cursor_execute", watch)
    # one begins them, one says how far they are read
    assert len(moved) == 2
