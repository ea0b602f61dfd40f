"""How far a backfill is: a bar on a terminal, a plain line now and then elsewhere."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TaskProgressColumn, TextColumn

from dataarch.cli.terminal import plain
from dataarch.rollout.backfill import Progress as Told

__all__ = ["shown_backfill"]

EVERY = 10.0
"""Seconds between two lines, where there is no bar."""


@contextmanager
def shown_backfill(console: Console, done: str, *, quiet: bool = False) -> Iterator[Callable[[Told], None]]:
    """Give what is to be called with each progress; ``done`` is what becomes of rows: filled, compared."""
    if quiet:
        yield lambda _told: None
    elif console.is_terminal:
        with _bar(console) as bar:
            yield _Bar(bar, done)
    else:
        yield _Lines(console, done)


class _Lines:
    """Prints a line at the beginning, every ten seconds, and when it begins to wait or to go on."""

    def __init__(self, console: Console, done: str) -> None:
        self._console = console
        self._done = done
        self._at: float | None = None
        self._waits: str | None = None

    def __call__(self, told: Told) -> None:
        now = time.monotonic()
        if self._at is not None and now - self._at < EVERY and (told.waits is None) == (self._waits is None):
            return
        self._at, self._waits = now, told.waits
        self._console.print(plain(f"{told.name}: {_said(told, self._done)}"), soft_wrap=True, highlight=False)


class _Bar:
    """Moves the bar by the rows that were looked at."""

    def __init__(self, bar: Progress, done: str) -> None:
        self._bar = bar
        self._done = done
        self._task: TaskID | None = None

    def __call__(self, told: Told) -> None:
        if self._task is None:
            self._task = self._bar.add_task(str(plain(told.name)), total=told.estimated, said="")
        self._bar.update(
            self._task, completed=told.seen, total=told.estimated, said=str(plain(_said(told, self._done)))
        )


def _said(told: Told, done: str) -> str:
    percent = 100 * told.seen / told.estimated if told.estimated else 100.0
    failed = f", {told.failed:,} {'could not be' if done == 'filled' else 'differ'}" if told.failed else ""
    if told.waits is not None:
        return f"{told.seen:,} rows {done}{failed}; waits: {told.waits}"
    left = "" if told.remaining is None else f", {_time(told.remaining)} left"
    return f"{told.seen:,} of about {told.estimated:,} rows {done} ({percent:.0f} %){failed}, {told.rate:,.0f}/s{left}"


def _time(seconds: float) -> str:
    whole = round(seconds)
    hours, minutes = divmod(whole // 60, 60)
    return f"{hours} h {minutes} min" if hours else f"{minutes} min {whole % 60} s" if minutes else f"{whole} s"


def _bar(console: Console) -> Progress:
    return Progress(
        TextColumn("{task.description}", markup=False),
        BarColumn(bar_width=20),
        TaskProgressColumn(),
        TextColumn("{task.fields[said]}", markup=False),
        console=console,
    )
