"""Make batches of a file's lines, whatever a record is: what CSV and JSON Lines have in common."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from dataarch.errors import InvalidValue
from dataarch.pipelines.extractors.lines import LONGEST_LINE, Lines, LongLine, Mark, begins_with
from dataarch.pipelines.extractors.opening import Unreadable, opened
from dataarch.pipelines.records import Batch, Position, Reject, Row, Source, Stage

__all__ = [
    "BOM",
    "KEPT_OF_LONG_LINES",
    "LARGEST_BATCH",
    "LinesParser",
    "Parsed",
    "Wrong",
    "batches_of_lines",
    "check_size",
    "resumed",
    "text_of",
]

BOM = b"\xef\xbb\xbf"
LARGEST_BATCH = 8_000_000
"""Bytes: a batch that holds so many ends, however few its records are."""

KEPT_OF_LONG_LINES = 1000


@dataclass(frozen=True, slots=True)
class Wrong:
    """Why no record could be made of some lines, and their text."""

    reason: str
    text: str


@dataclass(frozen=True, slots=True)
class Parsed:
    """What was made of some lines.

    Attributes:
        records: in their order; what stands where one is wrong does not matter.
        ends: for each, how many of the lines are read with it; blank ones and headers before it belong to it.
        used: how many lines are read with all; the others begin a record that goes on behind them.
        wrong: those that are none, by their place in ``records``.
    """

    records: Sequence[Row]
    ends: Sequence[int]
    used: int
    wrong: Mapping[int, Wrong] = field(default_factory=dict)


class LinesParser(Protocol):
    """Makes records of lines; one for each reading of a source."""

    encoding: str

    def begin(self, state: Mapping[str, Any]) -> None:
        """Go on where another one had come to; its ``state()``, or nothing at the beginning of a source."""
        ...

    def parse(self, lines: list[bytes], line: int, room: int) -> Parsed:
        """Parse whole lines, with their line ends.

        Args:
            lines: at least one; the byte order mark of UTF-8 is taken away.
            line: the number of the first, from 1.
            room: bytes that a record may have: one that has no end yet goes on behind these lines only while it has
                less. Otherwise it is wrong.

        Raises:
            Unreadable: nothing behind these lines can be read, either.
        """
        ...

    def state(self) -> dict[str, object]:
        """Return what another one needs to go on from here; JSON."""
        ...

    def check_end(self) -> None:
        """Raise Unreadable where the source may not end here."""
        ...

    def check_skip(self) -> None:
        """Raise Unreadable where a line that is too long may not be passed over."""
        ...


def resumed(source: Source, position: Position) -> Position:
    """Return a position if a file still begins with what was read up to there, otherwise its beginning."""
    if not position.bytes:
        return position
    try:
        with opened(source) as stream:
            return position if begins_with(stream, position) else Position()
    except Unreadable as broken:
        raise broken.told(source) from broken


def batches_of_lines(source: Source, position: Position, size: int, parser: LinesParser) -> Iterator[Batch]:
    """Read a file from a position; see :meth:`dataarch.pipelines.pipeline.Extractor.read`."""
    check_size(size)
    reading = _Reading(source, position, size, parser)
    try:
        yield from reading.batches()
    except Unreadable as broken:
        if reading.held:
            yield reading.batch(end=False)
        raise broken.told(source, reading.mark.line + 1) from broken


def check_size(size: int) -> None:
    """Check that a batch of this size holds something."""
    if size < 1:
        raise InvalidValue(f"A batch of {size} records holds none.", hint="Give a size of 1 or more.", value=size)


def text_of(raw: bytes, encoding: str) -> str:
    """Return the text of bytes, without their line end; those that are no text are written as ``\\xff``."""
    return raw.decode(encoding, "backslashreplace").rstrip("\r\n")


class _Reading:
    """One reading of one source: the mark, and what is held until it is a batch."""

    def __init__(self, source: Source, position: Position, size: int, parser: LinesParser) -> None:
        self.source = source
        self.size = size
        self.parser = parser
        self.mark = Mark()
        self.before = position
        self._carried: list[bytes] = []
        self._begin()

    def _begin(self) -> None:
        self.held = 0
        self._rows: list[Row] = []
        self._numbers: list[int] = []
        self._rejects: list[Reject] = []

    def batch(self, *, end: bool) -> Batch:
        after = self.mark.position({**self.parser.state(), "line": self.mark.line}, end=end)
        batch = Batch(self.source, self.before, after, self._rows, self._numbers, self._rows, self._rejects)
        self.before = after
        self._begin()
        return batch

    def batches(self) -> Iterator[Batch]:
        self.parser.begin(self.before.state)
        with opened(self.source) as stream:
            if not self.mark.forward(stream, self.before):
                raise Unreadable("does not begin any longer with what was read of it before", "Read it anew.")
            lines = Lines(stream)
            for piece in lines:
                if isinstance(piece, LongLine):
                    yield from self._parsed([], room=0)
                    self.parser.check_skip()
                    if self.held:
                        yield self.batch(end=False)  # before the mark moves: the line may have no end
                    self._skipped(piece, lines.skip(piece, self.mark))
                else:
                    yield from self._parsed(piece, room=LONGEST_LINE)
            yield from self._settled()
            if self._carried:
                raise Unreadable(
                    "ends before a quote is closed that a record opens",
                    "If it still grows, run again when it has; if it is whole, mend the line.",
                )
            self.parser.check_end()
            yield self.batch(end=True)

    def _settled(self) -> Iterator[Batch]:
        """Take the lines behind an open quote, if each of them is a whole record: then it was a stray one."""
        lines, self._carried = self._carried, []
        if len(lines) > 1:
            parsed = self.parser.parse(lines, self.mark.line + 1, 0)
            if len(parsed.records) == len(lines) and set(parsed.wrong) == {0}:
                yield from self._taken(parsed, lines)
                return
        self._carried = lines

    def _parsed(self, lines: list[bytes], room: int) -> Iterator[Batch]:
        lines = [*self._carried, *lines] if self._carried else lines
        if lines:
            at_the_start = not self.mark.bytes
            shown_lines = [lines[0].removeprefix(BOM), *lines[1:]] if at_the_start and self._is_utf_8() else lines
            parsed = self.parser.parse(shown_lines, self.mark.line + 1, room)
            self._carried = lines[parsed.used :]
            yield from self._taken(parsed, lines)

    def _is_utf_8(self) -> bool:
        return self.parser.encoding == "utf-8"

    def _taken(self, parsed: Parsed, lines: list[bytes]) -> Iterator[Batch]:
        begin = line = 0
        count = len(parsed.records)
        while count - begin >= self.size - self.held:
            stop = begin + self.size - self.held
            self._hold(parsed, begin, stop)
            self._mark(lines[line : parsed.ends[stop - 1]])
            begin, line = stop, parsed.ends[stop - 1]
            yield self.batch(end=False)
        self._hold(parsed, begin, count)
        self._mark(lines[line : parsed.used])
        if self.mark.bytes - self.before.bytes >= LARGEST_BATCH:
            yield self.batch(end=False)

    def _mark(self, lines: list[bytes]) -> None:
        self.mark.take(b"".join(lines))
        self.mark.line += len(lines)

    def _hold(self, parsed: Parsed, begin: int, stop: int) -> None:
        first = self.mark.records + 1 - begin
        if parsed.wrong:
            for at in range(begin, stop):
                if wrong := parsed.wrong.get(at):
                    self._rejects.append(Reject(first + at, Stage.EXTRACT, wrong.reason, wrong.text))
                else:
                    self._rows.append(parsed.records[at])
                    self._numbers.append(first + at)
        else:
            self._rows += parsed.records[begin:stop]
            self._numbers += range(first + begin, first + stop)
        self.mark.records += stop - begin
        self.held += stop - begin

    def _skipped(self, line: LongLine, length: int) -> None:
        self.mark.records += 1
        self.held += 1
        reason = f"Line {self.mark.line:,} has {length:,} bytes, and {LONGEST_LINE:,} at the most are read."
        text = text_of(line.beginning[:KEPT_OF_LONG_LINES], self.parser.encoding) + "…"
        self._rejects.append(Reject(self.mark.records, Stage.EXTRACT, reason, text))
