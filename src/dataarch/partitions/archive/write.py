"""Write a table into an archive."""

from __future__ import annotations

import errno
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from types import MappingProxyType
from typing import BinaryIO

from sqlalchemy import Connection

from dataarch.clock import utcnow
from dataarch.database.scratch import scratch
from dataarch.errors import ArchiveError
from dataarch.partitions.archive.forms import TEXT
from dataarch.partitions.archive.library import pyarrow
from dataarch.partitions.archive.note import sealed, version_of_dataarch
from dataarch.partitions.archive.place import part_of, publish, settle
from dataarch.partitions.archive.read import forms_of, read_archive
from dataarch.partitions.archive.rows import copied_out
from dataarch.partitions.archive.table import OUTPUT, TableNow, contents, locked, pinned
from dataarch.partitions.archive.types import Archive, ArchivedColumn, ArchiveOf
from dataarch.partitions.archive.verify import compare, compare_both, contents_of_file
from dataarch.partitions.quoting import ident

__all__ = ["write_archive"]

FULL = "the disk or the account's quota is full", "Free space there, or name another folder; then run it again."
READ_ONLY = (
    "the folder cannot be written to",
    "Make it writable for the account that runs this, or name another folder; then run it again.",
)
MISSING = "the folder is not there", "Make the folder, or mount it, or name another; then run it again."
NO_FOLDER = "what should be the folder is none", "Name a folder; then run it again."
BUSY = "another process is writing the same archive", "Wait until it is done; then run it again."
APPEARED = "another process put a file there in the meantime", "Run it again: it compares that file with the table."

REFUSALS: Mapping[int | None, tuple[str, str]] = MappingProxyType(
    {
        errno.ENOSPC: FULL,
        errno.EDQUOT: FULL,
        errno.EFBIG: FULL,
        errno.EROFS: READ_ONLY,
        errno.EACCES: READ_ONLY,
        errno.EPERM: READ_ONLY,
        errno.ENOENT: MISSING,
        errno.ENOTDIR: NO_FOLDER,
        errno.EAGAIN: BUSY,
        errno.EEXIST: APPEARED,
    }
)


def write_archive(connection: Connection, table: str, file: Path, *, about: ArchiveOf) -> Archive:
    """Write every row of a table into a Parquet file, and compare what the file then holds with the table.

    Args:
        connection: as the table's owner, in a transaction of level READ COMMITTED.
        table: a plain table that is or was a partition, named as SQL reads it.
        file: where the archive shall lie; its folder exists.
        about: which partition it is.

    Returns:
        The archive, read back from the disk and found equal to the table.

    Raises:
        ArchiveError: the folder does not take the file, another file is there, or the file read back differs.
        DependencyMissing: pyarrow is not installed.
        PrivilegeMissing: the role may not lock or read the table, or does not see every row.

    Guarantee: under ``file`` there is a whole and compared archive, or nothing new; the table is never changed. An
    archive of the same rows that is there already is compared and kept, so a second run is safe. The table is locked
    against writers (SHARE ROW EXCLUSIVE) until the transaction ends: drop it in the same transaction. Memory does not
    grow with the rows. The server needs room for the rows once more, in a temporary table.
    """
    pyarrow()
    with _refusals_named(file, about):
        now = locked(connection, table)
        with scratch(connection):
            archive = _planned(connection, now, file, about)
            if file.exists():
                return _kept(connection, archive, now)
            with part_of(file) as (part, out):
                _write(connection, now, archive, out)
                settle(out)
                compare(archive, now, contents_of_file(connection, read_archive(part), now))
                publish(part, file)
    return read_archive(file)


@contextmanager
def _refusals_named(file: Path, about: ArchiveOf) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        why, hint = REFUSALS.get(
            error.errno, (f"the system says: {error.strerror or error}", "Remove the cause; then run it again.")
        )
        raise ArchiveError(
            f"The partition {about.partition} of {about.parent} cannot be archived to {file}: {why}. "
            "No row was dropped.",
            hint=hint,
            table=about.parent,
            value=str(file),
        ) from error


def _planned(connection: Connection, now: TableNow, file: Path, about: ArchiveOf) -> Archive:
    """Return what the archive of a table has to be, as the server counts it."""
    names = [column.name for column in now.stored]
    if not names:
        raise ArchiveError(f"The table {now.name} has no column to archive.", hint="Drop it.", table=about.parent)
    limits = [(column.name, *column.form.limit) for column in now.stored if column.form.limit]
    with pinned(connection, OUTPUT):
        tests = [test.format(ident(name)) for name, test, _ in limits]
        present, met = contents(connection, now.name, names, tests)
    beyond = {name: because for (name, _, because), is_met in zip(limits, met, strict=True) if is_met}
    return Archive(
        path=file,
        of=about,
        rows=present.rows,
        checksum=present.checksum,
        size_bytes=0,
        columns=tuple(
            ArchivedColumn(
                column.name,
                column.type,
                TEXT if column.name in beyond else column.form.name,
                beyond.get(column.name, ""),
            )
            for column in now.stored
        ),
        primary_key=now.primary_key,
        archived_at=utcnow(),
        dataarch_version=version_of_dataarch(),
    )


def _kept(connection: Connection, archive: Archive, now: TableNow) -> Archive:
    """Return the archive that is there already, if it is of the same partition and holds the same rows."""
    try:
        there = read_archive(archive.path)
    except ArchiveError as error:
        raise _occupied(archive, error.message) from error
    if there.of != archive.of:
        raise _occupied(archive, f"It is the archive of {there.of.partition} of {there.of.parent}.")
    compare_both(connection, there, now)
    return there


def _occupied(archive: Archive, what: str) -> ArchiveError:
    return ArchiveError(
        f"The partition {archive.of.partition} of {archive.of.parent} cannot be archived to {archive.path}: another "
        f"file is there. {what} No row was dropped.",
        hint="Name another file, or move that one away.",
        table=archive.of.parent,
        value=str(archive.path),
    )


def _write(connection: Connection, now: TableNow, archive: Archive, out: BinaryIO) -> None:
    pa = pyarrow()
    forms = forms_of(archive)
    schema = pa.schema([(name, form.arrow_type) for name, form in forms])
    with (
        pinned(connection, OUTPUT),
        pa.parquet.ParquetWriter(out, schema, compression="zstd", write_page_checksum=True) as writer,
    ):
        for group in copied_out(connection, now.name, forms):
            writer.write_table(group, row_group_size=group.num_rows)
        writer.add_key_value_metadata(dict(sealed(archive)))
