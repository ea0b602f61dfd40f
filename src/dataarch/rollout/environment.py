"""The environment in which Alembic runs revisions; ``alembic/env.py`` calls :func:`run` and nothing else.

Each revision is one transaction, so that an upgrade killed at any moment can be run again. One upgrade runs at a time,
by advisory lock. A revision waits a moment for each lock, and is tried again: see :mod:`dataarch.rollout.locks`.
Policies are switched off: where one would have hidden rows, the statement raises instead of silently changing none.
"""

from __future__ import annotations

import logging.config
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

from alembic import context
from sqlalchemy import Connection, MetaData, text

from dataarch.database.embedded import embedded_settings
from dataarch.database.engine import owner_engine
from dataarch.database.settings import Settings
from dataarch.errors import ConfigurationError, DataArchError, LockTimeout, shown
from dataarch.models import Base
from dataarch.rollout.autogenerate import configure_arguments
from dataarch.rollout.locks import Limits, Steps, patiently

__all__ = ["run"]

UPGRADE_LOCK = "hashtext('dataarch.upgrade')"

PATIENCE = 600.0
"""Seconds that an upgrade waits for another one."""

SESSION = (
    "SET row_security = off",
    "SET statement_timeout = 0",
    "SET idle_in_transaction_session_timeout = 0",
    "SET SESSION CHARACTERISTICS AS TRANSACTION ISOLATION LEVEL READ COMMITTED",
)
"""A migration takes the time it takes.

Revisions that move rows see those committed while they waited for a lock: hence READ COMMITTED, whatever the default.
"""


def run(target_metadata: MetaData | Sequence[MetaData] | None = None) -> None:
    """Run the revisions asked for, or print their SQL with ``--sql``.

    Args:
        target_metadata: the tables that autogenerate and ``alembic check`` compare the database with, as Alembic takes
            them; dataarch's own by default, whatever ``DATAARCH_MODELS`` names. The schemas that they name are
            compared, and the default one.

    Raises:
        ConfigurationError: ``target_metadata`` is something else.
        DataArchError: the server cannot be reached, is too old, or refuses a revision; the message says what to do.
    """
    from_command_line = context.config.cmd_opts is not None
    # an alembic.ini of the user's own may say nothing about logging
    if from_command_line and context.config.config_file_name and context.config.file_config.has_section("loggers"):
        logging.config.fileConfig(context.config.config_file_name, disable_existing_loggers=False)
    try:
        _run(_several(target_metadata))
    except DataArchError as error:
        if not from_command_line:
            raise
        # the command `alembic` would print a traceback
        print(f"error: {error}", file=sys.stderr)  # noqa: T201  # it is the command's last word
        raise SystemExit(error.exit_code) from None


def _several(given: MetaData | Sequence[MetaData] | None) -> list[MetaData]:
    several = [Base.metadata] if given is None else [given] if isinstance(given, MetaData) else given
    if not isinstance(several, list | tuple) or not all(isinstance(one, MetaData) for one in several):
        raise ConfigurationError(
            f"target_metadata is {shown(given)}, and neither a MetaData nor a list of them.",
            hint="Give the metadata of the models, for example run(target_metadata=Base.metadata).",
            value=given,
        )
    return list(several)


def _run(metadata: list[MetaData]) -> None:
    if context.is_offline_mode():
        _print_sql(metadata)
    elif (given := context.config.attributes.get("connection")) is not None:
        _migrate(given, metadata)
    else:
        _connect_and_migrate(metadata)


def _print_sql(metadata: list[MetaData]) -> None:
    context.configure(
        dialect_name="postgresql",
        target_metadata=metadata,
        literal_binds=True,
        dialect_opts={"paramstyle": "named"},
        transaction_per_migration=True,
    )
    wait = _limits().lock_timeout
    for statement in (*SESSION, f"SET lock_timeout = '{wait * 1000:.0f}ms'"):
        context.execute(statement)
    with context.begin_transaction():
        context.run_migrations()


def _settings() -> Settings:
    return context.config.attributes.get("settings") or Settings.load()


def _limits() -> Limits:
    return Limits.of(_settings(), context.get_x_argument(as_dictionary=True))


def _connect_and_migrate(metadata: list[MetaData]) -> None:
    engine = owner_engine(embedded_settings(_settings(), start=True))
    try:
        with engine.connect() as connection:
            _migrate(connection, metadata)
    finally:
        engine.dispose()


def _migrate(connection: Connection, metadata: list[MetaData]) -> None:
    """Run the revisions; a transaction that the caller has open is left open, and nothing of it is undone."""
    limits, of_caller = _limits(), connection.in_transaction()
    with _alone(connection, of_caller=of_caller):
        wait = f"SET lock_timeout = '{limits.patience * 1000:.0f}ms'"
        for statement in (*SESSION, wait):
            connection.execute(text(statement))
        with patiently(connection, limits) as patience:
            _end(connection, of_caller=of_caller)
            arguments = {
                "connection": connection,
                "target_metadata": metadata,
                "transaction_per_migration": True,
                "compare_type": True,
                **_compared(connection, metadata),
            }
            context.configure(**arguments)
            steps = patience.steps_of(context.get_context().opts["fn"])
            patience.run(lambda: _go_through(arguments, steps), of_caller=of_caller)


def _compared(connection: Connection, metadata: list[MetaData]) -> dict[str, Any]:
    """Say that the default schema is compared, and those that the models name; others are somebody else's."""
    schemas = {table.schema for one in metadata for table in one.tables.values()} | {None}

    def include(name: str | None, kind: str, _parents: Mapping[str, Any]) -> bool:
        return kind != "schema" or name in schemas

    return {"include_schemas": len(schemas) > 1, **configure_arguments(connection, include_name=include)}


def _go_through(arguments: dict[str, Any], steps: Steps) -> None:
    context.configure(**arguments, fn=steps)
    with context.begin_transaction():
        context.run_migrations()


def _end(connection: Connection, *, of_caller: bool) -> None:
    # Alembic leaves a transaction that it finds open to its opener: there must be none of ours when it looks
    if not of_caller:
        connection.commit()


@contextmanager
def _alone(connection: Connection, *, of_caller: bool) -> Iterator[None]:
    """Hold the upgrade's lock; nobody waits for it inside a transaction, which would hold up CREATE INDEX CONCURRENTLY.

    Raises:
        LockTimeout: another upgrade has run for ten minutes.
    """
    deadline = time.monotonic() + PATIENCE
    while not connection.scalar(text(f"SELECT pg_try_advisory_lock({UPGRADE_LOCK})")):
        _end(connection, of_caller=of_caller)
        if time.monotonic() > deadline:
            raise LockTimeout("Another upgrade of this database is running.", hint="Wait for it, then upgrade again.")
        time.sleep(0.1)
    try:
        yield
    finally:
        if not of_caller:
            connection.rollback()
        connection.execute(text(f"SELECT pg_advisory_unlock({UPGRADE_LOCK})"))
        _end(connection, of_caller=of_caller)
