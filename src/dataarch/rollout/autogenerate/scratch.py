"""Ask the server how it would store a thing: make it in a savepoint on objects of one's own, look, and roll back.

Nothing that others use is locked more than a reader locks it: policies and triggers are made on an empty temporary
table of the same columns, functions in the temporary schema.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

from sqlalchemy import Connection
from sqlalchemy.exc import DBAPIError

from dataarch.database.scratch import scratch
from dataarch.models.declared import qualified
from dataarch.rollout.operations.statements import verbatim

__all__ = ["asked", "like"]

Answer = TypeVar("Answer")

NOT_THERE = {"42703", "42704", "42883", "42P01", "3F000"}
"""Undefined column, object, function, table or schema: it may be made by the very revision that is being written."""


def like(connection: Connection, name: str, source: str) -> str:
    """Make an empty temporary table with the columns of another, and return how to name it in SQL.

    Args:
        connection: inside :func:`~dataarch.database.scratch.scratch`.
        name: what the temporary table is called.
        source: the other one, as SQL names it; it is locked as a reader locks it (ACCESS SHARE).
    """
    connection.execute(verbatim(f"CREATE TEMPORARY TABLE {qualified(name)} (LIKE {source})"))
    return f"pg_temp.{qualified(name)}"


def asked(connection: Connection, question: Callable[[], Answer]) -> Answer | None:
    """Return what the server answers to something done in a savepoint; None if it lacks what the question names."""
    with scratch(connection):
        try:
            return question()
        except DBAPIError as error:
            if getattr(error.orig, "sqlstate", None) not in NOT_THERE:
                raise
            return None
