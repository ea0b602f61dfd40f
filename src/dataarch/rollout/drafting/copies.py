"""Ask the server about a table's own form on an empty copy of it: nothing that others use is locked or changed."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from sqlalchemy import Connection
from sqlalchemy.exc import DBAPIError

from dataarch.database.scratch import scratch
from dataarch.errors import DataArchError, InvalidChange
from dataarch.partitions.quoting import ident
from dataarch.rollout.drafting.tables import Table
from dataarch.rollout.drafting.types import said_by
from dataarch.rollout.operations.statements import verbatim

__all__ = ["COPY", "copied", "told"]

COPY = "pg_temp.dataarch_copy"
"""What the copy is called in SQL."""


@contextmanager
def copied(table: Table, *, including: str = "") -> Iterator[Connection]:
    """Give a connection on which :data:`COPY` is an empty table of the same columns, and undo it all afterwards."""
    connection = table.connection
    source = ident(table.name, table.home)
    with scratch(connection):
        connection.execute(verbatim(f"CREATE TEMPORARY TABLE dataarch_copy (LIKE {source} {including})"))
        yield connection


def told(connection: Connection, statement: str, *, refusal: str, hint: str) -> None:
    """Run a statement on a copy; raise InvalidChange with what the server says against it."""
    try:
        connection.execute(verbatim(statement))
    except (DBAPIError, DataArchError) as error:
        raise InvalidChange(f"{refusal}: {said_by(error)}.", hint=hint) from error
