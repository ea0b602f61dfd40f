"""Run a pipeline: read, check, change and load records, and account for every one of them.

Each batch is one transaction of a tenant: its rows, its rejects, where its rows came from, how far the source is read
and the run's numbers are committed together or not at all. A run that is killed at any moment is completed by the next
one, which goes on where the last commit was.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Executor, Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import cached_property, partial
from typing import Any
from uuid import UUID

from dataarch.database.unit_of_work import Database
from dataarch.errors import FeedError
from dataarch.pipelines.books import Books, HowFar, busy
from dataarch.pipelines.division import Division, Group, Load, Portion, Share
from dataarch.pipelines.outcome import Counts, Outcome, Progress, SourceFailed
from dataarch.pipelines.pipeline import Pipeline
from dataarch.pipelines.reading import Ready, in_advance, ready_batches
from dataarch.pipelines.records import Position, Row, Source
from dataarch.pipelines.work import BATCH, Told, Work

__all__ = ["Runner", "run"]

FIRST = 5_000
"""Records of several sources that are loaded together at first, at the most: nothing is loaded before they are read."""

TENANTS_AT_ONCE = 2
"""Tenants for which a run loads at the same time, each on a connection of its own."""


def run(
    db: Database,
    pipeline: Pipeline,
    given: Any,
    *,
    tenant_id: UUID,
    batch: int = BATCH,
    on_progress: Callable[[Progress], None] | None = None,
) -> Outcome:
    """Run a pipeline on what is given, and return what became of every record.

    Args:
        db: the database, as the application role.
        pipeline: what to do.
        given: what its extractor takes: a path, a glob …
        tenant_id: whose rows these are; where the pipeline says so itself for each record, whose the run is: the
            tenant that keeps how far the sources are read, and what was rejected before its tenant was known.
        batch: records of a transaction at the most.
        on_progress: called after each commit.

    Raises:
        InputMissing: there is nothing to read.
        PipelineBusy: the pipeline is running for this tenant already.
        DataArchError: the server is lost, or refuses; what was committed stays, and the next run goes on from there.

    A source that cannot be read to its end does not stop the others: it is in ``failed`` of the outcome. Idempotent: a
    second run reads what is new, and nothing twice.
    """
    return Runner(db, pipeline, tenant_id, batch=batch, on_progress=on_progress).run(given)


@dataclass
class Runner(Work):
    """One run; see :func:`run`."""

    _seen: set[str] = field(default_factory=set)
    _last: tuple[Future[Told], list[Told], Group] | None = None

    @cached_property
    def _division(self) -> Division:
        return Division(self)

    def run(self, given: Any) -> Outcome:
        """Read all that is given."""
        sources = self.pipeline.extract.sources(given)
        with self.under_way():
            if self.pipeline.load.whole:
                for source in sources:
                    self._read_whole(source)
            else:
                # its end waits for what is under way: nothing is written behind the back of an error
                with _threads("own", 1) as own, _threads("tenants", TENANTS_AT_ONCE) as tenants:
                    for load in in_advance(map(self._division.of, self._groups(sources))):
                        self._load(load, own, tenants)
                    self._finish()
        return self.outcome

    # ── reading ───────────────────────────────────────────────────────────────────────────────────────────────────

    def _groups(self, sources: Sequence[Source]) -> Iterator[list[Share]]:
        """Give the batches of all sources; those that are to be one transaction come together."""
        far = self.within(self.tenant_id, partial(self._begin, sources=sources))
        group: list[Share] = []
        most = min(self.batch, FIRST)
        for source in sources:
            try:
                position, begun_by = self._where(source, far[source.name])
            except FeedError as broken:
                # it does not even show whether it begins with what was read
                self.outcome.failed.append(SourceFailed(source.name, broken))
                continue
            for ready in self._good(source, ready_batches(self.pipeline, source, position, self.batch)):
                batch = ready.batch
                if group and batch.after.records - batch.before.records + _records(group) > most:
                    yield group
                    group, most = [], self.batch
                group.append(Share(ready, begun_by))
                if not self.pipeline.together:
                    yield group
                    group = []
        if group:
            yield group

    def _begin(self, books: Books, sources: Sequence[Source]) -> dict[str, HowFar]:
        """Return how far sources are read; this run begins the new ones, before others have any of them."""
        far = books.how_far_in(source.name for source in sources)
        new = {name: HowFar(Position(), self.this.id) for name, found in far.items() if found.begun_by is None}
        books.move_in(new)
        return far | new

    def _where(self, source: Source, found: HowFar) -> tuple[Position, UUID]:
        """Return where to go on in a source, and which run has begun it: this one, where it was corrected."""
        position = self.pipeline.extract.resume(source, found.position)
        if found.begun_by is not None and position.records >= found.position.records:
            return position, found.begun_by
        if not self.pipeline.load.whole:
            self.within(self.tenant_id, lambda books: books.move(source.name, Position(), self.this.id))
        return Position(), self.this.id

    def _read_whole(self, source: Source) -> None:
        try:
            found = self.within(self.tenant_id, lambda books: books.how_far(source.name))
            position, begun_by = self._where(source, found)
        except FeedError as broken:
            self.outcome.failed.append(SourceFailed(source.name, broken))
            return
        before = self.outcome.counts
        if begun_by == self.this.id or self._has_more(source, position):
            ahead = map(self._prepared, ready_batches(self.pipeline, source, Position(), self.batch))
            self._load_whole(source, in_advance(ahead))
        self.outcome.sources += self.outcome.counts != before

    def _prepared(self, found: Ready | FeedError) -> Portion | FeedError:
        if isinstance(found, FeedError):
            return found
        return self._division.portion([Share(found, self.this.id)], self.tenant_id)

    def _has_more(self, source: Source, position: Position) -> bool:
        first = next(self.pipeline.extract.read(source, position, 1), None)
        return first is not None and first.after.records > position.records

    def _good(self, source: Source, ahead: Iterator[Ready | FeedError]) -> Iterator[Ready]:
        for ready in ahead:
            if isinstance(ready, FeedError):
                self.outcome.failed.append(SourceFailed(source.name, ready))
            elif ready.batch.after != ready.batch.before:
                yield ready

    # ── one transaction of each tenant ────────────────────────────────────────────────────────────────────────────

    def _load(self, load: Load, own: Executor, tenants: Executor) -> None:
        """Load a group: first for other tenants, then for this one, which moves on with them.

        Where there are others, they need not wait for this one: it has the rejects to write meanwhile. They are never
        more than one group ahead of it, and a run that was killed then finds what is theirs.
        """
        told = self._load_others(load.others, tenants)
        self._finish()
        moved = own.submit(self.within, self.tenant_id, partial(self._load_own, portion=load.own))
        # without rows: they are in memory no longer than it takes to load them
        self._last = moved, told, [one.of(one.batch.part(())) for one in load.group]
        if self.pipeline.tenant_by is None:
            self._finish()

    def _load_others(self, others: Mapping[UUID, Portion], tenants: Executor) -> list[Told]:
        """Load what other tenants have of a group, some of them at the same time, the one with most rows first."""
        by_rows = sorted(others.items(), key=lambda one: len(one[1].rows), reverse=True)
        under_way = [tenants.submit(self._load_for, tenant_id, portion) for tenant_id, portion in by_rows]
        try:
            return [one.result() for one in under_way]
        finally:
            # after an error none of them is begun
            for one in under_way:
                one.cancel()

    def _load_for(self, tenant_id: UUID, portion: Portion) -> Told:
        told = self.within(tenant_id, partial(self._load_other, portion=portion))
        self.others.add(tenant_id)
        return told

    def _finish(self) -> None:
        """Wait until this tenant has moved on with the group before, and tell of it."""
        if self._last is None:
            return
        (own, told, group), self._last = self._last, None
        for one in (*told, own.result()):
            self.add(one)
        self._seen |= {begun.batch.source.name for begun in group if _records([begun])}
        self.outcome.sources = len(self._seen)
        self.tell(*(begun.ready for begun in group))

    def _load_own(self, books: Books, portion: Portion) -> Told:
        far = books.how_far_in(one.batch.source.name for one in portion.shares)
        for one in portion.shares:
            found = far[one.batch.source.name]
            if found.begun_by != one.begun_by or found.position.records != one.batch.before.records:
                raise busy(self.pipeline.name, self.tenant_id)
            # a source may have two batches in one group
            far[one.batch.source.name] = HowFar(one.batch.after, one.begun_by)
        told = self.write(books, portion.ready, portion.rows)
        books.move_in(far)
        return told

    def _load_other(self, books: Books, portion: Portion) -> Told:
        if books.session.tenant_id not in self.others:
            books.begin()
        far = books.how_far_in(one.batch.source.name for one in portion.shares)
        left: list[Ready] = []
        rows: Sequence[Row] | None = portion.rows
        for one in portion.shares:
            name, batch = one.batch.source.name, one.batch
            there = far[name].position.records if far[name].begun_by == one.begun_by else 0
            if there < batch.after.records or not there:
                far[name] = HowFar(batch.after, one.begun_by)
            if there > batch.before.records:
                # an earlier run was killed after it had committed these, maybe in larger batches
                batch, rows = batch.part([at for at, number in enumerate(batch.numbers) if number > there]), None
            left.append(one.of(batch).ready)
        told = self.write(books, left, rows)
        books.move_in(far)
        return told

    def _load_whole(self, source: Source, ahead: Iterator[Portion | FeedError]) -> None:
        """Load all of a source in one transaction; an error in the source undoes it."""
        told: list[Told] = []
        done: list[Ready] = []
        try:
            with self.db.tenant(self.tenant_id) as session:
                books = Books(session, self.this)
                for portion in ahead:
                    if isinstance(portion, FeedError):
                        raise portion
                    if not told:
                        removed = Counts(removed=self.pipeline.load.begin(session))
                        books.count(removed)
                        told.append(Told(removed))
                    told.append(self.write(books, portion.ready, portion.rows))
                    (ready,) = portion.ready
                    books.move(source.name, ready.batch.after, self.this.id)
                    # without rows: they are in memory no longer than it takes to load them
                    done.append(ready._replace(batch=ready.batch.part(())))
        except FeedError as broken:
            self.outcome.failed.append(SourceFailed(source.name, broken))
        else:
            for one in told:
                self.add(one)
            self.tell(*done)


def _threads(name: str, count: int) -> ThreadPoolExecutor:
    return ThreadPoolExecutor(max_workers=count, thread_name_prefix=f"dataarch-{name}")


def _records(group: Group) -> int:
    return sum(one.batch.after.records - one.batch.before.records for one in group)
