"""How far a run is said to be: by the bytes of its files, where one can tell."""

from __future__ import annotations

import gzip
import random
import re
from collections.abc import Sequence
from contextlib import suppress
from io import StringIO
from pathlib import Path

import pytest
from rich.console import Console

from dataarch.cli.pipeline_progress import shown_progress
from dataarch.pipelines.outcome import Counts, Progress
from dataarch.pipelines.records import Source
from pipelines.extractors_support import packed

pytestmark = pytest.mark.pipeline


def said(sources: Sequence[Source], *told: Progress, terminal: bool = True, stopped: bool = False) -> list[str]:
    """Return the lines that progress gives, as a terminal or a pipe gets them; of a bar the last one.

    Args:
        sources: what is read.
        told: how far the run is.
        terminal: whether somebody watches.
        stopped: whether the run ends with an error then.
    """
    written = StringIO()
    console = Console(file=written, force_terminal=terminal, width=160, color_system=None, legacy_windows=False)
    with suppress(KeyboardInterrupt), shown_progress(console, sources) as on_progress:
        for one in told:
            on_progress(one)
        if stopped:
            raise KeyboardInterrupt
    plain = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", written.getvalue()).replace("\r", "\n")
    lines = [line.rstrip() for line in plain.splitlines() if line.strip()]
    return lines[-1:] if terminal else lines


def told(source: str, count: int, read: int, rejected: int = 0) -> Progress:
    return Progress(source, count, Counts(read=read, loaded=read - rejected, rejected=rejected), source)


@pytest.fixture
def files(tmp_path: Path) -> list[Source]:
    """A file, one that is packed, and another."""
    (tmp_path / "a.csv").write_bytes(b"x" * 400)
    (tmp_path / "b.csv.gz").write_bytes(whole := gzip.compress(random.Random(1).randbytes(300) + bytes(9_700)))
    (tmp_path / "c.csv").write_bytes(b"x" * (600 - len(whole)))
    return [Source(path.name, path) for path in sorted(tmp_path.iterdir())]


def test_a_bar_tells_bytes_records_and_rejects(files: list[Source]) -> None:
    (line,) = said(files, told("a.csv", 100, 7, 2), stopped=True)
    assert "10% 0.1/1.0 kB" in line
    assert re.search(r"7 records · [\d,]+/s · 2 rejected", line)


def test_a_file_packed_with_gzip_counts_by_what_it_says_that_it_holds(files: list[Source]) -> None:
    size = (files[1].place).stat().st_size
    (line,) = said(files, told("b.csv.gz", 5_000, 7), stopped=True)
    assert f" {(400 + size / 2) / 1000 * 100:.0f}% " in line
    (line,) = said(files, told("b.csv.gz", 5_000, 7), told("c.csv", 0, 9), stopped=True)
    assert f" {(400 + size) / 1000 * 100:.0f}% " in line


@pytest.mark.parametrize("pieces", [1, 2])
def test_a_packed_file_of_which_one_cannot_tell_counts_when_the_next_one_is_read(tmp_path: Path, pieces: int) -> None:
    whole = packed(b"x" * 400, "zstd") if pieces == 1 else gzip.compress(bytes(10_000)) + gzip.compress(b"")
    (tmp_path / "a").write_bytes(whole)
    (tmp_path / "b").write_bytes(b"x" * len(whole))
    files = [Source(path.name, path) for path in sorted(tmp_path.iterdir())]
    (line,) = said(files, told("a", 200, 7), stopped=True)
    assert " 0% " in line
    (line,) = said(files, told("a", 200, 7), told("b", 0, 9), stopped=True)
    assert " 50% " in line


def test_a_run_that_is_done_has_read_all_of_it(files: list[Source]) -> None:
    (line,) = said(files, told("a.csv", 100, 7))
    assert "100% 1.0/1.0 kB" in line


def test_what_is_no_file_or_is_gone_has_a_bar_without_an_end(tmp_path: Path) -> None:
    (line,) = said([Source("query", {}), Source("gone", tmp_path / "gone")], told("query", 0, 7))
    assert "7 records" in line
    assert "%" not in line
    (line,) = said([], told("replayed", 0, 3))
    assert "3 records" in line


def test_a_pipe_gets_a_line_for_each_source(files: list[Source]) -> None:
    lines = said(files, told("a.csv", 1, 1), told("a.csv", 2, 2), told("c.csv", 9, 1_234, 4), terminal=False)
    assert lines == [
        "a.csv: 2 records read, 2 of them good, 0 rejected so far",
        "c.csv: 1,234 records read, 1,230 of them good, 4 rejected so far",
    ]
    assert said(files, terminal=False) == []


def test_sources_that_are_committed_together_are_one_line(files: list[Source]) -> None:
    (line,) = said(files, Progress("b.csv.gz", 9, Counts(read=3, loaded=3), "a.csv"), terminal=False)
    assert line == "a.csv … b.csv.gz: 3 records read, 3 of them good, 0 rejected so far"
