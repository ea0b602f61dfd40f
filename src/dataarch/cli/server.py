"""``dataarch server``: the embedded PostgreSQL and Valkey of this folder."""

from __future__ import annotations

from typing import Annotated

import typer
from rich.console import Console
from rich.table import Column, Table

from dataarch.cli.terminal import plain
from dataarch.database.embedded import EmbeddedServer, ServerStatus
from dataarch.database.settings import Settings

__all__ = ["app"]

app = typer.Typer(help="The embedded PostgreSQL and Valkey of this folder (DATAARCH_SERVER_DIR).", no_args_is_help=True)


def _server() -> EmbeddedServer:
    return EmbeddedServer(Settings.load().server_dir)


@app.command()
def start() -> None:
    """Start both servers, or find them running, and say where they are."""
    _show(_server().start())


@app.command()
def stop() -> None:
    """Stop both servers; the data stays."""
    _server().stop()
    Console().print("Both servers are stopped.")


@app.command()
def status() -> None:
    """Say whether the servers run, and where; exit code 1 if they do not."""
    found = _server().status()
    _show(found)
    if not (found.postgres_running and found.valkey_running):
        raise typer.Exit(1)


@app.command(context_settings={"allow_extra_args": True, "ignore_unknown_options": True})
def psql(context: typer.Context) -> None:
    """Open psql as the owner; further arguments go to psql, as in `dataarch server psql -- -c '\\d'`."""
    raise typer.Exit(_server().psql(context.args))


@app.command()
def env(*, app_only: Annotated[bool, typer.Option("--app-only", help="Leave the owner's URL out.")] = False) -> None:
    """Print the settings as shell exports, as in `eval "$(dataarch server env)"`."""
    found = _server().start()
    lines = {"DATAARCH_DATABASE_URL": found.database_url, "DATAARCH_REDIS_URL": found.redis_url}
    if not app_only:
        lines["DATAARCH_OWNER_URL"] = found.owner_url
    for name, value in lines.items():
        typer.echo(f"export {name}='{value}'")


def _show(status: ServerStatus) -> None:
    # a URL that is cut off is of no use
    where = Column("where", overflow="fold")
    table = Table("server", "runs", where, title=plain(f"embedded servers in {status.folder}"), title_justify="left")
    version = f"PostgreSQL {status.postgres_version or ''}".strip()
    table.add_row(version, _yes(status.postgres_running), status.database_url or "")
    table.add_row("Valkey", _yes(status.valkey_running), status.redis_url or "")
    Console().print(table)


def _yes(running: bool) -> str:  # noqa: FBT001  # a value to show, not a switch
    return "[green]yes[/]" if running else "[yellow]no[/] (dataarch server start)"
