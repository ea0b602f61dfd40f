"""Load what a run has rejected, once its cause is mended: in the pipeline, in the database, or in what was missing."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, partial
from itertools import groupby
from uuid import UUID

import msgspec
from sqlalchemy import bindparam, select, text
from sqlalchemy.dialects.postgresql import ARRAY
from sqlalchemy.types import Uuid

from dataarch.clock import utcnow
from dataarch.database.unit_of_work import Database
from dataarch.errors import InvalidValue, UnknownRun
from dataarch.models import PipelineReject, PipelineRun
from dataarch.pipelines.books import Books, busy
from dataarch.pipelines.division import Division
from dataarch.pipelines.outcome import Outcome, Progress
from dataarch.pipelines.pipeline import Pipeline
from dataarch.pipelines.reading import Ready
from dataarch.pipelines.records import Batch, Position, Reject, Row, Source, Stage, accounted
from dataarch.pipelines.work import BATCH, Told, Work

__all__ = ["replay"]


MARK = text(
    """
    UPDATE pipeline_rejects SET replayed_by = :run
    WHERE tenant_id = :tenant AND id = ANY(:ids) AND replayed_by IS NULL RETURNING id
    """
).bindparams(bindparam("ids", type_=ARRAY(Uuid())))

DECIDE = text(
    """
    UPDATE pipeline_rejects SET handed_to = :other
    WHERE tenant_id = :tenant AND id = ANY(:ids) AND replayed_by IS NULL
    """
).bindparams(bindparam("ids", type_=ARRAY(Uuid())))

HANDED_OVER = "It was rejected for another tenant, before it was known that it is of this one."
HANDED = ("id", "source", "number", "stage", "form", "record")
HAND_OVER = text(
    """
    INSERT INTO pipeline_rejects (tenant_id, run_id, replayed_by, id, source, number, stage, reason, form, record)
    SELECT :tenant, :run, :run, id, source, number, stage, :reason, form, record
    FROM json_to_recordset(CAST(:rows AS json)) AS given (id uuid, source text, number bigint, stage text, form text,
                                                          record text)
    ON CONFLICT (tenant_id, id) DO NOTHING RETURNING id
    """
).columns(id=Uuid())


def replay(
    db: Database,
    pipeline: Pipeline,
    run_id: UUID,
    *,
    tenant_id: UUID,
    batch: int = BATCH,
    on_progress: Callable[[Progress], None] | None = None,
) -> Outcome:
    """Take the rejects of a run through a pipeline again, as they were extracted, and load what passes now.

    Args:
        db: the database, as the application role.
        pipeline: the one that rejected them, mended.
        run_id: the run, or an earlier replay.
        tenant_id: whose rejects.
        batch: rejects of a transaction at the most.
        on_progress: called after each commit.

    Returns:
        What became of each; what is rejected again is a reject of this run, with its new reason.

    Raises:
        UnknownRun: the tenant has no such run of this pipeline.
        PipelineBusy: the pipeline is running for this tenant already.

    Where the pipeline says of each record whose it is, each is loaded for the tenant that it turns out to be of, which
    has a run with the same id then. What a run has rejected for its other tenants waits with these, and is replayed for
    each of them: the application sees one tenant at a time. A reject is replayed once: the transaction that loads it
    marks it. Safe to repeat, and after a kill: what a replay had loaded for another tenant by then stays there, whoever
    it would be of now.
    """
    return _Replay(db, pipeline, tenant_id, batch=batch, on_progress=on_progress, replay_of=run_id).rejects()


@dataclass
class _Replay(Work):
    """One replay."""

    @cached_property
    def _division(self) -> Division:
        return Division(self)

    def rejects(self) -> Outcome:
        """Take all rejects that wait through the pipeline."""
        self._known()
        with self.under_way():
            while waiting := self._waiting():
                for source, some in groupby(self._left(waiting), key=lambda one: one.source):
                    self._again(source, list(some))
        return self.outcome

    def _known(self) -> None:
        with self.db.tenant(self.tenant_id) as session:
            run = session.get(PipelineRun, (self.tenant_id, self.replay_of))
        if run is None or run.pipeline != self.pipeline.name:
            raise UnknownRun(
                f"This tenant has no run {self.replay_of} of the pipeline {self.pipeline.name}.",
                hint="List its runs: dataarch pipeline runs.",
                value=self.replay_of,
                tenant_id=self.tenant_id,
            )

    def _waiting(self) -> Sequence[PipelineReject]:
        wanted = select(PipelineReject).where(
            PipelineReject.run_id == self.replay_of, PipelineReject.replayed_by.is_(None)
        )
        with self.db.tenant(self.tenant_id) as session:
            return session.scalars(
                wanted.order_by(PipelineReject.source, PipelineReject.number).limit(self.batch)
            ).all()

    def _left(self, waiting: Sequence[PipelineReject]) -> Sequence[PipelineReject]:
        """Return rejects but for those that a replay which was killed behind it has loaded for another tenant."""
        done: set[UUID] = set()
        for other in {one.handed_to for one in waiting if one.handed_to is not None}:
            ids = [one.id for one in waiting if one.handed_to == other]
            if there := self.within(other, partial(self._there, ids=ids)):
                self.others.add(other)
                done |= there
        if done:
            self.within(self.tenant_id, partial(self._mark, ids=list(done)))
        return [one for one in waiting if one.id not in done]

    def _there(self, books: Books, ids: Sequence[UUID]) -> set[UUID]:
        """Return those of some rejects that the tenant has."""
        there = set(books.session.scalars(select(PipelineReject.id).where(PipelineReject.id.in_(ids))))
        if there and books.session.tenant_id not in self.others:
            books.begin()
        return there

    def _mark(self, books: Books, ids: Sequence[UUID]) -> None:
        marked = books.session.execute(MARK, {**books.whose, "ids": ids})
        if len(marked.all()) != len(ids):
            raise busy(self.pipeline.name, self.tenant_id)

    def _decide(self, books: Books, others: Mapping[UUID, Sequence[PipelineReject]]) -> None:
        """Write down where rejects go before they are there: a tenant cannot see what others have."""
        for other, taken in others.items():
            books.session.execute(DECIDE, {**books.whose, "other": other, "ids": [one.id for one in taken]})

    def _again(self, source: str, rejects: Sequence[PipelineReject]) -> None:
        extracted = utcnow()
        batch, others = self._division.shares(accounted(self.pipeline.through(self._extracted(source, rejects))))
        ready = Ready(batch, extracted, utcnow())
        by_number = {one.number: one for one in rejects}
        taken = {other: [by_number[number] for number in theirs.numbers] for other, theirs in others.items()}
        if taken:
            self.within(self.tenant_id, partial(self._decide, others=taken))
        for other, theirs in others.items():
            work = partial(self._hand_over, ready=ready._replace(batch=theirs), taken=taken[other])
            self.add(self.within(other, work))
            self.others.add(other)

        def load(books: Books) -> Told:
            self._mark(books, [one.id for one in rejects])
            return self.write(books, [ready])

        self.add(self.within(self.tenant_id, load))
        self.outcome.sources += 1
        self.tell([batch])

    def _hand_over(self, books: Books, ready: Ready, taken: Sequence[PipelineReject]) -> Told:
        """Load rejects for the tenant that they are of, but for those that a replay did which was killed behind it.

        The tenant keeps them under their own ids, as replayed: that is what tells.
        """
        books.write_elsewhere(self.tenant_id)
        if books.session.tenant_id not in self.others:
            books.begin()
        rows = [{name: getattr(one, name) for name in HANDED} for one in taken]
        given = {"reason": HANDED_OVER, "rows": msgspec.json.encode(rows).decode()}
        new = set(books.session.scalars(HAND_OVER, {**books.whose, **given}))
        batch = ready.batch.part([at for at, one in enumerate(taken) if one.id in new])
        return self.write(books, [ready._replace(batch=batch)])

    def _extracted(self, source: str, rejects: Sequence[PipelineReject]) -> Batch:
        """Return rejects as the extractor would give them now."""
        first = min(one.number for one in rejects)
        before = Position(first - 1)
        rows: list[Row] = []
        numbers: list[int] = []
        still: list[Reject] = []
        for one in rejects:
            try:
                rows.append(self._record(one))
                numbers.append(one.number)
            except InvalidValue as error:
                text_of, field = json.loads(one.record), error.column or ""
                still.append(Reject(one.number, Stage.EXTRACT, error.message, text_of, field, hint=error.hint))
        after = Position(before.records + len(rejects))
        return Batch(Source(source, None), before, after, rows, numbers, rows, still)

    def _record(self, reject: PipelineReject) -> Row:
        record = json.loads(reject.record)
        return self.pipeline.extract.parse(record) if reject.form == "text" else dict(record)
