"""Bring the rows of an archive back."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from pathlib import Path

from sqlalchemy import Connection

from dataarch.errors import ArchiveError
from dataarch.partitions.archive.read import forms_of, groups_of, read_archive
from dataarch.partitions.archive.rows import copied_in, errors_named
from dataarch.partitions.archive.table import INPUT, OUTPUT, Contents, TableNow, contents, locked, pinned, run
from dataarch.partitions.archive.types import Archive
from dataarch.partitions.quoting import ident

__all__ = ["load_archive"]

STAGE = "pg_temp.dataarch_archive_stage"


def load_archive(connection: Connection, file: Path, table: str, *, without: Collection[str] = ()) -> int:
    """Write the rows of an archive into an existing table, and compare what came to be there with the archive.

    Args:
        connection: as the table's owner, in a transaction of level READ COMMITTED.
        file: the archive.
        table: a plain table with at least the archive's columns, named as SQL reads it; its other columns get their
            defaults. It may hold rows already.
        without: columns of the archive that are left out, because the table has them no longer.

    Returns:
        How many rows were written.

    Raises:
        ArchiveError: the file is damaged or no archive; the table lacks columns, or has types that make other values.
        ConstraintError: a constraint of the table refuses a row, for example one of a user who is there no longer.
        DependencyMissing: pyarrow is not installed.

    Guarantee: all rows or none, each as it was. The table is locked against writers (SHARE ROW EXCLUSIVE) until the
    transaction ends. Memory does not grow with the rows. With ``without``, the server needs room for the rows twice.
    """
    archive = read_archive(file)
    with connection.begin_nested():
        now = locked(connection, table)
        names = _loaded(archive, now, without)
        before = _contents(connection, now.name, names)
        meant = _through_stage(connection, archive, now, names) if without else _straight(connection, archive, now)
        _compare(archive, now, meant, _contents(connection, now.name, names) - before)
    return archive.rows


def _loaded(archive: Archive, now: TableNow, without: Collection[str]) -> list[str]:
    """Return the columns that are written; raises ArchiveError where the table has no place for one."""
    archived = [column.name for column in archive.columns]
    takes = {column.name for column in now.stored}
    kept = [name for name in archived if name not in without]
    if lost := [name for name in kept if name not in takes]:
        raise _no_place(
            archive, now, f"the table takes no {', '.join(lost)}", f"Add them again, or leave them out: without={lost}."
        )
    if unknown := [name for name in without if name not in archived]:
        raise _no_place(archive, now, f"the archive has no {', '.join(unknown)}", "Correct what is left out.")
    if not kept:
        raise _no_place(archive, now, "every column is left out", "Leave out fewer.")
    return kept


def _no_place(archive: Archive, now: TableNow, why: str, hint: str) -> ArchiveError:
    return ArchiveError(
        f"The archive {archive.path} of the partition {archive.of.partition} of {archive.of.parent} cannot be loaded "
        f"into {now.name}: {why}.",
        hint=hint,
        table=archive.of.parent,
    )


def _contents(connection: Connection, table: str, names: Sequence[str]) -> Contents:
    with pinned(connection, OUTPUT):
        return contents(connection, table, names)[0]


def _straight(connection: Connection, archive: Archive, now: TableNow) -> tuple[int, str]:
    """Copy the rows into the table, and return the count and checksum that they must have there."""
    with pinned(connection, INPUT):
        copied_in(connection, now.name, forms_of(archive), groups_of(archive))
    return archive.rows, archive.checksum


def _through_stage(connection: Connection, archive: Archive, now: TableNow, names: Sequence[str]) -> tuple[int, str]:
    """As :func:`_straight`, for some of the columns: the checksum is that of all, so all are read and compared first.

    The stage has the types of the file's forms and none of the table's, whose own may be gone.
    """
    columns = ", ".join(f"{ident(name)} {form.sql_type}" for name, form in forms_of(archive))
    run(connection, f"CREATE TEMPORARY TABLE {STAGE} ({columns})")
    with pinned(connection, INPUT):
        copied_in(connection, STAGE, forms_of(archive), groups_of(archive))
    whole = _contents(connection, STAGE, [column.name for column in archive.columns])
    _compare(archive, now, (archive.rows, archive.checksum), whole)
    types = {column.name: column.type for column in now.columns}
    with errors_named(), pinned(connection, INPUT):
        run(
            connection,
            f"INSERT INTO {now.name} ({', '.join(ident(name) for name in names)}) OVERRIDING SYSTEM VALUE "
            f"SELECT {', '.join(f'CAST({ident(name)} AS {types[name]})' for name in names)} FROM {STAGE}",
        )
    part = _contents(connection, STAGE, names)
    run(connection, f"DROP TABLE {STAGE}")
    return part.rows, part.checksum


def _compare(archive: Archive, now: TableNow, meant: tuple[int, str], found: Contents) -> None:
    if (found.rows, found.checksum) == meant:
        return
    types = {column.name: column.type for column in now.columns}
    changed = [
        f"{column.name} was {column.type} and is {types[column.name]}"
        for column in archive.columns
        if types.get(column.name, column.type) != column.type
    ]
    raise ArchiveError(
        f"The archive {archive.path} of the partition {archive.of.partition} of {archive.of.parent} did not come to "
        f"{now.name} as it was: {meant[0]} rows with checksum {meant[1]} were meant, {found.rows} with "
        f"{found.checksum} were found. Nothing was loaded.",
        hint=f"Give the columns their types again: {'; '.join(changed)}."
        if changed
        else "Take another copy of the file.",
        table=archive.of.parent,
    )
