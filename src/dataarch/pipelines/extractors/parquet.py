"""Records of Parquet files; needs pyarrow, which is loaded when a file is read and not before."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from importlib import import_module
from itertools import accumulate
from pathlib import Path
from typing import Any

import msgspec

from dataarch.errors import DependencyMissing
from dataarch.pipelines.extractors.columns import check_columns, expected_columns
from dataarch.pipelines.extractors.files import file_sources
from dataarch.pipelines.extractors.json_lines import JsonLines
from dataarch.pipelines.extractors.lines import Mark
from dataarch.pipelines.extractors.opening import BLOCK, Unreadable
from dataarch.pipelines.extractors.reading import LARGEST_BATCH, check_size
from dataarch.pipelines.records import Batch, Position, Reject, Row, Source, Stage

__all__ = ["ParquetFiles"]

ENDINGS = (".parquet",)
SIZE = "size"
"""Where the state of a position has the bytes of the whole file."""

AGAIN = "Fetch it again; what was read before stays."
NOT_A_VALUE = (ValueError, OverflowError, KeyError)


@dataclass(frozen=True, slots=True)
class ParquetFiles:
    """Reads Parquet files.

    Each record is a dict by the names of the columns, with Python's values: numbers, ``Decimal``, text, ``bytes``,
    dates, times, lists and dicts. A record that Python has no value for (a year after 9999, a time finer than a
    microsecond, text that is not UTF-8) is rejected with its column; its text is a JSON object.

    A Parquet file cannot grow: a position holds the checksum of the whole file, and a file of another content is read
    from its beginning. Row groups that were read before are passed over. Its bytes are the part of the file's that the
    records have which were read, by the sizes of their row groups.

    Attributes:
        columns: what the file must hold, in any order; without it, any columns are read.
        optional: what it may hold beside these.
    """

    columns: tuple[str, ...] | None = None
    optional: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        columns, optional = expected_columns(self.columns, self.optional)
        object.__setattr__(self, "columns", columns)
        object.__setattr__(self, "optional", optional)

    def sources(self, given: Any) -> list[Source]:
        """Return the files of a path, folder or pattern, in the order of their names."""
        return file_sources(given, ENDINGS)

    def resume(self, source: Source, position: Position) -> Position:
        """Return the position if the file is still the same, otherwise its beginning."""
        if not position.bytes:
            return position
        try:
            with _readable():
                return position if _is(_summed(source), position) else Position()
        except Unreadable as broken:
            raise broken.told(source) from broken

    def read(self, source: Source, position: Position, size: int) -> Iterator[Batch]:
        """Read a file from a position, at most ``size`` records at a time.

        Raises:
            FeedError: it cannot be read any further.
            DependencyMissing: pyarrow is not installed.
        """
        check_size(size)
        library = _pyarrow()
        try:
            yield from self._batches(library, source, position, size)
        except Unreadable as broken:
            raise broken.told(source) from broken

    def parse(self, text: str) -> Row:
        """Return the record of a text that was rejected: a JSON object."""
        return JsonLines().parse(text)

    def _batches(self, library: Any, source: Source, position: Position, size: int) -> Iterator[Batch]:
        with _readable():
            mark = _summed(source)
            before = _changed(source)
        if position.bytes and not _is(mark, position):
            raise Unreadable("is not the file any longer that was read before", "Read it anew.")
        records, place = position.records, position
        with _readable():
            file = library.parquet.ParquetFile(source.place, buffer_size=BLOCK, page_checksum_verification=True)
        with file:
            check_columns(file.schema_arrow.names, self.columns, self.optional)
            shares = _shares(file.metadata)
            if records and SIZE not in position.state:
                # of an earlier version, which counted all bytes from the first record on
                place = _position(mark, records, _share(shares, records))
            pieces = _from(file, records, size)
            while (piece := _next(pieces)) is not None:
                rows, rejects = _records(piece, records + 1)
                records += piece.num_rows
                wrong = {reject.number for reject in rejects}
                numbers = [n for n in range(place.records + 1, records + 1) if n not in wrong]
                after = _position(mark, records, _share(shares, records))
                yield Batch(source, place, after, rows, numbers, rows, rejects)
                place = after
        with _readable():
            if _changed(source) != before:
                raise Unreadable("has changed while it was read", "Read it again when nobody writes it.")
        yield Batch(source, place, _position(mark, records, 1.0, end=True), [], [], [])


def _pyarrow() -> Any:
    try:
        import_module("pyarrow.parquet")
        return import_module("pyarrow")
    except ImportError as missing:
        raise DependencyMissing(
            f"pyarrow, which reads Parquet files, cannot be loaded: {missing}.",
            hint="Install it with `pip install 'dataarch[archive]'`.",
        ) from missing


@contextmanager
def _readable() -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise Unreadable(f"cannot be read ({error.strerror or error})".replace("\n", " "), AGAIN) from error
    except ValueError as error:  # what pyarrow calls invalid is one
        raise Unreadable(f"is no Parquet file, or damaged ({error})".replace("\n", " "), AGAIN) from error


def _summed(source: Source) -> Mark:
    mark = Mark()
    with Path(source.place).open("rb") as file:
        while raw := file.read(BLOCK):
            mark.take(raw)
    return mark


def _is(mark: Mark, position: Position) -> bool:
    return mark.bytes == position.state.get(SIZE, position.bytes) and mark.checksum == position.checksum


def _position(mark: Mark, records: int, share: float, *, end: bool = False) -> Position:
    """Return how far a file is read; some of its bytes, however few, belong to any record."""
    return Position(records, max(1, int(mark.bytes * share)), mark.checksum, {SIZE: mark.bytes}, end=end)


def _shares(metadata: Any) -> list[tuple[int, int]]:
    """Return for each row group how many records and how many unpacked bytes lie up to its end."""
    groups = [metadata.row_group(number) for number in range(metadata.num_row_groups)]
    sizes = accumulate(max(1, group.total_byte_size) for group in groups)
    return list(zip(accumulate(group.num_rows for group in groups), sizes, strict=True))


def _share(shares: list[tuple[int, int]], records: int) -> float:
    """Return which part of a file's bytes so many records have; those of one row group are taken as equal."""
    at = bisect_left(shares, records, key=lambda group: group[0])
    begun, passed = shares[at - 1] if at else (0, 0)
    end, size = shares[at]
    return (passed + (size - passed) * (records - begun) / (end - begun)) / shares[-1][1]


def _changed(source: Source) -> tuple[int, int, int]:
    found = Path(source.place).stat()
    return found.st_ino, found.st_size, found.st_mtime_ns


def _from(file: Any, records: int, size: int) -> Iterator[Any]:
    """Yield pieces of at most ``size`` records, those behind the first ``records`` ones."""
    group = 0
    while group < file.num_row_groups and file.metadata.row_group(group).num_rows <= records:
        records -= file.metadata.row_group(group).num_rows
        group += 1
    for piece in file.iter_batches(size, row_groups=list(range(group, file.num_row_groups))):
        passed = min(records, piece.num_rows)
        records -= passed
        yield from _small(piece.slice(passed))


def _small(piece: Any) -> Iterator[Any]:
    step = max(1, piece.num_rows * LARGEST_BATCH // max(piece.nbytes, LARGEST_BATCH))
    for start in range(0, piece.num_rows, step):
        yield piece.slice(start, step)


def _next(pieces: Iterator[Any]) -> Any:
    with _readable():
        return next(pieces, None)


def _records(piece: Any, first: int) -> tuple[list[Row], list[Reject]]:
    """Return the records of a piece, and those that Python has no value for; ``first`` is the first one's number."""
    try:
        return _values(piece), []
    except NOT_A_VALUE:
        pass
    rows: list[Row] = []
    rejects: list[Reject] = []
    for at in range(piece.num_rows):
        one = piece.slice(at, 1)
        try:
            rows += _values(one)
        except NOT_A_VALUE as error:
            rejects.append(_reject(one, first + at, error))
    return rows, rejects


def _values(piece: Any) -> list[Row]:
    rows: list[Row] = piece.to_pylist(maps_as_pydicts="strict")
    return rows


def _reject(one: Any, number: int, error: Exception) -> Reject:
    record: dict[str, Any] = {}
    wrong = ""
    for name in one.schema.names:
        column = one.select([name])
        try:
            record |= _values(column)[0]
        except NOT_A_VALUE as told:
            wrong, error = wrong or name, told
            record[name] = _as_text(column.column(0)[0])
    text = msgspec.json.encode(record, enc_hook=str).decode()
    reason = f"Column {wrong!r} holds what is no value in Python: {str(error).partition('.')[0]}."
    return Reject(number, Stage.EXTRACT, reason, text, field=wrong)


def _as_text(cell: Any) -> str:
    """Return what stands in a cell that Python has no value for, as far as it can be shown."""
    for way in ("string", "binary"):
        try:
            shown = cell.cast(way)
            return str(shown) if way == "string" else shown.as_py().decode("utf-8", "backslashreplace")
        except (*NOT_A_VALUE, NotImplementedError):
            continue
    return f"<{cell.type}>"
