"""Names and values as they stand in SQL."""

from __future__ import annotations

from datetime import UTC, datetime

from sqlalchemy import Table

from dataarch.models.declared import qualified as quoted
from dataarch.partitions.catalog import Partition

__all__ = ["bound", "ident", "literal", "qualified"]


def ident(name: str, schema: str | None = None) -> str:
    """Return a name in double quotes, with its schema where one is given."""
    return quoted(name, schema)


def literal(value: str) -> str:
    """Return text as a literal; standard_conforming_strings is on wherever this library connects."""
    return "'" + value.replace("'", "''") + "'"


def bound(instant: datetime | None, *, unbounded: str) -> str:
    """Return an instant as a bound of a partition, in UTC; ``unbounded`` (MINVALUE or MAXVALUE) for None."""
    return unbounded if instant is None else literal(instant.astimezone(UTC).isoformat(sep=" "))


def qualified(table: Table | Partition) -> str:
    """Return a table's name in quotes, with its schema if it has one."""
    return ident(table.name, table.schema)


def lock_name(schema: str, table: str) -> str:
    """Return the SQL of the advisory lock's key that every maintenance of a table takes."""
    return f"hashtextextended({literal(f'dataarch.partitions {schema}.{table}')}, 0)"
