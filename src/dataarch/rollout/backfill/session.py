"""The connection that a backfill works on, and statements as it sends them."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import Any, NamedTuple, cast

import psycopg
from psycopg.rows import namedtuple_row
from sqlalchemy import Connection, CursorResult, Engine
from sqlalchemy.exc import DBAPIError

from dataarch.database.error_mapping import named_error
from dataarch.errors import DataArchError, ServerUnreachable
from dataarch.partitions.quoting import literal

__all__ = [
    "FAILURES",
    "Answer",
    "Failure",
    "ask",
    "named",
    "one_row",
    "patient_session",
    "seeing_all",
    "send",
    "session",
    "sqlstate_of",
    "together",
]

Failure = DBAPIError | DataArchError | psycopg.Error
"""An error of the database, as it comes from an engine with names for them, from any other, or from the driver."""

FAILURES = (DBAPIError, DataArchError, psycopg.Error)

SETTINGS = (
    # where a policy would hide rows, the statement raises instead of silently changing none
    "SET row_security = off",
    # who waits for a row holds the others of its batch, and their writers, for that long
    "SET lock_timeout = '200ms'",
    "SET statement_timeout = 0",
    "SET SESSION CHARACTERISTICS AS TRANSACTION ISOLATION LEVEL READ COMMITTED",
    # keys are kept as text, in forms that are read back as the same values
    "SET DateStyle = 'ISO'",
    "SET IntervalStyle = 'postgres'",
    "SET extra_float_digits = 1",
    "SET standard_conforming_strings = on",
    # a batch is read through the key's index, whatever the planner makes of old statistics
    "SET enable_seqscan = off",
    "SET enable_sort = off",
    "SET enable_incremental_sort = off",
    # the costs above would have each batch compiled
    "SET jit = off",
)

FOR_BATCHES = "SET synchronous_commit = off"
"""A batch and the note of it are one transaction: a server that crashes forgets both of its last ones, or none. Whoever
notes the end waits for the disk, and with that for all before."""


@contextmanager
def session(engine: Engine, name: str, *, for_batches: bool = False) -> Iterator[Connection]:
    """Open a connection with a backfill's settings; it is closed at the end, and goes back to no pool.

    One ``for_batches`` is in autocommit mode: transactions are begun and ended by statements, which can travel
    :func:`together` with others; and none waits for the disk.
    """
    with engine.connect() as connection:
        try:
            # a plan for any values would read a whole table for a few keys
            cast("psycopg.Connection[Any]", connection.connection.driver_connection).prepare_threshold = None
            options = connection.execution_options(no_parameters=True)
            label = "SET application_name = '{}'".format(f"dataarch backfill {name}"[:60].replace("'", "''"))
            options.exec_driver_sql("; ".join((*SETTINGS, label, *([FOR_BATCHES] if for_batches else []))))
            options.commit()
            if for_batches:
                options = options.execution_options(isolation_level="AUTOCOMMIT")
            yield options
        finally:
            with suppress(DBAPIError, DataArchError):
                connection.invalidate()


@contextmanager
def patient_session(engine: Engine, name: str, patience: float) -> Iterator[Connection]:
    """Open the same, and try again for some seconds where the server does not answer."""
    deadline = time.monotonic() + patience
    while True:
        try:
            with engine.connect() as trial:
                trial.exec_driver_sql("SELECT 1")
            break
        except (DBAPIError, DataArchError) as wrong:
            if not isinstance(named(wrong), ServerUnreachable) or time.monotonic() > deadline:
                raise
        time.sleep(0.2)
    with session(engine, name) as connection:
        yield connection


def send(connection: Connection, statement: str) -> CursorResult[Any]:
    """Run a statement as it is written: what looks like a parameter in it is none."""
    # an option of the connection would stay, for whoever uses it afterwards
    return connection.exec_driver_sql(statement, execution_options={"no_parameters": True})


def ask(connection: Connection, query: str) -> Sequence[Any]:
    """Return all rows of a query."""
    return send(connection, query).fetchall()


def one_row(connection: Connection, query: str) -> Any:
    """Return the only row of a query."""
    return send(connection, query).one()


@contextmanager
def seeing_all(connection: Connection) -> Iterator[None]:
    """Raise, rather than hide rows, where a policy of row-level security would."""
    before = one_row(connection, "SELECT current_setting('row_security')")[0]
    send(connection, "SET LOCAL row_security = off")
    try:
        yield
    finally:
        with suppress(DataArchError, DBAPIError):
            send(connection, f"SET LOCAL row_security = {literal(before)}")


class Answer(NamedTuple):
    """What came of a statement: its rows, if it has any, and how many it has given or changed."""

    rows: Sequence[Any]
    changed: int


def together(connection: Connection, *statements: str) -> list[Answer]:
    """Run statements in one round trip; raises the error of the first that fails, and none after it is run."""
    driver = cast("psycopg.Connection[Any]", connection.connection.driver_connection)
    answers = []
    try:
        with driver.cursor(row_factory=namedtuple_row) as cursor:
            cursor.execute(";\n".join(statements).encode())
            while True:
                answers.append(Answer(cursor.fetchall() if cursor.description else (), cursor.rowcount))
                if not cursor.nextset():
                    return answers
    except psycopg.Error as error:
        if (known := named_error(error)) is not None:
            raise known from error
        raise


def undo(connection: Connection) -> None:
    """End the transaction that statements have begun, if there is one."""
    driver = cast("psycopg.Connection[Any]", connection.connection.driver_connection)
    try:
        driver.rollback()
    except psycopg.Error as error:
        if (known := named_error(error)) is not None:
            raise known from error
        raise


def sqlstate_of(error: BaseException) -> str:
    """Return the SQLSTATE of an error of the database, named or not; an empty text where it has none."""
    if isinstance(error, DataArchError):
        return error.sqlstate or ""
    original = error.orig if isinstance(error, DBAPIError) else error
    return str(getattr(original, "sqlstate", None) or getattr(original, "pgcode", None) or "")


def named(error: Failure) -> Failure:
    """Return the named error for one of the database, whatever engine it came from."""
    original = error.orig if isinstance(error, DBAPIError) else error
    return (named_error(original) or error) if isinstance(original, psycopg.Error) else error
