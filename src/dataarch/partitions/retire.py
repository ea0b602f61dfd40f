"""Take a partition out of its table: detached concurrently, archived, then dropped or kept.

What is being done with the table is noted in a comment on it, before it is done. So a retirement that was killed
between any two steps is found by the next maintenance, whether the table is still a partition, half detached, or on its
own.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from itertools import count
from pathlib import Path
from typing import Any

from dataarch.errors import ConfigurationError, LockTimeout, PartitionRefused, PrivilegeMissing
from dataarch.partitions.archive import ArchiveOf, write_archive
from dataarch.partitions.archive.library import pyarrow
from dataarch.partitions.blueprint import marked
from dataarch.partitions.catalog import Partition, marks_of, partitions_of
from dataarch.partitions.layout import Range, gaps
from dataarch.partitions.naming import catch_all_name
from dataarch.partitions.quoting import literal, qualified
from dataarch.partitions.references import put_on, take_off
from dataarch.partitions.replace import stage
from dataarch.partitions.steps import Retire
from dataarch.partitions.worker import LOCK_WAIT, PAUSE, Worker, refuse_referred

__all__ = ["refuse_unwritable", "retire"]

DETACH_WAIT = 1.0
"""Seconds for which a concurrent detach waits for those who still use the table, and those who write what it refers to.

Nobody queues behind the first; others who write what it refers to do behind the second.
"""

PROBE = ".dataarch.probe"
"""An empty file that shows whether a folder takes one."""


def retire(worker: Worker, step: Retire, archive_dir: Path | None) -> Path | None:
    """Carry out the step, from where it was left.

    Args:
        worker: at work on the table.
        step: as planned.
        archive_dir: folder of the archives; needed where the step archives.

    Returns:
        The archive that was written.

    Raises:
        ConfigurationError: no folder for the archive, or one that cannot be written to; nothing was detached.
        ArchiveError: the archive could not be written or differs from the table; the table is detached, and kept.
        LockTimeout: somebody used the partition all the time.
        PartitionRefused: other tables refer to this one, the partition is no plain table beside it, or a view needs it.

    Guarantee: the table is dropped only when its archive, read back from the disk, has the same rows. Safe to repeat
    after a crash at any point. For the moment between the detach and the catch-all that takes the partition's place, a
    row of its period is refused with :class:`PartitionMissing`.
    """
    if step.archive:
        refuse_unwritable(worker, step.partition, archive_dir)
    partition = _find(worker, step.partition)
    if partition is not None:
        _detach(worker, step, partition)
    mark = _mark_of(worker, step.partition)
    if mark.get("state") != "retiring":
        # somebody else's detach, which is finished now
        return None
    _succeed(worker, _range_of(mark))
    if mark["archive"] or mark["drop"]:
        take_off(worker, step.partition)
    file = None
    if mark["archive"] and not mark.get("archived"):
        if archive_dir is None:
            raise _no_folder(worker, step.partition)
        mark = _with_file(worker, step.partition, mark, archive_dir)
        file = _archive(worker, step.partition, mark, archive_dir)
        mark = {**mark, "archived": True}
    if file is None or not mark["drop"]:
        _end(worker, step.partition, mark)
    return file


def refuse_unwritable(worker: Worker, partition: str, archive_dir: Path | None) -> None:
    """Raise a :class:`ConfigurationError` where an archive could not be written, before anything is done."""
    pyarrow()
    if archive_dir is None:
        raise _no_folder(worker, partition)
    probe = archive_dir / PROBE
    try:
        probe.touch()
        probe.unlink(missing_ok=True)
    except OSError as refused:
        raise ConfigurationError(
            f"The partition {partition} of {worker.blueprint.name} cannot be archived to {archive_dir}: "
            f"{refused.strerror}.",
            hint="Nothing was detached. Make it a folder that this user may write to, or name another: --archive-dir.",
            table=worker.blueprint.name,
            value=str(archive_dir),
        ) from None


def _no_folder(worker: Worker, partition: str) -> ConfigurationError:
    return ConfigurationError(
        f"The partition {partition} of {worker.blueprint.name} is to be archived, and no folder is known.",
        hint="Set DATAARCH_ARCHIVE_DIR, or give --archive-dir.",
        table=worker.blueprint.name,
    )


# ── the detach ────────────────────────────────────────────────────────────────────────────────────────────────────


def _find(worker: Worker, name: str) -> Partition | None:
    found = partitions_of(worker.connection, worker.blueprint.parent)
    return next((one for one in found if one.name == name), None)


def _mark_of(worker: Worker, name: str) -> dict[str, Any]:
    for schema, table, mark in marks_of(worker.connection):
        if (schema, table) == (worker.blueprint.schema, name):
            return mark
    return {}


def _range_of(mark: dict[str, Any]) -> Range:
    lower, upper = (None if mark[side] is None else datetime.fromisoformat(mark[side]) for side in ("lower", "upper"))
    return Range(lower, upper)


def _detach(worker: Worker, step: Retire, partition: Partition) -> None:
    refuse_referred(worker, "Retiring a partition")
    detach = f"ALTER TABLE {worker.blueprint.parent} DETACH PARTITION {qualified(partition)}"
    if partition.detach_pending:
        _concurrently(worker, f"{detach} FINALIZE")
        _succeed(worker, partition.range)
        return
    _refuse_unfit(worker, step, partition)
    if step.drop:
        _refuse_needed(worker, partition)
    with _noted(worker, step, partition):
        if any(one.is_default for one in partitions_of(worker.connection, worker.blueprint.parent)):
            # a DEFAULT partition forbids the concurrent detach, and takes the rows that come late
            worker.locked(
                [f"LOCK TABLE ONLY {worker.blueprint.parent} IN ACCESS EXCLUSIVE MODE"],
                lambda: [detach],
                about=worker.blueprint.referenced,
            )
            return
        _until_quiet(worker, partition.name)
        successor = _stage_successor(worker, partition.range)
        _concurrently(worker, f"{detach} CONCURRENTLY")
        _attach_successor(worker, successor, partition.range)


def _refuse_unfit(worker: Worker, step: Retire, partition: Partition) -> None:
    table, name = worker.blueprint.name, partition.name
    if partition.schema != worker.blueprint.schema:
        raise PartitionRefused(
            f"The partition {name} of {table} is in the schema {partition.schema}, and not beside its table: it is not "
            "retired.",
            hint=f"Move it: ALTER TABLE {qualified(partition)} SET SCHEMA {worker.blueprint.schema}",
            table=name,
        )
    if step.archive and not partition.plain:
        raise PartitionRefused(
            f"The partition {name} of {table} is no plain table, so that it cannot be archived.",
            hint=f"Archive it by other means, then ALTER TABLE {worker.blueprint.parent} DETACH PARTITION "
            f"{qualified(partition)}",
            table=name,
        )


NEEDING = """
SELECT DISTINCT ev_class::regclass::text FROM pg_depend JOIN pg_rewrite ON pg_rewrite.oid = objid
WHERE classid = 'pg_rewrite'::regclass AND refobjid = {place}::regclass AND ev_class <> refobjid
UNION SELECT conrelid::regclass::text FROM pg_constraint
WHERE confrelid = {place}::regclass AND contype = 'f' AND conparentid = 0
"""


def _refuse_needed(worker: Worker, partition: Partition) -> None:
    """Raise where the table could not be dropped in the end, while it still is a partition."""
    needing = worker.connection.exec_driver_sql(NEEDING.format(place=literal(qualified(partition)))).scalars().all()
    name = partition.name
    if needing:
        raise PartitionRefused(
            f"The partition {name} of {worker.blueprint.name} cannot be dropped: {', '.join(needing)} needs it.",
            hint="Nothing was detached. Let a view read the whole table, and drop a foreign key to one partition.",
            table=name,
        )


@contextmanager
def _noted(worker: Worker, step: Retire, partition: Partition) -> Iterator[None]:
    """Note on the partition what is done with it; where that failed before it was begun, note what was there before."""
    place = qualified(partition)
    mark = {
        "of": worker.blueprint.name,
        "state": "retiring",
        "archive": step.archive,
        "drop": step.drop,
        "lower": _written(partition.lower),
        "upper": _written(partition.upper),
    }
    worker.tried(lambda: worker.run(marked(place, mark)))
    try:
        yield
    except (LockTimeout, PartitionRefused, PrivilegeMissing):
        now = _find(worker, partition.name)
        if now is not None and not now.detach_pending:
            worker.tried(lambda: worker.run(marked(place, partition.mark)))
        raise


def _written(instant: datetime | None) -> str | None:
    return None if instant is None else instant.isoformat()


HOLDERS = """
SELECT virtualtransaction FROM pg_locks
WHERE locktype = 'relation' AND granted AND pid <> pg_backend_pid()
  AND database = (SELECT oid FROM pg_database WHERE datname = current_database())
  AND (relation = {parent}::regclass
       OR relation = ANY ({referenced}::regclass[]) AND mode NOT IN ('AccessShareLock', 'RowShareLock'))
"""


def _until_quiet(worker: Worker, name: str) -> None:
    """Wait until nobody uses the table, or writes what it refers to, for long.

    The detach would wait for them with the partition half gone.
    """
    blueprint = worker.blueprint
    deadline = time.monotonic() + worker.patience
    referenced = "ARRAY[" + ", ".join(literal(one) for one in blueprint.referenced) + "]"
    holders = HOLDERS.format(parent=literal(blueprint.parent), referenced=referenced)
    before = set(worker.connection.exec_driver_sql(holders).scalars())
    while before:
        time.sleep(PAUSE)
        still = before & set(worker.connection.exec_driver_sql(holders).scalars())
        if not still:
            return
        if time.monotonic() > deadline:
            raise LockTimeout(
                f"{len(still)} transactions have used {blueprint.name}, or written what it refers to, for "
                f"{worker.patience:g} s, so its partition {name} cannot be detached.",
                hint="Nothing was changed. Run it again when they have ended: SELECT * FROM pg_stat_activity.",
                table=blueprint.name,
            )
        worker.say(f"waiting for {len(still)} transactions that use {blueprint.name}")
        before = still


def _concurrently(worker: Worker, detach: str) -> None:
    """Detach; where that was begun and gave up waiting, finish it."""
    finalize = detach.replace(" CONCURRENTLY", " FINALIZE")
    statement = detach

    def attempt() -> None:
        nonlocal statement
        worker.wait_for_locks(DETACH_WAIT)
        try:
            worker.run(statement)
        except LockTimeout:
            pending = any(one.detach_pending for one in partitions_of(worker.connection, worker.blueprint.parent))
            statement = finalize if pending else detach
            raise

    try:
        worker.tried(attempt)
    finally:
        worker.wait_for_locks(LOCK_WAIT)


# ── what takes the partition's place ──────────────────────────────────────────────────────────────────────────────


def _stage_successor(worker: Worker, within: Range) -> str:
    """Make the catch-all that takes the partition's place, so that it only has to be attached."""
    name = catch_all_name(worker.blueprint.name, within.lower, worker.partitioning.grain)
    stage(worker, {name: within})
    return name


def _attach_successor(worker: Worker, name: str, within: Range) -> None:
    blueprint = worker.blueprint
    worker.tried(
        lambda: worker.run(*blueprint.attaching(name, within), f"COMMENT ON TABLE {blueprint.place(name)} IS NULL"),
        about=blueprint.referenced,
    )


def _succeed(worker: Worker, within: Range) -> None:
    """Put a catch-all where a detach was killed before it did; an archive may take long, and rows come late."""
    found = partitions_of(worker.connection, worker.blueprint.parent)
    if not any(one.is_default for one in found):
        for gap in gaps([one.range for one in found], within):
            _attach_successor(worker, _stage_successor(worker, gap), gap)


# ── the archive, and the end ──────────────────────────────────────────────────────────────────────────────────────


def _archive(worker: Worker, name: str, mark: dict[str, Any], archive_dir: Path) -> Path:
    """Write the archive and, in the same transaction, drop the table or note that it is archived."""
    file = archive_dir / str(mark["file"])
    within = _range_of(mark)
    place = worker.blueprint.place(name)
    about = ArchiveOf(worker.blueprint.name, name, within.lower, within.upper)
    then = f"DROP TABLE {place}" if mark["drop"] else marked(place, {**mark, "archived": True})
    worker.say(f"archiving {name} to {file}")

    def attempt() -> None:
        worker.run("BEGIN")
        # it locks the table against writers until the transaction ends: what is dropped is what was archived
        write_archive(worker.connection, place, file, about=about)
        worker.run("SAVEPOINT archived")
        worker.tried(lambda: worker.run(then, "COMMIT"), undo="ROLLBACK TO archived")

    worker.tried(attempt)
    return file


def _with_file(worker: Worker, name: str, mark: dict[str, Any], archive_dir: Path) -> dict[str, Any]:
    """Note the archive's name before it is written: rows that came late may have made a second partition of a month."""
    if mark.get("file"):
        return mark
    names = (f"{name}.parquet" if n == 1 else f"{name}.{n}.parquet" for n in count(1))
    mark = {**mark, "file": next(one for one in names if not (archive_dir / one).exists())}
    worker.tried(lambda: worker.run(marked(worker.blueprint.place(name), mark)))
    return mark


def _end(worker: Worker, name: str, mark: dict[str, Any]) -> None:
    place = worker.blueprint.place(name)
    if mark["drop"]:
        worker.tried(lambda: worker.run(f"DROP TABLE {place}"))
        return
    # rows of what is deleted go from a kept table too
    put_on(worker, name)
    worker.tried(lambda: worker.run(marked(place, {**mark, "state": "retired"})))
