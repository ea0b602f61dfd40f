"""psycopg, by hand: what the others are measured by."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import ExitStack
from functools import partial
from typing import Any

import psycopg

from benchmarks.repositories.peers_ground import (
    ACTIVITY_COLUMNS,
    LATEST,
    PRODUCT_COLUMNS,
    UPSERT,
    WANTED,
    Ground,
    encoded,
    minor,
)
from benchmarks.repositories.peers_measure import Way, by
from benchmarks.repositories.reads import PRESENT
from dataarch.clock import Month, utcnow

__all__ = ["ingest", "latest", "upsert"]

COPY_ACTIVITIES = f"COPY user_activity_log ({', '.join(ACTIVITY_COLUMNS)}) FROM STDIN (FORMAT binary)"
STAGE = f"CREATE TEMP TABLE stage ON COMMIT DROP AS SELECT {', '.join(PRODUCT_COLUMNS)} FROM products WITH NO DATA"
COPY_STAGE = "COPY stage FROM STDIN (FORMAT binary)"
MERGE = UPSERT.format("SELECT * FROM stage")


def ingest(stack: ExitStack, ground: Ground) -> Sequence[Way]:
    """COPY BINARY."""
    connection = stack.enter_context(ground.connect())
    data = encoded(ground, "user_activity_log", ACTIVITY_COLUMNS, ground.rows)

    def copied() -> None:
        with connection.transaction(), connection.cursor() as cursor, cursor.copy(COPY_ACTIVITIES.encode()) as copy:
            copy.write(data)

    return [by("COPY BINARY, encoded beforehand", copied)]


def latest(stack: ExitStack, ground: Ground) -> Sequence[Way]:
    """Prepared statements: the plain one in two forms, and the one that only who knows of the windows would write.

    Where the server keeps one plan for all users, it believes that a LIMIT of 50 takes all of a user's rows, and sorts
    them; for a limit that it does not know it walks the index in order.
    """
    cursor = _open_cursor(stack, ground)
    month = Month.of(utcnow())
    present = PRESENT.format(since=month.plus(-3).start, until=month.plus(1).start)
    given = [ground.tenant_id, ground.user_id]
    ways: dict[str, tuple[str, list[Any]]] = {
        "psycopg, prepared": (LATEST.format("%s", "%s", WANTED), given),
        "psycopg, prepared, LIMIT as a parameter": (LATEST.format("%s", "%s", "%s"), [*given, WANTED]),
        "psycopg, prepared, dataarch's window by hand": (present, given),
    }
    return [by(name, partial(_fetched, cursor, text.encode(), values)) for name, (text, values) in ways.items()]


def _open_cursor(stack: ExitStack, ground: Ground) -> psycopg.Cursor[tuple[Any, ...]]:
    connection = stack.enter_context(ground.connect())
    stack.enter_context(connection.transaction())
    return stack.enter_context(connection.cursor())


def _fetched(cursor: psycopg.Cursor[tuple[Any, ...]], statement: bytes, given: list[Any]) -> list[tuple[Any, ...]]:
    return cursor.execute(statement, given, prepare=True).fetchall()


def upsert(stack: ExitStack, ground: Ground) -> Sequence[Way]:
    """A stage that is filled by COPY BINARY, and one statement."""
    connection = stack.enter_context(ground.connect())
    data = encoded(ground, "products", PRODUCT_COLUMNS, minor(ground.rows))

    def staged() -> None:
        with connection.transaction(), connection.cursor() as cursor:
            cursor.execute(STAGE.encode())
            with cursor.copy(COPY_STAGE) as copy:
                copy.write(data)
            cursor.execute(MERGE.encode())

    return [by("COPY to a stage + ON CONFLICT, encoded beforehand", staged)]
