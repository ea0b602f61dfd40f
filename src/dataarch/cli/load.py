"""``dataarch load``: run a pipeline on files."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from dataarch.caching.database import Database
from dataarch.cli import loading
from dataarch.cli.terminal import say_error
from dataarch.database.settings import Settings
from dataarch.pipelines.feeds.retail import LINES, desk_of
from dataarch.pipelines.feeds.retail import retail as retail_pipeline

__all__ = ["app"]

app = typer.Typer(help="Load files.", no_args_is_help=True)


@app.callback()
def _group() -> None:
    """Keep the name of the only command."""


@app.command()
def retail(
    data: Annotated[str, typer.Argument(help="A CSV file of order lines, a folder of them, or a pattern.")],
    tenant_by: Annotated[str, typer.Option(help="The column that says whose a line is.")] = "Country",
    batch: Annotated[int, typer.Option(help="Lines of a transaction at the most.", min=1)] = LINES,
) -> None:
    """Load order lines: a tenant for each country, users, products, activity and stock. Go on where it stopped."""
    pipeline = retail_pipeline(tenant_by)
    pipeline.extract.sources(data)
    console = Console()
    with Database(Settings.load()) as db:
        found = loading.watched(console, db, pipeline, Path(data), desk_of(db), batch=batch)
    loading.outcome(console, found)
    for failed in found.failed:
        say_error(str(failed.error))
    if found.failed:
        raise typer.Exit(1)
