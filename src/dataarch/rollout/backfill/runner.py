"""Run a backfill: plan its ranges, let workers share them, watch the server meanwhile, and say how far it is.

Several runs of the same backfill, here or on other machines, share its ranges. A verification, and a run from the
beginning, are alone: they and runs refuse each other with :class:`~dataarch.errors.BackfillBusy`.
"""

from __future__ import annotations

import time
from dataclasses import dataclass, field, replace
from queue import Empty, SimpleQueue
from threading import Thread

from sqlalchemy import Connection, Engine
from sqlalchemy.exc import DBAPIError

from dataarch.database.interrupts import Interrupts, interrupts_held
from dataarch.errors import DataArchError, LockTimeout, ServerUnreachable
from dataarch.partitions.quoting import literal
from dataarch.rollout.backfill.alone import alone
from dataarch.rollout.backfill.batch import Batch, BatchWork
from dataarch.rollout.backfill.books import SCHEMA, Record, Totals, record_of, totals_of
from dataarch.rollout.backfill.pace import Pace
from dataarch.rollout.backfill.progress import OnProgress, Outcome, Progress
from dataarch.rollout.backfill.ranges import plan
from dataarch.rollout.backfill.registration import check
from dataarch.rollout.backfill.session import ask, named, patient_session, send, session
from dataarch.rollout.backfill.shape import shape_of
from dataarch.rollout.backfill.statements import Statements
from dataarch.rollout.backfill.watch import Limits, pressure_of, why_wait
from dataarch.rollout.backfill.worker import Ended, Job, Told, Waits, Worker
from dataarch.rollout.dual_write import in_force

__all__ = ["Options", "run"]

WATCHED_EVERY = 1.0
"""Seconds between two looks at the server."""


@dataclass(frozen=True, slots=True)
class Options:
    """How a backfill is run.

    Attributes:
        workers: connections that work at the same time, besides the one that watches.
        pace: what batches aim at.
        limits: what it waits for.
        again: from the beginning, for rows that have come to differ; what is done already is read, not written.
    """

    workers: int = 1
    pace: Pace = field(default_factory=Pace)
    limits: Limits = field(default_factory=Limits)
    again: bool = False


def run(engine: Engine, name: str, options: Options | None = None, *, on_progress: OnProgress | None = None) -> Outcome:
    """Run a backfill to its end, or on from where it stopped.

    Args:
        engine: connects as the owner of the table, as :func:`dataarch.database.engine.owner_engine` does.
        name: the backfill's, as a revision has registered it.
        options: workers, pace and limits.
        on_progress: called after each batch, and while it waits.

    Returns:
        What this run has done. Rows that could not be filled are counted there and kept in the books; the next run
        tries them again.

    Raises:
        InvalidChange: no such backfill, or its table is not as it was.
        BackfillBusy: it is verified at this moment, or run from the beginning.
        BackfillChanged: it was forgotten or registered anew meanwhile.
        PrivilegeMissing: a policy of row-level security would hide rows.
        DiskFull, LockTimeout, ServerUnreachable: as they say; run it again.

    Guarantee: each batch and the note of how far it came are one transaction, so that a run may be killed at any
    moment: the next goes on there, and no row that is done is written again.
    """
    with session(engine, name) as connection:
        record = record_of(connection, name)
        statements = Statements(record.definition, shape_of(connection, record.definition, record.schema_name))
        # a script has registered it unseen, and the table may have been changed since
        check(connection, record.definition, statements.shape)
        connection.commit()
        return _Run(engine, record, statements, options or Options(), on_progress).do(connection)


class _Run:
    def __init__(
        self, engine: Engine, record: Record, statements: Statements, options: Options, on_progress: OnProgress | None
    ) -> None:
        self._engine = engine
        self._name = record.name
        self._record = record
        self._statements = statements
        self._options = options
        self._on_progress = on_progress or (lambda _progress: None)
        self._events: SimpleQueue[Told] = SimpleQueue()
        self._began = time.monotonic()
        self._done = Outcome(record.name)
        self._before = Totals(0, 0, 0, 0, 0)
        self._job = Job(engine, record, statements, options.pace, options.limits, self._events.put)
        self._waits: str | None = None

    def do(self, connection: Connection) -> Outcome:
        """Run to the end."""
        if self._options.again:
            with alone(connection, self._name):
                self._forget_ranges(connection)
        with alone(connection, self._name, shared=True):
            if not self._begun(connection):
                return self._done
            while True:
                self._before = totals_of(connection, self._name)
                connection.commit()
                self._work(connection)
                # the server may have been started anew meanwhile
                with patient_session(self._engine, self._name, self._options.limits.patience) as last:
                    if self._finished(last):
                        return self._done

    # ── the books ─────────────────────────────────────────────────────────────────────────────────────────────────

    def _forget_ranges(self, connection: Connection) -> None:
        for table in ("backfill_ranges", "backfill_failures", "backfill_chunks"):
            send(connection, f"DELETE FROM {SCHEMA}.{table} WHERE name = {literal(self._name)}")
        unfinished = f"UPDATE {SCHEMA}.backfills SET verified_at = NULL, finished_at = NULL"
        send(connection, f"{unfinished} WHERE name = {literal(self._name)}")
        connection.commit()

    def _begun(self, connection: Connection) -> bool:
        """Plan, and note that it is begun: what was verified holds no longer; False where nothing is left to do."""
        added = plan(connection, self._record, self._statements)
        finished = self._record.finished_at is not None and not self._options.again
        if finished and not added and not self._record.failures:
            return False
        estimated = sum(leaf.estimate for leaf in self._statements.shape.leaves)
        kept_in_step = in_force(connection, self._name)
        send(
            connection,
            f"UPDATE {SCHEMA}.backfills SET runs = runs + 1, started_at = coalesce(started_at, now()),"
            f" finished_at = NULL, verified_at = NULL, verified_rows = NULL, verified_digest = NULL, checksum = NULL,"
            f" differing = NULL, differences = NULL, estimated_rows = {estimated},"
            f" dual_write = dual_write OR {kept_in_step} WHERE name = {literal(self._name)}",
        )
        connection.commit()
        self._retry_failures(connection)
        return True

    def _retry_failures(self, connection: Connection) -> None:
        failures = ask(
            connection,
            f"SELECT leaf_schema, leaf_name, key, to_regclass(format('%I.%I', leaf_schema, leaf_name)) IS NULL AS gone"
            f" FROM {SCHEMA}.backfill_failures WHERE name = {literal(self._name)} ORDER BY leaf_schema, leaf_name, key",
        )
        connection.commit()
        work = BatchWork(connection, self._statements)
        for one in failures:
            try:
                work.again((one.leaf_schema, one.leaf_name), tuple(one.key), gone=one.gone)
                connection.commit()
            except LockTimeout:
                # it stays in the books, and is tried by the next run
                connection.rollback()

    def _finished(self, connection: Connection) -> bool:
        """Note that it is finished, if no range and no new partition is left."""
        shape = shape_of(connection, self._record.definition, self._record.schema_name)
        self._statements = replace(self._statements, shape=shape)
        self._job = replace(self._job, statements=self._statements)
        if plan(connection, self._record, self._statements):
            return False
        send(
            connection,
            f"UPDATE {SCHEMA}.backfills AS b SET finished_at = now() WHERE name = {literal(self._name)}"
            f" AND finished_at IS NULL AND NOT EXISTS (SELECT FROM {SCHEMA}.backfill_ranges AS r"
            f" WHERE r.name = b.name AND done_at IS NULL)",
        )
        connection.commit()
        record = record_of(connection, self._name)
        connection.commit()
        self._done = replace(self._done, failed=record.failures, seconds=time.monotonic() - self._began)
        return record.finished_at is not None

    # ── the work ──────────────────────────────────────────────────────────────────────────────────────────────────

    def _work(self, watching: Connection) -> None:
        """Let workers work until all have ended; raise the first error of one, when none works any more."""
        self._look(watching)
        threads = [
            Thread(target=Worker(self._job).run, name=f"backfill {self._name} {number}", daemon=True)
            for number in range(self._options.workers)
        ]
        with interrupts_held() as interrupts:
            for thread in threads:
                thread.start()
            try:
                if error := self._listen(watching, len(threads), interrupts):
                    raise error
            finally:
                self._job.stop.set()
                for thread in threads:
                    thread.join()
        self._job.stop.clear()

    def _listen(self, watching: Connection, running: int, interrupts: Interrupts) -> BaseException | None:
        first: BaseException | None = None
        next_look = time.monotonic() + WATCHED_EVERY
        while running:
            try:
                told = self._events.get(timeout=0.1)
            except Empty:
                told = None
            if isinstance(told, Ended):
                running -= 1
                if told.error is not None:
                    first = first or told.error
                    self._job.stop.set()
            elif told is not None:
                self._hear(told)
            if time.monotonic() >= next_look:
                self._look(watching)
                next_look = time.monotonic() + WATCHED_EVERY
            interrupts.check()
        return first

    def _hear(self, told: Batch | Waits) -> None:
        if isinstance(told, Waits):
            self._waits = told.reason
            self._on_progress(self._progress(0))
            return
        self._waits = self._job.hold
        self._done = replace(
            self._done,
            seen=self._done.seen + told.rows,
            changed=self._done.changed + told.changed,
            failed=self._done.failed + told.failed,
            batches=self._done.batches + (told.rows > 0),
            largest=max(self._done.largest, told.rows),
        )
        self._on_progress(self._progress(told.rows))

    def _progress(self, last: int) -> Progress:
        seconds = time.monotonic() - self._began
        estimated = sum(leaf.estimate for leaf in self._statements.shape.leaves)
        seen = self._before.seen + self._done.seen
        return Progress(
            self._name,
            seen,
            self._before.changed + self._done.changed,
            self._done.failed,
            self._before.batches + self._done.batches,
            max(estimated, seen),
            self._done.seen / seconds if seconds else 0.0,
            self._waits,
            last,
        )

    def _look(self, watching: Connection) -> None:
        """Ask the server how it is, and have the workers wait where it asks for that."""
        try:
            self._job.hold = why_wait(pressure_of(watching), self._options.limits)
        except (DBAPIError, DataArchError) as wrong:
            if not isinstance(named(wrong), ServerUnreachable):
                raise
            # the workers find out by themselves whether it comes back
            self._job.hold = None
            watching.rollback()
