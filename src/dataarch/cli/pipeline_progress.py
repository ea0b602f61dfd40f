"""How far a run is: a bar on a terminal, a plain line for each source elsewhere; for every command that runs one."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from os import SEEK_END
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

GZIP = b"\x1f\x8b"
SMALLEST_GZIP = 18
ZSTANDARD = b"\x28\xb5\x2f\xfd"
"""How such a file begins: how far it is read is not known before its end."""


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
            last = self._last
            of = last.source if last.first == last.source else f"{last.first} … {last.source}"
            self._console.print(plain(f"{of}: {_said(last.counts)} so far"), soft_wrap=True)
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
    """A source's part of all bytes.

    Attributes:
        begin: where it begins.
        size: how many of them are its.
        whole: how many of the bytes that positions count it has; 0 where one cannot tell how far it is read.
    """

    begin: int
    size: int
    whole: int

    def done(self, count: int) -> float:
        """Return where all sources are when so many bytes of this one are read."""
        return self.begin + (self.size * min(1.0, count / self.whole) if self.whole else 0)


class _Bar:
    """Moves the bar by the bytes of files; a source that is passed over counts when a later one is told of."""

    def __init__(self, bar: Progress, sources: Sequence[Source]) -> None:
        self._bar = bar
        self._started = time.monotonic()
        self._pieces: dict[str, _Piece] = {}
        total = 0
        for source in sources:
            size, whole = _sizes(source)
            self._pieces[source.name] = _Piece(total, size, whole)
            total += size
        # of a query's result nobody knows beforehand how much it is
        whole = bool(sources) and all(isinstance(source.place, Path) for source in sources)
        self._total = total if whole else None
        self._task = bar.add_task("loading", total=self._total, said="")

    def __call__(self, told: Told) -> None:
        seconds = time.monotonic() - self._started
        rate = told.counts.read / seconds if seconds else 0.0
        piece = self._pieces.get(told.source, _Piece(0, 0, 0))
        self._bar.update(
            self._task,
            completed=piece.done(told.bytes),
            said=f"{told.counts.read:,} records · {rate:,.0f}/s · {told.counts.rejected:,} rejected",
        )

    def end(self) -> None:
        """Say that all was read: what was passed over at last too, and files of which one could not tell."""
        if self._total is not None:
            self._bar.update(self._task, completed=self._total)


def _sizes(source: Source) -> tuple[int, int]:
    """Return how many bytes a source has, and of how many its positions tell; 0 where nobody knows before its end."""
    if not isinstance(source.place, Path):
        return 0, 0
    try:
        with source.place.open("rb") as file:
            size, first = source.place.stat().st_size, file.read(4)
            if first.startswith(GZIP) and size >= SMALLEST_GZIP:
                file.seek(-4, SEEK_END)
                held = int.from_bytes(file.read(4), "little")
                # less than that is what the last one of several pieces holds, or the rest behind 4 GB
                return size, held if held >= size - SMALLEST_GZIP else 0
            return size, 0 if first == ZSTANDARD else size
    except OSError:
        # who reads it says why it cannot be read
        return 0, 0
