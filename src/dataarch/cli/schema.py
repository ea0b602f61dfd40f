"""``dataarch upgrade`` and ``dataarch downgrade``: the revisions, wherever the package is installed."""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated

import typer
from alembic import command
from alembic.util import CommandError
from rich.console import Console

from dataarch.database.settings import Settings
from dataarch.errors import ConfigurationError
from dataarch.rollout.revisions import revisions

__all__ = ["downgrade", "upgrade"]

Sql = Annotated[bool, typer.Option("--sql", help="Print the SQL instead of running it.")]


def upgrade(
    revision: Annotated[str, typer.Argument(help="The revision to go up to.")] = "head", *, sql: Sql = False
) -> None:
    """Bring the database up to a revision, as the owner."""
    _run(command.upgrade, revision, sql=sql)


def downgrade(
    revision: Annotated[str, typer.Argument(help="The revision to go down to, or `base`.")], *, sql: Sql = False
) -> None:
    """Bring the database down to a revision; rows of tables that go are kept in schema dataarch_set_aside."""
    _run(command.downgrade, revision, sql=sql)


def _run(action: Callable[..., None], revision: str, *, sql: bool) -> None:
    try:
        action(revisions(Settings.load()), revision, sql=sql)
    except CommandError as wrong:
        raise ConfigurationError(
            f"The revision {revision!r} cannot be reached: {wrong}.", hint="Try `head`."
        ) from wrong
    if not sql:
        Console().print(f"The database is at revision [bold]{revision}[/].")
