"""A tenant with few rows waits for those of the next groups, and the run's own tenant moves on behind all others."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, ClassVar
from uuid import UUID
from weakref import ReferenceType, ref

import pytest
from sqlalchemy import text

from dataarch.clock import utcnow
from dataarch.database.unit_of_work import Database, TenantSession
from dataarch.errors import InvalidValue
from dataarch.models import PipelineReject, Product
from dataarch.pipelines import division
from dataarch.pipelines.division import Group, Share
from dataarch.pipelines.loaders.append import Append
from dataarch.pipelines.outcome import Counts, Progress
from dataarch.pipelines.pipeline import Loaded, Pipeline
from dataarch.pipelines.reading import Ready
from dataarch.pipelines.records import Batch, Position, Row, Source
from dataarch.pipelines.runner import run
from dataarch.pipelines.work import Work
from pipelines.listed import Listed, home, name_of, pipeline, product, stored

pytestmark = pytest.mark.pipeline

TRANSACTIONS = "SELECT count(*) FROM {} GROUP BY xmin::text::bigint ORDER BY xmin::text::bigint"


@dataclass(frozen=True)
class Seen:
    """Adds products, and keeps what came of which tenant in each transaction; one tenant may fail."""

    whole: ClassVar[bool] = False
    loads: dict[UUID, list[list[str]]] = field(default_factory=lambda: defaultdict(list))
    fails: list[UUID] = field(default_factory=list)

    def begin(self, session: TenantSession) -> int:  # noqa: ARG002
        return 0

    def prepare(self, rows: Sequence[Row], tenant_id: UUID) -> Sequence[Row]:  # noqa: ARG002
        return rows

    def load(self, session: TenantSession, rows: Sequence[Row]) -> Loaded:
        if session.tenant_id in self.fails:
            # by then, whoever does not wait for it has moved on
            session.execute(text("SELECT pg_sleep(0.3)"))
            raise InvalidValue("Killed in the midst.")
        self.loads[session.tenant_id].append([row["external_id"] for row in rows])
        return Append(Product).load(session, rows)


def shops(db: Database, load: Seen, whose: Mapping[str, UUID]) -> Pipeline:
    """Return a pipeline of small sources that are loaded together, each product for its tenant."""
    names = {tenant_id: name_of(db, tenant_id) for tenant_id in set(whose.values())}
    given = pipeline(load=load, tenant_by=lambda row: names[whose[row["external_id"]]])
    return replace(given, together=True)


def transactions(db: Database, tenant_id: UUID, table: str) -> list[int]:
    """Return how many rows of a table each transaction has written last."""
    with db.tenant(tenant_id) as session:
        return list(session.scalars(text(TRANSACTIONS.format(table))))


def test_the_few_rows_of_a_tenant_are_loaded_once_there_are_more_and_in_their_order(
    shared_db: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    tenant_id = home(shared_db)
    monkeypatch.setattr(division, "FEW", 2)
    monkeypatch.setattr(division, "BEHIND", 100)
    large, small = home(shared_db), home(shared_db)
    sources = {f"s{at}": [product(5 * at + n) for n in range(5)] for at in range(7)}
    whose = {f"T{at}": small if at % 5 == 2 else large for at in range(35)}
    load = Seen()
    told: list[Progress] = []
    given = shops(shared_db, load, whose)
    outcome = run(shared_db, given, sources, tenant_id=tenant_id, batch=5, on_progress=told.append)
    assert outcome.counts == Counts(read=35, loaded=35)
    assert (outcome.sources, sum(one.records for one in outcome.inputs.values())) == (7, 35)
    assert load.loads[small] == [["T2", "T7", "T12"], ["T17", "T22", "T27"], ["T32"]]
    assert load.loads[large] == [[f"T{5 * at + n}" for n in (0, 1, 3, 4)] for at in range(7)]
    # what is told of is on its way up, and at the end it is all
    assert [one.counts.read for one in told] == sorted(one.counts.read for one in told)
    assert (told[-1].source, told[-1].counts.read) == ("s6", 35)
    assert run(shared_db, given, sources, tenant_id=tenant_id).counts == Counts()


def test_no_more_records_wait_than_a_batch_may_have(shared_db: Database) -> None:
    tenant_id = home(shared_db)
    other = home(shared_db)
    sources = {f"s{at}": ["?", product(at), "?"] for at in range(7)}
    given = shops(shared_db, Seen(), {f"T{at}": other for at in range(7)})
    outcome = run(shared_db, given, sources, tenant_id=tenant_id, batch=7)
    assert outcome.counts == Counts(read=21, loaded=7, rejected=14)
    # two sources are a group, and six of their records wait; four would be too many with the six
    assert transactions(shared_db, tenant_id, "pipeline_rejects") == [4, 4, 4, 2]
    assert len(stored(shared_db, tenant_id, PipelineReject, "id")) == 14


def test_a_run_moves_on_after_four_batches_even_where_nothing_waits(
    shared_db: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    tenant_id = home(shared_db)
    monkeypatch.setattr(division, "FEW", 1)
    other = home(shared_db)
    sources = {f"s{at}": [product(2 * at), product(2 * at + 1)] for at in range(10)}
    load = Seen()
    given = shops(shared_db, load, {f"T{at}": other for at in range(20)})
    assert run(shared_db, given, sources, tenant_id=tenant_id, batch=2).counts == Counts(read=20, loaded=20)
    assert transactions(shared_db, tenant_id, "pipeline_sources") == [4, 4, 2]
    assert len(load.loads[other]) == 10


def test_rows_of_the_runs_own_tenant_wait_only_while_they_are_few(
    shared_db: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    tenant_id = home(shared_db)
    monkeypatch.setattr(division, "FEW", 1)
    sources = {f"s{at}": [product(6 * at + n) for n in range(6)] for at in range(4)}
    load = Seen()
    other = home(shared_db)
    given = shops(shared_db, load, {f"T{at}": tenant_id if at % 6 > 3 else other for at in range(24)})
    assert run(shared_db, given, sources, tenant_id=tenant_id, batch=6).counts == Counts(read=24, loaded=24)
    assert list(map(len, load.loads[tenant_id])) == [2, 2, 2, 2]


@pytest.mark.parametrize("batch", [1, 2, 3, 5, 100])
def test_a_run_that_ended_while_some_waited_is_completed_by_the_next(
    shared_db: Database, monkeypatch: pytest.MonkeyPatch, batch: int
) -> None:
    tenant_id = home(shared_db)
    monkeypatch.setattr(division, "FEW", 1)
    large, small = home(shared_db), home(shared_db)
    sources: dict[str, list[Any]] = {f"s{at}": ["?", *(product(3 * at + n) for n in range(3))] for at in range(6)}
    given = shops(shared_db, load := Seen(fails=[small]), {f"T{at}": large if at % 3 else small for at in range(18)})
    with pytest.raises(InvalidValue, match="Killed"):
        run(shared_db, given, sources, tenant_id=tenant_id, batch=4)
    assert stored(shared_db, large, Product, "external_id")
    load.fails.clear()
    run(shared_db, given, sources, tenant_id=tenant_id, batch=batch)
    for one in (large, small):
        expected = sorted((f"T{at}",) for at in range(18) if (at % 3 > 0) == (one == large))
        assert stored(shared_db, one, Product, "external_id") == expected
    assert sorted(map(str, stored(shared_db, tenant_id, PipelineReject, "source"))) == [
        f"('s{at}',)" for at in range(6)
    ]


def test_a_run_does_not_move_on_before_rows_of_a_group_before_are_committed(
    shared_db: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    tenant_id, other = home(shared_db), home(shared_db)
    monkeypatch.setattr(division, "FEW", 1)
    sources = {"s0": ["?", *(product(at) for at in range(4))]}
    given = shops(shared_db, load := Seen(fails=[other]), {f"T{at}": other for at in range(4)})
    with pytest.raises(InvalidValue, match="Killed"):
        run(shared_db, given, sources, tenant_id=tenant_id)
    assert stored(shared_db, tenant_id, PipelineReject, "source") == []
    load.fails.clear()
    assert run(shared_db, given, sources, tenant_id=tenant_id).counts == Counts(read=5, loaded=4, rejected=1)
    assert len(stored(shared_db, other, Product, "id")) == 4


class Watched(dict[str, Any]):
    """A row of which can be told whether it is still in memory."""


def test_what_is_given_to_be_loaded_is_not_kept_by_who_divides(
    shared_db: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    tenant_id, large, small = home(shared_db), home(shared_db), home(shared_db)
    monkeypatch.setattr(division, "FEW", 1)
    rows: list[ReferenceType[Row]] = []

    def watched(batch: Batch) -> Group:
        given: list[Row] = [Watched(row) for row in batch.rows]
        rows.extend(map(ref, given))
        return [Share(Ready(replace(batch, rows=given, originals=given), utcnow(), utcnow()), tenant_id)]

    batches = Listed().read(Source("s", [product(at) for at in range(6)]), Position(), 3)
    given = shops(shared_db, Seen(), {f"T{at}": large if at % 3 else small for at in range(6)})
    work = Work(shared_db, given, tenant_id, batch=100)
    alive: list[tuple[int, list[bool]]] = []
    for load in division.Division(work).loads(map(watched, batches)):
        count = sum(len(portion.rows) for portion in load.others.values())
        del load
        alive.append((count, [row() is not None for row in rows]))
    # the large tenant's rows of the first group; all the rest, once the small one has more than one; the run's own
    assert alive == [(2, [True, False, False]), (4, [False] * 6), (0, [False] * 6)]
