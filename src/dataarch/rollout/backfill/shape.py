"""What a backfill meets in the database: the key it goes by, the columns it fills, and the tables that hold rows."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection

from dataarch.errors import InvalidChange
from dataarch.partitions.quoting import ident, literal
from dataarch.rollout.backfill.definition import Definition
from dataarch.rollout.backfill.session import ask

__all__ = ["Column", "Filled", "Leaf", "Shape", "shape_of"]

TABLE = """
SELECT pg_class.oid::bigint AS oid, nspname, relname, relkind::text AS kind,
       relkind = 'r' AND EXISTS (SELECT FROM pg_inherits WHERE inhparent = pg_class.oid) AS has_children
FROM pg_class JOIN pg_namespace ON pg_namespace.oid = relnamespace WHERE pg_class.oid = to_regclass({name})
"""

LEAVES = """
SELECT nspname, relname, relkind::text AS kind,
       CASE WHEN reltuples >= 0 AND relpages > 0
            THEN reltuples * greatest(1, pg_relation_size(pg_class.oid) / 8192.0 / relpages)
            ELSE pg_relation_size(pg_class.oid) / 100 END::bigint AS estimate,
       (pg_relation_size(pg_class.oid) / current_setting('block_size')::bigint)::bigint AS pages
FROM (SELECT relid FROM pg_partition_tree({oid}::oid::regclass) WHERE isleaf
      UNION SELECT {oid}::oid::regclass) AS members
JOIN pg_class ON pg_class.oid = relid JOIN pg_namespace ON pg_namespace.oid = relnamespace
WHERE relkind <> 'p' ORDER BY nspname, relname
"""

# a unique index whose order is the one that > and ORDER BY have, over columns that are never NULL, of every row
KEYS = """
SELECT indisprimary AS first, array_agg(attname::text ORDER BY place) AS columns,
       array_agg(format_type(atttypid, atttypmod) || CASE WHEN attcollation <> typcollation
           THEN format(' COLLATE %s.%I', collnamespace::regnamespace, collname) ELSE '' END ORDER BY place) AS types
FROM pg_index
JOIN pg_class AS index ON index.oid = indexrelid
JOIN pg_am ON pg_am.oid = relam AND amname = 'btree'
CROSS JOIN LATERAL unnest(indkey::int2[]) WITH ORDINALITY AS place_of(number, place)
JOIN pg_attribute ON attrelid = indrelid AND attnum = place_of.number
JOIN pg_opclass ON pg_opclass.oid = indclass[place - 1]
JOIN pg_type ON pg_type.oid = atttypid
LEFT JOIN pg_collation ON pg_collation.oid = attcollation
WHERE indrelid = {oid}::oid AND indisunique AND indisvalid AND indpred IS NULL AND indexprs IS NULL
  AND place <= indnkeyatts
GROUP BY indexrelid, indisprimary, indnkeyatts
HAVING count(*) = indnkeyatts
   AND bool_and(attnotnull AND opcdefault AND indcollation[place - 1] = attcollation)
   AND (bool_and(indoption[place - 1] & 1 = 0) OR bool_and(indoption[place - 1] & 1 = 1))
ORDER BY indisprimary DESC, count(*), indexrelid
"""

AS_TEXT = """(attcollation <> 0 OR EXISTS (
           SELECT FROM pg_type AS own
           JOIN pg_type AS base ON base.oid = CASE own.typtype WHEN 'd' THEN own.typbasetype ELSE own.oid END
           JOIN pg_type AS element ON element.oid = CASE WHEN base.typcategory = 'A' AND base.typelem <> 0
                                                         THEN base.typelem ELSE base.oid END
           WHERE own.oid = atttypid AND element.typnamespace = 'pg_catalog'::regnamespace
             AND (element.typcategory = 'G' OR element.typname IN ('json', 'xml'))))"""
"""Whether values of a column of ``pg_attribute`` can only be compared as text: their type has no ``=``, or one that is
true of values that differ, as of texts where their collation says so."""

COLUMNS = f"""
SELECT attname::text AS name, format_type(atttypid, atttypmod) AS type, attgenerated <> '' AS generated,
       {AS_TEXT} AS as_text
FROM pg_attribute WHERE attrelid = {{oid}}::oid AND attnum > 0 AND NOT attisdropped
"""


@dataclass(frozen=True, slots=True)
class Column:
    """A column of the key: its name and its type, as SQL has them, with its collation where the type has another."""

    name: str
    type: str


@dataclass(frozen=True, slots=True)
class Filled:
    """A column that is filled; ``as_text`` says that its values can only be compared as text, to the byte."""

    name: str
    type: str
    expression: str
    as_text: bool


@dataclass(frozen=True, slots=True)
class Leaf:
    """A table that holds rows: the table itself, or a partition that has none of its own."""

    schema: str
    name: str
    estimate: int
    pages: int

    @property
    def place(self) -> tuple[str, str]:
        """Its schema and name."""
        return self.schema, self.name


@dataclass(frozen=True, slots=True)
class Shape:
    """A backfill's table as it is at this moment."""

    oid: int
    schema: str
    table: str
    key: tuple[Column, ...]
    filled: tuple[Filled, ...]
    leaves: tuple[Leaf, ...]


def shape_of(connection: Connection, definition: Definition, schema: str | None = None) -> Shape:
    """Return what a backfill meets.

    Args:
        connection: any.
        definition: the backfill's.
        schema: where the table is, if the books know it already.

    Raises:
        InvalidChange: there is no such table or column, no key to go by, or the table holds rows that cannot be walked.
    """
    place = ident(definition.table, schema or definition.schema)
    found = ask(connection, TABLE.format(name=literal(place)))
    if not found:
        raise _invalid(
            definition, f"There is no table {place}.", "Create it in an earlier revision, or name its schema."
        )
    table = found[0]
    if table.kind not in {"r", "p"} or table.has_children:
        raise _invalid(
            definition,
            f"{place} is no table whose rows can be walked by its key: it is a view, a foreign table, or has children.",
            "Name a table or a partitioned table; register children by inheritance one by one.",
        )
    key = _key(definition, place, ask(connection, KEYS.format(oid=table.oid)))
    filled = _filled(definition, place, ask(connection, COLUMNS.format(oid=table.oid)))
    if both := {one.name for one in key} & {one.name for one in filled}:
        raise _invalid(
            definition,
            f"{place} would be walked by {', '.join(sorted(both))}, which the backfill itself changes.",
            "Fill a new column, and go by a key that stays.",
        )
    leaves = _leaves(definition, ask(connection, LEAVES.format(oid=table.oid)))
    return Shape(table.oid, table.nspname, table.relname, key, filled, leaves)


def _key(definition: Definition, place: str, found: Sequence[Any]) -> tuple[Column, ...]:
    for one in found:
        if one.first if definition.key is None else set(one.columns) == set(definition.key):
            return tuple(Column(name, kind) for name, kind in zip(one.columns, one.types, strict=True))
    others = "; ".join(f"key={list(one.columns)!r}" for one in found)
    hint = (
        f"It could go by {others}."
        if others
        else "Give the table a primary key, or a unique index of NOT NULL columns."
    )
    if definition.key is None:
        raise _invalid(definition, f"{place} has no primary key, so nobody can say how far a backfill is.", hint)
    columns = ", ".join(definition.key)
    raise _invalid(
        definition,
        f"{place} has no valid, whole and plain unique index of NOT NULL columns over ({columns}).",
        hint,
    )


def _filled(definition: Definition, place: str, found: Sequence[Any]) -> tuple[Filled, ...]:
    columns = {one.name: one for one in found}
    for name, _ in definition.sets:
        if name not in columns:
            raise _invalid(definition, f"{place} has no column {name}.", "Add it in the expand revision before.")
        if columns[name].generated:
            raise _invalid(definition, f"The column {name} of {place} is generated.", "The server fills it by itself.")
    return tuple(
        Filled(name, columns[name].type, expression, columns[name].as_text) for name, expression in definition.sets
    )


def _leaves(definition: Definition, found: Sequence[Any]) -> tuple[Leaf, ...]:
    for one in found:
        if one.kind != "r":
            raise _invalid(
                definition,
                f"The partition {ident(one.relname, one.nspname)} is no table of this server.",
                "Detach foreign partitions first.",
            )
    return tuple(Leaf(one.nspname, one.relname, one.estimate, one.pages) for one in found)


def _invalid(definition: Definition, message: str, hint: str) -> InvalidChange:
    return InvalidChange(f"The backfill {definition.name} cannot be done: {message}", hint=hint, table=definition.table)
