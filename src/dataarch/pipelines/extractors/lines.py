"""The lines of a stream of bytes, in memory that does not grow with it, and a mark that says how far it was read."""

from __future__ import annotations

import re
from collections.abc import Iterator
from hashlib import sha256
from typing import NamedTuple

from dataarch.pipelines.extractors.opening import BLOCK, Stream, Unreadable
from dataarch.pipelines.records import Position

__all__ = ["LONGEST_LINE", "Lines", "LongLine", "Mark", "begins_with"]

LONGEST_LINE = 1_000_000
"""Bytes, its line end included: a longer line is no record, and is not held in memory."""

LINE_END = re.compile(rb"\r\n|\n|\r(?!\Z)")  # a CR at the end of a block may be the first half of CR LF


class Mark:
    """How far a stream was read: its records, bytes and lines, and the checksum of the bytes."""

    def __init__(self) -> None:
        self.records = 0
        self.bytes = 0
        self.line = 0
        self._sum = sha256()

    def take(self, raw: bytes) -> None:
        """Go on behind these bytes."""
        self._sum.update(raw)
        self.bytes += len(raw)

    @property
    def checksum(self) -> str:
        """SHA-256 of the bytes so far, in hexadecimal."""
        return self._sum.hexdigest()

    def position(self, state: dict[str, object], *, end: bool) -> Position:
        """Return it as a position."""
        return Position(
            records=self.records,
            bytes=self.bytes,
            checksum=self.checksum,
            state=state,
            end=end,
        )

    def forward(self, stream: Stream, position: Position) -> bool:
        """Read up to a position; say whether the stream begins with the bytes that were read before."""
        while self.bytes < position.bytes:
            raw = stream.read(min(BLOCK, position.bytes - self.bytes))
            if not raw:
                return False
            self.take(raw)
        self.records = position.records
        self.line = position.state.get("line", 0)
        return self.checksum == position.checksum


def begins_with(stream: Stream, position: Position) -> bool:
    """Say whether a stream begins with the bytes that were read when it was read up to this position."""
    return Mark().forward(stream, position)


class LongLine(NamedTuple):
    """A line that is longer than :data:`LONGEST_LINE`: what of it was read, and whether that is all of it."""

    beginning: bytes
    whole: bool


class Lines:
    """The lines of a stream, many at a time.

    A line ends with LF, CR LF or CR, all of which may stand in one file. Iterating gives lists of whole lines, with
    their line ends, and a :class:`LongLine` where one is too long; skip it before you go on.

    Raises:
        Unreadable: the stream is broken, or its last line has no line end; every whole line was given before.
    """

    def __init__(self, stream: Stream) -> None:
        self._stream = stream
        self._rest = b""

    def __iter__(self) -> Iterator[list[bytes] | LongLine]:
        broken: Unreadable | None = None
        block = b"first"
        while block:
            try:
                block = self._stream.read(BLOCK)
            except Unreadable as error:
                block, broken = b"", error
            data = self._rest + block
            end = max(data.rfind(b"\n"), data.rfind(b"\r", 0, len(data) - 1 if block else len(data))) + 1
            self._rest = data[end:]
            yield from _whole(data[:end])
            if len(self._rest) > LONGEST_LINE:
                yield LongLine(self._rest, whole=False)
        if broken or self._rest:
            raise broken or _cut_off()

    def skip(self, line: LongLine, mark: Mark) -> int:
        """Move a mark behind a line that is too long, and return how long it is; its rest is read piece by piece."""
        before = mark.bytes
        mark.take(line.beginning if line.whole else self._to_its_end(mark))
        mark.line += 1
        return mark.bytes - before

    def _to_its_end(self, mark: Mark) -> bytes:
        data = self._rest
        while not (end := _line_end(data)):
            kept = data[-1:] if data.endswith(b"\r") else b""
            mark.take(data[: len(data) - len(kept)])
            block = self._stream.read(BLOCK)
            if not block and not kept:
                raise _cut_off()
            data = kept + block
            if not block:
                end = len(kept)
                break
        self._rest = data[end:]
        return data[:end]


def _whole(data: bytes) -> Iterator[list[bytes] | LongLine]:
    lines = data.splitlines(keepends=True)
    if len(data) > LONGEST_LINE:
        for at, line in enumerate(lines):
            if len(line) > LONGEST_LINE:  # there is room for one such line in what is read at a time
                yield from ([lines[:at]] if at else [])
                yield LongLine(line, whole=True)
                lines = lines[at + 1 :]
                break
    if lines:
        yield lines


def _line_end(data: bytes) -> int:
    """Return where the first line of this ends, or 0."""
    if b"\n" not in data and b"\r" not in data:
        return 0
    found = LINE_END.search(data)
    return found.end() if found else 0


def _cut_off() -> Unreadable:
    return Unreadable(
        "is cut off: its last line has no line end, and nobody can tell whether it is whole",
        "If it still grows, run again when it has; if it is whole, end its last line with a line break.",
    )
