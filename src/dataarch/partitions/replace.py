"""Put partitions in the place of catch-alls, with the rows that lie in them, while everybody goes on.

The new partitions are made beside the table. Rows are copied before the exchange, batch by batch, while a trigger on
the catch-all notes the key of every row that changes in a log, which is worked off until next to nothing of it is left.
Then one short transaction locks the table, works off the rest, and exchanges the partitions. Until it commits the
catch-alls hold every row, after it the new partitions do: nobody sees a row missing, twice, or stale.

A transaction of REPEATABLE READ sees the table as of its beginning. The exchange waits for those that were open when
the copy ended, so they find its rows too, and is put off while the catch-alls change. Where they never rest, it is put
off a few times only: a transaction that begins in the moments before it, and reads the table for the first time after
it, then misses what changed in a catch-all in those moments. Without a primary key there is no log: few rows are then
moved under the lock of the exchange, out of sight of a transaction of REPEATABLE READ that is older.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from dataclasses import replace as again
from itertools import compress, count

from dataarch.errors import AlreadyExists, LockTimeout, PartitionRefused
from dataarch.partitions.blueprint import Blueprint, lies_in, marked
from dataarch.partitions.change_log import ChangeLog, settled
from dataarch.partitions.clashes import Loaded, clearing, deleted, give_way
from dataarch.partitions.layout import Range
from dataarch.partitions.naming import name_stem
from dataarch.partitions.quoting import ident, literal
from dataarch.partitions.steps import Piece, Replace
from dataarch.partitions.worker import PAUSE, Worker, refuse_referred

__all__ = ["refuse_taken", "replace", "stage", "staged_mark"]

FEW_ROWS = 1000
"""Rows of a table without a primary key that are moved under the exclusive lock, in some 20 ms."""

MOST_ROWS = 2 * FEW_ROWS
"""Rows found under the lock, or changes to be worked off there, at which it is given back."""

BATCH_SECONDS = 0.2
"""What a batch of the copy aims at."""

QUIET_TRIES = 3
"""How often the exchange is put off because the catch-alls have changed since the copy was up to date."""

QUIET_SHARE = 0.05
"""The part of the patience that each of these tries may take."""


@dataclass(frozen=True, slots=True)
class Staged:
    """A partition that is made and not attached yet."""

    piece: Piece
    made_as: str


class _Grown(Exception):
    """The catch-alls hold more rows, or have changed more, than should be worked off under a lock."""


def staged_mark(blueprint: Blueprint) -> dict[str, str]:
    """Return the mark of a table that is not in use yet, and may be dropped if its maker was killed."""
    return {"of": blueprint.name, "state": "staged"}


def replace(worker: Worker, step: Replace, *, ready: Loaded | None = None) -> int:
    """Carry out the step.

    Args:
        worker: at work on the table.
        step: as planned; its sources are partitions that exist.
        ready: a table that holds an archive's rows of a piece already; made by the blueprint, and marked. Its rows give
            way to those that join them, and are counted in it.

    Returns:
        How many rows were moved.

    Raises:
        LockTimeout: a lock was not granted, or an old transaction did not end; nothing was changed.
        PartitionRefused: many rows and no primary key, a table that others refer to, a name that is taken, or a view
            that reads the catch-all itself.

    Guarantee: one transaction exchanges the partitions; killed before it, the next maintenance cleans up, and no row
    has left its place.
    """
    refuse_referred(worker, "Carving a partition out of a catch-all")
    staged = _stage(worker, step, ready)
    if step.rows <= _most_under_lock(worker) / 2:
        try:
            return _move(worker, step.sources, staged, ready)
        except _Grown:
            worker.say("more rows than expected; copying them first")
    return _copy_and_move(worker, step, staged, ready)


def _most_under_lock(worker: Worker) -> int:
    return 0 if worker.blueprint.key else MOST_ROWS


# ── making the new partitions ─────────────────────────────────────────────────────────────────────────────────────


def _stage(worker: Worker, step: Replace, ready: Loaded | None) -> list[Staged]:
    there = {ready.range: ready.name} if ready else {}
    spare = (f"{name_stem(worker.blueprint.name, 12)}_rest_new{n}" for n in count(1))
    staged = []
    for piece in step.pieces:
        # a catch-all that shrinks has its successor's name until the exchange
        made_as = there.get(piece.range) or (next(spare) if piece.name in step.sources else piece.name)
        staged.append(Staged(piece, made_as))
    stage(worker, {one.made_as: one.piece.range for one in staged if one.piece.range not in there})
    return staged


def stage(worker: Worker, tables: Mapping[str, Range]) -> None:
    """Make tables beside the parent that only have to be attached; marked, so that a killed maintenance's are removed.

    Raises:
        PartitionRefused: one of the names is taken.
    """
    if not tables:
        return
    refuse_taken(worker, *tables)
    mark = staged_mark(worker.blueprint)
    making = [sql for name, within in tables.items() for sql in worker.blueprint.making(name, within, mark=mark)]
    # one transaction: each would wait for the disk
    worker.tried(lambda: worker.run(*making))


def refuse_taken(worker: Worker, *names: str) -> None:
    """Raise :class:`PartitionRefused` where a table has one of the names already."""
    places = ", ".join(f"to_regclass({literal(worker.blueprint.place(name))}) IS NOT NULL" for name in names)
    taken = worker.connection.exec_driver_sql(f"SELECT ARRAY[{places}]::bool[]").scalar_one()
    for name in compress(names, taken):
        raise PartitionRefused(
            f"There is a table {name} already, and it is not the partition of {worker.blueprint.name} that should have "
            "this name.",
            hint=f"Rename it: ALTER TABLE {worker.blueprint.place(name)} RENAME TO …",
            table=name,
        )


# ── few rows ──────────────────────────────────────────────────────────────────────────────────────────────────────


def _move(worker: Worker, sources: Sequence[str], staged: Sequence[Staged], ready: Loaded | None) -> int:
    moved = gave_way = 0

    def body() -> list[str]:
        nonlocal moved, gave_way
        moved = sum(_rows(worker, source) for source in sources)
        if moved > _most_under_lock(worker):
            raise _Grown
        gave_way = deleted(worker, clearing(worker.blueprint, ready, sources)) if ready and moved else 0
        return [*(_moving(worker, sources, staged) if moved else ()), *_exchange(worker, sources, staged)]

    strict = any(_has_foreign_key(worker, one) for one in staged)
    worker.locked(_locks(worker, sources, strict=strict), body, about=_places(worker, sources))
    if ready:
        ready.gave_way += gave_way
    return moved


def _rows(worker: Worker, name: str) -> int:
    # no more than are worth knowing about
    found: int = worker.connection.exec_driver_sql(
        f"SELECT count(*) FROM (SELECT FROM {worker.blueprint.place(name)} LIMIT {MOST_ROWS + 1}) AS found"
    ).scalar_one()
    return found


def _moving(worker: Worker, sources: Sequence[str], staged: Sequence[Staged]) -> Iterator[str]:
    blueprint = worker.blueprint
    for source in sources:
        for one in staged:
            yield (
                f"INSERT INTO {blueprint.place(one.made_as)} ({blueprint.column_list}) OVERRIDING SYSTEM VALUE"
                f" SELECT {blueprint.column_list} FROM {blueprint.place(source)}"
                f" WHERE {lies_in(blueprint.column, one.piece.range)}"
            )


# ── many rows ─────────────────────────────────────────────────────────────────────────────────────────────────────


def _copy_and_move(worker: Worker, step: Replace, staged: Sequence[Staged], ready: Loaded | None) -> int:
    blueprint = worker.blueprint
    log = ChangeLog(worker, step.sources, staged_mark(worker.blueprint), ready)
    for one in staged:
        # rows are checked as they come, not all of them under the lock of the exchange
        if not _has_foreign_key(worker, one):
            worker.tried(lambda one=one: worker.run(*_foreign_keys(worker, one)), about=blueprint.referenced)  # type: ignore[misc]
    worker.tried(lambda: worker.run(*log.starting(_bounds(staged))), about=_places(worker, step.sources))
    if ready:
        # from here on the log sees to it
        give_way(worker, ready, step.sources)
    copied = sum(_copy(worker, log, source, step.rows) for source in step.sources)
    gave_way = _exchange_when_quiet(worker, step.sources, staged, log)
    if ready:
        ready.gave_way += gave_way
    return copied


def _exchange_when_quiet(worker: Worker, sources: Sequence[str], staged: Sequence[Staged], log: ChangeLog) -> int:
    """Exchange when nothing has changed since the copy was up to date, or, in the end, next to nothing.

    Returns:
        How many of an archive's rows gave way under the lock.
    """
    most = gave_way = 0

    def body() -> list[str]:
        nonlocal gave_way
        if log.left(most) > most:
            raise _Grown
        gave_way = log.work_off_rest()
        return [*log.ending([one.made_as for one in staged]), *_exchange(worker, sources, staged)]

    locks, about = _locks(worker, sources, strict=True), _places(worker, sources)
    hurried = again(worker, patience=worker.patience * QUIET_SHARE)
    for _ in range(QUIET_TRIES):
        log.work_off()
        _wait_for_older(worker)
        with suppress(_Grown, LockTimeout):
            hurried.locked(locks, body, about=about)
            return gave_way
    most = MOST_ROWS
    deadline = time.monotonic() + worker.patience
    while time.monotonic() < deadline:
        with suppress(_Grown):
            # the log grows while a lock is tried for
            worker.locked(locks, body, about=about, before=log.work_off)
            return gave_way
    raise _never_quiet(worker)


def _never_quiet(worker: Worker) -> LockTimeout:
    return LockTimeout(
        f"The catch-alls of {worker.blueprint.name} change faster than their copy is brought up to date.",
        hint="Nothing was changed. Run it again when less is written to them.",
        table=worker.blueprint.name,
    )


def _bounds(staged: Sequence[Staged]) -> list[tuple[str, Range]]:
    return [(one.made_as, one.piece.range) for one in staged]


def _foreign_keys(worker: Worker, one: Staged) -> list[str]:
    place = worker.blueprint.place(one.made_as)
    return [f"ALTER TABLE {place} ADD CONSTRAINT {key}" for key in worker.blueprint.foreign_keys] or ["SELECT"]


def _has_foreign_key(worker: Worker, one: Staged) -> bool:
    place = literal(worker.blueprint.place(one.made_as))
    found: bool = worker.connection.exec_driver_sql(
        f"SELECT EXISTS (SELECT FROM pg_constraint WHERE conrelid = {place}::regclass AND contype = 'f')"
    ).scalar_one()
    return found


def _copy(worker: Worker, log: ChangeLog, source: str, expected: int) -> int:
    """Copy the pages that the source has now; rows that come later, or change, are in the log."""
    blueprint, place = worker.blueprint, worker.blueprint.place(source)
    pages = worker.connection.exec_driver_sql(
        f"SELECT pg_relation_size({literal(place)}) / current_setting('block_size')::int"
    ).scalar_one()
    copied, page, size = 0, 0, 64
    while page < pages:
        began = time.monotonic()
        copied += _batch(
            worker,
            log,
            f"INSERT INTO {log.target} ({blueprint.column_list}) OVERRIDING SYSTEM VALUE"
            f" SELECT {blueprint.column_list} FROM {place}"
            f" WHERE ctid >= '({page},0)' AND ctid < '({page + size},0)' ON CONFLICT ({log.key}) DO NOTHING",
        )
        page += size
        worker.say(f"copied {copied:,} of {expected:,} rows from {source}")
        aimed = size * BATCH_SECONDS / max(time.monotonic() - began, 0.001)
        size = max(8, min(int(aimed), 2 * size))
    return copied


def _batch(worker: Worker, log: ChangeLog, statement: str) -> int:
    copied = 0

    def attempt() -> None:
        nonlocal copied
        try:
            copied = worker.connection.exec_driver_sql(statement).rowcount
        except AlreadyExists:
            # a row has come, or changed, and clashes with one that has left its value, or an archive's: the log knows
            log.work_off()
            raise

    settled(worker, attempt, about=worker.blueprint.referenced)
    return copied


TRANSACTIONS = """
SELECT virtualtransaction, format('%s (%s)', pg_locks.pid, coalesce(nullif(application_name, ''), 'no name'))
FROM pg_locks LEFT JOIN pg_stat_activity ON pg_stat_activity.pid = pg_locks.pid
WHERE locktype = 'virtualxid' AND granted AND pg_locks.pid <> pg_backend_pid()
  AND (datname = current_database() OR datname IS NULL)
"""


def _wait_for_older(worker: Worker) -> None:
    """Wait for the transactions that are open now: what they see is older than the copy."""
    deadline = time.monotonic() + worker.patience
    older = _transactions(worker)
    while older:
        if time.monotonic() > deadline:
            raise LockTimeout(
                f"Transactions of the server's processes {', '.join(sorted(older.values()))} are older than the copy of"
                f" {worker.blueprint.name}, and have not ended within {worker.patience:g} s; a row could be invisible"
                " to them.",
                hint="Nothing was changed. Run it again when they have ended: SELECT * FROM pg_stat_activity.",
                table=worker.blueprint.name,
            )
        worker.say(f"waiting for {len(older)} older transactions")
        time.sleep(PAUSE)
        still = _transactions(worker)
        older = {one: whose for one, whose in older.items() if one in still}


def _transactions(worker: Worker) -> dict[str, str]:
    return {row[0]: row[1] for row in worker.connection.exec_driver_sql(TRANSACTIONS)}


# ── the exchange ──────────────────────────────────────────────────────────────────────────────────────────────────


def _locks(worker: Worker, sources: Sequence[str], *, strict: bool) -> list[str]:
    """Return the locks of the exchange, always in this order: the table, what it refers to, the catch-alls.

    A foreign key that is there already makes ATTACH lock what it refers to against readers too.
    """
    mode = "ACCESS EXCLUSIVE" if strict else "SHARE ROW EXCLUSIVE"
    return [
        f"LOCK TABLE ONLY {worker.blueprint.parent} IN ACCESS EXCLUSIVE MODE",
        *(f"LOCK TABLE ONLY {name} IN {mode} MODE" for name in worker.blueprint.referenced),
        *(f"LOCK TABLE ONLY {place} IN ACCESS EXCLUSIVE MODE" for place in _places(worker, sources)),
    ]


def _exchange(worker: Worker, sources: Sequence[str], staged: Sequence[Staged]) -> Iterator[str]:
    blueprint = worker.blueprint
    yield from (f"DROP TABLE {place}" for place in _places(worker, sources))
    for one in staged:
        if one.made_as != one.piece.name:
            yield from _renaming(worker, one)
        yield from blueprint.attaching(one.piece.name, one.piece.range)
        yield marked(blueprint.place(one.piece.name), None if one.piece.mark is None else dict(one.piece.mark))


def _renaming(worker: Worker, one: Staged) -> Iterator[str]:
    blueprint = worker.blueprint
    place = literal(blueprint.place(one.made_as))
    names = worker.connection.exec_driver_sql(
        f"SELECT relname FROM pg_index JOIN pg_class ON pg_class.oid = indexrelid WHERE indrelid = {place}::regclass"
    ).scalars()
    yield f"ALTER TABLE {blueprint.place(one.made_as)} RENAME TO {ident(one.piece.name)}"
    for name in names:
        renamed = name.replace(one.made_as, one.piece.name)
        if renamed != name:
            yield f"ALTER INDEX {blueprint.place(name)} RENAME TO {ident(renamed)}"


def _places(worker: Worker, names: Sequence[str]) -> list[str]:
    return [worker.blueprint.place(name) for name in names]
