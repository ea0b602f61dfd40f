"""Run a pipeline: read, check, change and load records, and account for every one of them.

Each batch is one transaction of a tenant: its rows, its rejects, where its rows came from, how far the source is read
and the run's numbers are committed together or not at all. A run that is killed at any moment is completed by the next
one, which goes on where the last commit was.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import FIRST_EXCEPTION, CancelledError, Executor, Future, ThreadPoolExecutor, wait
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from functools import cached_property, partial
from typing import Any, NamedTuple
from uuid import UUID

from dataarch.database.interrupts import Interrupts, interrupts_held
from dataarch.database.unit_of_work import Database
from dataarch.errors import FeedError
from dataarch.pipelines.books import Books, HowFar, busy
from dataarch.pipelines.division import Division, Group, Load, Portion, Share, records
from dataarch.pipelines.outcome import Counts, Outcome, Progress, SourceFailed
from dataarch.pipelines.pipeline import Pipeline
from dataarch.pipelines.reading import Ready, in_advance, ready_batches
from dataarch.pipelines.records import Batch, Position, Row, Source
from dataarch.pipelines.turns import Turn
from dataarch.pipelines.work import BATCH, Told, Work, written_rows

__all__ = ["Runner", "run"]

FIRST = 2_500
"""Records of several sources that are loaded together at first, at the most: nothing is loaded before they are read."""

GROW = 3
"""How many times as large the next such group may be: there is more to do by then than to read it."""

AT_ONCE = 3
"""Transactions of other tenants that a run has at the same time, each on a connection of its own."""

MANY = 1_000
"""Rows that the next ones should not wait for because both refer to the same."""

AHEAD = 1
"""Groups that are begun behind one that is not committed whole."""


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


class UnderWay(NamedTuple):
    """What is being loaded: the shares of others, and that of the run's own tenant, where it moves on with them."""

    group: Group
    others: Sequence[Future[Told]]
    own: Future[Told] | None


@dataclass
class Runner(Work):
    """One run; see :func:`run`."""

    _seen: set[str] = field(default_factory=set)
    _under_way: deque[UnderWay] = field(default_factory=deque)
    _since: list[Future[Told]] = field(default_factory=list)
    _turns: dict[UUID, Turn] = field(default_factory=dict)
    _broken: bool = False
    _interrupts: Interrupts = field(default_factory=Interrupts)

    @cached_property
    def _division(self) -> Division:
        return Division(self)

    def run(self, given: Any) -> Outcome:
        """Read all that is given."""
        sources = self.pipeline.extract.sources(given)
        with interrupts_held() as self._interrupts, self.under_way():
            if self.pipeline.load.whole:
                for source in sources:
                    self._read_whole(source)
            else:
                # its end waits for what is under way: nothing is written behind the back of an error
                with _threads("own", 1) as own, _threads("tenants", AT_ONCE) as tenants, self._ending():
                    with closing(in_advance(self._division.loads(self._groups(sources)))) as loads:
                        for load in loads:
                            self._interrupts.check()
                            self._load(load, own, tenants)
                    while self._under_way:
                        self._finish()
        return self.outcome

    @contextmanager
    def _ending(self) -> Iterator[None]:
        """Let nothing more be begun after an error, or Ctrl-C, which is then what the run ended with."""
        try:
            yield
        except BaseException:
            self._broken = True
            self._interrupts.check()
            raise

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
                if group and batch.read + records(group) > most:
                    yield group
                    group, most = [], min(self.batch, GROW * most)
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
            prepared = map(self._prepared, ready_batches(self.pipeline, source, Position(), self.batch))
            with closing(in_advance(prepared)) as ahead:
                self._load_whole(source, ahead)
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
        """Begin to load for other tenants, and for this one, which moves on once they have all of theirs.

        They are a few groups ahead of it at the most, and a run that was killed then finds what is theirs.
        """
        # those with most rows first
        by_rows = sorted(load.others.items(), key=lambda one: len(one[1].rows), reverse=True)
        others = [self._in_turn(tenants, tenant_id, portion) for tenant_id, portion in by_rows]
        self._since += others
        moved = None
        if load.own is not None:
            moved, self._since = own.submit(self._move_on, others, self._since, load.own), []
        self._under_way.append(UnderWay(load.group, others, moved))
        while self._is_enough():
            self._finish()

    def _is_enough(self) -> bool:
        """Return whether nothing more may be begun; the run's own tenant alone has one transaction at a time."""
        # where some wait for the next groups, a group is loaded in two
        most = 0 if self.pipeline.tenant_by is None else AHEAD + self.pipeline.together
        return len(self._under_way) > most

    def _finish(self) -> None:
        """Wait until what was begun first is committed, and tell of it."""
        group, others, own = self._under_way.popleft()
        committed = [] if own is None else [own.result()]
        for one in (*(one.result() for one in others), *committed):
            self.add(one)
        if own is not None:
            self._seen |= {one.batch.source.name for one in group if one.batch.read}
            self.outcome.sources = len(self._seen)
        self.tell([one.batch for one in group], moved=own is not None)

    def _in_turn(self, tenants: Executor, tenant_id: UUID, portion: Portion) -> Future[Told]:
        """Begin to load what another tenant has of a group, behind what it has of those before."""
        before = self._turns.get(tenant_id)
        turn = self._turns[tenant_id] = Turn(before)
        return tenants.submit(self._load_for, tenant_id, portion, turn, first=before is None)

    def _load_for(self, tenant_id: UUID, portion: Portion, turn: Turn, *, first: bool) -> Told:
        try:
            told = self._load_in_turn(tenant_id, portion, turn, first=first)
        except BaseException as error:
            self._broken = True
            turn.end(error)
            raise
        turn.end()
        self.others.add(tenant_id)
        return told

    def _load_in_turn(self, tenant_id: UUID, portion: Portion, turn: Turn, *, first: bool) -> Told:
        if self._broken or self._interrupts.asked:
            raise CancelledError
        begin = partial(turn.begin, eagerly=self.eager is not None)
        begin()
        referred: Mapping[str, int] = {}
        if (turn.waits or len(portion.rows) > MANY) and (loader := self.eager):
            refer = partial(self.refer, loader=loader, ready=portion.ready, rows=portion.rows)
            rows, written = self.within(tenant_id, refer)
            portion, referred = portion._replace(rows=rows), written_rows(written)
        work = partial(self._load_other, portion=portion, turn=turn, first=first)
        told = self.within(tenant_id, work, again=begin)
        return told._replace(written={**told.written, **referred})

    def _move_on(self, beside: Sequence[Future[Told]], others: Sequence[Future[Told]], portion: Portion) -> Told:
        """Load the run's own share, behind those beside it, and commit it once all others have theirs.

        Rows wait for these, too: with locks on a table, it would be the others who wait, and nobody would see it.
        """
        _all(beside)
        if portion.rows:
            _all(others)
            others = ()
        return self.within(self.tenant_id, partial(self._load_own, portion=portion, others=others))

    def _load_own(self, books: Books, portion: Portion, others: Sequence[Future[Told]]) -> Told:
        far = books.how_far_in(one.batch.source.name for one in portion.shares)
        for one in portion.shares:
            found = far[one.batch.source.name]
            if found.begun_by != one.begun_by or found.position.records != one.batch.before.records:
                raise busy(self.pipeline.name, self.tenant_id)
            # a source may have two batches in one group
            far[one.batch.source.name] = HowFar(one.batch.after, one.begun_by)
        told = self.write(books, portion.ready, portion.rows)
        books.move_in(far)
        if others:
            books.rest()
            _all(others)
        return told

    def _load_other(self, books: Books, portion: Portion, turn: Turn, *, first: bool) -> Told:
        books.write_elsewhere(self.tenant_id)
        if first:
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
        told = self.write(books, left, rows, turn=turn)
        books.move_in(far)
        return told

    def _load_whole(self, source: Source, ahead: Iterator[Portion | FeedError]) -> None:
        """Load all of a source in one transaction; an error in the source undoes it."""
        told: list[Told] = []
        done: list[Batch] = []
        try:
            with self.db.tenant(self.tenant_id) as session:
                books = Books(session, self.this)
                for portion in ahead:
                    if isinstance(portion, FeedError):
                        raise portion
                    self._interrupts.check()
                    if not told:
                        removed = Counts(removed=self.pipeline.load.begin(session))
                        books.count(removed)
                        told.append(Told(removed))
                    told.append(self.write(books, portion.ready, portion.rows))
                    (ready,) = portion.ready
                    books.move(source.name, ready.batch.after, self.this.id)
                    # without rows: they are in memory no longer than it takes to load them
                    done.append(ready.batch.part(()))
        except FeedError as broken:
            self.outcome.failed.append(SourceFailed(source.name, broken))
        else:
            for one in told:
                self.add(one)
            self.tell(done)


def _all(others: Sequence[Future[Told]]) -> None:
    """Wait until all others have committed; raises the first error."""
    wait(others, return_when=FIRST_EXCEPTION)
    for one in others:
        one.result()


def _threads(name: str, count: int) -> ThreadPoolExecutor:
    return ThreadPoolExecutor(max_workers=count, thread_name_prefix=f"dataarch-{name}")
