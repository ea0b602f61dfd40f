"""What a killed run had sent to the server may be committed late: the next run waits, and loads nothing twice."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field, replace
from threading import Event
from typing import Any
from uuid import UUID

import pytest

from dataarch.database.unit_of_work import Database, TenantSession
from dataarch.models import PipelineRun, Product
from dataarch.pipelines import runner, work
from dataarch.pipelines.loaders.replace import Replace
from dataarch.pipelines.outcome import Counts, Outcome
from dataarch.pipelines.pipeline import Loaded, Referred
from dataarch.pipelines.records import Row
from dataarch.pipelines.replay import replay
from dataarch.pipelines.runner import run
from dataarch.pipelines.tenants import find_tenant
from dataarch.pipelines.transformers.fields import computed
from fixtures.servers import Servers
from pipelines.listed import Late, OfShops, home, name_of, only_cheap, pipeline, product, shops, stored

pytestmark = pytest.mark.pipeline


@pytest.fixture
def tenant_id(shared_db: Database) -> UUID:
    return home(shared_db)


@pytest.fixture
def mine(shared_db: Database, tenant_id: UUID) -> str:
    """The shop of the tenant that runs are for."""
    return name_of(shared_db, tenant_id).slug


@pytest.fixture
def theirs(tenant_id: UUID) -> str:
    """A shop that is no tenant yet."""
    return f"theirs-{tenant_id.hex[-12:]}"


@dataclass(frozen=True)
class LateSlice(Replace):
    """Replaces a slice by one source, which is committed after a while, and is killed at the next one."""

    loaded: Event = field(default_factory=Event)
    commits: Event = field(default_factory=Event)

    def load(self, session: TenantSession, rows: Sequence[Row]) -> Loaded:
        if self.loaded.is_set():
            raise RuntimeError("The process is killed.")
        loaded = super().load(session, rows)
        self.loaded.set()
        assert self.commits.wait(30)
        return loaded


class LateReferences(OfShops):
    """Makes what rows refer to in a transaction that is committed after a while, and is killed behind it."""

    def __init__(self) -> None:
        super().__init__(Product, key="external_id")
        self.loaded, self.commits = Event(), Event()

    def refer(self, session: TenantSession, rows: Sequence[Row]) -> Referred:  # noqa: ARG002
        self.loaded.set()
        assert self.commits.wait(30)
        return Referred(rows)

    def start(self, session: TenantSession, rows: Sequence[Row]) -> Callable[[], Loaded]:  # noqa: ARG002
        raise RuntimeError("The process is killed.")


@contextmanager
def killed(
    db: Database, servers: Servers, load: Late | LateSlice | LateReferences, begin: Callable[[], Outcome]
) -> Iterator[Callable[[Callable[[], Outcome]], Outcome]]:
    """Begin what is killed behind its first load, and give what begins the next run.

    What the killed one has loaded is committed as soon as the next one waits.
    """

    def next_one(again: Callable[[], Outcome]) -> Outcome:
        following = pool.submit(again)
        try:
            servers.waiting(db.settings.application.database)
        finally:
            load.commits.set()
        return following.result()

    with ThreadPoolExecutor(2) as pool:
        with pytest.MonkeyPatch.context() as gone:
            # the lock goes with the process, and the server is still to do what it was sent
            gone.setattr(work, "guarded", lambda *_: nullcontext())
            late: Future[Outcome] = pool.submit(begin)
            assert load.loaded.wait(30)
        yield next_one
        with pytest.raises(RuntimeError, match="killed"):
            late.result()


def sources(mine: str, theirs: str) -> dict[str, list[dict[str, Any]]]:
    return {"a": [product(at, price=2000, shop=whose) for at, whose in enumerate((mine, theirs, mine, theirs))]}


def test_a_run_waits_for_what_a_killed_one_commits_only_now_and_loads_nothing_twice(
    shared_db: Database, tenant_id: UUID, mine: str, theirs: str, servers: Servers
) -> None:
    given, load = sources(mine, theirs), Late(shared_db, mine)
    with killed(
        shared_db, servers, load, lambda: run(shared_db, replace(shops(), load=load), given, tenant_id=tenant_id)
    ) as next_one:
        outcome = next_one(lambda: run(shared_db, shops(), given, tenant_id=tenant_id))
    assert outcome.counts == Counts(read=2, loaded=2)
    other = find_tenant(shared_db, theirs)
    assert other is not None
    assert sum(read for (read,) in stored(shared_db, other, PipelineRun, "read")) == 2
    for whose, found in ((tenant_id, ["T0", "T2"]), (other, ["T1", "T3"])):
        assert stored(shared_db, whose, Product, "external_id") == [(one,) for one in found]


def test_a_replay_waits_for_what_a_killed_one_commits_only_now_and_loads_it_for_nobody_else(
    shared_db: Database, tenant_id: UUID, mine: str, theirs: str, servers: Servers
) -> None:
    third = f"third-{tenant_id.hex[-12:]}"
    first = run(shared_db, replace(shops(), steps=(only_cheap,)), sources(mine, theirs), tenant_id=tenant_id)
    load = Late(shared_db, mine)
    moved = computed(shop=lambda row: third if row["shop"] == theirs else row["shop"])
    with killed(
        shared_db,
        servers,
        load,
        lambda: replay(shared_db, replace(shops(), load=load), first.run_id, tenant_id=tenant_id),
    ) as next_one:
        outcome = next_one(
            lambda: replay(shared_db, replace(shops(), steps=(moved,)), first.run_id, tenant_id=tenant_id)
        )
    assert outcome.counts == Counts(read=2, loaded=2)
    other = find_tenant(shared_db, theirs)
    assert other is not None
    assert stored(shared_db, other, Product, "external_id") == [("T1",), ("T3",)]
    assert find_tenant(shared_db, third) is None


def test_a_slice_that_a_killed_run_replaces_only_now_is_waited_for(
    shared_db: Database, tenant_id: UUID, servers: Servers
) -> None:
    given = {"a": [product(1), product(2)], "b": [product(3)]}
    load = LateSlice(Product, {})
    with killed(
        shared_db, servers, load, lambda: run(shared_db, pipeline(load=load), given, tenant_id=tenant_id)
    ) as next_one:
        outcome = next_one(lambda: run(shared_db, pipeline(load=Replace(Product, {})), given, tenant_id=tenant_id))
    assert outcome.counts == Counts(read=1, loaded=1, removed=2)
    assert stored(shared_db, tenant_id, Product, "external_id") == [("T3",)]


def test_a_run_that_was_killed_before_it_was_seen_at_another_tenant_is_told_as_failed_there(
    shared_db: Database, tenant_id: UUID, theirs: str, servers: Servers, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(runner, "MANY", 0)
    given, load = {"a": [product(1, shop=theirs)]}, LateReferences()
    with killed(
        shared_db, servers, load, lambda: run(shared_db, replace(shops(), load=load), given, tenant_id=tenant_id)
    ) as next_one:
        outcome = next_one(lambda: run(shared_db, shops(), given, tenant_id=tenant_id))
    assert outcome.counts == Counts(read=1, loaded=1)
    other = find_tenant(shared_db, theirs)
    assert other is not None
    assert stored(shared_db, other, PipelineRun, "state", "loaded") == [("failed", 0), ("finished", 1)]
