"""What a run and a replay have in common: transactions of tenants, in which rows and books are written together."""

from __future__ import annotations

import time
from bisect import bisect_right
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, nullcontext, suppress
from dataclasses import dataclass, field
from datetime import datetime
from itertools import accumulate
from typing import NamedTuple, TypeVar
from uuid import UUID

from dataarch.clock import utcnow
from dataarch.database.unit_of_work import Database
from dataarch.errors import DataArchError, InvalidValue, PipelineBusy, Retryable
from dataarch.models.base import new_id
from dataarch.pipelines.books import Books, Run, guarded
from dataarch.pipelines.observer import Begun, Observer
from dataarch.pipelines.openlineage import openlineage_of
from dataarch.pipelines.outcome import Counts, Outcome, Progress
from dataarch.pipelines.pipeline import EagerLoader, Loaded, Pipeline, Referred, Written
from dataarch.pipelines.reading import Ready
from dataarch.pipelines.records import Batch, Reject, Row, Stage, rejected
from dataarch.pipelines.turns import Turn

__all__ = ["BATCH", "Told", "Work", "written_rows"]

BATCH = 50_000
"""Records of a transaction at the most: for fewer, the server would rather read a large table than look each up."""

TRIES = 5
PAUSE = 0.05
"""Seconds before a transaction that met others is tried again; twice as long each time."""


class Told(NamedTuple):
    """What became of the records of one transaction, and how many rows it has written, by the names of tables."""

    counts: Counts
    rejects: Sequence[Reject] = ()
    written: Mapping[str, int] = {}


Answer = TypeVar("Answer")


@dataclass
class Work:
    """One run of a pipeline.

    Attributes:
        db: the database, as the application role.
        pipeline: what to do.
        tenant_id: the tenant that the run is for.
        batch: records of a transaction at the most.
        on_progress: called after each commit.
        scheduled_for: the time at which it was due, if a schedule says so.
        replay_of: the run whose rejects are taken again, if it is a replay.
        observer: is told of the run; without one, who the settings say.
    """

    db: Database
    pipeline: Pipeline
    tenant_id: UUID
    batch: int = BATCH
    on_progress: Callable[[Progress], None] | None = None
    scheduled_for: datetime | None = None
    replay_of: UUID | None = None
    observer: Observer | None = field(default=None, kw_only=True)

    def __post_init__(self) -> None:
        if self.batch < 1:
            raise InvalidValue(f"A batch of {self.batch} records is none.", value=self.batch)
        self.this = Run(new_id(), self.pipeline.name, self.pipeline.version, self.replay_of, self.scheduled_for)
        self.outcome = Outcome(self.this.id)
        self.others: set[UUID] = set()
        self.observer = self.observer or openlineage_of(self.db.settings)

    @contextmanager
    def under_way(self) -> Iterator[None]:
        """Let nobody else run the pipeline for this tenant, and write down that the run has begun, and how it ended.

        Raises:
            PipelineBusy: somebody does.
        """
        started = time.perf_counter()
        with ExitStack() as observed, guarded(self.db, self.tenant_id, self.pipeline.name):
            self._begun(self.within(self.tenant_id, _first), observed)
            try:
                yield
            except BaseException as error:
                self._end(str(error) or type(error).__name__)
                raise
            self._end(self.outcome.failure)
        self.outcome.seconds = time.perf_counter() - started

    def within(
        self, tenant_id: UUID, work: Callable[[Books], Answer], *, again: Callable[[], None] = lambda: None
    ) -> Answer:
        """Do something in a transaction of a tenant, once more where it met others, after ``again``."""
        for attempt in range(TRIES - 1):
            try:
                return self._once(tenant_id, work)
            except PipelineBusy:
                raise
            except Retryable:
                time.sleep(PAUSE * 2**attempt)
                again()
        return self._once(tenant_id, work)

    def prepared(self, ready: Sequence[Ready], tenant_id: UUID) -> Sequence[Row]:
        """Return the rows of batches as they are loaded together for a tenant; may be done by any thread."""
        rows = rows_of(ready)
        return self.pipeline.load.prepare(rows, tenant_id) if rows else rows

    @property
    def eager(self) -> EagerLoader | None:
        """The loader, if it can begin with rows while those before them are not committed."""
        return self.pipeline.load if isinstance(self.pipeline.load, EagerLoader) else None

    def refer(self, books: Books, loader: EagerLoader, ready: Sequence[Ready], rows: Sequence[Row]) -> Referred:
        """Write what another tenant's rows of batches refer to, with its lineage, in a transaction before theirs."""
        books.write_elsewhere(self.tenant_id)
        referred = loader.refer(books.session, rows)
        books.be_there()
        books.lineage(_by_batch(ready, referred.written), ahead=True)
        return referred

    def write(
        self, books: Books, ready: Sequence[Ready], rows: Sequence[Row] | None = None, *, turn: Turn | None = None
    ) -> Told:
        """Write the rows of batches of one source or several, and down what became of each record.

        Args:
            books: the transaction.
            ready: the batches.
            rows: their rows, where they are prepared.
            turn: its place behind other transactions of the tenant.
        """
        rows = rows_of(ready) if rows is None else rows
        loaded = self._loaded(books, rows, turn)
        counts, rejects = _told([one.batch for one in ready], loaded)
        books.count(counts)
        books.lineage(_by_batch(ready, loaded.written if loaded is not None else ()))
        books.reject(
            (one.batch.source.name, reject) for one, refused in zip(ready, rejects, strict=True) for reject in refused
        )
        return Told(
            counts, [reject for some in rejects for reject in some], written_rows(loaded.written if loaded else ())
        )

    def add(self, told: Told) -> None:
        """Count what was committed."""
        self.outcome.add(*told)

    def tell(self, batches: Sequence[Batch], *, moved: bool = True) -> None:
        """Say how far the run is, now that batches are committed; or what others have of them, if not yet ``moved``."""
        if moved:
            for one in batches:
                self.outcome.moved(one.source, one.before, one.after)
        if self.on_progress is not None:
            first, last = batches[0], batches[-1]
            self.on_progress(Progress(last.source.name, last.after.bytes, self.outcome.counts, first.source.name))

    def _loaded(self, books: Books, rows: Sequence[Row], turn: Turn | None) -> Loaded | None:
        if turn is None:
            return self.pipeline.load.load(books.session, rows) if rows else None
        if not rows or self.eager is None:
            turn.take()
            return self._loaded(books, rows, None)
        if turn.waits:
            # for those before, which may take longer than an idle transaction may last
            books.rest()
        finish = self.eager.start(books.session, rows)
        turn.take()
        return finish()

    def _once(self, tenant_id: UUID, work: Callable[[Books], Answer]) -> Answer:
        with self.db.tenant(tenant_id) as session:
            return work(Books(session, self.this))

    def _begun(self, killed: Sequence[UUID], observed: ExitStack) -> None:
        """Tell the observer, and let it be told how the run ends, once the lock and its transaction are gone."""
        if (observer := self.observer) is None:
            return
        database = self.db.settings.application
        begun = Begun(self.this, self.pipeline, self.tenant_id, database, utcnow(), tuple(killed))
        observer.begun(begun)
        observed.push(lambda _kind, error, _trace: observer.ended(begun, self.outcome, error))

    def _end(self, error: str | None) -> None:
        for tenant_id in (*self.others, self.tenant_id):
            # an error that is on its way is worth more than one of writing it down
            with suppress(DataArchError) if error else nullcontext():
                self.within(tenant_id, lambda books: books.end(error))


def _first(books: Books) -> list[UUID]:
    """Begin a run, once nothing of an earlier one is on its way; return those that were killed."""
    books.wait_for_elsewhere()
    return books.begin()


def rows_of(ready: Sequence[Ready]) -> Sequence[Row]:
    """Return the rows of batches, one batch after the other."""
    return ready[0].batch.rows if len(ready) == 1 else [row for one in ready for row in one.batch.rows]


def _by_batch(ready: Sequence[Ready], rows: Sequence[Written]) -> Iterator[tuple[Ready, Written]]:
    """Give what was written of each batch, whose rows were loaded one batch after the other."""
    ends = list(accumulate(len(one.batch.rows) for one in ready))
    parts = [[written._replace(ids=ids) for ids in written.ids.parts(ends)] for written in rows]
    for at, one in enumerate(ready):
        for written in parts:
            yield one, written[at]


def written_rows(written: Sequence[Written]) -> Mapping[str, int]:
    """Return how many rows were written, by the names of their tables."""
    return {one.table: len(one.ids) for one in written if len(one.ids)}


def _told(batches: Sequence[Batch], loaded: Loaded | None) -> tuple[Counts, list[list[Reject]]]:
    """Return what became of the records of batches, and the rejects of each."""
    rejects = [list(batch.rejects) for batch in batches]
    if loaded is None:
        count = sum(map(len, rejects))
        return Counts(read=count, rejected=count), rejects
    result = loaded.result
    begins = [0, *accumulate(len(batch.rows) for batch in batches)]
    for one in result.refused:
        which = bisect_right(begins, one.position) - 1
        place = one.position - begins[which]
        rejects[which].append(rejected(batches[which], place, Stage.LOAD, one.error))
    return (
        Counts(
            read=sum(len(batch.rows) + len(batch.rejects) for batch in batches),
            loaded=result.inserted,
            updated=result.updated,
            unchanged=result.unchanged + result.duplicate,
            rejected=sum(map(len, rejects)),
            removed=loaded.removed,
        ),
        rejects,
    )
