"""Which files are read, in which order, and what they are known by."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from dataarch.errors import InputMissing, InvalidValue
from dataarch.pipelines.extractors.csv_files import CsvFiles
from dataarch.pipelines.extractors.files import file_sources, printable
from dataarch.pipelines.extractors.json_lines import JsonLines
from dataarch.pipelines.records import Source

pytestmark = pytest.mark.pipeline


def touch(folder: Path, *names: str) -> None:
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(b"")


def test_of_a_folder_files_are_read_in_the_order_of_their_names(tmp_path: Path) -> None:
    touch(tmp_path, "b.csv", "a.csv.gz", "C.CSV", "d.csv.zst", "e.tsv", "f.jsonl", "notes.txt", ".g.csv", "h.csv.bak")
    (tmp_path / "folder.csv").mkdir()
    (tmp_path / "loop.csv").symlink_to("loop.csv")
    (tmp_path / "dangling.csv").symlink_to("nowhere")
    (tmp_path / "linked.csv").symlink_to("b.csv")
    names = ["C.CSV", "a.csv.gz", "b.csv", "d.csv.zst", "e.tsv", "linked.csv"]
    assert CsvFiles().sources(tmp_path) == [Source(name, tmp_path / name) for name in names]
    assert [source.name for source in JsonLines().sources(str(tmp_path))] == ["f.jsonl"]


def test_a_single_file_is_read_whatever_it_is_called(tmp_path: Path) -> None:
    touch(tmp_path, "export", "a[1]*.txt", "a1.txt")
    assert CsvFiles().sources(tmp_path / "export") == [Source("export", tmp_path / "export")]
    assert CsvFiles().sources(tmp_path / "a[1]*.txt") == [Source("a[1]*.txt", tmp_path / "a[1]*.txt")]


def test_a_pattern_names_files_from_where_it_begins(tmp_path: Path) -> None:
    touch(tmp_path, "2026/b.csv", "2025/a.csv", "2025/deep/c.txt", "2025/a.bak", "other/a.csv")

    def found(pattern: str) -> list[str]:
        return [source.name for source in CsvFiles().sources(f"{tmp_path}/{pattern}")]

    assert found("20??/*.csv") == ["2025/a.csv", "2026/b.csv"]
    assert found("2025/*.[cb]*") == ["a.bak", "a.csv"]
    assert found("**/*") == ["2025/a.bak", "2025/a.csv", "2025/deep/c.txt", "2026/b.csv", "other/a.csv"]


def test_a_relative_pattern_is_found_where_one_stands(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    touch(tmp_path, "a.csv", "b/c.csv")
    monkeypatch.chdir(tmp_path)
    assert [source.name for source in file_sources("*.csv", (".csv",))] == ["a.csv"]
    assert [source.name for source in file_sources("*/*.csv", (".csv",))] == ["b/c.csv"]


@pytest.mark.parametrize(
    "name", ["missing", "empty", "loop", "x" * 5000, "others", "dangling.csv", "*.nothing", "pipe"]
)
def test_where_there_is_nothing_to_read_it_is_told_what_to_do(tmp_path: Path, name: str) -> None:
    (tmp_path / "empty").mkdir()
    touch(tmp_path, "others/text.txt")
    (tmp_path / "loop").symlink_to("loop")
    (tmp_path / "dangling.csv").symlink_to("nowhere")
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(InputMissing) as caught:
        CsvFiles().sources(tmp_path / name)
    assert caught.value.hint
    assert "\n" not in str(caught.value)


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read every folder, whatever its permissions")
def test_a_folder_that_may_not_be_read_is_told(tmp_path: Path) -> None:
    (tmp_path / "closed").mkdir()
    (tmp_path / "closed").chmod(0)
    with pytest.raises(InputMissing, match="Permission denied"):
        CsvFiles().sources(tmp_path / "closed")


@pytest.mark.parametrize("given", [None, 7, b"bytes", ["a.csv"], "", "a\0b"])
def test_what_is_no_path_is_refused(given: object) -> None:
    with pytest.raises(InvalidValue) as caught:
        CsvFiles().sources(given)
    assert caught.value.hint


def test_names_can_be_printed_are_short_and_never_become_one() -> None:
    assert printable("é x.csv") == "é x.csv"
    assert printable("a\nb\x1b.csv") == "a\\nb\\x1b.csv"
    assert printable("a\\nb\\x1b.csv") == "a\\\\nb\\\\x1b.csv"
    assert printable(os.fsdecode(b"\xff.csv")) == "\\udcff.csv"
    assert printable("x" * 1000) == "x" * 1000
    long, other = printable("x" * 1001), printable("x" * 1000 + "y")
    assert len(long) == len(other) <= 1000
    assert long != other
