"""Registering a backfill, from a revision: what can be known to fail is refused at once."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, suppress

from sqlalchemy import Connection
from sqlalchemy.exc import DBAPIError

from dataarch.errors import DataArchError, InvalidChange
from dataarch.partitions.quoting import ident
from dataarch.rollout.backfill.batch import said
from dataarch.rollout.backfill.books import MAKE, SCHEMA, changed, record_of, register_sql
from dataarch.rollout.backfill.definition import Definition
from dataarch.rollout.backfill.session import ask, named, send, sqlstate_of
from dataarch.rollout.backfill.shape import Shape, shape_of
from dataarch.rollout.backfill.statements import Statements

__all__ = ["check", "register"]

PROBE = f"{SCHEMA}.probe"

READ_BY_PROBE = f"""
SELECT DISTINCT attname::text FROM pg_depend
JOIN pg_rewrite ON pg_rewrite.oid = objid AND ev_class = '{PROBE}'::regclass
JOIN pg_attribute ON attrelid = refobjid AND attnum = refobjsubid
WHERE classid = 'pg_rewrite'::regclass AND refobjid = {{oid}}::oid AND refobjsubid > 0
"""


def register(connection: Connection, definition: Definition) -> None:
    """Write a backfill into the books, in the transaction of the connection; the books are made where there are none.

    Raises:
        InvalidChange: the table, a column or a key is not there, an expression is none, or ``where`` reads a column
            that is filled.
        BackfillChanged: another definition is registered under this name.
    """
    shape = shape_of(connection, definition)
    send(connection, MAKE)
    with suppress(InvalidChange):
        record = record_of(connection, definition.name)
        if record.digest != definition.digest:
            raise changed(record)
    check(connection, definition, shape)
    send(connection, register_sql(definition))


def check(connection: Connection, definition: Definition, shape: Shape) -> None:
    """Refuse what the server cannot plan, and what could not be verified; changes nothing.

    Raises:
        InvalidChange: an expression is none, or ``where`` reads a column that is filled.
        PrivilegeMissing: the role may not do it, or a policy of row-level security would hide rows from it.
    """
    _try(connection, definition, Statements(definition, shape).probe())
    _refuse_moving_where(connection, definition, shape)


def _try(connection: Connection, definition: Definition, statement: str) -> None:
    with _undone(connection):
        try:
            send(connection, statement)
        except (DBAPIError, DataArchError) as wrong:
            if not sqlstate_of(wrong).startswith(("42", "22", "0A")) or sqlstate_of(wrong) == "42501":
                raise named(wrong) from wrong.__cause__
            raise InvalidChange(
                f"The backfill {definition.name} cannot be done: {said(wrong)}.",
                hint="Correct its expressions; they name the columns of the row as they are.",
                table=definition.table,
                sqlstate=sqlstate_of(wrong),
            ) from wrong


def _refuse_moving_where(connection: Connection, definition: Definition, shape: Shape) -> None:
    """Refuse a condition that rows leave by being filled: a verification would then look at none of them."""
    if definition.where is None:
        return
    table = f"{ident(shape.table, shape.schema)} AS {ident(definition.table)}"
    with _undone(connection):
        send(connection, f"CREATE VIEW {PROBE} AS SELECT FROM {table} WHERE (({definition.where}\n))")
        read = {one[0] for one in ask(connection, READ_BY_PROBE.format(oid=shape.oid))}
    if moving := sorted(read & {one.name for one in shape.filled}):
        raise InvalidChange(
            f"The backfill {definition.name} fills {', '.join(moving)}, which its where reads: rows would leave the "
            f"condition by being filled, and nobody could verify them.",
            hint="Leave that part out: rows that are what they should be are not written anyway.",
            table=definition.table,
            value=definition.where,
        )


@contextmanager
def _undone(connection: Connection) -> Iterator[None]:
    """Undo what is done in the block."""
    send(connection, "SAVEPOINT dataarch_probe")
    try:
        yield
    finally:
        send(connection, "ROLLBACK TO SAVEPOINT dataarch_probe")
        send(connection, "RELEASE SAVEPOINT dataarch_probe")
