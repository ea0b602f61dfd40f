"""Parquet: Python's values, resumed at any record, and a clear word about files that are none."""

from __future__ import annotations

import sys
from datetime import UTC, date, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from dataarch.errors import DependencyMissing, FeedError, InputMissing, InvalidValue
from dataarch.pipelines.extractors.parquet import ParquetFiles
from dataarch.pipelines.records import Position, Source
from pipelines.extractors_support import all_of, numbers_of, rows_of, until_refused

pytestmark = pytest.mark.pipeline

READ = ParquetFiles()
TABLE = pa.table({"id": list(range(1, 101)), "title": [f"Tea pot {number}" for number in range(1, 101)]})


def stored(folder: Path, table: Any, name: str = "feed.parquet", rows: int = 7) -> Source:
    pq.write_table(table, folder / name, row_group_size=rows, write_page_checksum=True)
    return Source(name, folder / name)


def test_values_are_pythons(tmp_path: Path) -> None:
    row = {
        "number": 7,
        "text": "é😀",
        "money": Decimal("2.55"),
        "time": datetime(2026, 1, 2, 3, 4, 5, 678, tzinfo=UTC),
        "day": date(2026, 1, 2),
        "raw": b"\0\xff",
        "list": [1, None],
        "nothing": None,
        "struct": {"a": {"b": "c"}},
    }
    assert rows_of(all_of(READ, stored(tmp_path, pa.Table.from_pylist([row])))) == [row]
    mapped = pa.table({"m": pa.array([[("k", 1)]], pa.map_(pa.string(), pa.int32()))})
    assert rows_of(all_of(READ, stored(tmp_path, mapped))) == [{"m": {"k": 1}}]


@pytest.mark.parametrize("size", [1, 3, 7, 50, 1000])
def test_records_come_once_wherever_reading_stops_and_goes_on(tmp_path: Path, size: int) -> None:
    source = stored(tmp_path, TABLE)
    whole = all_of(READ, source, size)
    assert rows_of(whole) == TABLE.to_pylist()
    assert whole[-1].after.end
    assert whole[-1].after.bytes == source.place.stat().st_size
    for stop, batch in enumerate(whole, 1):
        assert READ.resume(source, batch.after) is batch.after
        batches = [*whole[:stop], *all_of(READ, source, 10, batch.after)]
        assert rows_of(batches) == TABLE.to_pylist()
        assert numbers_of(batches) == list(range(1, 101))
        assert batches[-1].after == whole[-1].after


def test_bytes_grow_with_the_records_and_are_the_same_wherever_reading_goes_on(tmp_path: Path) -> None:
    source = stored(tmp_path, TABLE, rows=30)
    whole = all_of(READ, source, 10)
    bytes_read = [batch.after.bytes for batch in whole]
    size = source.place.stat().st_size
    assert bytes_read == sorted(bytes_read)
    assert len(set(bytes_read[:-1])) == 10
    assert bytes_read[4] < size * 0.6
    assert bytes_read[-1] == size
    for batch in whole:
        assert all_of(READ, source, 10, batch.after)[-1].after == whole[-1].after
        assert batch.after in [one.after for one in all_of(READ, source, 5, batch.before)]


def test_a_position_of_an_earlier_version_which_counted_the_whole_file_is_still_known(tmp_path: Path) -> None:
    source = stored(tmp_path, TABLE)
    place = all_of(READ, source, 10)[2].after
    earlier = Position(30, source.place.stat().st_size, place.checksum)
    assert READ.resume(source, earlier) is earlier
    batches = all_of(READ, source, 10, earlier)
    assert numbers_of(batches) == list(range(31, 101))
    assert all(batch.before.bytes <= batch.after.bytes for batch in batches)


def test_another_file_is_read_from_its_beginning(tmp_path: Path) -> None:
    source = stored(tmp_path, TABLE)
    last = all_of(READ, source)[-1].after
    stored(tmp_path, TABLE.slice(0, 50))
    assert READ.resume(source, last) == Position()
    _, error = until_refused(READ, source, position=last)
    assert "is not the file any longer" in error.message
    assert READ.resume(source, Position()) == Position()


def test_a_file_without_rows_gives_one_empty_batch(tmp_path: Path) -> None:
    (batch,) = all_of(READ, stored(tmp_path, TABLE.slice(0, 0)))
    assert (batch.rows, batch.after.end, batch.after.records) == ([], True, 0)


def test_m26_a_record_that_python_has_no_value_for_is_rejected_and_the_others_are_read(tmp_path: Path) -> None:
    table = pa.table(
        {
            "id": [1, 2, 3, 4, 5],
            "fine": pa.array([1000, 1001, 3000, 4000, 5000], pa.timestamp("ns")),
            "late": pa.array([0, 0, 2**62, 0, 0], pa.timestamp("us")),
            "text": pa.StringArray.from_buffers(
                5,
                pa.py_buffer(b"".join(n.to_bytes(4, "little") for n in (0, 1, 2, 3, 7, 8))),
                pa.py_buffer(b"abccaf\xe9e"),
            ),
        }
    )
    batches = all_of(READ, stored(tmp_path, table), 2)
    assert [row["id"] for row in rows_of(batches)] == [1, 5]
    assert numbers_of(batches) == [1, 5]
    rejects = [one for batch in batches for one in batch.rejects]
    assert [(one.number, one.field) for one in rejects] == [(2, "fine"), (3, "late"), (4, "text")]
    assert all("holds what is no value in Python" in one.reason for one in rejects)
    assert READ.parse(str(rejects[0].record))["fine"] == "1970-01-01 00:00:00.000001001"
    assert READ.parse(str(rejects[2].record)) == {
        "id": 4,
        "fine": "1970-01-01T00:00:00.000004",
        "late": "1970-01-01T00:00:00",
        "text": "caf\\xe9",
    }
    with pytest.raises(InvalidValue):
        READ.parse("[1]")


def test_columns_that_are_expected_may_come_in_any_order_and_no_others(tmp_path: Path) -> None:
    source = stored(tmp_path, TABLE)
    assert len(rows_of(all_of(ParquetFiles(columns=("title", "id")), source))) == 100
    assert len(rows_of(all_of(ParquetFiles(columns=("id",), optional=("title",)), source))) == 100
    _, error = until_refused(ParquetFiles(columns=("id",)), source)
    assert "it has 'title', which nobody expects" in error.message
    twice = pa.table([pa.array([1]), pa.array([2])], names=["id", "id"])
    _, error = until_refused(READ, stored(tmp_path, twice))
    assert "two columns named 'id'" in error.message
    with pytest.raises(InvalidValue):
        ParquetFiles(optional=("id",))


def test_what_is_no_parquet_file_is_told(tmp_path: Path) -> None:
    content = stored(tmp_path, TABLE).place.read_bytes()
    middle = len(content) // 2
    for broken in (b"", b"PAR1", b"x" * 100, content[:-20], content[:10], content[:middle]):
        (tmp_path / "broken.parquet").write_bytes(broken)
        batches, _ = until_refused(READ, Source("broken.parquet", tmp_path / "broken.parquet"))
        assert batches == []


def test_a_damaged_page_stops_the_file_and_what_stood_before_is_right(tmp_path: Path) -> None:
    source = stored(tmp_path, TABLE)
    content = bytearray(source.place.read_bytes())
    at = content.index(b"Tea pot 50")
    content[at] ^= 1
    source.place.write_bytes(content)
    batches, error = until_refused(READ, source, size=7)
    assert rows_of(batches) == TABLE.to_pylist()[: len(rows_of(batches))]
    assert 0 < len(rows_of(batches)) < 50
    assert "cannot be read" in error.message or "damaged" in error.message


def test_a_file_that_vanishes_or_changes_is_told(tmp_path: Path) -> None:
    _, error = until_refused(READ, Source("gone.parquet", tmp_path / "gone.parquet"))
    assert "No such file" in error.message
    source = stored(tmp_path, TABLE)
    reading = READ.read(source, Position(), 10)
    next(reading)
    with source.place.open("ab") as file:
        file.write(b"more")
    with pytest.raises(FeedError, match="has changed while it was read"):
        list(reading)


def test_only_files_that_end_so_are_read_of_a_folder(tmp_path: Path) -> None:
    stored(tmp_path, TABLE)
    (tmp_path / "other.csv").write_bytes(b"")
    assert [source.name for source in READ.sources(tmp_path)] == ["feed.parquet"]
    with pytest.raises(InputMissing):
        READ.sources(tmp_path / "nothing")


def test_a_batch_ends_early_where_its_records_are_large(tmp_path: Path) -> None:
    table = pa.table({"id": list(range(100)), "text": [str(number) * 100_000 for number in range(100)]})
    batches = all_of(READ, stored(tmp_path, table, rows=100), 1000)
    assert [row["id"] for row in rows_of(batches)] == list(range(100))
    assert len(batches) > 2


def test_it_says_what_to_install_where_pyarrow_is_missing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source = stored(tmp_path, TABLE)
    monkeypatch.setitem(sys.modules, "pyarrow.parquet", None)
    with pytest.raises(DependencyMissing, match="pip install"):
        all_of(READ, source)
