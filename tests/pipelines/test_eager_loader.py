"""Rows are begun with while those before them are not committed, and nothing is lost, doubled or out of order."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field
from threading import Event
from typing import Any, ClassVar
from uuid import UUID

import pytest
from sqlalchemy import text

from dataarch.database.unit_of_work import Database, TenantSession
from dataarch.errors import InvalidValue, Retryable
from dataarch.models import PipelineRun, Product
from dataarch.models.base import new_id
from dataarch.pipelines import runner
from dataarch.pipelines.outcome import Counts
from dataarch.pipelines.pipeline import EagerLoader, Loaded, Pipeline, Referred, Written
from dataarch.pipelines.records import Row
from dataarch.pipelines.runner import run
from dataarch.repositories.bulk.outcome import BulkResult, WrittenIds
from pipelines.listed import home, name_of, pipeline, product, stored

pytestmark = pytest.mark.pipeline

ADD = """
INSERT INTO products (tenant_id, id, external_id, slug, name, price, currency)
VALUES (:tenant, :id, :external_id, :slug, :name, :price, :currency)
ON CONFLICT (tenant_id, external_id) DO NOTHING RETURNING id
"""
USER = """
INSERT INTO users (tenant_id, id, external_id, full_name) VALUES (:tenant, :id, :key, 'of a row')
ON CONFLICT (tenant_id, external_id) DO NOTHING RETURNING id
"""

LINEAGE = """
SELECT table_name, source, first_record + place::bigint FROM pipeline_batches, jsonb_each_text(rows) AS r (id, place)
WHERE tenant_id = :tenant ORDER BY 1, 2, 3
"""


@pytest.fixture
def db(shared_db: Database) -> Database:
    """One database for this file: each test makes tenants of its own."""
    return shared_db


@dataclass
class Adds:
    """Adds products and users that they refer to; the second half of a group waits for the first half of the next."""

    fails: type[Exception] | None = None
    whole: ClassVar[bool] = False
    steps: list[str] = field(default_factory=list)
    behind: Event = field(default_factory=Event)

    def begin(self, session: TenantSession) -> int:  # noqa: ARG002
        return 0

    def prepare(self, rows: Sequence[Row], tenant_id: UUID) -> Sequence[Row]:  # noqa: ARG002
        return rows

    def refer(self, session: TenantSession, rows: Sequence[Row]) -> Referred:
        written = WrittenIds()
        for place, row in enumerate(rows):
            given = {"tenant": session.tenant_id, "id": new_id(), "key": row["name"]}
            for made in session.scalars(text(USER), given):
                written.add(made.bytes, (0).to_bytes(4, "big"), 0, [place])
        return Referred([*rows], (Written("users", written),))

    def start(self, session: TenantSession, rows: Sequence[Row]) -> Callable[[], Loaded]:
        first = any(row["external_id"] == "T1" for row in rows)
        self.steps.append(f"start {rows[0]['external_id']}")
        if rows[0]["external_id"] == "T2":
            self.behind.set()
        written = WrittenIds()
        for place, row in enumerate(rows):
            for made in session.scalars(text(ADD), {**row, "tenant": session.tenant_id, "id": new_id()}):
                written.add(made.bytes, (0).to_bytes(4, "big"), 0, [place])

        def finish() -> Loaded:
            self.steps.append(f"finish {rows[0]['external_id']}")
            if first:
                assert self.behind.wait(timeout=30)
                self._fail()
            count = len(written)
            result = BulkResult(read=len(rows), inserted=count, duplicate=len(rows) - count)
            return Loaded(result, (Written("products", written),))

        return finish

    def load(self, session: TenantSession, rows: Sequence[Row]) -> Loaded:
        return self.start(session, self.refer(session, rows).rows)()

    def _fail(self) -> None:
        fails, self.fails = self.fails, None
        if fails is not None:
            raise fails("The first time.")


def of_other(db: Database, load: Adds) -> tuple[UUID, Pipeline]:
    """Return a tenant, and a pipeline of another one that loads for it."""
    name = name_of(db, other := home(db))
    return other, pipeline(load=load, tenant_by=lambda _: name)


GROUPS = {
    "0": [product(0)],
    "a": [product(1), product(2)],
    "b": [product(2, name="Green tea"), product(3)],
    "c": [product(4), product(1)],
}
"""Group b holds what group a needs, should that be tried again; the run is begun with another one."""


ALL: list[tuple[Any, ...]] = [(f"T{at}",) for at in range(5)]


def test_the_loader_is_known_by_what_it_can_do() -> None:
    assert isinstance(Adds(), EagerLoader)
    assert not isinstance(pipeline().load, EagerLoader)


@pytest.mark.parametrize("again", [False, True])
def test_a_group_is_begun_before_the_one_before_is_committed_and_all_is_as_in_order(
    db: Database, *, again: bool
) -> None:
    load = Adds(fails=Retryable if again else None)
    other, given = of_other(db, load)
    outcome = run(db, given, GROUPS, tenant_id=home(db))
    assert outcome.counts == Counts(read=7, loaded=5, unchanged=2)
    assert load.steps.index("start T2") < load.steps.index("start T4")
    finished = [step for step in load.steps if step.startswith("finish")]
    assert finished == ["finish T0"] + ["finish T1"] * (1 + again) + ["finish T2", "finish T4"]
    assert stored(db, other, Product, "external_id") == ALL
    with db.tenant(other) as session:
        lineage = [tuple(row) for row in session.execute(text(LINEAGE), {"tenant": other})]
    assert [row for row in lineage if row[0] == "products"] == [
        ("products", "0", 1),
        ("products", "a", 1),
        ("products", "a", 2),
        ("products", "b", 2),
        ("products", "c", 1),
    ]
    assert outcome.outputs["products"] == 5


def test_what_rows_refer_to_is_written_with_its_lineage_before_them(db: Database) -> None:
    load = Adds()
    other, given = of_other(db, load)
    outcome = run(db, given, {name: GROUPS[name] for name in "0ab"}, tenant_id=home(db))
    with db.tenant(other) as session:
        lineage = [tuple(row) for row in session.execute(text(LINEAGE), {"tenant": other})]
    # the first group has made its own within its transaction, and this loader tells nothing of these
    assert [row for row in lineage if row[0] == "users"] == [
        ("users", *row) for row in (("a", 1), ("a", 2), ("b", 1), ("b", 2))
    ]
    assert outcome.outputs == {"products": 4, "users": 4}


def test_what_the_first_rows_refer_to_is_written_before_them_by_the_same_run_if_they_are_many(
    db: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(runner, "MANY", 0)
    other, given = of_other(db, Adds())
    run(db, given, {"0": GROUPS["0"]}, tenant_id=home(db))
    assert stored(db, other, PipelineRun, "state", "error") == [("finished", None)]
    with db.tenant(other) as session:
        lineage = [tuple(row) for row in session.execute(text(LINEAGE), {"tenant": other})]
    assert lineage == [("products", "0", 1), ("users", "0", 1)]


@pytest.mark.parametrize("fails", [None, InvalidValue])
def test_nothing_is_committed_behind_a_group_that_failed(db: Database, fails: type[Exception] | None) -> None:
    other, given = of_other(db, Adds(fails=fails))
    tenant_id = home(db)
    with pytest.raises(InvalidValue, match="The first time") if fails else nullcontext():
        run(db, given, GROUPS, tenant_id=tenant_id)
    assert stored(db, other, Product, "external_id") == (ALL[:1] if fails else ALL)
    run(db, given, GROUPS, tenant_id=tenant_id)
    assert stored(db, other, Product, "external_id") == ALL
