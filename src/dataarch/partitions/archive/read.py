"""Read what an archive says of itself, and its rows."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

from dataarch.errors import ArchiveError, shown
from dataarch.partitions.archive.forms import Form, form_named
from dataarch.partitions.archive.library import pyarrow
from dataarch.partitions.archive.note import NOTE, SEAL, Unreadable, parsed
from dataarch.partitions.archive.types import Archive

__all__ = ["forms_of", "groups_of", "read_archive"]

DAMAGED = "Nothing was changed. Take another copy of the file; no later one can be made from it."


def read_archive(file: Path) -> Archive:
    """Return what an archive says of itself, without reading its rows.

    Args:
        file: where it lies.

    Raises:
        ArchiveError: it is not there, is no archive, is truncated or damaged, or of another version of the format.
        DependencyMissing: pyarrow is not installed.
    """
    with _opened(file) as parquet:
        return _described(file, parquet)


def groups_of(archive: Archive) -> Iterator[Any]:
    """Yield the rows of an archive as Arrow tables of bounded size; raises ArchiveError where the file is damaged."""
    with _opened(archive.path) as parquet:
        if _described(archive.path, parquet) != archive:
            raise ArchiveError(f"The archive {archive.path} was changed while it was read.", hint="Run it again.")
        for number in range(parquet.metadata.num_row_groups):
            yield parquet.read_row_group(number, use_threads=False)


def forms_of(archive: Archive) -> list[tuple[str, Form]]:
    """Return the names and forms of an archive's columns."""
    return [(column.name, form_named(column.stored)) for column in archive.columns]


@contextmanager
def _opened(file: Path) -> Iterator[Any]:
    pa = pyarrow()
    try:
        with closing(pa.parquet.ParquetFile(file, page_checksum_verification=True)) as parquet:
            yield parquet
    except FileNotFoundError:
        raise ArchiveError(f"There is no archive {file}.", hint="Correct the path.", value=str(file)) from None
    except (pa.ArrowException, OSError, UnicodeDecodeError, MemoryError) as error:
        raise ArchiveError(
            f"The file {file} cannot be read as a Parquet file: {shown(str(error))} It is truncated, damaged, or "
            "something else.",
            hint=DAMAGED,
            value=str(file),
        ) from error


def _described(file: Path, parquet: Any) -> Archive:
    found = parquet.metadata.metadata or {}
    if NOTE not in found:
        raise ArchiveError(
            f"The file {file} is no archive of dataarch: it is a Parquet file that somebody else wrote.",
            hint="Correct the path, or load it with a tool that knows what it is.",
            value=str(file),
        )
    try:
        archive = parsed(file, found[NOTE], found.get(SEAL, b""))
        columns = {name: form.arrow_type for name, form in forms_of(archive)}
    except Unreadable as reason:
        raise ArchiveError(f"The archive {file} cannot be used: {reason}.", hint=reason.hint, value=str(file)) from None
    schema = parquet.schema_arrow
    same = schema.names == list(columns) and archive.rows == parquet.metadata.num_rows
    if not same or not all(_alike(schema.field(name).type, kind) for name, kind in columns.items()):
        raise ArchiveError(
            f"The archive {file} is damaged: its rows or columns are not those that it says.",
            hint=DAMAGED,
            value=str(file),
        )
    return archive


def _alike(found: Any, meant: Any) -> bool:
    """Whether two types are one, but for the mark of a UUID, which older versions of pyarrow do not know."""
    return bool(getattr(found, "storage_type", found) == getattr(meant, "storage_type", meant))
