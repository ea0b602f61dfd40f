"""Bring an archive back as a partition."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path

from dataarch.clock import Period
from dataarch.errors import ArchiveError, ConstraintError, PartitionRefused
from dataarch.partitions.archive import Archive, load_archive, read_archive
from dataarch.partitions.blueprint import lies_in
from dataarch.partitions.catalog import Partition, partitions_of
from dataarch.partitions.clashes import give_way, loaded
from dataarch.partitions.layout import Range
from dataarch.partitions.layout import without as cut_out
from dataarch.partitions.naming import catch_all_name, partition_name
from dataarch.partitions.plan import is_catch_all
from dataarch.partitions.quoting import qualified
from dataarch.partitions.references import put_on
from dataarch.partitions.replace import replace, stage
from dataarch.partitions.steps import Piece, Replace
from dataarch.partitions.survey import row_counts
from dataarch.partitions.worker import Worker, refuse_referred

__all__ = ["Restored", "restoration", "restore"]


@dataclass(frozen=True, slots=True)
class Restored:
    """What came of an archive.

    Attributes:
        partition: name of the partition that it is now.
        rows: how many rows came back.
        orphans: rows that stayed in the archive, because what they refer to has been deleted since.
        written_again: rows that stayed in the archive, because the table has rows with their keys, or with other values
            that must be unique.
    """

    partition: str
    rows: int
    orphans: int
    written_again: int = 0


def restore(worker: Worker, file: Path, *, without: Collection[str] = ()) -> Restored:
    """Bring an archive back; rows that came late, and lie in the catch-all, join it.

    Args:
        worker: at work on the table that the archive is of.
        file: as :func:`~dataarch.partitions.retire.retire` wrote it.
        without: columns of the archive that are left out, because the table has them no longer.

    Raises:
        ArchiveError: it is of another table, damaged, or does not fit the table as it is now.
        PartitionRefused: its period is no catch-all's, or rows of it lie in a DEFAULT partition.

    Guarantee: all of its rows at once, or nothing; the file stays. The partition is marked, so that no policy retires
    it again: ``dataarch partitions retire`` does. No row of the table is changed by it, whatever it clashes with.
    """
    archive, step = restoration(worker, file)
    name, within = step.pieces[0].name, step.pieces[0].range
    _load(worker, archive, name, within, without)
    ready = loaded(worker, name, within)
    # what is in the table is newer
    give_way(worker, ready, step.sources)
    orphans = put_on(worker, name)
    replace(worker, step, ready=ready)
    return Restored(name, archive.rows - orphans - ready.gave_way, orphans, ready.gave_way)


def restoration(worker: Worker, file: Path) -> tuple[Archive, Replace]:
    """Return an archive, and the exchange that brings it back as its first piece; raises as :func:`restore`.

    Guarantee: changes nothing.
    """
    refuse_referred(worker, "Restoring a partition")
    archive = read_archive(file)
    if archive.of.parent != worker.blueprint.name or archive.of.lower is None or archive.of.upper is None:
        raise ArchiveError(
            f"The archive {file} is of the partition {archive.of.partition} of {archive.of.parent}, and cannot become "
            f"one of {worker.blueprint.name}.",
            hint="Name the table that it belongs to.",
            table=worker.blueprint.name,
            value=str(file),
        )
    return archive, _planned(worker, archive, Range(archive.of.lower, archive.of.upper))


# ── where it comes to lie ─────────────────────────────────────────────────────────────────────────────────────────


def _planned(worker: Worker, archive: Archive, within: Range) -> Replace:
    table, grain = worker.blueprint.name, worker.partitioning.grain
    found = partitions_of(worker.connection, worker.blueprint.parent)
    overlapping = [one for one in found if not one.is_default and one.range.overlaps(within)]
    for one in overlapping:
        if not is_catch_all(table, one, grain):
            raise _occupied(worker, archive, one)
    for one in found:
        if one.is_default:
            _refuse_rows_in_default(worker, archive, one, within)
    return Replace(
        tuple(one.name for one in overlapping),
        _pieces(worker, archive, within, overlapping),
        sum(row_counts(worker.connection, overlapping).values()),
    )


def _pieces(worker: Worker, archive: Archive, within: Range, overlapping: Sequence[Partition]) -> tuple[Piece, ...]:
    table, grain = worker.blueprint.name, worker.partitioning.grain
    assert within.lower is not None  # noqa: S101  # restore() has looked
    period = Period.of(within.lower, grain)
    whole = Range(period.start, period.end) == within
    name = partition_name(table, period) if whole else archive.of.partition
    rests = cut_out([one.range for one in overlapping], [within])
    return (
        Piece(name, within, archive.rows, {"of": table, "state": "restored"}),
        *(Piece(catch_all_name(table, rest.lower, grain), rest) for rest in rests),
    )


def _occupied(worker: Worker, archive: Archive, one: Partition) -> PartitionRefused:
    table = worker.blueprint.name
    if (one.mark or {}).get("state") == "restored":
        return PartitionRefused(
            f"The archive {archive.path} cannot become a partition of {table}: its time lies in {one.name}, which has "
            "been restored already.",
            hint=f"To bring it back anew, retire that one first: dataarch partitions retire {one.name}",
            table=one.name,
        )
    return PartitionRefused(
        f"The archive {archive.path} cannot become a partition of {table}: its time lies in the partition {one.name} "
        f"({one.bounds}).",
        hint=f"Retire that one first: dataarch partitions retire {one.name}",
        table=one.name,
    )


def _refuse_rows_in_default(worker: Worker, archive: Archive, default: Partition, within: Range) -> None:
    table, place = worker.blueprint.parent, qualified(default)
    rows = _count(worker, f"{place} WHERE {lies_in(worker.blueprint.column, within)}")
    if rows:
        raise PartitionRefused(
            f"The archive {archive.path} cannot become a partition of {worker.blueprint.name}: the DEFAULT partition "
            f"{default.name} holds {rows} rows of its time.",
            hint=f"Replace it by catch-alls: ALTER TABLE {table} DETACH PARTITION {place}; "
            f"then `dataarch partitions maintain`; then INSERT INTO {table} SELECT * FROM {place}",
            table=default.name,
        )


def _count(worker: Worker, rows: str) -> int:
    found: int = worker.connection.exec_driver_sql(f"SELECT count(*) FROM {rows}").scalar_one()
    return found


# ── its rows ──────────────────────────────────────────────────────────────────────────────────────────────────────


def _load(worker: Worker, archive: Archive, name: str, within: Range, without: Collection[str]) -> None:
    """Load the archive into a table beside the parent."""
    place = worker.blueprint.place(name)
    stage(worker, {name: within})
    worker.say(f"loading {archive.rows:,} rows of {archive.path}")

    def attempt() -> None:
        worker.run("BEGIN")
        try:
            load_archive(worker.connection, archive.path, place, without=without)
        except ConstraintError as broken:
            raise ArchiveError(
                f"The archive {archive.path} of the partition {archive.of.partition} of {archive.of.parent} does not "
                f"fit the table as it is now. {broken.message}",
                hint=f"Nothing was changed, and the file is whole. Change {broken.constraint or broken.column} of "
                f"{archive.of.parent} so that it takes these rows (a column that came later needs a default).",
                table=archive.of.parent,
                column=broken.column,
                constraint=broken.constraint,
                sqlstate=broken.sqlstate,
            ) from broken
        worker.run("COMMIT")

    worker.tried(attempt)
