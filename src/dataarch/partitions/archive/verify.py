"""Compare an archive with a table."""

from __future__ import annotations

from pathlib import Path

from sqlalchemy import Connection

from dataarch.database.scratch import scratch
from dataarch.errors import ArchiveError
from dataarch.partitions.archive.read import forms_of, groups_of, read_archive
from dataarch.partitions.archive.rows import copied_in
from dataarch.partitions.archive.table import INPUT, OUTPUT, Contents, TableNow, contents, locked, pinned, run
from dataarch.partitions.archive.types import Archive
from dataarch.partitions.quoting import ident

__all__ = ["compare", "compare_both", "contents_of_file", "verify_archive"]

TEMPORARY = "pg_temp.dataarch_archive_read_back"


def verify_archive(connection: Connection, file: Path, table: str) -> Archive:
    """Read an archive back from disk, and compare it with a table: columns, count of rows, checksum.

    Args:
        connection: as the table's owner, in a transaction of level READ COMMITTED.
        file: the archive.
        table: a plain table, named as SQL reads it.

    Returns:
        What the archive says of itself, which is then true of the table.

    Raises:
        ArchiveError: they differ, or the file cannot be read.
        DependencyMissing: pyarrow is not installed.

    Guarantee: changes nothing. The table is locked against writers (SHARE ROW EXCLUSIVE) until the transaction ends:
    drop it in the same transaction, or others may have written in between. The server reads the rows into a temporary
    table, so it needs room for them once more, for that time.
    """
    archive = read_archive(file)
    now = locked(connection, table)
    with scratch(connection):
        compare_both(connection, archive, now)
    return archive


def compare_both(connection: Connection, archive: Archive, now: TableNow) -> None:
    """Raise ArchiveError where the table, or the rows of the file as the server reads them, differ from the archive."""
    with pinned(connection, OUTPUT):
        present, _ = contents(connection, now.name, [column.name for column in now.stored])
    compare(archive, now, present)
    compare(archive, now, contents_of_file(connection, archive, now))


def contents_of_file(connection: Connection, archive: Archive, now: TableNow) -> Contents:
    """Return what the server finds in a file once it has read it, into a temporary table with the types of a table."""
    names = [column.name for column in archive.columns]
    listed = ", ".join(ident(name) for name in names)
    run(connection, f"CREATE TEMPORARY TABLE {TEMPORARY} AS SELECT {listed} FROM ONLY {now.name} WITH NO DATA")
    with pinned(connection, INPUT):
        copied_in(connection, TEMPORARY, forms_of(archive), groups_of(archive))
    with pinned(connection, OUTPUT):
        found, _ = contents(connection, TEMPORARY, names)
    return found


def compare(archive: Archive, now: TableNow, found: Contents) -> None:
    """Raise ArchiveError where a table, or the rows of a file, are not what the archive says."""
    differences = [
        f"{what}: the archive says {said}, found {really}"
        for what, said, really in (
            ("columns", sorted(c.name for c in archive.columns), sorted(c.name for c in now.stored)),
            ("rows", archive.rows, found.rows),
            ("checksum", archive.checksum, found.checksum),
        )
        if said != really
    ]
    if differences:
        raise ArchiveError(
            f"The archive {archive.path} of the partition {archive.of.partition} of {archive.of.parent} is not what "
            f"the table {now.name} holds ({'; '.join(differences)}). Nothing was dropped.",
            hint="Keep the table, move the file away, and archive again.",
            table=archive.of.parent,
        )
