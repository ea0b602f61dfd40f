"""Files to read, and short ways to read them."""

from __future__ import annotations

import gzip
from pathlib import Path
from typing import Any

import pytest

from dataarch.errors import FeedError
from dataarch.pipelines.extractors.opening import zstandard
from dataarch.pipelines.pipeline import Extractor
from dataarch.pipelines.records import Batch, Position, Source

PACKINGS = ("plain", "gzip", "zstd")


def packed(content: bytes, packing: str) -> bytes:
    """Return what a file of this packing holds; with a checksum, so that damage is found."""
    if packing == "plain":
        return content
    if packing == "gzip":
        return gzip.compress(content, 1)
    zstd = zstandard()
    return bytes(zstd.compress(content, options={zstd.CompressionParameter.checksum_flag: 1}))


def written(folder: Path, content: bytes, name: str = "feed.csv") -> Source:
    """Write a file, and return it as a source."""
    (folder / name).write_bytes(content)
    return Source(name, folder / name)


def all_of(extractor: Extractor, source: Source, size: int = 100, position: Position | None = None) -> list[Batch]:
    """Read a source to its end."""
    return list(extractor.read(source, position or Position(), size))


def rows_of(batches: list[Batch]) -> list[dict[str, Any]]:
    return [dict(row) for batch in batches for row in batch.rows]


def numbers_of(batches: list[Batch]) -> list[int]:
    return [number for batch in batches for number in batch.numbers]


def rejects_of(batches: list[Batch]) -> list[tuple[int, str, object]]:
    return [(one.number, one.reason, one.record) for batch in batches for one in batch.rejects]


def until_refused(
    extractor: Extractor, source: Source, size: int = 100, position: Position | None = None
) -> tuple[list[Batch], FeedError]:
    """Read a source that cannot be read to its end; return what was given before, and why it stopped."""
    batches = []
    with pytest.raises(FeedError) as caught:
        for batch in extractor.read(source, position or Position(), size):
            batches.append(batch)  # noqa: PERF402  what was given before it stopped
    assert caught.value.source == source.name
    assert caught.value.hint
    assert "\n" not in str(caught.value)
    assert not any(batch.after.end for batch in batches)
    return batches, caught.value
