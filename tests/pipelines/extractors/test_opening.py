"""Files as they come: packed, cut off, damaged, changed under one's eyes, or larger than memory."""

from __future__ import annotations

import os
import sys
import tracemalloc
from hashlib import sha256
from pathlib import Path

import pytest

from dataarch.errors import DependencyMissing, FeedError
from dataarch.pipelines.extractors.csv_files import CsvFiles
from dataarch.pipelines.extractors.json_lines import JsonLines
from dataarch.pipelines.extractors.lines import LONGEST_LINE
from dataarch.pipelines.extractors.opening import BLOCK
from dataarch.pipelines.extractors.reading import LARGEST_BATCH
from dataarch.pipelines.records import Position, Source
from pipelines.extractors_support import PACKINGS, all_of, packed, rejects_of, rows_of, until_refused, written

pytestmark = pytest.mark.pipeline

READ = CsvFiles()
PACKED = [packing for packing in PACKINGS if packing != "plain"]
ROUND = -LONGEST_LINE % BLOCK
CODES = [os.urandom(8).hex() for _ in range(20_000)]
CONTENT = "".join(["Code,Number\n", *(f"{code},{number}\n" for number, code in enumerate(CODES))]).encode()


@pytest.mark.parametrize("packing", PACKINGS)
@pytest.mark.parametrize("name", ["feed.csv", "feed.csv.gz", "feed.csv.zst", "feed"])
def test_the_packing_is_told_by_the_content_and_not_by_the_name(tmp_path: Path, packing: str, name: str) -> None:
    batches = all_of(READ, written(tmp_path, packed(CONTENT, packing), name), size=5000)
    assert [row["Code"] for row in rows_of(batches)] == CODES
    assert [len(batch.rows) for batch in batches] == [5000, 5000, 5000, 5000, 0]
    assert batches[-1].after.bytes == len(CONTENT)


@pytest.mark.parametrize("packing", PACKED)
def test_several_packed_pieces_one_behind_the_other_are_one_file(tmp_path: Path, packing: str) -> None:
    pieces = [CONTENT[:7], b"", CONTENT[7:100_000], CONTENT[100_000:]]
    source = written(tmp_path, b"".join(packed(piece, packing) for piece in pieces))
    assert [row["Code"] for row in rows_of(all_of(READ, source))] == CODES


@pytest.mark.parametrize("packing", PACKED)
def test_of_a_packed_file_that_is_cut_off_all_whole_records_are_read_and_then_it_stops(
    tmp_path: Path, packing: str
) -> None:
    content = packed(CONTENT, packing)
    for kept in (len(content) - 1, 3 * len(content) // 4, len(content) // 2):
        batches, error = until_refused(READ, written(tmp_path, content[:kept]), size=1000)
        assert error.message.startswith("feed.csv is cut off: what is compressed in it has no end at line ")
        read = [row["Code"] for row in rows_of(batches)]
        assert read == CODES[: len(read)]
        assert error.line == len(read) + 2
    assert len(read) > 1000


@pytest.mark.parametrize("packing", PACKED)
def test_a_packed_file_that_is_damaged_stops_where_it_is(tmp_path: Path, packing: str) -> None:
    content = packed(CONTENT, packing)
    middle = len(content) // 2
    for damaged in (content[:middle] + os.urandom(40) + content[middle + 40 :], content + b"rubbish"):
        batches, error = until_refused(READ, written(tmp_path, damaged), size=1000)
        assert "is damaged" in error.message or "is cut off" in error.message or "header" in error.message
        assert batches or packing == "zstd"
    assert [row["Code"] for row in rows_of(batches)] == CODES


@pytest.mark.parametrize(
    ("content", "told"),
    [
        (b"PK\x03\x04" + bytes(50), "ZIP"),
        (b"\xfd7zXZ\0" + bytes(50), "xz"),
        ("Code,Title\n".encode("utf-16"), "UTF-16"),
        (b"\xfe\xff" + "Code\n".encode("utf-16-be"), "UTF-16"),
        ("Code,Title\n".encode("utf-16-le"), "cannot be printed"),
        (b"\x1f\x8b", "cut off"),
        (b"\x28\xb5\x2f\xfd", "cut off"),
        (b"\x89PNG\r\n\x1a\n" + bytes(50), "not utf-8"),
    ],
)
def test_what_is_no_text_is_refused_by_its_kind(tmp_path: Path, content: bytes, told: str) -> None:
    batches, error = until_refused(READ, written(tmp_path, content))
    assert (rows_of(batches), told in error.message) == ([], True), error.message


def test_frames_of_zstandard_that_are_to_be_passed_over_may_come_first(tmp_path: Path) -> None:
    frame = b"\x5a\x2a\x4d\x18" + (4).to_bytes(4, "little") + b"note"
    assert len(rows_of(all_of(READ, written(tmp_path, frame + packed(CONTENT, "zstd"))))) == len(CODES)


def test_zstandard_says_what_to_install_where_it_is_missing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source = written(tmp_path, packed(CONTENT, "zstd"))
    for name in ("compression.zstd", "backports.zstd"):
        monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(DependencyMissing, match="pip install"):
        all_of(READ, source)


# ── files that change ─────────────────────────────────────────────────────────────────────────────────────────────


def test_a_file_that_vanishes_is_told_and_so_is_a_folder_in_its_place(tmp_path: Path) -> None:
    source = Source("gone.csv", tmp_path / "gone.csv")
    _, error = until_refused(READ, source)
    assert "cannot be read (No such file or directory)" in error.message
    with pytest.raises(FeedError, match="No such file"):
        READ.resume(source, Position(records=1, bytes=10))
    assert READ.resume(source, Position()) == Position()
    _, error = until_refused(READ, Source("folder", tmp_path))
    assert "Is a directory" in error.message


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read every file, whatever its permissions")
def test_a_file_that_may_not_be_read_is_told(tmp_path: Path) -> None:
    source = written(tmp_path, CONTENT)
    source.place.chmod(0)
    _, error = until_refused(READ, source)
    assert "Permission denied" in error.message


def test_a_file_that_shrinks_while_it_is_read_is_told_and_what_was_read_is_whole(tmp_path: Path) -> None:
    source = written(tmp_path, CONTENT)
    reading = READ.read(source, Position(), 1000)
    given = [next(reading)]
    os.truncate(source.place, BLOCK // 2)
    with pytest.raises(FeedError, match="has shrunk while it was read"):
        given.extend(reading)
    read = [row["Code"] for row in rows_of(given)]
    assert read == CODES[: len(read)]
    assert not given[-1].after.end


def test_a_file_that_grows_while_it_is_read_is_read_to_its_new_end(tmp_path: Path) -> None:
    source = written(tmp_path, CONTENT)
    reading = READ.read(source, Position(), 1000)
    given = [next(reading)]
    with source.place.open("ab") as file:
        file.write(b"last,1\n")
    given.extend(reading)
    assert [row["Code"] for row in rows_of(given)] == [*CODES, "last"]


# ── files larger than memory ──────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("end", [b"\n", b"\r\n", b"\r"])
@pytest.mark.parametrize("over", [-1, 0, 1, 2, BLOCK - 1, BLOCK, BLOCK + 1, ROUND, ROUND + BLOCK])
def test_the_longest_line_is_read_and_a_longer_one_is_rejected_wherever_it_lies(
    tmp_path: Path, over: int, end: bytes
) -> None:
    length = LONGEST_LINE + over
    long = b'{"a":"' + b"x" * (length - 8 - len(end)) + b'"}' + end
    for before in (0, BLOCK - 2, BLOCK):
        first = b'{"a":"' + b"y" * (before - 8 - len(end)) + b'"}' + end if before else b""
        content = first + long + b'{"a":2}' + end + b'{"a":3}' + end
        if not first and over > 0:
            ((_, reason, _),) = rejects_of(all_of(JsonLines(), written(tmp_path, long)))
            assert f" {length:,} bytes" in reason
        batches = all_of(JsonLines(), written(tmp_path, content))
        told = [(number - bool(first), reason) for number, reason, _ in rejects_of(batches)]
        line = 2 if first else 1
        assert told == ([(1, f"Line {line} has {length:,} bytes, and 1,000,000 at the most are read.")] * (over > 0))
        assert [row["a"] for row in rows_of(batches)][-2:] == [2, 3]
        assert batches[-1].after.records == 3 + bool(first)
        assert batches[-1].after.bytes == len(content)


@pytest.mark.parametrize("packing", PACKED)
def test_a_line_of_any_length_is_passed_over_in_memory_that_does_not_grow(tmp_path: Path, packing: str) -> None:
    piece, times = packed(b"x" * 32_000_000, packing), 4
    small = packed(b"Code,Title\nT1,Tea pot\n", packing), packed(b"\nC1,Cup\n", packing)
    source = written(tmp_path, small[0] + piece * times + small[1])
    assert source.place.stat().st_size < 1_000_000
    tracemalloc.start()
    try:
        batches = all_of(READ, source)
        assert tracemalloc.get_traced_memory()[1] < 8 * LONGEST_LINE
    finally:
        tracemalloc.stop()
    assert [row["Code"] for row in rows_of(batches)] == ["T1", "C1"]
    ((number, reason, record),) = rejects_of(batches)
    assert (number, record) == (2, "x" * 1000 + "…")
    assert reason == "Line 3 has 128,000,001 bytes, and 1,000,000 at the most are read."


def test_a_line_without_any_end_is_not_read_and_what_stood_before_is(tmp_path: Path) -> None:
    content = b"Code,Title\nT1,Tea pot\n" + b"x" * (3 * LONGEST_LINE)
    batches, error = until_refused(READ, written(tmp_path, content))
    assert rows_of(batches) == [{"Code": "T1", "Title": "Tea pot"}]
    assert (batches[-1].after.bytes, error.line) == (22, 3)


def test_a_quote_that_opens_before_a_line_that_is_too_long_costs_its_own_line(tmp_path: Path) -> None:
    content = b'Code,Title\nT1,"Tea pot\n' + b"x" * (2 * LONGEST_LINE) + b"\nC1,Cup\n"
    opened, long = 'Code,Title\nT1,"Tea pot', "x" * 1000 + "…"
    batches = all_of(READ, written(tmp_path, content))
    assert rows_of(batches) == [{"Code": "C1", "Title": "Cup"}]
    assert [(number, record) for number, _, record in rejects_of(batches)] == [(1, opened), (2, long)]
    assert [reason[:6] for _, reason, _ in rejects_of(batches)] == ["Line 2", "Line 3"]
    assert all(batch.after.checksum == sha256(content[: batch.after.bytes]).hexdigest() for batch in batches)


def test_memory_does_not_grow_with_the_file(tmp_path: Path) -> None:
    peaks = []
    piece = packed(CONTENT[:100_000].rpartition(b"\n")[0] + b"\n", "gzip")
    for times in (3, 9):
        source = written(tmp_path, piece * times)
        tracemalloc.start()
        try:
            for _ in READ.read(source, Position(), 1000):
                pass
            peaks.append(tracemalloc.get_traced_memory()[1])
        finally:
            tracemalloc.stop()
    assert peaks[1] < peaks[0] * 1.2


def test_a_batch_ends_early_where_its_records_are_large(tmp_path: Path) -> None:
    line = b"T1," + b"x" * 100_000 + b"\n"
    source = written(tmp_path, packed(b"Code,Title\n" + line * 300, "gzip"))
    batches = all_of(READ, source, size=1000)
    assert len(rows_of(batches)) == 300
    assert max(batch.after.bytes - batch.before.bytes for batch in batches) < LARGEST_BATCH + 2 * LONGEST_LINE
    assert len(batches) == 4
