"""Writers and readers that are processes of their own, and what they tell each other beside the cache.

Each row holds a version that only grows. A writer notes the version when its commit has returned, and a reader what it
was given, in memory that all share; a reader looks there before it reads, and what it then gets must not be older. So
also the version of a writer that was killed must not be gone again.
"""

from __future__ import annotations

import ctypes
import multiprocessing
import os
import random
import signal
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from multiprocessing.process import BaseProcess
from multiprocessing.sharedctypes import RawArray
from pathlib import Path
from typing import Any
from uuid import UUID

from sqlalchemy import Connection, Integer, Text, cast, func, select, text, update

from dataarch.caching.database import Database
from dataarch.caching.fencing import Timing
from dataarch.caching.kinds import Kind
from dataarch.database.commit_hooks import Ending, Listener, Unit
from dataarch.database.settings import Settings
from dataarch.database.unit_of_work import TenantSession
from dataarch.models import Tenant, User
from dataarch.models.base import new_id
from fixtures.caches import until

ONE = Kind("one_version", ttl=60, rows=(User,))
ALL = Kind("all_versions", ttl=60, reads=(User,))

CONTEXT = multiprocessing.get_context("forkserver")
# the server that makes the processes does not know where the tests are
CONTEXT.set_forkserver_preload(
    ["dataarch.caching.database", "sqlalchemy.dialects.postgresql.psycopg", "alembic.command", "pytest"]
)

SLOTS = 8
"""Workers at a time."""

ROWS = 6

ODDS = 0.05
"""How often a writer dies that may, at each of two moments."""

DONE, FAILED, STALE, HITS = range(4)


@dataclass(frozen=True)
class Job:
    """What every worker is given; the arrays are memory that all share, without locks that a kill could leave held.

    Attributes:
        readers_tell: whether readers note what they were given.
        deadly: whether writers may die by themselves.
    """

    tenant: UUID
    users: tuple[UUID, ...]
    timing: Timing
    notes: Path
    readers_tell: bool = True
    known: Any = field(default_factory=lambda: RawArray(ctypes.c_int64, SLOTS * ROWS))
    counts: Any = field(default_factory=lambda: RawArray(ctypes.c_int64, SLOTS * 4))
    deadly: Any = field(default_factory=lambda: RawArray(ctypes.c_int64, 1))
    end: Any = field(default_factory=lambda: RawArray(ctypes.c_int64, 1))

    def due(self) -> list[int]:
        """Return for each row the highest version that a writer has committed, or a reader was given."""
        return [max(self.known[slot * ROWS + row] for slot in range(SLOTS)) for row in range(ROWS)]

    def learned(self, slot: int, row: int, version: int) -> None:
        """Note what everybody must know from now on, in the worker's own place."""
        place = slot * ROWS + row
        self.known[place] = max(self.known[place], version)

    def count(self, what: int) -> int:
        """Return what all have counted, those included that were killed."""
        return sum(self.counts[slot * 4 + what] for slot in range(SLOTS))

    def note(self, slot: int, what: int, why: object = "") -> None:
        """Count something in the worker's own place."""
        self.counts[slot * 4 + what] += 1
        if why:
            with self.notes.open("a") as notes:
                notes.write(f"{slot}: {why}\n")


@contextmanager
def door(settings: Settings, job: Job) -> Iterator[Database]:
    with Database(settings) as db:
        db.cache.fencing.timing = job.timing
        yield db


# ── writers ───────────────────────────────────────────────────────────────────────────────────────────────────────


def by_orm(session: TenantSession, user: UUID) -> int:
    row = session.scalars(select(User).where(User.id == user).with_for_update()).one()
    row.full_name = str(int(row.full_name or 0) + 1)
    return int(row.full_name)


def by_statement(session: TenantSession, user: UUID) -> int:
    grown = cast(cast(User.full_name, Integer) + 1, Text)
    found = session.execute(update(User).where(User.id == user).values(full_name=grown).returning(User.full_name))
    return int(found.scalar_one() or 0)


def by_text(session: TenantSession, user: UUID) -> int:
    statement = text("UPDATE users SET full_name = (full_name::int + 1)::text WHERE id = :id RETURNING full_name::int")
    return int(session.execute(statement, {"id": user}).scalar_one())


def in_a_savepoint(session: TenantSession, user: UUID) -> int:
    nested = session.begin_nested()
    by_statement(session, user)
    nested.rollback()
    with session.begin_nested():
        return by_statement(session, user)


WAYS: tuple[Callable[[TenantSession, UUID], int], ...] = (by_orm, by_statement, by_text, in_a_savepoint)


class Mortal:
    """A listener whose process may be killed where it matters most: right before COMMIT, and right after it."""

    def __init__(self, listener: Listener, job: Job) -> None:
        self.listener, self.job = listener, job

    def before_commit(self, unit: Unit, connection: Connection | None, /) -> object:
        ticket = self.listener.before_commit(unit, connection)
        self.may_die()
        return ticket

    def after_end(self, ticket: object, ending: Ending, /) -> None:
        self.may_die()
        self.listener.after_end(ticket, ending)

    def may_die(self) -> None:
        if self.job.deadly[0] and random.random() < ODDS:
            os.kill(os.getpid(), signal.SIGKILL)


def write(settings: Settings, job: Job, slot: int) -> None:
    """Let versions grow until the end."""
    chosen = random.Random()
    with door(settings, job) as db:
        assert db.listener is not None
        db.listener = Mortal(db.listener, job)
        while not job.end[0]:
            row = chosen.randrange(ROWS)
            undone = chosen.random() < 0.2
            try:
                with db.tenant(job.tenant) as session:
                    version = chosen.choice(WAYS)(session, job.users[row])
                    if undone:
                        session.rollback()
            except Exception as fault:  # noqa: BLE001  # whatever it is, it is a write that failed
                job.note(slot, FAILED, f"a write failed: {fault!r}")
                continue
            if undone:
                continue
            job.learned(slot, row, version)
            job.note(slot, DONE)


# ── readers ───────────────────────────────────────────────────────────────────────────────────────────────────────


class Reading:
    """How one process reads; ``asked`` is whether the database was asked."""

    def __init__(self, db: Database, job: Job) -> None:
        self.db, self.job = db, job
        self.one, self.all = db.cache.define(ONE), db.cache.define(ALL)
        self.asked = False

    def versions(self, users: list[UUID]) -> Mapping[str, int]:
        self.asked = True
        with self.db.tenant(self.job.tenant) as session:
            found = session.execute(select(User.id, func.coalesce(User.full_name, "0")).where(User.id.in_(users)))
            return {str(user): int(version) for user, version in found}

    def single(self, chosen: random.Random) -> dict[UUID, int]:
        user = chosen.choice(self.job.users)
        key = self.one.key(user, tenant=self.job.tenant)
        return {user: self.one.get_or_create(key, lambda: self.versions([user])[str(user)])}

    def several(self, chosen: random.Random) -> dict[UUID, int]:
        users = chosen.sample(self.job.users, 3)
        keys = {self.one.key(user, tenant=self.job.tenant): user for user in users}

        def make(*missing: str) -> list[int]:
            found = self.versions([keys[key] for key in missing])
            return [found[str(keys[key])] for key in missing]

        found = self.one.get_or_create_multi(list(keys), make)
        return dict(zip(users, found, strict=True))

    def every(self, _chosen: random.Random) -> dict[UUID, int]:
        users = list(self.job.users)
        found = self.all.get_or_create(self.all.key("all", tenant=self.job.tenant), lambda: self.versions(users))
        return {user: found[str(user)] for user in users}


def read(settings: Settings, job: Job, slot: int) -> None:
    """Read until the end, and note what is older than it may be."""
    chosen = random.Random()
    with door(settings, job) as db:
        reading = Reading(db, job)
        while not job.end[0]:
            due = dict(zip(job.users, job.due(), strict=True))
            reading.asked = False
            way = chosen.choice((reading.single, reading.several, reading.every))
            try:
                got = way(chosen)
            except Exception as fault:  # noqa: BLE001  # whatever it is, it is a read that failed
                job.note(slot, FAILED, f"a read failed: {fault!r}")
                continue
            for user, version in got.items():
                if version < due[user]:
                    job.note(slot, STALE, f"{way.__name__} gave {version} after {due[user]} was known")
                if job.readers_tell:
                    job.learned(slot, job.users.index(user), version)
            job.note(slot, DONE)
            if not reading.asked:
                job.note(slot, HITS)
            time.sleep(0.0005)


# ── all of them ───────────────────────────────────────────────────────────────────────────────────────────────────

WRITERS, READERS = (0, 1), (2, 3)


class Crew:
    """The workers of a test."""

    def __init__(self, job: Job, settings: Callable[[int], Settings]) -> None:
        self.job = job
        self._settings = settings
        self._processes: dict[int, BaseProcess] = {}

    def hire(self, slot: int) -> None:
        """Start the worker of a slot: the first ones write, the others read."""
        work = write if slot in WRITERS else read
        process = CONTEXT.Process(target=work, args=(self._settings(slot), self.job, slot), daemon=True)
        process.start()
        self._processes[slot] = process

    def kill(self, slot: int) -> None:
        """End a worker, as ``kill -9`` does."""
        process = self._processes.pop(slot)
        process.kill()
        process.join()

    def replace_the_dead(self) -> int:
        """Start a worker for each that has died, and return how many those were."""
        dead = [slot for slot, process in self._processes.items() if process.exitcode is not None]
        for slot in dead:
            self._processes.pop(slot).join()
            self.hire(slot)
        return len(dead)

    def work(self, *, reads: int, writes: int) -> None:
        """Wait until so much more was done."""
        goals = [(WRITERS, writes), (READERS, reads)]
        targets = [(slots, self._done(slots) + more) for slots, more in goals]
        until(lambda: all(self._done(slots) >= target for slots, target in targets), "the work")

    def hit(self, times: int) -> None:
        """Wait until so many more reads were served from the cache."""
        target = self.job.count(HITS) + times
        until(lambda: self.job.count(HITS) >= target, "hits")

    def _done(self, slots: tuple[int, ...]) -> int:
        return sum(self.job.counts[slot * 4 + DONE] for slot in slots)

    def end(self) -> None:
        """Let all of them finish what they do."""
        self.job.end[0] = 1
        for process in self._processes.values():
            process.join(30)
            if process.exitcode is None:
                process.kill()
                process.join()

    def said(self) -> str:
        """Return what went wrong, as far as a person wants to read it."""
        notes = self.job.notes.read_text() if self.job.notes.exists() else ""
        return notes[:2000]


@contextmanager
def crew(
    settings: Settings,
    notes: Path,
    *,
    timing: Timing,
    by_slot: Callable[[int], Settings] | None = None,
    readers_tell: bool = True,
) -> Iterator[Crew]:
    """Make a tenant with rows, start writers and readers, and end them."""
    job = Job(new_id(), tuple(new_id() for _ in range(ROWS)), timing, notes, readers_tell)
    with Database(settings) as db, db.tenant(job.tenant) as session:
        session.add(Tenant(id=job.tenant, slug=f"t-{job.tenant.hex[-12:]}", name="t"))
        session.flush()
        session.add_all(User(id=user, email=f"{user}@example.com", full_name="0") for user in job.users)
    made = Crew(job, by_slot or (lambda slot: settings))
    try:
        for slot in (*WRITERS, *READERS):
            made.hire(slot)
        yield made
    finally:
        made.end()
