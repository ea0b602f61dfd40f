"""Run the statements of an index until it is complete, or print them as a script for psql."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress

from alembic.operations import Operations
from alembic.operations.ops import CreateIndexOp
from sqlalchemy import Connection, text
from sqlalchemy.exc import DBAPIError

from dataarch.errors import DataArchError, IndexDiffers, ServerError
from dataarch.rollout.operations.index_statements import ANOTHER_INDEX, IndexStatements, creation_of_parent
from dataarch.rollout.operations.statements import run, verbatim

__all__ = ["build", "print_build", "print_removal", "remove"]

ROUNDS = 10
"""How often the partitions are looked through again because some have come or gone meanwhile."""

PASSING = {"42P01", "42704", "40P01", "55006"}
"""SQLSTATEs of a table or an index that has just gone, of a deadlock, and of a table that is being detached."""

NAME_TAKEN = {ANOTHER_INDEX, "42P07"}


def build(connection: Connection, creation: CreateIndexOp, statements: IndexStatements) -> None:
    """Make the index, or what is missing of it.

    Args:
        connection: in autocommit mode.
        creation: the index.
        statements: those of the same index.

    Raises:
        IndexDiffers: the name is taken.
        LockTimeout: a lock was not granted for 60 seconds, or the upgrade's patience; run it again.
        ServerError: partitions kept coming and going.
    """
    with _unbounded(connection), _named(creation):
        for _ in range(ROUNDS):
            connection.execute(verbatim(creation_of_parent(creation)))
            if _completed(connection, statements):
                return
            if not _left(connection, statements):
                # all is attached, yet PostgreSQL looks at the parent only when the last one is: that partition has gone
                connection.execute(verbatim(statements.drop))
    raise ServerError(
        f"The index {creation.index_name} is not complete after {ROUNDS} rounds: partitions come and go.",
        hint="Run it again when the partitions are left alone; it goes on where it stopped.",
        table=creation.table_name,
    )


def remove(connection: Connection, statements: IndexStatements) -> None:
    """Drop the index and what was built for it and never attached; raises LockTimeout as :func:`build` does."""
    with _unbounded(connection):
        _await_builds(connection, statements)
        for statement in list(connection.scalars(verbatim(statements.clean_up))):
            connection.execute(verbatim(statement))
        connection.execute(verbatim(statements.drop))


def print_build(operations: Operations, creation: CreateIndexOp, statements: IndexStatements) -> None:
    """Print the script that does the same, once: partitions that come or go meanwhile may end it with an error."""
    with _script(operations):
        run(operations, creation_of_parent(creation))
        for step in statements.steps:
            _print_query(operations, step)
        run(operations, statements.verdict)


def print_removal(operations: Operations, statements: IndexStatements) -> None:
    """Print the script that drops the index."""
    with _script(operations):
        _print_query(operations, statements.clean_up)
        run(operations, statements.drop)


def _completed(connection: Connection, statements: IndexStatements) -> bool:
    """Run each step; True if the index is valid then."""
    try:
        for step in statements.steps:
            _await_builds(connection, statements)
            for statement in list(connection.scalars(verbatim(step))):
                connection.execute(verbatim(statement))
    except (DBAPIError, DataArchError) as error:
        if _sqlstate(error) not in PASSING:
            _drop_what_failed(connection, statements)
            raise
    return bool(connection.scalar(verbatim(statements.is_valid)))


def _left(connection: Connection, statements: IndexStatements) -> list[str]:
    return [str(one) for step in statements.steps for one in connection.scalars(verbatim(step))]


def _await_builds(connection: Connection, statements: IndexStatements) -> None:
    """Wait for builds whose client was killed, without a snapshot, which they would wait for in turn."""
    while connection.scalar(verbatim(statements.builds_under_way)):
        time.sleep(0.1)


def _drop_what_failed(connection: Connection, statements: IndexStatements) -> None:
    """Drop indexes that are not valid: a unique one would refuse rows although the migration has failed."""
    # the connection may be what has failed
    with suppress(DBAPIError, DataArchError):
        for statement in list(connection.scalars(verbatim(statements.leftovers))):
            connection.execute(verbatim(statement))


@contextmanager
def _unbounded(connection: Connection) -> Iterator[None]:
    """Let concurrent builds wait for old transactions as long as these take: nobody queues behind them."""
    before = connection.scalar(text("SELECT current_setting('lock_timeout')"))
    connection.execute(text("SET lock_timeout = 0"))
    try:
        yield
    finally:
        with suppress(DBAPIError, DataArchError):
            connection.execute(text("SELECT set_config('lock_timeout', :before, false)"), {"before": before})


@contextmanager
def _named(creation: CreateIndexOp) -> Iterator[None]:
    try:
        yield
    except (DBAPIError, DataArchError) as error:
        if _sqlstate(error) not in NAME_TAKEN:
            raise
        said = str(error.orig if isinstance(error, DBAPIError) else error).splitlines()[0]
        raise IndexDiffers(
            f"The index {creation.index_name} cannot be made: {said}.", table=creation.table_name
        ) from error


def _sqlstate(error: DBAPIError | DataArchError) -> str | None:
    state = error.sqlstate if isinstance(error, DataArchError) else getattr(error.orig, "sqlstate", None)
    return None if state is None else str(state)


@contextmanager
def _script(operations: Operations) -> Iterator[None]:
    output = operations.get_context().impl.static_output
    output("-- for psql -v ON_ERROR_STOP=1: each \\gexec runs the statements that the query above it gives")
    output("SELECT current_setting('lock_timeout') AS lock_timeout_before \\gset")
    output("SET lock_timeout = 0;")
    yield
    output("SET lock_timeout = :'lock_timeout_before';")


def _print_query(operations: Operations, query: str) -> None:
    operations.get_context().impl.static_output(f"{query}\n\\gexec")
