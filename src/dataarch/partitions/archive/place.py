"""Where an archive comes to lie: written beside its place under another name, and moved there whole or not at all."""

from __future__ import annotations

import errno
import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO

__all__ = ["part_of", "publish", "settle"]

PRIVATE = 0o600
"""An archive holds the rows of every tenant."""


TRIES = 10
"""How often the part is opened anew, where whoever held it before has moved it away."""


@contextmanager
def part_of(file: Path) -> Iterator[tuple[Path, BinaryIO]]:
    """Give the file that an archive is written to first, ``<file>.part``, empty and held by nobody else.

    Raises:
        BlockingIOError: another process writes the same archive now.
        OSError: the folder does not take it.

    Guarantee: what a killed process left there is taken over; at the end no ``.part`` is left, whatever happened.
    """
    part = file.with_name(f"{file.name}.part")
    with _held(part) as out:
        try:
            os.fchmod(out.fileno(), PRIVATE)
            out.truncate()
            yield part, out
        finally:
            if _is(part, out):
                part.unlink()


@contextmanager
def _held(part: Path) -> Iterator[BinaryIO]:
    flags = os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW
    for _ in range(TRIES):
        with os.fdopen(os.open(part, flags, PRIVATE), "wb") as out:
            fcntl.flock(out, fcntl.LOCK_EX | fcntl.LOCK_NB)
            # who held it before may have moved it to its place: then it is no longer ours to write
            if _is(part, out):
                yield out
                return
    raise BlockingIOError(errno.EAGAIN, f"{part} is replaced again and again")


def _is(path: Path, out: BinaryIO) -> bool:
    with suppress(FileNotFoundError):
        return os.path.samestat(path.lstat(), os.fstat(out.fileno()))
    return False


def settle(out: BinaryIO) -> None:
    """Bring what was written onto the disk, and out of the cache, so that reading it back reads the disk."""
    out.flush()
    os.fsync(out.fileno())
    if hasattr(os, "posix_fadvise"):
        os.posix_fadvise(out.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


def publish(part: Path, file: Path) -> None:
    """Move a part to its place, in one step that survives a power failure.

    Raises:
        FileExistsError: somebody put a file there in the meantime.
    """
    if file.exists():
        raise FileExistsError(f"{file} has come to be in the meantime")
    part.rename(file)
    folder = os.open(file.parent, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)
