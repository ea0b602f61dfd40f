"""What a restore does, as SQL that can be read; one step in it, the reading of the archive, is beyond SQL."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from pathlib import Path

from sqlalchemy import Connection, Table

from dataarch.partitions.archive import Archive
from dataarch.partitions.blueprint import Blueprint, blueprint_of
from dataarch.partitions.clashes import Loaded, clearing, rules_of
from dataarch.partitions.references import orphans_left_out
from dataarch.partitions.replace import refuse_taken, staged_mark
from dataarch.partitions.restore import restoration
from dataarch.partitions.script import exchanging, script_of
from dataarch.partitions.steps import CleanUp, Replace
from dataarch.partitions.survey import declared, survey
from dataarch.partitions.worker import Worker

__all__ = ["restore_script"]


def restore_script(connection: Connection, table: Table, file: Path, *, without: Collection[str] = ()) -> list[str]:
    """Return what :func:`~dataarch.partitions.restore.restore` would do, as statements of SQL without semicolons.

    Args:
        connection: of the owner of the table.
        table: the one that the archive is of.
        file: the archive.
        without: columns of it that would be left out.

    Raises:
        ArchiveError, PartitionRefused: as :func:`~dataarch.partitions.restore.restore`, as far as that can be known
            before the rows are loaded.

    Guarantee: changes nothing. Where the rows were not loaded in between, the last transaction fails and changes
    nothing, and the next maintenance removes the table that was made.
    """
    left = survey(connection, table).leftovers
    partitioning = declared(table)
    blueprint = blueprint_of(connection, table, partitioning.column)
    worker = Worker(connection, table, partitioning, blueprint)
    archive, step = restoration(worker, file)
    name = step.pieces[0].name
    if name not in left:
        refuse_taken(worker, name)
    clean_up = script_of(CleanUp(left), blueprint, partitioning.grain) if left else []
    ready = Loaded(name, step.pieces[0].range, None, rules_of(connection, blueprint.parent))
    giving_way = clearing(blueprint, ready, step.sources)
    return [*clean_up, *_restoring(archive, step, blueprint, without, giving_way)]


def _restoring(
    archive: Archive, step: Replace, blueprint: Blueprint, without: Collection[str], giving_way: Sequence[str]
) -> Iterator[str]:
    piece = step.pieces[0]
    place = blueprint.place(piece.name)
    # a name may contain the end of a line, and would end the comment
    yield (
        f"-- {str(archive.path)!r} holds {archive.rows} rows; they come back as the partition {piece.name!r}"
        f" of {blueprint.name!r}"
    )
    yield "BEGIN"
    yield from blueprint.making(piece.name, piece.range, mark=staged_mark(blueprint))
    yield "COMMIT"
    left_out = f", without {', '.join(map(repr, without))}" if without else ""
    yield (
        f"-- SQL alone cannot read the file: here `dataarch partitions restore` loads its rows into it{left_out}"
        " and compares them with it; where they are not there, the next transaction is refused"
    )
    yield from exchanging(
        step,
        blueprint,
        ready={piece.name},
        first=[
            _refuse_unloaded(place, archive.rows),
            "-- rows that have been written again stay as they are",
            *giving_way,
            "-- rows of what has been deleted stay out",
            *orphans_left_out(blueprint, piece.name),
        ],
    )


def _refuse_unloaded(place: str, rows: int) -> str:
    return (
        f"DO $loaded$ BEGIN IF (SELECT count(*) FROM {place}) <> {rows} THEN"
        f" RAISE EXCEPTION 'The {rows} rows of the archive are not there yet.'; END IF; END $loaded$"
    )
