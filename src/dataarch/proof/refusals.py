"""Who refuses a row: each constraint in turn is taken away until the row is accepted. Nothing is ever committed."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import chain

from sqlalchemy import Connection, Engine, text
from sqlalchemy.orm import Session
from sqlalchemy.sql.schema import Table

from dataarch.errors import ConstraintError
from dataarch.proof.violations import Violation
from dataarch.proof.world import place

__all__ = ["constraints_in_database", "refusals"]

MOST_REFUSALS = 5

IN_DATABASE = """
SELECT conname FROM pg_constraint
WHERE conrelid = to_regclass(:name) AND contype IN ('c', 'f', 'p', 'u', 'x')
UNION ALL
SELECT :name || '.' || attname FROM pg_attribute
WHERE attrelid = to_regclass(:name) AND attnum > 0 AND attnotnull AND NOT attisdropped
"""


def constraints_in_database(connection: Connection, table: Table) -> set[str]:
    """Return the names of all constraints that a table has in the database; of a NOT NULL, ``table.column``."""
    return set(connection.execute(text(IN_DATABASE), {"name": table.name}).scalars())


def refusals(owner: Engine, violation: Violation) -> list[tuple[str, str]]:
    """Return what refuses a violation, as pairs of SQLSTATE and constraint, one after the other is taken away.

    Args:
        owner: an engine of the owner of the tables.
        violation: the row.

    Returns:
        One pair, if the constraint stands alone; more, if others would have refused the row too.

    Locks the table exclusively for the moment, and rolls everything back.
    """
    found: list[tuple[str, str]] = []
    while len(found) < MOST_REFUSALS:
        refused = _refused(owner, violation, [name for _, name in found])
        if refused is None:
            return found
        found.append(refused)
    return found


def _refused(owner: Engine, violation: Violation, without: list[str]) -> tuple[str, str] | None:
    with Session(owner) as session, session.begin() as transaction:
        dropping = (_drop(violation.broken.table, name) for name in without)
        for statement in chain(violation.clearing, *dropping):
            session.execute(text(statement))
        for each in violation.given:
            place(session, each, once=True)
        try:
            place(session, violation.broken)
            if violation.deferred:
                session.execute(text("SET CONSTRAINTS ALL IMMEDIATE"))
        except ConstraintError as refused:
            return str(refused.sqlstate), refused.constraint or f"{refused.table}.{refused.column}"
        finally:
            transaction.rollback()
    return None


def _drop(table: Table, constraint: str) -> Iterator[str]:
    name, _, column = constraint.partition(".")
    if not column:
        yield f"ALTER TABLE public.{table.name} DROP CONSTRAINT {name} CASCADE"
        return
    if column in table.primary_key.columns:  # which cannot be without NOT NULL
        yield from _drop(table, str(table.primary_key.name))
    yield f"ALTER TABLE public.{table.name} ALTER COLUMN {column} DROP NOT NULL"
