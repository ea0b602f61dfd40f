"""Load what a run has rejected, once its cause is mended: in the pipeline, in the database, or in what was missing."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import groupby
from uuid import UUID

from sqlalchemy import bindparam, select, text
from sqlalchemy.dialects.postgresql import ARRAY
from sqlalchemy.types import Uuid

from dataarch.clock import utcnow
from dataarch.database.unit_of_work import Database
from dataarch.errors import InvalidValue, UnknownRun
from dataarch.models import PipelineReject, PipelineRun, Tenant
from dataarch.pipelines.books import Books, busy
from dataarch.pipelines.outcome import Outcome, Progress
from dataarch.pipelines.pipeline import Pipeline
from dataarch.pipelines.reading import Ready
from dataarch.pipelines.records import Batch, Position, Reject, Row, Source, Stage, accounted, each
from dataarch.pipelines.work import BATCH, Told, Work

__all__ = ["replay"]


MARK = text(
    """
    UPDATE pipeline_rejects SET replayed_by = :run
    WHERE tenant_id = :tenant AND id = ANY(:ids) AND replayed_by IS NULL RETURNING id
    """
).bindparams(bindparam("ids", type_=ARRAY(Uuid())))


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

    Where the pipeline says of each record whose it is, only those of this tenant are loaded; the others are rejected
    again. A reject is replayed once: the transaction that loads it marks it. Safe to repeat, and after a kill.
    """
    return _Replay(db, pipeline, tenant_id, batch=batch, on_progress=on_progress, replay_of=run_id).rejects()


@dataclass
class _Replay(Work):
    """One replay."""

    def rejects(self) -> Outcome:
        """Take all rejects that wait through the pipeline."""
        self._known()
        with self.under_way():
            while waiting := self._waiting():
                for source, some in groupby(waiting, key=lambda one: one.source):
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

    def _again(self, source: str, rejects: Sequence[PipelineReject]) -> None:
        extracted = utcnow()
        batch = accounted(self._own(self.pipeline.through(self._extracted(source, rejects))))
        ready = Ready(batch, extracted, utcnow())

        def load(books: Books) -> Told:
            marked = books.session.execute(MARK, {**books.whose, "ids": [one.id for one in rejects]})
            if len(marked.all()) != len(rejects):
                raise busy(self.pipeline.name, self.tenant_id)
            return self.write(books, [ready])

        self.add(self.within(self.tenant_id, load))
        self.outcome.sources += 1
        self.tell(ready)

    def _own(self, batch: Batch) -> Batch:
        """Return a batch without what turns out to be another tenant's: a replay writes for one alone."""
        whose = self.pipeline.tenant_by
        if whose is None:
            return batch
        with self.db.tenant(self.tenant_id) as session:
            slug = session.get_one(Tenant, self.tenant_id).slug

        def own(row: Row) -> Row:
            if (name := whose(row).slug) != slug:
                raise InvalidValue(f"It belongs to the tenant {name}: load it from a source of its own.")
            return row

        return each(batch, Stage.LOAD, own)

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
