"""Load files of order lines while somebody watches, and say what became of all of them."""

from __future__ import annotations

from uuid import UUID

from rich.console import Console
from rich.table import Column, Table

from dataarch.cli.pipeline_progress import shown_progress
from dataarch.cli.pipeline_tables import show_reasons
from dataarch.database.unit_of_work import Database
from dataarch.pipelines.outcome import Outcome
from dataarch.pipelines.pipeline import Pipeline
from dataarch.pipelines.process import made_for_loading
from dataarch.pipelines.runner import run

__all__ = ["outcome", "watched"]


def watched(
    console: Console, db: Database, pipeline: Pipeline, given: object, tenant_id: UUID, *, batch: int
) -> Outcome:
    """Run a pipeline on files, and show how far it is."""
    with shown_progress(console, pipeline.extract.sources(given)) as on_progress, made_for_loading():
        return run(db, pipeline, given, tenant_id=tenant_id, batch=batch, on_progress=on_progress)


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
    if counts.rejected:
        show_reasons(console, found)
