"""Statements as the operations send or print them, and never long in wait for a lock."""

from __future__ import annotations

from alembic.operations import Operations
from sqlalchemy import TextClause, text

__all__ = ["bounded", "lock_with_partitions", "run", "verbatim"]

PATIENCE_IN_TRANSACTION = "10 seconds"
"""How long a lock is tried for by an operation that is part of its revision's transaction, and keeps its locks."""

LOCK_WAIT = "100ms"
"""How long one try waits in a lock's queue, and others behind it."""


def verbatim(statement: str) -> TextClause:
    """Return a statement without parameters: what looks like one in it is none."""
    return text(statement.replace(":", r"\:"))


def run(operations: Operations, statement: str) -> None:
    """Execute a statement, or print it as it is where SQL is asked for."""
    context = operations.get_context()
    if context.as_sql:
        context.impl.static_output(f"{statement.strip()};")
    else:
        operations.execute(verbatim(statement))


def bounded(body: str, *, patience: str | None = None) -> str:
    """Return a DO block that runs PL/pgSQL statements, whole or not at all, and waits little for each lock.

    Args:
        body: statements; what they have done is undone before they are tried again.
        patience: an interval, by default 10 seconds; after it, a lock that is not granted is the error 55P03, and
            nothing is changed.

    Guarantee: nobody waits behind it for longer than 0.1 s for each lock that the body takes; between tries it holds
    none of them. The transaction's own lock_timeout is what it was afterwards.
    """
    return f"""
DO $bounded$
DECLARE
    deadline timestamptz := clock_timestamp() + interval '{patience or PATIENCE_IN_TRANSACTION}';
    lock_timeout_before text := current_setting('lock_timeout');
BEGIN
    LOOP
        BEGIN
            PERFORM set_config('lock_timeout', '{LOCK_WAIT}', true);
            {body.strip()}
            EXIT;
        EXCEPTION
            WHEN lock_not_available THEN
                IF clock_timestamp() >= deadline THEN
                    RAISE;
                END IF;
        END;
        PERFORM pg_sleep(0.1 + 0.3 * random());
    END LOOP;
    PERFORM set_config('lock_timeout', lock_timeout_before, true);
END
$bounded$
""".strip()


def lock_with_partitions(table: str, *, mode: str = "ACCESS EXCLUSIVE") -> str:
    """Return PL/pgSQL that locks a table and its partitions, for the body of :func:`bounded`.

    Who holds the table alone keeps out everybody but those who name a partition; those are not waited for.
    """
    return f"""LOCK TABLE ONLY {table} IN {mode} MODE;
            LOCK TABLE {table} IN {mode} MODE NOWAIT;"""
