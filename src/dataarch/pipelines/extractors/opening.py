"""Open a file as it is: plain, or compressed with gzip or Zstandard; its first bytes tell, and not its name."""

from __future__ import annotations

import gzip
import os
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import import_module
from pathlib import Path
from typing import Any, BinaryIO

from dataarch.errors import DependencyMissing, FeedError
from dataarch.pipelines.records import Source

__all__ = ["BLOCK", "Stream", "Unreadable", "opened", "zstandard"]

BLOCK = 1 << 18
"""Bytes that are read at a time: enough for the fast loops, few enough for the caches of a processor."""

GZIP = b"\x1f\x8b"
ZSTANDARD = (b"\x28\xb5\x2f\xfd", *(bytes([first]) + b"\x2a\x4d\x18" for first in range(0x50, 0x60)))
REFUSED = {
    b"PK\x03\x04": ("is a ZIP archive, as workbooks are, too", "Unpack it, or export it as text."),
    b"\xfd7zXZ": ("is compressed with xz", "Unpack it, or compress it with gzip or zstd."),
    b"\xff\xfe": ("is UTF-16 text", "Convert it to UTF-8, for example with iconv."),
    b"\xfe\xff": ("is UTF-16 text", "Convert it to UTF-8, for example with iconv."),
}
AGAIN = "Fetch it again; what was read before stays."


class Unreadable(Exception):  # becomes a FeedError, as soon as somebody knows the line
    """A source cannot be read any further: why, what to do about it, and how many lines further it is."""

    def __init__(self, why: str, hint: str, *, further: int = 0) -> None:
        self.why = why
        self.hint = hint
        self.further = further
        super().__init__(why)

    def told(self, source: Source, line: int | None = None) -> FeedError:
        """Return the error that says it; ``line`` is where reading had come to, counted from 1."""
        where = "" if line is None else f" at line {line + self.further:,}"
        return FeedError(
            f"{source.name} {self.why}{where}; all whole records before are read.",
            source=source.name,
            line=None if line is None else line + self.further,
            hint=self.hint,
        )


class Stream:
    """The bytes of a file, unpacked."""

    def __init__(self, file: BinaryIO, unpacked: Any) -> None:
        self._file = file
        self._unpacked = unpacked
        self._broken: Unreadable | None = None

    def read(self, size: int) -> bytes:
        """Return the next bytes, ``size`` of them wherever there are so many; none at the end.

        Raises:
            Unreadable: the file is cut off, damaged, or has shrunk; all that could be read was returned before.
        """
        pieces: list[bytes] = []
        while size and not self._broken:
            try:
                piece = self._unpacked.read1(size)
                if not piece:
                    self._at_the_end()
                    break
            except Exception as error:  # noqa: BLE001  what is none of the file's is raised again by _reason
                self._broken = _reason(error)
            else:
                pieces.append(piece)
                size -= len(piece)
        if self._broken and not pieces:
            raise self._broken
        return b"".join(pieces)

    def _at_the_end(self) -> None:
        if os.fstat(self._file.fileno()).st_size < self._file.tell():
            raise Unreadable("has shrunk while it was read", "Read it again when nobody writes it.")


@contextmanager
def opened(source: Source) -> Iterator[Stream]:
    """Open a file for reading.

    Raises:
        Unreadable: it is not there, may not be read, or is something else.
        DependencyMissing: it is compressed with Zstandard, and the library is not installed.
    """
    try:
        file = Path(source.place).open("rb")  # noqa: SIM115  closed below
    except OSError as error:
        raise _reason(error) from error
    with file:
        first = file.peek(8)
        for magic, (why, hint) in REFUSED.items():
            if first.startswith(magic):
                raise Unreadable(why, hint)
        yield Stream(file, _unpacked(file, first))


def zstandard() -> Any:
    """Return the module for Zstandard: Python's own from 3.14 on, and before that the same one from its backport.

    Raises:
        DependencyMissing: there is none.
    """
    for name in ("compression.zstd", "backports.zstd"):
        try:
            return import_module(name)
        except ImportError as error:
            missing = error
    raise DependencyMissing(
        f"A file is compressed with Zstandard, and backports.zstd, which unpacks it, cannot be loaded: {missing}.",
        hint="Install it with `pip install 'dataarch[archive]'`, or compress with gzip.",
    ) from missing


def _unpacked(file: Any, first: bytes) -> Any:
    if first.startswith(GZIP):
        return gzip.GzipFile(fileobj=file, mode="rb")
    if first.startswith(ZSTANDARD):
        return zstandard().ZstdFile(file)
    return file


def _reason(error: Exception) -> Unreadable:
    """Return why a file cannot be read, or raise what has nothing to do with the file."""
    if isinstance(error, Unreadable):
        return error
    if isinstance(error, EOFError):
        return Unreadable("is cut off: what is compressed in it has no end", AGAIN)
    if isinstance(error, zlib.error | gzip.BadGzipFile) or type(error).__name__ == "ZstdError":
        return Unreadable(f"is damaged, or something else stands behind what is compressed in it ({error})", AGAIN)
    if isinstance(error, OSError):
        return Unreadable(f"cannot be read ({error.strerror})", "Check the path and its permissions.")
    raise error
