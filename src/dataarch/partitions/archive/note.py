"""The note that an archive carries about itself, so that one file is whole: JSON in the file's own metadata."""

from __future__ import annotations

import json
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import asdict
from datetime import datetime
from hashlib import sha256
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from dataarch.partitions.archive.forms import form_named
from dataarch.partitions.archive.types import FORMAT, Archive, ArchivedColumn, ArchiveOf

__all__ = ["NOTE", "SEAL", "Unreadable", "parsed", "sealed", "version_of_dataarch"]

NOTE = b"dataarch.archive"
SEAL = b"dataarch.archive.sha256"
"""SHA-256 of the note: pages of a Parquet file have checksums of their own, its metadata has none."""


class Unreadable(Exception):
    """A note that cannot be used, and why."""

    def __init__(self, why: str, *, hint: str) -> None:
        self.hint = hint
        super().__init__(why)


def version_of_dataarch() -> str:
    """Return the version of this library."""
    with suppress(PackageNotFoundError):
        return version("dataarch")
    return "unknown"


def sealed(archive: Archive) -> Mapping[bytes, bytes]:
    """Return the entries of the file's metadata that say what it is."""
    of = asdict(archive.of) | {"lower": _written(archive.of.lower), "upper": _written(archive.of.upper)}
    note = {
        "format": FORMAT,
        "of": of,
        "rows": archive.rows,
        "checksum": archive.checksum,
        "columns": [asdict(column) for column in archive.columns],
        "primary_key": archive.primary_key,
        "archived_at": _written(archive.archived_at),
        "dataarch_version": archive.dataarch_version,
    }
    data = json.dumps(note, ensure_ascii=False).encode()
    return {NOTE: data, SEAL: sha256(data).hexdigest().encode()}


def parsed(file: Path, note: bytes, seal: bytes) -> Archive:
    """Return what a note says; raises :class:`Unreadable`."""
    if sha256(note).hexdigest().encode() != seal:
        raise Unreadable("what it says of itself is damaged", hint="Take another copy of the file.")
    said = json.loads(note)
    if said.get("format") != FORMAT:
        raise Unreadable(
            f"its format is {said.get('format')!r}, and this version of dataarch reads format {FORMAT}",
            hint=f"Use the version that wrote it: {said.get('dataarch_version', 'unknown')}.",
        )
    try:
        return _archive(file, said)
    except (KeyError, TypeError, ValueError) as error:
        raise Unreadable(
            f"what it says of itself is incomplete ({error!r})", hint="Take another copy of it."
        ) from error


def _archive(file: Path, said: Mapping[str, Any]) -> Archive:
    columns = tuple(ArchivedColumn(**column) for column in said["columns"])
    for column in columns:
        form_named(column.stored)
    of = said["of"]
    return Archive(
        path=file,
        of=ArchiveOf(of["parent"], of["partition"], _read(of["lower"]), _read(of["upper"])),
        rows=said["rows"],
        checksum=said["checksum"],
        size_bytes=file.stat().st_size,
        columns=columns,
        primary_key=tuple(said["primary_key"]),
        archived_at=datetime.fromisoformat(said["archived_at"]),
        dataarch_version=said["dataarch_version"],
    )


def _written(instant: datetime | None) -> str | None:
    return None if instant is None else instant.isoformat()


def _read(instant: str | None) -> datetime | None:
    return None if instant is None else datetime.fromisoformat(instant)
