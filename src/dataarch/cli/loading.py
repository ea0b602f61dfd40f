"""Run a pipeline while somebody watches: a bar on a terminal, a plain line for each commit elsewhere."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from uuid import UUID

from rich.console import Console
from rich.progress import BarColumn, TaskProgressColumn, TextColumn, TimeRemainingColumn
from rich.progress import Progress as Bar
from rich.table import Column, Table

from dataarch.cli.terminal import plain
from dataarch.database.unit_of_work import Database
from dataarch.pipelines.outcome import Counts, Outcome, Progress
from dataarch.pipelines.pipeline import Pipeline
from dataarch.pipelines.records import Source
from dataarch.pipelines.runner import run

__all__ = ["MOST_REASONS", "outcome", "watched"]

MOST_REASONS = 20
"""Reasons that are shown; one that tells the line is as frequent as broken lines are."""

GZIP = b"\x1f\x8b"
SMALLEST_GZIP = 18


def watched(
    console: Console, db: Database, pipeline: Pipeline, given: object, tenant_id: UUID, *, batch: int
) -> Outcome:
    """Run a pipeline on files, and show how far it is: by bytes, with records a second and rejects."""
    sources = pipeline.extract.sources(given)
    with _shown(console, sources) as on_progress:
        return run(db, pipeline, given, tenant_id=tenant_id, batch=batch, on_progress=on_progress)


@contextmanager
def _shown(console: Console, sources: Sequence[Source]) -> Iterator[Callable[[Progress], None]]:
    if not console.is_terminal:
        yield _Lines(console)
        return
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        TaskProgressColumn(),
        TextColumn("{task.fields[told]}"),
        TimeRemainingColumn(),
    )
    with Bar(*columns, console=console) as bar:
        watcher = _Bar(bar, sources)
        yield watcher
        watcher.end()


class _Lines:
    """Prints a line for each commit."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._before = Counts()

    def __call__(self, progress: Progress) -> None:
        read, loaded = (getattr(progress.counts, name) - getattr(self._before, name) for name in ("read", "loaded"))
        self._before = progress.counts
        of = progress.source if progress.first == progress.source else f"{progress.first} … {progress.source}"
        self._console.print(f"{of}: {read} read, {loaded} loaded", highlight=False, markup=False)


class _Bar:
    """Moves the bar; a source that gives nothing new is passed over without a word."""

    def __init__(self, bar: Bar, sources: Sequence[Source]) -> None:
        self._bar = bar
        self._started = time.perf_counter()
        self._begins: dict[str, int] = {}
        self._sizes: dict[str, int] = {}
        total = 0
        for source in sources:
            self._begins[source.name] = total
            self._sizes[source.name] = _size(Path(source.place))
            total += self._sizes[source.name]
        self._total = total
        self._task = bar.add_task("loading", total=total, told=_told(Counts(), 0))

    def __call__(self, progress: Progress) -> None:
        source = progress.source
        done = self._begins[source] + min(progress.bytes, self._sizes[source])
        told = _told(progress.counts, time.perf_counter() - self._started)
        self._bar.update(self._task, completed=done, told=told)

    def end(self) -> None:
        self._bar.update(self._task, completed=self._total)


def _told(counts: Counts, seconds: float) -> str:
    rate = counts.read / seconds if seconds else 0
    return f"{counts.read:,} lines · {rate:,.0f}/s · {counts.rejected:,} rejected"


def _size(file: Path) -> int:
    """Return how many bytes a file holds, unpacked as far as it says so: gzip does, at its end."""
    size = file.stat().st_size
    with file.open("rb") as stream:
        if stream.read(2) == GZIP and size >= SMALLEST_GZIP:
            stream.seek(-4, 2)
            return int.from_bytes(stream.read(4), "little")
    return size


def outcome(console: Console, found: Outcome) -> None:
    """Show what became of all records."""
    counts = found.counts
    headers = ("read", "=", "loaded", "+", "duplicates", "+", "rejected")
    table = Table(*(Column(header, overflow="fold") for header in headers), title="every line accounted for")
    numbers = (counts.read, counts.loaded + counts.updated, counts.unchanged, counts.rejected)
    cells = [cell for number in numbers for cell in (f"{number:,}", "")]
    table.add_row(*cells[:-1])
    console.print(table)
    if not counts.read and not found.failed:
        console.print("Nothing new: all of it was read before.")
        return
    rate = counts.read / found.seconds if found.seconds else 0
    console.print(f"{found.sources} files in {found.seconds:.1f} s, {rate:,.0f} lines/s", highlight=False)
    _reasons(console, found)


def _reasons(console: Console, found: Outcome) -> None:
    if not found.reasons:
        return
    table = Table("field", "reason", "lines", title="rejected")
    shown = found.reasons.most_common(MOST_REASONS)
    for (_, field, reason), count in shown:
        table.add_row(plain(field), plain(reason), f"{count:,}")
    console.print(table)
    if rest := sum(found.reasons.values()) - sum(count for _, count in shown):
        console.print(f"… and {rest:,} lines for other reasons")
