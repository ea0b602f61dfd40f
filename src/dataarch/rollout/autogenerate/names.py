"""Which names Alembic should look at: no partition, which comes and goes without a revision, and nothing set aside."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import cache
from typing import Any

from sqlalchemy import Connection, text

from dataarch.partitions.catalog import marks_of
from dataarch.rollout.set_aside import SCHEMA

__all__ = ["IncludeName", "without_partitions"]

IncludeName = Callable[[str | None, str, Mapping[str, Any]], bool]
"""Alembic's ``include_name``: a name, its kind, and the names of what it belongs to."""

BOOKS_SCHEMA = "dataarch_rollout"
"""Holds the books of changes under way, which are no model's tables."""

GATE_SCHEMA = "dataarch_cache"
"""Holds the cache's gate, which is no model's table."""

PARTITIONS = text(
    """
    SELECT nspname, relname FROM pg_class JOIN pg_namespace ON pg_namespace.oid = relnamespace
    WHERE relispartition AND relkind IN ('r', 'p', 'f')
    """
)
"""Partitions; what the maintenance has taken out of a table, or is about to put into one, carries its mark."""


def without_partitions(connection: Connection, also: IncludeName | None = None) -> IncludeName:
    """Return Alembic's filter that leaves partitions alone, retired ones that were kept, and what was set aside.

    Args:
        connection: the one that Alembic compares; it is asked once, when the first table is looked at, so that an
            upgrade asks nothing.
        also: a filter of the project's own, which must agree too.

    A partition is told by its schema and its name: a plain table of the same name elsewhere is seen.
    """

    @cache
    def partitions() -> frozenset[tuple[str, str]]:
        attached = {(schema, name) for schema, name in connection.execute(PARTITIONS)}
        return frozenset(attached | {(schema, name) for schema, name, _ in marks_of(connection)})

    def include(name: str | None, kind: str, parents: Mapping[str, Any]) -> bool:
        if kind == "schema" and name in {SCHEMA, BOOKS_SCHEMA, GATE_SCHEMA}:
            return False
        if kind == "table" and name is not None:
            schema = parents.get("schema_name") or connection.dialect.default_schema_name or "public"
            if (schema, name) in partitions():
                return False
        return also is None or also(name, kind, parents)

    return include
