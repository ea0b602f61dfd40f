"""Records of JSON Lines: one object on each line."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import msgspec

from dataarch.errors import InvalidValue
from dataarch.pipelines.extractors.files import file_sources
from dataarch.pipelines.extractors.reading import Parsed, Wrong, batches_of_lines, resumed, text_of
from dataarch.pipelines.records import Batch, Position, Row, Source

__all__ = ["JsonLines"]

ENDINGS = (".jsonl", ".ndjson")
KINDS = {dict: "an object", list: "an array", str: "a string", bool: "a boolean", int: "a number", float: "a number"}
WHERE = re.compile(r" \(byte (\d+)\)$")
BLANK = b" \t\r\n"

decode = msgspec.json.Decoder().decode
REFUSED = (msgspec.MsgspecError, ValueError, RecursionError)  # a ValueError for bytes that are no text, too


@dataclass(frozen=True, slots=True)
class JsonLines:
    """Reads JSON Lines (NDJSON): plain, gzip or Zstandard; always UTF-8.

    JSON is what RFC 8259 says, and nothing more: no NaN, no comments, no trailing commas, no half of a surrogate pair.
    Where an object has a name twice, the last value counts, as in PostgreSQL's jsonb. Whole numbers are kept at any
    length. A line that is no record is rejected with the column where it went wrong; blank lines are passed over.

    Attributes:
        field: the name that each line's value gets as the only field of its record, whatever it is. Without it, each
            line must hold an object.

    A last line without a line end stays unread, and :class:`FeedError` says so.
    """

    field: str = ""

    def sources(self, given: Any) -> list[Source]:
        """Return the files of a path, folder or pattern, in the order of their names."""
        return file_sources(given, ENDINGS)

    def resume(self, source: Source, position: Position) -> Position:
        """Return the position if the file still begins with what was read, otherwise its beginning."""
        return resumed(source, position)

    def read(self, source: Source, position: Position, size: int) -> Iterator[Batch]:
        """Read a file from a position, at most ``size`` records at a time."""
        return batches_of_lines(source, position, size, _JsonParser(self.field))

    def parse(self, text: str) -> Row:
        """Return the record of a text that was rejected."""
        try:
            record = _record(text.encode("utf-8", "surrogatepass"), self.field)
        except _NoRecord as wrong:
            raise InvalidValue(f"The text is no record: {wrong}.", hint="Mend it.", value=text) from wrong
        return record


class _NoRecord(Exception):  # never leaves this file
    """Why a line is no record."""


class _JsonParser:
    """Makes records of the lines of one file."""

    encoding = "utf-8"

    def __init__(self, field: str) -> None:
        self._field = field

    def state(self) -> dict[str, object]:
        return {}

    def begin(self, state: Mapping[str, Any]) -> None:
        """One line needs nothing from those before it."""

    def check_end(self) -> None:
        """Any file may end after any line."""

    def check_skip(self) -> None:
        """Any line may be passed over."""

    def parse(self, lines: list[bytes], line: int, room: int) -> Parsed:  # noqa: ARG002  a record ends with its line
        return self._fast(lines) or self._carefully(lines, line)

    def _fast(self, lines: list[bytes]) -> Parsed | None:
        try:
            values = [decode(line) for line in lines]
        except REFUSED:
            return None
        if self._field:
            values = [{self._field: value} for value in values]
        elif set(map(type, values)) != {dict}:
            return None
        return Parsed(values, range(1, len(lines) + 1), len(lines))

    def _carefully(self, lines: list[bytes], first: int) -> Parsed:
        records: list[Row] = []
        ends: list[int] = []
        wrong: dict[int, Wrong] = {}
        for number, raw in enumerate(lines, 1):
            if not raw.strip(BLANK):
                continue
            try:
                record = _record(raw, self._field)
            except _NoRecord as error:
                record = {}
                wrong[len(records)] = Wrong(f"Line {first + number - 1:,}, {error}.", text_of(raw, self.encoding))
            records.append(record)
            ends.append(number)
        return Parsed(records, ends, len(lines), wrong)


def _record(raw: bytes, field: str) -> Row:
    try:
        value = decode(raw)
    except REFUSED as error:
        raise _NoRecord(_reason(raw, error)) from error
    if field:
        return {field: value}
    if isinstance(value, dict):
        return value
    kind = KINDS.get(type(value), "null")
    raise _NoRecord(f"column 1: it holds {kind}, and a record is an object")


def _reason(raw: bytes, error: Exception) -> str:
    """Return where a line stops being JSON, and why."""
    if isinstance(error, RecursionError):
        return "column 1: it is nested too deeply"
    try:
        text = raw.decode()
    except UnicodeDecodeError as bad:
        column = len(raw[: bad.start].decode()) + 1
        return f"column {column}: it is not UTF-8 text (byte 0x{raw[bad.start]:02x})"
    message = str(error)
    if where := WHERE.search(message):
        what = message[: where.start()].removeprefix("JSON is malformed: ")
        byte = int(where[1]) - (what == "trailing characters")  # there it is the byte behind the wrong one
        return f"column {len(raw[:byte].decode('utf-8', 'replace')) + 1}: {what}"
    half = ", or holds half of a surrogate pair" if "\\u" in text else ""
    if "truncated" in message:
        return f"column {len(text.rstrip()) + 1}: it ends before its value does{half}"
    return f"column 1: {message[:1].lower()}{message[1:]}"
