"""The command itself: its sub-commands, and one clear line for whatever goes wrong."""

from __future__ import annotations

import sys

import typer
from sqlalchemy.exc import DBAPIError, SQLAlchemyError

from dataarch.cli import (
    backfill,
    cache,
    demo,
    explain,
    lineage,
    lint,
    load,
    partitions,
    pipeline,
    revision,
    schema,
    server,
)
from dataarch.cli.terminal import harden_streams, say_error
from dataarch.errors import DataArchError

__all__ = ["app", "main"]

INTERRUPTED = 130

app = typer.Typer(
    name="dataarch",
    help="A PostgreSQL data layer you can trust: servers, schema, changes, partitions, cache, plans, pipelines.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    add_completion=False,
)
app.add_typer(server.app, name="server")
app.add_typer(partitions.app, name="partitions")
app.add_typer(cache.app, name="cache")
app.add_typer(pipeline.app, name="pipeline")
app.add_typer(load.app, name="load")
app.add_typer(revision.app, name="revision")
app.add_typer(backfill.app, name="backfill")
app.command()(schema.upgrade)
app.command()(schema.downgrade)
app.command()(explain.explain)
app.command()(lineage.lineage)
app.command()(lint.lint)
app.command()(demo.demo)


def main() -> None:
    """Run the command; an error is one line on stderr and exit code 1, or 2 where the settings are at fault."""
    harden_streams()
    try:
        app()
    except DataArchError as error:
        say_error(str(error))
        sys.exit(error.exit_code)
    except DBAPIError as error:
        # its own text would be the whole statement with all of its parameters
        say_error(f"The database refused: {error.orig}")
        sys.exit(1)
    except (SQLAlchemyError, OSError) as error:
        say_error(str(error))
        sys.exit(1)
    except SystemExit as ended:
        # typer turns Ctrl-C into this code, and says nothing
        if ended.code == INTERRUPTED:
            say_error("Stopped. What was committed stays, and the same command goes on from there.")
        raise
