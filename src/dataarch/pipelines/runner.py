"""Run a pipeline: read, check, change and load records, and account for every one of them.

Each batch is one transaction of a tenant: its rows, its rejects, where its rows came from, how far the source is read
and the run's numbers are committed together or not at all. A run that is killed at any moment is completed by the next
one, which goes on where the last commit was.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any
from uuid import UUID

from dataarch.database.unit_of_work import Database
from dataarch.errors import FeedError, InvalidValue
from dataarch.pipelines.books import Books, busy
from dataarch.pipelines.outcome import Counts, Outcome, Progress, SourceFailed
from dataarch.pipelines.pipeline import Pipeline, TenantName
from dataarch.pipelines.reading import Ready, read_ahead
from dataarch.pipelines.records import Position, Row, Source, Stage, rejected
from dataarch.pipelines.tenants import tenant_of
from dataarch.pipelines.work import BATCH, Told, Work

__all__ = ["Runner", "run"]


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

    _tenants: dict[str, UUID] = field(default_factory=dict)

    def run(self, given: Any) -> Outcome:
        """Read all that is given."""
        sources = self.pipeline.extract.sources(given)
        with self.under_way():
            for source in sources:
                self._read(source)
        return self.outcome

    # ── one source ────────────────────────────────────────────────────────────────────────────────────────────────

    def _read(self, source: Source) -> None:
        found = self.within(self.tenant_id, lambda books: books.how_far(source.name))
        position = self.pipeline.extract.resume(source, found.position)
        begun_by = found.begun_by
        before = self.outcome.counts
        if begun_by is None or position.records < found.position.records:
            position, begun_by = Position(), self.this.id
        if self.pipeline.load.whole:
            if begun_by == self.this.id or self._has_more(source, position):
                self._load_whole(source, read_ahead(self.pipeline, source, Position(), self.batch))
        else:
            if begun_by == self.this.id:
                # before other tenants write down how far they are
                self.within(self.tenant_id, lambda books: books.move(source.name, position, begun_by))
            for ready in self._good(source, read_ahead(self.pipeline, source, position, self.batch)):
                self._load(ready, begun_by)
        self.outcome.sources += self.outcome.counts != before

    def _has_more(self, source: Source, position: Position) -> bool:
        first = next(self.pipeline.extract.read(source, position, 1), None)
        return first is not None and first.after.records > position.records

    def _good(self, source: Source, ahead: Iterator[Ready | FeedError]) -> Iterator[Ready]:
        for ready in ahead:
            if isinstance(ready, FeedError):
                self.outcome.failed.append(SourceFailed(source.name, ready))
            elif ready.batch.after != ready.batch.before:
                yield ready

    # ── one batch ─────────────────────────────────────────────────────────────────────────────────────────────────

    def _load(self, ready: Ready, begun_by: UUID) -> None:
        """Load a batch: first for other tenants, then for this one, which moves on with it."""
        mine = ready
        if (whose := self.pipeline.tenant_by) is not None:
            mine, others = self._by_tenant(ready, whose)
            for tenant_id, theirs in others.items():
                self.add(self.within(tenant_id, partial(self._load_other, ready=theirs, begun_by=begun_by)))
                self.others.add(tenant_id)
        self.add(self.within(self.tenant_id, lambda books: self._load_own(books, mine, begun_by)))
        self.tell(ready.batch)

    def _load_own(self, books: Books, ready: Ready, begun_by: UUID) -> Told:
        batch = ready.batch
        found = books.how_far(batch.source.name)
        if found.begun_by != begun_by or found.position.records != batch.before.records:
            raise busy(self.pipeline.name, self.tenant_id)
        told = self.write(books, ready)
        books.move(batch.source.name, batch.after, begun_by)
        return told

    def _load_other(self, books: Books, ready: Ready, begun_by: UUID) -> Told:
        batch = ready.batch
        if books.session.tenant_id not in self.others:
            books.begin()
        found = books.how_far(batch.source.name)
        if found.begun_by == begun_by and found.position.records > batch.before.records:
            # an earlier run was killed after it had committed these
            left = [at for at, number in enumerate(batch.numbers) if number > found.position.records]
            ready = ready._replace(batch=batch.part(left))
        told = self.write(books, ready)
        books.move(batch.source.name, batch.after, begun_by)
        return told

    def _load_whole(self, source: Source, ahead: Iterator[Ready | FeedError]) -> None:
        """Load all of a source in one transaction; an error in the source undoes it."""
        told: list[Told] = []
        try:
            with self.db.tenant(self.tenant_id) as session:
                books = Books(session, self.this)
                for ready in ahead:
                    if isinstance(ready, FeedError):
                        raise ready
                    if not told:
                        removed = Counts(removed=self.pipeline.load.begin(session))
                        books.count(removed)
                        told.append((removed, ()))
                    told.append(self.write(books, ready))
                    books.move(source.name, ready.batch.after, self.this.id)
        except FeedError as broken:
            self.outcome.failed.append(SourceFailed(source.name, broken))
        else:
            for one in told:
                self.add(one)

    # ── many tenants ──────────────────────────────────────────────────────────────────────────────────────────────

    def _by_tenant(self, ready: Ready, whose: Callable[[Row], TenantName]) -> tuple[Ready, dict[UUID, Ready]]:
        """Divide a batch: what has no tenant stays with this one, and so does what was rejected before."""
        batch = ready.batch
        # by their ids: names that differ in more than their slugs are one tenant
        places: dict[UUID, list[int]] = {}
        rejects = list(batch.rejects)
        for at, row in enumerate(batch.rows):
            try:
                places.setdefault(self._tenant(whose(row)), []).append(at)
            except InvalidValue as error:
                rejects.append(rejected(batch, at, Stage.LOAD, error))
        shares = {tenant_id: batch.part(some) for tenant_id, some in places.items()}
        own = shares.pop(self.tenant_id, batch.part(()))
        others = {tenant_id: ready._replace(batch=share) for tenant_id, share in shares.items()}
        return ready._replace(batch=replace(own, rejects=rejects)), others

    def _tenant(self, name: TenantName) -> UUID:
        if name.slug not in self._tenants:
            self._tenants[name.slug] = tenant_of(self.db, *name)
        return self._tenants[name.slug]
