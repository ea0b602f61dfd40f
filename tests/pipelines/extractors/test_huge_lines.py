"""Lines of a gigabyte: rejected, or a clear stop, in memory that does not grow.

The files are small: gzip packs a gigabyte of one sign in 5 MB. A process of its own reads them, so that its memory is
that of reading alone.
"""

from __future__ import annotations

import gzip
import json
import subprocess
import sys
from pathlib import Path
from typing import Any, NamedTuple

import pytest

pytestmark = pytest.mark.pipeline

SOURCE = Path(__file__).resolve().parents[3] / "src"
PIECE = 25_000_000
PIECES = 40
HUGE = PIECE * PIECES
MEMORY = 16_000_000
"""Bytes that reading may take beside what the interpreter and its modules have taken before."""

STATUS = Path("/proc/self/status")
"""Where Linux tells of a process's memory."""

CHILD = """
import json, sys
from pathlib import Path
from dataarch.errors import FeedError
from dataarch.pipelines import extractors
from dataarch.pipelines.records import Position, Source

def peak():
    [line] = [line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmHWM")]
    return int(line.split()[1]) * 1024

name, small, huge = sys.argv[1:]
extractor = getattr(extractors, name)()

def read(path):
    told = {"rows": [], "rejects": [], "stopped": None}
    try:
        for batch in extractor.read(Source("huge", path), Position(), 100):
            told["rows"] += batch.rows
            told["rejects"] += [(one.number, one.reason, len(one.record)) for one in batch.rejects]
            told["end"] = (batch.after.records, batch.after.bytes)
    except FeedError as error:
        told["stopped"] = str(error)
    return told

read(small)
before = peak()
told = read(huge)
print(json.dumps({**told, "grown": peak() - before}))
"""


@pytest.fixture(scope="module")
def piece() -> bytes:
    """Part of a line, packed."""
    return gzip.compress(b"x" * PIECE, 1)


def read_in_a_child(extractor: str, folder: Path, *content: bytes) -> dict[str, Any]:
    """Read packed pieces as one file, and return what was read and how much memory that took."""
    if not STATUS.exists():
        pytest.skip("The memory of a process is asked of /proc, which this system has not.")
    small, huge = folder / "small", folder / "huge"
    small.write_bytes(gzip.compress(b"{}\n{}\n"))
    huge.write_bytes(b"".join(content))
    assert huge.stat().st_size < HUGE / 100
    child = subprocess.run(
        [sys.executable, "-c", CHILD, extractor, str(small), str(huge)],
        env={"PYTHONPATH": str(SOURCE)},
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
    )
    assert child.returncode == 0, child.stderr
    told: dict[str, Any] = json.loads(child.stdout)
    return told


class Around(NamedTuple):
    """What stands around a line of a gigabyte: lines before it, its beginning and its end, and lines behind it."""

    before: bytes
    opens: bytes
    closes: bytes
    behind: bytes


FILES = {
    "CsvFiles": Around(b"Code,Title\nT1,Tea\n", b'T2,"', b'"\n', b"T3,Cup\n"),
    "JsonLines": Around(b'{"Code":"T1"}\n', b'{"Code":"', b'"}\r\n', b'{"Code":"T3"}\n'),
}


@pytest.mark.parametrize("extractor", FILES)
def test_a_line_of_a_gigabyte_is_rejected_and_the_others_are_read(tmp_path: Path, piece: bytes, extractor: str) -> None:
    before, opens, closes, behind = FILES[extractor]
    first, last = gzip.compress(before + opens), gzip.compress(closes + behind)
    told = read_in_a_child(extractor, tmp_path, first, piece * PIECES, last)
    length = len(opens) + HUGE + len(closes)
    line = before.count(b"\n") + 1
    assert [row["Code"] for row in told["rows"]] == ["T1", "T3"]
    assert told["rejects"] == [[2, f"Line {line} has {length:,} bytes, and 1,000,000 at the most are read.", 1001]]
    assert told["stopped"] is None
    assert told["end"] == [3, len(before) + length + len(behind)]
    assert told["grown"] < MEMORY


def test_a_header_of_a_gigabyte_stops_its_file(tmp_path: Path, piece: bytes) -> None:
    told = read_in_a_child("CsvFiles", tmp_path, piece * PIECES)
    assert "has a header of more than 1,000,000 bytes at line 1" in told["stopped"]
    assert (told["rows"], told["rejects"]) == ([], [])
    assert told["grown"] < MEMORY
