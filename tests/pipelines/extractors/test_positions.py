"""How far a file was read: to the byte, proven by a checksum, and found again."""

from __future__ import annotations

import csv
import io
import json
import tempfile
from hashlib import sha256
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dataarch.errors import FeedError, InvalidValue
from dataarch.pipelines.extractors.csv_files import CsvFiles
from dataarch.pipelines.extractors.json_lines import JsonLines
from dataarch.pipelines.pipeline import Extractor
from dataarch.pipelines.records import Position
from pipelines.extractors_support import (
    PACKINGS,
    all_of,
    numbers_of,
    packed,
    rejects_of,
    rows_of,
    until_refused,
    written,
)

pytestmark = pytest.mark.pipeline

READ = CsvFiles()
HEADER = b"Code,Title\n"


def lines_of(first: int, last: int) -> bytes:
    return b"".join(b"T%d,Tea pot\n" % number for number in range(first, last + 1))


def stored(position: Position) -> Position:
    """Return a position as it comes back from where it was kept."""
    state = json.loads(json.dumps(dict(position.state)))
    return Position(position.records, position.bytes, position.checksum, state, position.end)


TEXTS = st.text(st.sampled_from('ab é😀,;"\n\r\u2028\x0b\x00\ufeff'), max_size=6)
TABLES = st.integers(1, 3).flatmap(
    lambda width: st.lists(st.lists(TEXTS, min_size=width, max_size=width), max_size=12).map(lambda rows: (width, rows))
)


@given(
    table=TABLES,
    size=st.integers(1, 5),
    again=st.integers(1, 5),
    stop=st.integers(0, 12),
    packing=st.sampled_from(PACKINGS),
    end=st.sampled_from(["\n", "\r\n", "\r"]),
)
def test_records_come_once_with_the_same_numbers_wherever_reading_stops_and_goes_on(
    table: tuple[int, list[list[str]]], size: int, again: int, stop: int, packing: str, end: str
) -> None:
    width, rows = table
    header = [f"column {at}" for at in range(width)]
    text = io.StringIO()
    csv.writer(text, lineterminator=end, quoting=csv.QUOTE_ALL).writerows([header, *rows])
    content = text.getvalue().encode()
    with tempfile.TemporaryDirectory() as folder:
        source = written(Path(folder), packed(content, packing))
        first = [batch for _, batch in zip(range(stop), READ.read(source, Position(), size), strict=False)]
        before = stored(first[-1].after if first else Position())
        assert READ.resume(source, before) is before
        batches = [*first, *READ.read(source, before, again)]
    assert [list(row.values()) for row in rows_of(batches)] == rows
    assert rejects_of(batches) == []
    assert numbers_of(batches) == list(range(1, len(rows) + 1))
    assert batches[-1].after.end
    place = Position()
    for batch in batches:
        assert stored(batch.before) == place
        assert batch.after.checksum == sha256(content[: batch.after.bytes]).hexdigest()
        place = stored(batch.after)
    assert place.bytes == len(content)


@given(content=st.lists(st.sampled_from([b"a", b"b", b",", b'"', b"\n", b"\r", b"\xe9", b"\0"]), max_size=40))
def test_whatever_the_bytes_every_record_is_accounted_for_and_nothing_crashes(content: list[bytes]) -> None:
    raw = b"x,y\n" + b"".join(content)
    for extractor in (READ, JsonLines()):
        with tempfile.TemporaryDirectory() as folder:
            place = Position()
            try:
                for batch in extractor.read(written(Path(folder), raw), place, 2):
                    assert batch.before == place
                    assert batch.after.records - place.records == len(batch.rows) + len(batch.rejects)
                    assert batch.after.checksum == sha256(raw[: batch.after.bytes]).hexdigest()
                    place = batch.after
            except FeedError:
                assert raw[place.bytes :].strip()
            else:
                assert place.bytes == len(raw)


@pytest.mark.parametrize("packing", PACKINGS)
def test_a_file_that_is_seen_again_gives_nothing_new(tmp_path: Path, packing: str) -> None:
    source = written(tmp_path, packed(HEADER + lines_of(1, 5), packing))
    last = stored(all_of(READ, source)[-1].after)
    assert READ.resume(source, last) is last
    (batch,) = all_of(READ, source, position=last)
    assert (batch.rows, batch.rejects, stored(batch.after)) == ([], [], last)


@pytest.mark.parametrize("packing", PACKINGS)
def test_a_file_that_grew_goes_on_where_it_ended(tmp_path: Path, packing: str) -> None:
    source = written(tmp_path, packed(HEADER + lines_of(1, 5), packing))
    last = stored(all_of(READ, source)[-1].after)
    written(tmp_path, packed(HEADER + lines_of(1, 9), packing))
    assert READ.resume(source, last) is last
    batches = all_of(READ, source, 3, last)
    assert [row["Code"] for row in rows_of(batches)] == ["T6", "T7", "T8", "T9"]
    assert numbers_of(batches) == [6, 7, 8, 9]


def test_a_file_that_grows_line_by_line_is_read_line_by_line(tmp_path: Path) -> None:
    whole = HEADER + b'T1,"Tea\npot"\n' + lines_of(2, 3)
    place, codes, told = Position(), [], set()
    for length in range(len(whole) + 1):
        source = written(tmp_path, whole[:length])
        place = READ.resume(source, place)
        try:
            for batch in READ.read(source, place, 10):
                place = batch.after
                codes += [row["Code"] for row in batch.rows]
        except FeedError as error:
            told.add(error.line)
    assert told == {1, 2, 4, 5}
    assert codes == ["T1", "T2", "T3"]
    assert place.bytes == len(whole)


@pytest.mark.parametrize(
    "changed",
    [
        HEADER + b"T1,Tea cup\n" + lines_of(2, 5),
        HEADER + lines_of(1, 4),
        b"Code,Name\n" + lines_of(1, 5),
        HEADER,
        b"",
    ],
)
def test_a_file_that_was_corrected_is_read_from_its_beginning(tmp_path: Path, changed: bytes) -> None:
    source = written(tmp_path, HEADER + lines_of(1, 5))
    last = all_of(READ, source)[-1].after
    written(tmp_path, changed)
    assert READ.resume(source, last) == Position()
    _, error = until_refused(READ, source, position=last)
    assert "does not begin any longer with what was read" in error.message


def test_the_line_of_an_error_counts_what_was_read_before(tmp_path: Path) -> None:
    source = written(tmp_path, HEADER + b'T1,"Tea\npot"\n' + b"T2\n")
    first = next(iter(READ.read(source, Position(), 1)))
    ((_, reason, _),) = rejects_of(all_of(READ, source, position=stored(first.after)))
    assert reason == "Line 4 has 1 fields, and the header has 2."


def test_a_mark_of_utf_8_is_left_out_at_the_beginning_and_nowhere_else(tmp_path: Path) -> None:
    source = written(tmp_path, "\ufeffCode\nA\n\ufeffB\n".encode())
    batches = all_of(READ, source, 1)
    assert rows_of(batches) == [{"Code": "A"}, {"Code": "\ufeffB"}]
    assert rows_of(all_of(READ, source, 1, batches[0].after)) == [{"Code": "\ufeffB"}]


def test_other_columns_are_noticed_where_reading_goes_on(tmp_path: Path) -> None:
    source = written(tmp_path, HEADER + lines_of(1, 2))
    first = next(iter(READ.read(source, Position(), 1)))
    batches, error = until_refused(CsvFiles(columns=("Code",)), source, position=first.after)
    assert (batches, "which nobody expects" in error.message) == ([], True)


@pytest.mark.parametrize("extractor", [READ, JsonLines()])
def test_a_batch_of_no_records_is_refused(tmp_path: Path, extractor: Extractor) -> None:
    with pytest.raises(InvalidValue):
        all_of(extractor, written(tmp_path, HEADER), size=0)
