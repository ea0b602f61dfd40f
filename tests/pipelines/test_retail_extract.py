"""Reading files: every record of a good file, one named error for a bad one."""

from __future__ import annotations

import gzip
import os
import random
import tracemalloc
from collections.abc import Callable
from pathlib import Path

import pytest

from dataarch.errors import FeedError, InputMissing
from dataarch.pipelines.feeds.retail import source_files, source_name
from dataarch.pipelines.feeds.retail.extract import LONGEST_LINE, read_lines
from pipelines.retail_support import HEADER, LINE, csv_of

pytestmark = pytest.mark.pipeline

GOOD = csv_of(LINE).encode()
PACKED = gzip.compress(csv_of(*[[str(random.Random(n).random()), *LINE[1:]] for n in range(2000)]).encode())


def refused(file: Path) -> FeedError:
    """Read a file that cannot be read to its end, and return why."""
    with pytest.raises(FeedError) as caught:
        list(read_lines(file))
    assert caught.value.source == file.name
    assert caught.value.hint
    assert "\n" not in str(caught.value)
    return caught.value


@pytest.fixture
def write(tmp_path: Path) -> Callable[..., Path]:
    """Write a file of these bytes."""

    def write(content: bytes, name: str = "lines.csv") -> Path:
        file = tmp_path / name
        file.write_bytes(content)
        return file

    return write


WriteFile = Callable[..., Path]


@pytest.mark.parametrize(
    ("content", "name"),
    [
        (GOOD, "plain.csv"),
        (gzip.compress(GOOD), "packed.csv.gz"),
        (gzip.compress(GOOD), "PACKED.CSV.GZ"),
        (b"\xef\xbb\xbf" + GOOD, "with_bom.csv"),
        (GOOD.replace(b"\n", b"\r\n"), "windows.csv"),
        (GOOD.replace(b"\n", b"\r"), "old_macintosh.csv"),
        (gzip.compress(GOOD[:40]) + gzip.compress(GOOD[40:]), "two_members.csv.gz"),
    ],
)
def test_a_line_is_read_whatever_the_packing_and_the_line_ends(write: WriteFile, content: bytes, name: str) -> None:
    assert [line.fields for line in read_lines(write(content, name))] == [list(LINE)]


def test_quoted_commas_quotes_and_line_breaks_belong_to_their_field(write: WriteFile) -> None:
    first = '536365,85123A,"MUG, ""OLD""\nBLUE",6,2010-12-01 08:26:00,2.55,17850.0,France\n'
    file = write(f"{HEADER}\n{first}{','.join(LINE)}\n".encode())
    lines = list(read_lines(file))
    assert [line.fields[2] for line in lines] == ['MUG, "OLD"\nBLUE', "TEA POT"]
    assert [line.number for line in lines] == [3, 4]


def test_a_file_with_nothing_but_the_header_has_no_lines(write: WriteFile) -> None:
    assert list(read_lines(write(f"{HEADER}\n".encode()))) == []


@pytest.mark.parametrize(
    "content",
    [
        pytest.param(b"", id="empty"),
        pytest.param(b"\n", id="blank"),
        pytest.param(GOOD.split(b"\n", 1)[1], id="no header"),
        pytest.param(GOOD.replace(b"CustomerID", b"Customer"), id="another column"),
        pytest.param(GOOD.replace(b",Country", b""), id="a column less"),
        pytest.param(GOOD.replace(b",", b";"), id="semicolons"),
        pytest.param("".join(f"{sign}\0" for sign in GOOD.decode()).encode(), id="UTF-16 without a mark"),
    ],
)
def test_a_file_with_another_header_is_refused_at_line_1_and_told_the_right_one(
    write: WriteFile, content: bytes
) -> None:
    error = refused(write(content))
    assert error.line == 1
    assert HEADER in error.hint


@pytest.mark.parametrize("kept", [1, 5, 12, 100, len(PACKED) // 2, len(PACKED) - 9, len(PACKED) - 1])
def test_a_truncated_gzip_file_is_refused_wherever_it_is_cut(write: WriteFile, kept: int) -> None:
    refused(write(PACKED[:kept], "cut.csv.gz"))


@pytest.mark.parametrize(
    "content",
    [
        pytest.param(GOOD, id="plain text"),
        pytest.param(PACKED[:200] + bytes(50) + PACKED[250:], id="damaged"),
        pytest.param(PACKED[:-8] + b"\0\0\0\0" + PACKED[-4:], id="wrong checksum"),
        pytest.param(PACKED + b"rubbish", id="rubbish behind it"),
    ],
)
def test_what_is_no_whole_gzip_file_is_refused(write: WriteFile, content: bytes) -> None:
    refused(write(content, "lines.csv.gz"))


def test_a_file_cut_off_at_any_byte_of_its_last_line_is_refused(write: WriteFile) -> None:
    whole = csv_of(LINE, ["536366", *LINE[1:]]).encode()
    last = whole.rindex(b"\n", 0, len(whole) - 1) + 1
    for kept in range(last + 1, len(whole)):
        assert refused(write(whole[:kept])).line == 3


def test_an_open_quote_is_refused_and_not_taken_for_one_long_field(write: WriteFile) -> None:
    opened = csv_of(['"536365', *LINE[1:]], *[LINE] * 10)
    refused(write(opened.encode()))
    refused(write((opened + csv_of(*[LINE] * 5000)).encode()))


@pytest.mark.parametrize(
    "content",
    [
        pytest.param(b"\x89PNG\r\n\x1a\n" + random.Random(1).randbytes(5000), id="binary"),
        pytest.param(GOOD.decode().encode("utf-16"), id="UTF-16"),
        pytest.param(GOOD + csv_of(["1", "A", "CAFÉ", *LINE[3:]], header="").encode("latin-1"), id="latin-1"),
        pytest.param(GOOD + "\ud800\n".encode("utf-8", "surrogatepass"), id="a surrogate"),
        pytest.param(PACKED, id="gzip without its ending"),
    ],
)
def test_what_is_not_utf_8_is_refused_with_the_byte_that_is_not(write: WriteFile, content: bytes) -> None:
    error = refused(write(content))
    assert "not UTF-8 text (byte 0x" in error.message


def test_a_line_or_field_too_long_for_memory_is_refused_and_not_read_to_its_end(write: WriteFile) -> None:
    assert "field larger than field limit" in refused(write(GOOD + b"x" * 140_000 + b"\n")).message
    assert "line of more than" in refused(write(GOOD + b"x," * LONGEST_LINE)).message
    bomb = gzip.compress(GOOD + bytes(50_000_000))
    assert len(bomb) < 100_000
    file = write(bomb, "bomb.csv.gz")
    tracemalloc.start()
    try:
        refused(file)
        assert tracemalloc.get_traced_memory()[1] < 10 * LONGEST_LINE
    finally:
        tracemalloc.stop()


def test_nul_bytes_are_left_to_validation(write: WriteFile) -> None:
    (line,) = read_lines(write(GOOD.replace(b"TEA POT", b"TEA\0POT")))
    assert line.fields[2] == "TEA\0POT"


def test_a_file_that_vanishes_before_it_is_read_is_refused(tmp_path: Path) -> None:
    assert "cannot be read (No such file" in refused(tmp_path / "gone.csv").message


def test_of_a_folder_only_csv_files_are_read_in_the_order_of_their_names(tmp_path: Path) -> None:
    for name in ("b.csv", "a.csv.gz", "C.CSV", "notes.txt", "d.csv.bak", "csv"):
        (tmp_path / name).write_bytes(b"")
    (tmp_path / "folder.csv").mkdir()
    (tmp_path / "loop.csv").symlink_to("loop.csv")
    (tmp_path / "dangling.csv").symlink_to("nowhere")
    (tmp_path / "linked.csv").symlink_to("b.csv")
    found = [file.name for file in source_files(tmp_path)]
    assert found == ["C.CSV", "a.csv.gz", "b.csv", "linked.csv"]


def test_a_single_file_is_read_alone(tmp_path: Path) -> None:
    file = tmp_path / "one.csv"
    file.write_bytes(GOOD)
    assert source_files(file) == [file]


@pytest.mark.parametrize("name", ["missing", "empty", "text.txt", "loop", "x" * 5000, "others", "dangling.csv"])
def test_a_path_without_csv_files_is_refused_with_what_to_do(tmp_path: Path, name: str) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "others").mkdir()
    (tmp_path / "others" / "x.csv").mkdir()
    (tmp_path / "text.txt").write_text("hello")
    (tmp_path / "loop").symlink_to("loop")
    (tmp_path / "dangling.csv").symlink_to("nowhere")
    with pytest.raises(InputMissing) as caught:
        source_files(tmp_path / name)
    assert caught.value.exit_code == 2
    assert caught.value.hint
    assert "\n" not in str(caught.value)


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read every file, whatever its permissions")
def test_a_file_or_folder_that_may_not_be_read_is_refused(write: WriteFile, tmp_path: Path) -> None:
    file = write(GOOD)
    file.chmod(0)
    assert "cannot be read (Permission denied)" in refused(file).message
    tmp_path.chmod(0)
    with pytest.raises(InputMissing):
        source_files(tmp_path)
    tmp_path.chmod(0o700)


def test_a_files_name_is_shown_on_one_line_whatever_its_bytes(tmp_path: Path) -> None:
    names = {b"plain.csv": "plain.csv", "é x.csv".encode(): "é x.csv", b"a\nb\x1b[1m.csv": "a\\nb\\x1b[1m.csv"}
    for raw, shown in names.items():
        assert source_name(Path(os.fsdecode(raw))) == shown
    assert source_name(Path(os.fsdecode(b"\xff.csv"))) == "\\udcff.csv"
