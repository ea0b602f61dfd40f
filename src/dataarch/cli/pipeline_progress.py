"""How far a run is: a bar on a terminal, a plain line for each source elsewhere."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

from rich.console import Console
from rich.progress import BarColumn, DownloadColumn, Progress, TaskProgressColumn, TextColumn, TimeRemainingColumn

from dataarch.cli.terminal import plain
from dataarch.pipelines.outcome import Counts
from dataarch.pipelines.outcome import Progress as Told
from dataarch.pipelines.records import Source

__all__ = ["shown_progress"]

EVERY = 10.0
"""Seconds after which a source that is still read is told of again, where there is no bar."""

PACKED = (b"\x1f\x8b", b"\x28\xb5\x2f\xfd")
"""How gzip and Zstandard begin: how far such a file is read is not known before its end."""


@contextmanager
def shown_progress(
    console: Console, sources: Sequence[Source], *, quiet: bool = False
) -> Iterator[Callable[[Told], None]]:
    """Give what is to be called after each commit."""
    if quiet:
        yield lambda _told: None
    elif console.is_terminal:
        with _bar(console) as bar:
            watcher = _Bar(bar, sources)
            yield watcher
            watcher.end()
    else:
        lines = _Lines(console)
        yield lines
        lines.end()


class _Lines:
    """Prints a line for each source with something new, when it is read; and while it is, now and then."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._last: Told | None = None
        self._at = time.monotonic()

    def __call__(self, told: Told) -> None:
        if self._last is not None and (told.source != self._last.source or time.monotonic() - self._at >= EVERY):
            self.end()
        self._last = told

    def end(self) -> None:
        """Say what has become of all records up to here."""
        if self._last is not None:
            self._console.print(plain(f"{self._last.source}: {_said(self._last.counts)} so far"), soft_wrap=True)
            self._at = time.monotonic()


def _said(counts: Counts) -> str:
    good = counts.loaded + counts.updated + counts.unchanged
    return f"{counts.read:,} records read, {good:,} of them good, {counts.rejected:,} rejected"


def _bar(console: Console) -> Progress:
    return Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        TaskProgressColumn(),
        DownloadColumn(),
        TextColumn("{task.fields[said]}"),
        TimeRemainingColumn(),
        console=console,
    )


class _Piece(NamedTuple):
    """A source's part of all bytes: where it begins, and how many are its; 0 where one cannot tell how far it is."""

    begin: int
    size: int


class _Bar:
    """Moves the bar by the bytes of files; a source that is passed over counts when a later one is told of."""

    def __init__(self, bar: Progress, sources: Sequence[Source]) -> None:
        self._bar = bar
        self._started = time.monotonic()
        self._pieces: dict[str, _Piece] = {}
        total = 0
        sizes = [_size(source) for source in sources]
        for source, (size, known) in zip(sources, sizes, strict=True):
            self._pieces[source.name] = _Piece(total, size if known else 0)
            total += size
        # of a query's result nobody knows beforehand how much it is
        whole = bool(sources) and all(isinstance(source.place, Path) for source in sources)
        self._total = total if whole else None
        self._task = bar.add_task("loading", total=self._total, said="")

    def __call__(self, told: Told) -> None:
        seconds = time.monotonic() - self._started
        rate = told.counts.read / seconds if seconds else 0.0
        begin, size = self._pieces.get(told.source, _Piece(0, 0))
        self._bar.update(
            self._task,
            completed=begin + min(told.bytes, size),
            said=f"{told.counts.read:,} records · {rate:,.0f}/s · {told.counts.rejected:,} rejected",
        )

    def end(self) -> None:
        """Say that all was read: what was passed over at last too, and files of which one could not tell."""
        if self._total is not None:
            self._bar.update(self._task, completed=self._total)


def _size(source: Source) -> tuple[int, bool]:
    """Return how many bytes a source has, and whether these are the ones that positions count."""
    if not isinstance(source.place, Path):
        return 0, False
    try:
        with source.place.open("rb") as file:
            return source.place.stat().st_size, not file.read(4).startswith(PACKED)
    except OSError:
        # who reads it says why it cannot be read
        return 0, False
