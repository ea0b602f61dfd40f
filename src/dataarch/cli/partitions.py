"""``dataarch partitions``: which months the activity log has, and making those that are missing."""

from __future__ import annotations

import typer
from rich.console import Console
from rich.table import Table

from dataarch.database.unit_of_work import Database
from dataarch.errors import SchemaNotMigrated
from dataarch.models import UserActivity
from dataarch.partitions.catalog import Partition, partitions_of
from dataarch.partitions.maintain import ensure_ahead

__all__ = ["app", "partition_table"]

app = typer.Typer(help="The monthly partitions of the activity log.", no_args_is_help=True)


@app.command("list")
def list_partitions() -> None:
    """Show each partition with its bounds, size and isolation."""
    with Database() as db, db.owner() as session:
        found = partitions_of(session.connection(), UserActivity.__tablename__)
    if not found:
        raise SchemaNotMigrated("There is no partitioned activity log in this database.")
    Console().print(partition_table(found))


@app.command()
def maintain() -> None:
    """Make each month from this one to twelve ahead that is missing; safe to repeat, for any scheduler."""
    with Database() as db:
        made = ensure_ahead(db)
    Console().print(f"Made {len(made)}: {', '.join(made)}." if made else "Every month is there already.")


def partition_table(partitions: list[Partition]) -> Table:
    """Return the partitions as a table for a terminal."""
    table = Table("partition", "bounds (UTC)", "size", "isolated")
    for partition in partitions:
        bounds = partition.bounds.removeprefix("FOR VALUES ").replace(" 00:00:00+00", "").replace("'", "")
        table.add_row(
            partition.name, bounds, f"{partition.size_bytes // 1024} kB", "yes" if partition.isolated else "NO"
        )
    return table
