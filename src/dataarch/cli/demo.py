"""``dataarch demo``: the main job on order lines, and a look at what it made."""

from __future__ import annotations

import csv
import json
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Protocol
from uuid import UUID

import typer
from rich.console import Console
from sqlalchemy import text

from dataarch.caching.database import Database
from dataarch.cli import loading, show
from dataarch.cli.terminal import plain, say_error
from dataarch.database.embedded import embedded_settings
from dataarch.database.settings import Settings
from dataarch.errors import ConfigurationError
from dataarch.pipelines.feeds.retail import LINES, RETAIL, desk_of
from dataarch.pipelines.records import Source

__all__ = ["demo"]

REJECTS = Path("rejects.csv")

REJECTED = text(
    """
    SELECT reject.source, number, coalesce(field, ''), reason, form, record
    FROM pipeline_rejects AS reject
    JOIN pipeline_runs AS run ON run.tenant_id = reject.tenant_id AND run.id = run_id
    JOIN pipeline_sources AS read ON read.tenant_id = run.tenant_id AND read.pipeline = run.pipeline
                                 AND read.source = reject.source
    WHERE reject.tenant_id = :tenant AND run.pipeline = :pipeline AND reject.source = ANY(:sources)
      AND reject.run_id >= read.begun_by AND replayed_by IS NULL
    ORDER BY reject.source, number, reject.id
    """
)
"""What was rejected of each file since it was last read from its beginning."""


class RowWriter(Protocol):
    """What :func:`csv.writer` gives."""

    def writerow(self, row: Iterable[object], /) -> object:
        """Write one row."""
        ...


def demo(
    data: Annotated[Path, typer.Argument(help="A CSV file of order lines, or a folder of them.")],
    rejects: Annotated[Path | None, typer.Option(help="Where to write rejected lines.")] = None,
    batch: Annotated[int, typer.Option(help="Lines of a transaction at the most.", min=1)] = LINES,
) -> None:
    """Load order lines: a tenant per country, users, products, stock and activity; then show what is there."""
    sources = RETAIL.extract.sources(data)
    settings = embedded_settings(Settings.load(), start=True)
    rejects = rejects or settings.server_dir / REJECTS
    console = Console()
    with Database(settings) as db:
        with _reject_file(rejects) as writer:
            desk = desk_of(db)
            found = loading.watched(console, db, RETAIL, data, desk, batch=batch)
            count = _write_rejects(db, desk, sources, writer)
        loading.outcome(console, found)
        if count:
            console.print(plain(f"{count:,} rejected lines are in {rejects}"), soft_wrap=True)
        if found.counts.read or not found.failed:
            show.contents(console, db)
    for failed in found.failed:
        say_error(str(failed.error))
    if found.failed:
        raise typer.Exit(1)


def _write_rejects(db: Database, desk: UUID, sources: Sequence[Source], writer: RowWriter) -> int:
    """Write what was rejected of these files, in this run or before; return how many lines that were."""
    count = 0
    names = [source.name for source in sources]
    with db.tenant(desk) as session:
        values = {"tenant": desk, "pipeline": RETAIL.name, "sources": names}
        for source, number, field, reason, form, record in session.execute(REJECTED, values):
            found = json.loads(record)
            value = found if form == "text" else found.get(field, "")
            writer.writerow((source, number, field, reason, value))
            count += 1
    return count


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
        writer.writerow(("file", "record", "field", "reason", "value"))
        yield writer
