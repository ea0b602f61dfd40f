"""Which files are to be read, and what they are known by from run to run."""

from __future__ import annotations

import glob
import os
from collections.abc import Iterator
from hashlib import sha256
from pathlib import Path
from typing import Any

from dataarch.errors import InputMissing, InvalidValue, shown
from dataarch.pipelines.records import Source

__all__ = ["file_sources", "printable"]

LONGEST_NAME = 1000
KEPT_OF_LONG_NAMES = 900
PACKED = ("", ".gz", ".zst")


def file_sources(given: Any, endings: tuple[str, ...]) -> list[Source]:
    """Return the files to read, in the order of their names.

    Args:
        given: a file, a folder, or a pattern such as ``feeds/*/orders-2026-*.csv`` (``**`` is any depth of folders).
        endings: how the names of files of a folder must end, in any case, maybe with ``.gz`` or ``.zst`` behind; hidden
            ones are left out. A file that is named, or found by a pattern, may be called anything.

    A file's name is relative to the folder, or to the part of the pattern before its first ``*``, ``?`` or ``[``: the
    same files are known again when they lie elsewhere.

    Raises:
        InputMissing: there is nothing there to read.
        InvalidValue: ``given`` is no path.
    """
    path = _path(given)
    try:
        found = dict(_found(path, endings))
    except OSError as broken:
        raise InputMissing(
            f"{shown(str(path))} cannot be read ({broken.strerror}).", hint="Check the path and its permissions."
        ) from broken
    if not found:
        raise _missing(path, endings)
    return [Source(printable(name), found[name]) for name in sorted(found)]


def printable(name: str) -> str:
    """Return a name as it can be stored and shown: what cannot be printed is escaped, and no two names become one."""
    text = "".join(sign if sign.isprintable() and sign != "\\" else _escaped(sign) for sign in name)
    if len(text) <= LONGEST_NAME:
        return text
    return f"{text[:KEPT_OF_LONG_NAMES]}…{sha256(text.encode()).hexdigest()}"


def _escaped(sign: str) -> str:
    return sign.encode("unicode_escape").decode("ascii")


def _path(given: Any) -> Path:
    if not isinstance(given, str | os.PathLike) or not isinstance(os.fspath(given), str):
        raise InvalidValue(
            f"{shown(given)} is no path of files.", hint="Give a file, a folder, or a pattern as text.", value=given
        )
    if not os.fspath(given) or "\0" in os.fspath(given):
        raise InvalidValue(f"{shown(given)} is no path.", hint="Give a file, a folder, or a pattern.", value=given)
    return Path(given)


def _found(path: Path, endings: tuple[str, ...]) -> Iterator[tuple[str, Path]]:
    if path.is_dir():
        wanted = tuple(ending + packing for ending in endings for packing in PACKED)
        for file in path.iterdir():
            if file.name.lower().endswith(wanted) and not file.name.startswith(".") and file.is_file():
                yield file.name, file
    elif path.is_file():
        yield path.name, path
    elif glob.has_magic(str(path)):
        root = _before_the_pattern(path)
        for name in glob.iglob(str(path), recursive=True):  # noqa: PTH207  Path.glob refuses some
            if Path(name).is_file():
                yield str(Path(name).relative_to(root)), Path(name)


def _before_the_pattern(path: Path) -> Path:
    parts = path.parts
    first = next(at for at, part in enumerate(parts) if glob.has_magic(part))
    return Path(*parts[:first])


def _missing(path: Path, endings: tuple[str, ...]) -> InputMissing:
    name = shown(str(path))
    if path.is_dir():
        return InputMissing(
            f"The folder {name} holds no file that could be read.",
            hint=f"Names must end in {' or '.join(endings)}, maybe with .gz or .zst behind; or give a pattern.",
        )
    if glob.has_magic(str(path)):
        return InputMissing(f"No file fits the pattern {name}.", hint="Check it, and the permissions of the folders.")
    if path.exists():
        return InputMissing(f"{name} is neither a file nor a folder.", hint="Give a file, a folder, or a pattern.")
    return InputMissing(f"There is no file or folder {name}.", hint="Check the path.")
