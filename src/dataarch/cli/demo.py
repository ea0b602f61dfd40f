"""``dataarch demo``: the main job on order lines, and a look at what it made."""

from __future__ import annotations

import csv
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Protocol

import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeRemainingColumn

from dataarch.caching.database import Database
from dataarch.cli import show
from dataarch.cli.terminal import say_error
from dataarch.database.embedded import embedded_settings
from dataarch.database.settings import Settings
from dataarch.errors import ConfigurationError
from dataarch.pipelines.feeds.retail import FileFailed, Reject, Totals, load_files, source_files, source_name

__all__ = ["demo"]

REJECTS = Path("rejects.csv")


class RowWriter(Protocol):
    """What :func:`csv.writer` gives."""

    def writerow(self, row: Iterable[object], /) -> object:
        """Write one row."""
        ...


def demo(
    data: Annotated[Path, typer.Argument(help="A CSV file of order lines, or a folder of them.")],
    rejects: Annotated[Path | None, typer.Option(help="Where to write rejected lines.")] = None,
) -> None:
    """Load order lines: a tenant per country, users, products, stock and activity; then show what is there."""
    files = source_files(data)
    settings = embedded_settings(Settings.load(), start=True)
    rejects = rejects or settings.server_dir / REJECTS
    console = Console()
    with Database(settings) as db:
        totals = _load(db, files, rejects, console)
        show.outcome(console, totals, rejects)
        if totals.read:
            show.contents(console, db)
    for failed in totals.failed:
        say_error(str(failed.error))
    if totals.failed:
        raise typer.Exit(1)


def _load(db: Database, files: list[Path], rejects: Path, console: Console) -> Totals:
    totals = Totals()
    with _reject_file(rejects) as writer, _progress(console) as progress:
        task = progress.add_task("loading", total=len(files), lines=0, rejected=0)

        def on_reject(reject: Reject) -> None:
            totals.reasons[reject.field, reject.reason] += 1
            writer.writerow((reject.file, reject.number, reject.field, reject.reason, reject.value))

        for outcome in load_files(db, files, on_reject):
            totals.add(outcome)
            _advance(progress, task, totals)
            if not console.is_terminal and not isinstance(outcome, FileFailed):
                name = source_name(outcome.file)
                console.print(f"{name}: {outcome.read} read, {outcome.loaded} loaded", highlight=False, markup=False)
    return totals


def _advance(progress: Progress, task: TaskID, totals: Totals) -> None:
    progress.update(task, advance=1, lines=totals.read, rejected=totals.rejected)


def _progress(console: Console) -> Progress:
    return Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("files · {task.fields[lines]:,} lines · {task.fields[rejected]:,} rejected"),
        TimeRemainingColumn(),
        console=console,
        disable=not console.is_terminal,
    )


@contextmanager
def _reject_file(path: Path) -> Iterator[RowWriter]:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        stream = path.open("w", encoding="utf-8", errors="backslashreplace", newline="")
    except OSError as refused:
        raise ConfigurationError(
            f"The file for rejected lines, {str(path)!r}, cannot be written ({refused.strerror}).",
            hint="Name another one with --rejects.",
        ) from refused
    with stream:
        writer = csv.writer(stream)
        writer.writerow(("file", "line", "field", "reason", "value"))
        yield writer
