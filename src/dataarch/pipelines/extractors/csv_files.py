"""Records of CSV files: the first one names the fields of all others."""

from __future__ import annotations

import codecs
import csv
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from io import StringIO
from typing import Any

from dataarch.errors import InvalidValue, shown
from dataarch.pipelines.extractors.columns import check_columns, expected_columns
from dataarch.pipelines.extractors.files import file_sources
from dataarch.pipelines.extractors.lines import LONGEST_LINE
from dataarch.pipelines.extractors.opening import Unreadable
from dataarch.pipelines.extractors.reading import Parsed, Wrong, batches_of_lines, resumed, text_of
from dataarch.pipelines.records import Batch, Position, Row, Source

__all__ = ["CsvFiles"]

ENDINGS = (".csv", ".tsv")


@dataclass(frozen=True, slots=True)
class CsvFiles:
    """Reads CSV files: plain, gzip or Zstandard.

    Each record is a dict of text by the names of the file's header, so that files with their columns in another order
    are read alike. A record that is none (too few or too many fields, a stray quote, bytes of another encoding, a line
    of more than 1,000,000 bytes) is rejected, and reading goes on at the next line.

    Attributes:
        delimiter: one sign between fields.
        encoding: of the text; one that writes line ends as ASCII does. The mark that may begin UTF-8 is left out.
        columns: what the header must name, in any order; without it, any columns are read.
        optional: what it may name beside these.

    A quote that is still open where the file ends is no reject, and neither is a last line without a line end: nobody
    can tell whether the rest is still to come. Both stay unread, and :class:`FeedError` says so.
    """

    delimiter: str = ","
    encoding: str = "utf-8"
    columns: tuple[str, ...] | None = None
    optional: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if len(self.delimiter) != 1 or self.delimiter in '"\r\n\0' or ord(self.delimiter) > 127:
            raise InvalidValue(
                f"{shown(self.delimiter)} cannot stand between the fields of CSV.",
                hint="Give one ASCII sign, such as ',', ';', '|' or a tab; no quote and no line end.",
                value=self.delimiter,
            )
        columns, optional = expected_columns(self.columns, self.optional)
        for name, value in (("encoding", _encoding(self.encoding)), ("columns", columns), ("optional", optional)):
            object.__setattr__(self, name, value)

    def sources(self, given: Any) -> list[Source]:
        """Return the files of a path, folder or pattern, in the order of their names."""
        return file_sources(given, ENDINGS)

    def resume(self, source: Source, position: Position) -> Position:
        """Return the position if the file still begins with what was read, otherwise its beginning."""
        return resumed(source, position)

    def read(self, source: Source, position: Position, size: int) -> Iterator[Batch]:
        """Read a file from a position, at most ``size`` records at a time."""
        return batches_of_lines(source, position, size, _CsvParser(self))

    def parse(self, text: str) -> Row:
        """Return the record of a text that was rejected: the file's header, and the record behind it."""
        try:
            records = [fields for fields in self._reader(StringIO(text, newline="")) if fields]
        except csv.Error as error:
            raise InvalidValue(f"The record is not CSV: {error}.", hint="Mend it.", value=text) from error
        if len(records) != 2 or len(records[0]) != len(records[1]):
            raise InvalidValue(
                "The text is not a header and one record with as many fields.",
                hint="Mend it: the names first, then a line break, then one value for each.",
                value=text,
            )
        try:
            check_columns(records[0], self.columns, self.optional)
        except Unreadable as wrong:
            raise InvalidValue(f"The record {wrong.why}.", hint=wrong.hint, value=text) from wrong
        return dict(zip(*records, strict=True))

    def _reader(self, lines: Iterator[str]) -> Iterator[list[str]]:
        return csv.reader(lines, delimiter=self.delimiter, strict=True)


def _encoding(name: str) -> str:
    try:
        known = codecs.lookup(name).name
        fits = "\r\n,".encode(known) == b"\r\n,"
    except (LookupError, UnicodeError):
        fits = False
    if not fits:
        raise InvalidValue(
            f"Lines of the encoding {shown(name)} cannot be told apart.",
            hint="Give one that extends ASCII, such as utf-8, cp1252 or shift_jis; convert others, such as UTF-16.",
            value=name,
        )
    return known


class _Decoded:
    """The text of lines; bytes that are none are replaced. It can be set back."""

    def __init__(self, lines: list[bytes], encoding: str) -> None:
        self.lines = lines
        self.encoding = encoding
        self.at = 0
        self.exhausted = False

    def __iter__(self) -> _Decoded:
        return self

    def __next__(self) -> str:
        if self.at == len(self.lines):
            self.exhausted = True
            raise StopIteration
        self.at += 1
        return self.lines[self.at - 1].decode(self.encoding, "replace")

    def since(self, start: int) -> bytes:
        return b"".join(self.lines[start : self.at])


class _CsvParser:
    """Makes records of the lines of one file."""

    def __init__(self, files: CsvFiles) -> None:
        self.encoding = files.encoding
        self._files = files
        self._header: list[str] = []
        self._header_text = ""

    def begin(self, state: Mapping[str, Any]) -> None:
        if header := state.get("header"):
            self._begin_with(header)

    def state(self) -> dict[str, object]:
        return {"header": self._header} if self._header else {}

    def check_skip(self) -> None:
        if not self._header:
            raise Unreadable(f"has a header of more than {LONGEST_LINE:,} bytes", "Mend its first line.")

    def check_end(self) -> None:
        if not self._header and self._files.columns is not None:
            raise Unreadable("has no header: it is empty", f"Expected are {', '.join(self._files.columns)}.")

    def parse(self, lines: list[bytes], line: int, room: int) -> Parsed:
        if not self._header:
            return self._parse_header(lines, line, room)
        return self._fast(lines) or self._carefully(lines, line, room)

    def _begin_with(self, header: list[str]) -> None:
        check_columns(header, self._files.columns, self._files.optional)
        self._header = header
        text = StringIO()
        csv.writer(text, delimiter=self._files.delimiter, lineterminator="\n").writerow(header)
        self._header_text = text.getvalue()

    def _parse_header(self, lines: list[bytes], line: int, room: int) -> Parsed:
        decoded = _Decoded(lines, self.encoding)
        try:
            header = next((fields for fields in self._files._reader(decoded) if fields), None)
            if header is None:
                return Parsed([], [], len(lines))
            decoded.since(0).decode(self.encoding)
        except csv.Error as error:
            if decoded.exhausted and len(decoded.since(0)) < room:
                return Parsed([], [], 0)
            raise Unreadable(f"has a header that is not CSV ({error})", "Mend its first line.") from error
        except UnicodeDecodeError as error:
            raise Unreadable(
                f"has a header that is not {self.encoding} text ({_byte(error)})", "Convert it, or give its encoding."
            ) from error
        self._begin_with(header)
        at = decoded.at
        if at == len(lines):
            return Parsed([], [], at)
        behind = self.parse(lines[at:], line + at, room)
        return Parsed(behind.records, [at + end for end in behind.ends], at + behind.used, behind.wrong)

    def _fast(self, lines: list[bytes]) -> Parsed | None:
        """Parse lines that are one good record each; None if they are not."""
        width = len(self._header)
        try:
            text = b"".join(lines).decode(self.encoding)
            if '"' in text or width == 1 or max(map(len, lines)) > csv.field_size_limit():
                rows = list(self._files._reader(map(bytes.decode, lines, [self.encoding] * len(lines))))
            else:
                rows = [line.split(self._files.delimiter) for line in _without_ends(text)]
        except (csv.Error, UnicodeDecodeError):
            return None
        if len(rows) != len(lines) or set(map(len, rows)) != {width}:
            return None
        header = self._header
        return Parsed([dict(zip(header, row)) for row in rows], range(1, len(rows) + 1), len(rows))  # noqa: B905

    def _carefully(self, lines: list[bytes], line: int, room: int) -> Parsed:
        """Parse lines one record after the other, and say of each that is none why."""
        decoded = _Decoded(lines, self.encoding)
        reader = self._files._reader(decoded)
        records: list[Row] = []
        ends: list[int] = []
        wrong: dict[int, Wrong] = {}
        start = 0
        while start < len(lines):
            try:
                fields = next(reader)
                reason = self._wrong(fields, decoded.since(start))
            except csv.Error as error:
                if decoded.exhausted and len(decoded.since(start)) < room:
                    break
                decoded.at, decoded.exhausted = start + 1, False
                fields, reason = [], f"is not CSV: {error}"
            if reason:
                text = self._header_text + text_of(decoded.since(start), self.encoding)
                wrong[len(records)] = Wrong(f"Line {line + start:,} {reason}.", text)
            if reason or fields:
                records.append(dict(zip(self._header, fields, strict=False)))
                ends.append(decoded.at)
            start = decoded.at
        return Parsed(records, ends, start, wrong)

    def _wrong(self, fields: list[str], raw: bytes) -> str:
        """Return what is wrong with a record, or nothing."""
        try:
            raw.decode(self.encoding)
        except UnicodeDecodeError as error:
            return f"is not {self.encoding} text: {_byte(error)}"
        if fields and len(fields) != len(self._header):
            return f"has {len(fields)} fields, and the header has {len(self._header)}"
        return ""


def _without_ends(text: str) -> list[str]:
    """Return lines without their line ends; only LF, CR LF and CR are such."""
    if "\r" in text:
        text = text.replace("\r\n", "\n").replace("\r", "\n")
    lines = text.split("\n")
    lines.pop()
    return lines


def _byte(error: UnicodeDecodeError) -> str:
    return f"byte 0x{error.object[error.start]:02x} at column {error.start + 1}"
