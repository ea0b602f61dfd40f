"""A worker: takes the next batch of some range, again and again, on a connection of its own."""

from __future__ import annotations

import random
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from threading import Event

from sqlalchemy import Connection, Engine

from dataarch.errors import DataArchError, Deadlock, LockTimeout, SerializationFailure, ServerUnreachable
from dataarch.rollout.backfill.batch import CAREFUL, Batch, BatchWork, is_of_a_row, said
from dataarch.rollout.backfill.books import Record
from dataarch.rollout.backfill.pace import Pace, next_size
from dataarch.rollout.backfill.ranges import Claim, Unclaimed, claim
from dataarch.rollout.backfill.session import FAILURES, Failure, named, session, sqlstate_of, undo
from dataarch.rollout.backfill.statements import Statements
from dataarch.rollout.backfill.watch import Limits

__all__ = ["Ended", "Job", "Told", "Waits", "Worker"]

PASSING = (LockTimeout, Deadlock, SerializationFailure)
"""Errors after which the same batch is tried again; all that it had done is undone."""

GONE = "42P01"


@dataclass(frozen=True, slots=True)
class Waits:
    """A worker does nothing at this moment, and why."""

    reason: str


@dataclass(frozen=True, slots=True)
class Ended:
    """A worker has ended: because nothing is left, because it was told to, or by an error."""

    error: BaseException | None = None


Told = Batch | Waits | Ended


@dataclass
class Job:
    """What all workers of a run share; ``hold`` is why they should wait, set by whoever watches the server."""

    engine: Engine
    record: Record
    statements: Statements
    pace: Pace
    limits: Limits
    tell: Callable[[Told], None]
    stop: Event = field(default_factory=Event)
    hold: str | None = None


class Worker:
    """Works until nothing is left that it could take; :meth:`run` is what its thread does."""

    def __init__(self, job: Job) -> None:
        self._job = job
        self._size = job.pace.first
        self._mine: Claim | None = None
        self._careful = False
        self._troubled_since: float | None = None

    def run(self) -> None:
        """Work, and tell at the end that it is the end; raises nothing."""
        error: BaseException | None = None
        try:
            while not self._job.stop.is_set() and not self._connected():
                pass
        except BaseException as wrong:  # noqa: BLE001  # a thread has nobody else to tell
            error = wrong
        self._job.tell(Ended(error))

    def _connected(self) -> bool:
        """Work on a connection until all is done; return False where it broke and another one is worth a try."""
        try:
            with session(self._job.engine, self._job.record.name, for_batches=True) as connection:
                self._work(connection)
        except FAILURES as wrong:
            error = named(wrong)
            if not isinstance(error, ServerUnreachable):
                raise error from wrong.__cause__
            self._endure(error, 0.2)
            return False
        return True

    def _work(self, connection: Connection) -> None:
        while not self._job.stop.is_set():
            if self._job.hold is not None:
                self._wait(self._job.hold, 0.2)
                continue
            try:
                if not self._step(connection):
                    return
                self._troubled_since = None
            except FAILURES as wrong:
                error = named(wrong)
                if isinstance(error, ServerUnreachable):
                    raise error from wrong
                undo(connection)
                self._mine = None
                self._react(error)

    def _step(self, connection: Connection) -> bool:
        """Do a batch and commit it; return whether there may be more."""
        careful = self._careful
        size = min(self._size, CAREFUL) if careful else self._size
        work = BatchWork(connection, self._job.statements)
        found, answer = claim(
            connection, self._job.record, self._mine, "" if self._mine is None else work.ahead(self._mine, size)
        )
        if isinstance(found, Unclaimed):
            undo(connection)
            return self._unclaimed(found)
        self._mine = None
        # rows are locked from here on
        began = time.perf_counter()
        left, rows, done = work.do(found, size, answer, careful=careful)
        self._mine = left
        seconds = time.perf_counter() - began
        self._careful = False
        # who searched for rows that fail was slow because of them
        self._size = size if done.failed else next_size(size, rows, seconds, self._job.pace)
        self._job.tell(Batch(found.number, rows, done.changed, done.failed, seconds))
        return True

    def _unclaimed(self, found: Unclaimed) -> bool:
        if found is Unclaimed.PAUSED:
            name = self._job.record.name
            self._wait(f"it was paused; go on with: dataarch backfill resume {name}", 0.3)
        elif found is Unclaimed.TAKEN:
            self._wait("other workers have the ranges that are left", 0.1)
        return found is not Unclaimed.DONE

    def _react(self, error: Failure) -> None:
        """Return where the next try may do better; else raise the error."""
        if is_of_a_row(error) and not self._careful:
            self._careful = True
        elif isinstance(error, PASSING):
            self._size = max(1, self._size // 2)
            self._endure(error, 0.05)
        elif sqlstate_of(error) == GONE and self._troubled_since is None:
            # a partition that went between two statements; the next claim sees it
            self._endure(error, 0.05)
        else:
            raise error

    def _endure(self, error: Failure, pause: float) -> None:
        """Wait a moment; raise the error where it has gone on for too long."""
        now = time.monotonic()
        self._troubled_since = self._troubled_since or now
        if now - self._troubled_since > self._job.limits.patience:
            raise error
        words = error.message if isinstance(error, DataArchError) else said(error)
        self._wait(words, pause * (1 + random.random()))  # noqa: S311  # jitter, not a secret

    def _wait(self, reason: str, seconds: float) -> None:
        self._job.tell(Waits(reason))
        self._job.stop.wait(seconds)
