"""What needs no database is done for rows while the server is busy with those before, and is done once."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any, ClassVar
from uuid import UUID

import pytest
from sqlalchemy import text

from dataarch.database.unit_of_work import Database, TenantSession
from dataarch.errors import Deadlock
from dataarch.models import PipelineReject, Product
from dataarch.pipelines.loaders.append import Append
from dataarch.pipelines.loaders.replace import Replace
from dataarch.pipelines.loaders.upsert import Upsert
from dataarch.pipelines.outcome import Counts
from dataarch.pipelines.pipeline import Loaded, Loader, TenantName
from dataarch.pipelines.records import Row
from dataarch.pipelines.runner import run
from dataarch.repositories.bulk.prepared import Prepared
from pipelines.listed import home, pipeline, product, stored

pytestmark = pytest.mark.pipeline


@pytest.fixture
def tenant_id(db: Database) -> UUID:
    return home(db)


@dataclass(frozen=True)
class Watched(Upsert):
    """Upserts, and remembers by which thread rows were prepared, and what was loaded; meets others at first."""

    prepared: list[tuple[str, UUID, int]] = field(default_factory=list)
    loaded: list[tuple[UUID, Sequence[Row]]] = field(default_factory=list)
    deadlocks: int = 0

    def prepare(self, rows: Sequence[Row], tenant_id: UUID) -> Sequence[Row]:
        self.prepared.append((threading.current_thread().name, tenant_id, len(rows)))
        return super().prepare(rows, tenant_id)

    def load(self, session: TenantSession, rows: Sequence[Row]) -> Loaded:
        self.loaded.append((session.tenant_id, rows))
        if len(self.loaded) <= self.deadlocks:
            raise Deadlock("Others were in the way.")
        return super().load(session, rows)


def test_rows_are_prepared_by_the_thread_that_reads_and_loaded_as_prepared(db: Database, tenant_id: UUID) -> None:
    load = Watched(Product, key="external_id")
    outcome = run(db, pipeline(load=load), {"a": [product(at) for at in range(5)]}, tenant_id=tenant_id, batch=2)
    assert outcome.counts == Counts(read=5, loaded=5)
    assert [one[1:] for one in load.prepared] == [(tenant_id, 2), (tenant_id, 2), (tenant_id, 1)]
    assert {name.startswith("dataarch-read") for name, _, _ in load.prepared} == {True}
    assert [(whose, type(rows)) for whose, rows in load.loaded] == [(tenant_id, Prepared)] * 3


def test_a_transaction_that_is_tried_again_takes_the_same_prepared_rows(db: Database, tenant_id: UUID) -> None:
    load = Watched(Product, key="external_id", deadlocks=2)
    records = [product(1), product(2, price="nothing"), product(3)]
    assert run(db, pipeline(load=load), {"a": records}, tenant_id=tenant_id).counts == Counts(
        read=3, loaded=2, rejected=1
    )
    assert len(load.prepared) == 1
    assert len(load.loaded) == 3
    assert stored(db, tenant_id, PipelineReject, "number", "field") == [(2, "price")]


def test_the_rows_of_each_tenant_are_prepared_for_it(db: Database, tenant_id: UUID) -> None:
    load, other = Watched(Product, key="external_id"), home(db)
    slugs = {one: slug_of(db, one) for one in (tenant_id, other)}
    of = {"T1": slugs[tenant_id], "T2": slugs[other], "T3": slugs[other]}
    by_key = pipeline(load=load, tenant_by=lambda row: TenantName(of[row["external_id"]], "Any"))
    given = {"a": [product(1), product(2)], "b": [product(3)]}
    outcome = run(db, replace(by_key, together=True), given, tenant_id=tenant_id)
    assert outcome.counts == Counts(read=3, loaded=3)
    assert sorted(load.prepared) == sorted((load.prepared[0][0], whose, n) for whose, n in ((tenant_id, 1), (other, 2)))
    assert stored(db, other, Product, "external_id") == [("T2",), ("T3",)]


def slug_of(db: Database, tenant_id: UUID) -> str:
    with db.owner() as owner:
        return str(owner.scalar(text("SELECT slug FROM tenants WHERE id = :id"), {"id": tenant_id}))


LOADERS: dict[str, Loader] = {
    "upsert": Upsert(Product, key="external_id"),
    "append": Append(Product),
    "replace": Replace(Product, {"currency": "GBP"}),
}


@dataclass(frozen=True)
class Unprepared:
    """Loads what another loader does, with rows as they come."""

    loader: Any
    whole: ClassVar[bool] = False

    def begin(self, session: TenantSession) -> int:
        return int(self.loader.begin(session))

    def prepare(self, rows: Sequence[Row], tenant_id: UUID) -> Sequence[Row]:  # noqa: ARG002
        return rows

    def load(self, session: TenantSession, rows: Sequence[Row]) -> Loaded:
        assert not isinstance(rows, Prepared)
        loaded: Loaded = self.loader.load(session, rows)
        return loaded


@pytest.mark.parametrize("kind", LOADERS)
def test_prepared_or_not_the_same_rows_are_loaded_and_rejected(db: Database, tenant_id: UUID, kind: str) -> None:
    given = {
        "a": [
            product(1),
            product(2, price=-1),
            product(3, colour="green"),
            {"external_id": "T4", "slug": "tea-4"},
            product(1, slug="tea-1-again", external_id="T1b"),
            product(6, slug="tea-1"),
            product(7, name="\0"),
        ]
    }
    other = home(db)
    run(db, pipeline(load=LOADERS[kind]), given, tenant_id=tenant_id)
    run(db, pipeline(load=Unprepared(LOADERS[kind])), given, tenant_id=other)
    names = ("external_id", "slug", "name", "price", "currency")
    rejects = ("number", "stage", "field", "reason", "constraint_name")
    assert stored(db, tenant_id, Product, *names) == stored(db, other, Product, *names)
    assert len(stored(db, tenant_id, Product, "id")) == 2
    found = stored(db, tenant_id, PipelineReject, *rejects)
    assert len(found) == 5
    assert found == stored(db, other, PipelineReject, *rejects)
