"""What there is of a table, as a change needs to know it; what does not fit is refused by name."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from difflib import get_close_matches
from typing import Any

from sqlalchemy import Connection, inspect, text
from sqlalchemy.exc import SAWarning
from sqlalchemy.types import TypeEngine

from dataarch.errors import InvalidChange
from dataarch.partitions.quoting import ident
from dataarch.rollout.backfill.shape import AS_TEXT
from dataarch.rollout.drafting.naming import quoted
from dataarch.rollout.drafting.types import COLLATED, FULL_TYPE, Kind, tidy

__all__ = ["Column", "Table", "table_of"]

RELATION = text(
    """
    SELECT pg_class.oid, nspname AS home, relkind::text AS kind, relispartition AS is_partition,
           (SELECT inhparent::regclass::text FROM pg_inherits WHERE inhrelid = pg_class.oid LIMIT 1) AS parent,
           current_setting('server_version_num')::int / 10000 AS server
    FROM pg_class JOIN pg_namespace ON pg_namespace.oid = relnamespace WHERE pg_class.oid = to_regclass(:name)
    """
)

COLUMNS = text(
    f"""
    SELECT attname AS name, attnum AS number, {FULL_TYPE} AS kind, {COLLATED} AS collated, {AS_TEXT} AS as_text,
           NOT attnotnull AS nullable,
           pg_get_expr(adbin, adrelid) AS default, attidentity <> '' AS is_identity, attgenerated <> '' AS is_generated,
           EXISTS (SELECT FROM pg_depend WHERE refclassid = 'pg_class'::regclass AND refobjid = attrelid
                   AND refobjsubid = attnum AND classid = 'pg_class'::regclass AND deptype = 'a'
                   AND (SELECT relkind FROM pg_class WHERE oid = objid) = 'S') AS has_sequence
    FROM pg_attribute LEFT JOIN pg_attrdef ON adrelid = attrelid AND adnum = attnum
    WHERE attrelid = :table AND attnum > 0 AND NOT attisdropped ORDER BY attnum
    """
)

KEYS = text(
    """
    SELECT ARRAY(SELECT attname::text FROM unnest(conkey) WITH ORDINALITY AS part (number, place)
                 JOIN pg_attribute ON attrelid = :table AND attnum = part.number ORDER BY place) AS key
    FROM pg_constraint WHERE conrelid = :table AND contype = 'p'
    UNION ALL
    SELECT ARRAY(SELECT coalesce(attname::text, '') FROM unnest(partattrs::int2[]) AS number
                 LEFT JOIN pg_attribute ON attrelid = :table AND attnum = number)
    FROM pg_partitioned_table WHERE partrelid = :table
    """
)

NAMES = text(
    "SELECT relname FROM pg_class WHERE relkind IN ('r', 'p') AND NOT relispartition AND pg_table_is_visible(oid)"
)

TAKEN = text(
    """
    SELECT coalesce((SELECT 'index ' || indrelid::regclass FROM pg_index WHERE indexrelid = pg_class.oid), 'relation')
    FROM pg_class JOIN pg_namespace ON pg_namespace.oid = relnamespace WHERE relname = :name AND nspname = :home
    """
)

CONSTRAINT = text("SELECT contype::text FROM pg_constraint WHERE conrelid = :table AND conname = :name")


@dataclass(frozen=True, slots=True)
class Column:
    """One column.

    Attributes:
        name: as the catalog has it.
        number: its place in the catalog.
        kind: its type, as the server writes it, with its collation where that is another than the type's own.
        type: the same for SQLAlchemy; NullType where it does not know it.
        collated: what SQL says of its collation: nothing where it is the type's own; None where it can have none.
        as_text: whether its values can only be compared as text.
        nullable: whether it may be NULL.
        default: an SQL expression, or None.
        made_by: what fills it by itself: ``identity``, ``generated``, ``sequence``; or empty.
    """

    name: str
    number: int
    kind: str
    type: TypeEngine[Any]
    collated: str | None
    as_text: bool
    nullable: bool
    default: str | None
    made_by: str

    @property
    def as_kind(self) -> Kind:
        """Its type, for another column."""
        return Kind(self.kind, self.type, self.collated, self.as_text, rewrites=False)


@dataclass(frozen=True)
class Table:
    """A table that changes.

    Attributes:
        connection: the one that it was read with.
        oid: its number in the catalog.
        name: without its schema.
        schema: as it was given; None is where the search path finds it.
        home: the schema that it is in.
        partitioned: whether it is partitioned.
        partition_key: the columns that it is partitioned by; empty names stand for expressions.
        primary_key: the columns of the primary key, in its order; empty if there is none.
        columns: by name, in their order.
        server: the server's major version.
    """

    connection: Connection
    oid: int
    name: str
    schema: str | None
    home: str
    partitioned: bool
    partition_key: tuple[str, ...]
    primary_key: tuple[str, ...]
    columns: Mapping[str, Column]
    server: int

    @property
    def sql(self) -> str:
        """Its name in SQL, as people write it."""
        return quoted(self.name, self.schema)

    @property
    def words(self) -> tuple[str, ...]:
        """Its name as part of a change's name."""
        return (self.name,) if self.schema is None else (self.schema, self.name)

    def column(self, name: str) -> Column:
        """Return a column; raises InvalidChange if there is none of this name."""
        if name not in self.columns:
            raise InvalidChange(
                f"The table {self.sql} has no column {quoted(name)}.",
                hint=nearest(name, list(self.columns)),
                table=self.name,
                column=name,
            )
        return self.columns[name]

    def free(self, name: str) -> None:
        """Raise InvalidChange if a column has this name, or none may have it."""
        if name in self.columns:
            raise InvalidChange(
                f"The table {self.sql} has a column {quoted(name)} already.",
                hint="Choose another name.",
                table=self.name,
                column=name,
            )
        fits(name, self.name)

    def free_relation(self, name: str, *, hint: str = "Give another one with --name.") -> None:
        """Raise InvalidChange if an index or a table of the same schema has this name."""
        fits(name, self.name)
        taken = self.connection.scalar(TAKEN, {"name": name, "home": self.home})
        if taken is not None:
            raise InvalidChange(
                f"The name {quoted(name)} is taken already, by: {taken}.",
                hint=hint,
                table=self.name,
                constraint=name,
            )

    def free_constraint(self, name: str) -> None:
        """Raise InvalidChange if a constraint of the table has this name."""
        fits(name, self.name)
        if self.connection.scalar(CONSTRAINT, {"table": self.oid, "name": name}) is not None:
            raise InvalidChange(
                f"The table {self.sql} has a constraint {quoted(name)} already.",
                hint="Give another name with --name.",
                table=self.name,
                constraint=name,
            )

    def keyed(self) -> None:
        """Raise InvalidChange if a backfill could not walk through it."""
        if not self.primary_key:
            raise InvalidChange(
                f"The table {self.sql} has no primary key, along which its rows could be filled in batches.",
                hint="Give it one first.",
                table=self.name,
            )


def table_of(connection: Connection, name: str, schema: str | None = None) -> Table:
    """Return what there is of a table.

    Raises:
        InvalidChange: there is none of this name, or it is a view, a partition or a foreign table.
    """
    found = connection.execute(RELATION, {"name": ident(name, schema)}).one_or_none()
    if found is None:
        raise InvalidChange(
            f"There is no table {quoted(name, schema)}.",
            hint=nearest(name, list(connection.scalars(NAMES))) or "Name its schema with --schema.",
            table=name,
        )
    if found.is_partition:
        raise InvalidChange(
            f"{quoted(name, schema)} is a partition.", hint=f"Change the whole table {found.parent}.", table=name
        )
    if found.kind not in {"r", "p"}:
        raise InvalidChange(f"{quoted(name, schema)} is no table.", hint="Name a table.", table=name)
    asked = {"table": found.oid}
    primary, partition = _keys(connection, found.oid, partitioned=found.kind == "p")
    types = _types(connection, name, found.home)
    columns = {
        row.name: Column(
            row.name,
            row.number,
            row.kind,
            tidy(types[row.name], row.collated),
            row.collated,
            row.as_text,
            row.nullable,
            row.default,
            _made_by(row),
        )
        for row in connection.execute(COLUMNS, asked)
    }
    return Table(
        connection=connection,
        oid=found.oid,
        name=name,
        schema=schema,
        home=found.home,
        partitioned=found.kind == "p",
        partition_key=partition,
        primary_key=primary,
        columns=columns,
        server=found.server,
    )


def nearest(name: str, names: list[str]) -> str:
    """Return a hint with the names that were likely meant; empty if none is like it."""
    meant = get_close_matches(name, names, n=3)
    return f"Did you mean {' or '.join(quoted(one) for one in meant)}?" if meant else ""


def fits(name: str, table: str) -> None:
    """Raise InvalidChange for a name that PostgreSQL would cut off, or cannot have."""
    if not name or len(name.encode()) > 63 or "\0" in name:
        raise InvalidChange(f"{name!r} cannot be a name.", hint="A name has 1 to 63 bytes.", table=table, value=name)


def _keys(connection: Connection, oid: int, *, partitioned: bool) -> tuple[tuple[str, ...], tuple[str, ...]]:
    keys = [tuple(row.key) for row in connection.execute(KEYS, {"table": oid})]
    partition = keys.pop() if partitioned else ()
    return (keys[0] if keys else ()), partition


def _types(connection: Connection, name: str, home: str) -> dict[str, TypeEngine[Any]]:
    with warnings.catch_warnings():
        # a type that SQLAlchemy does not know is no reason to stop
        warnings.simplefilter("ignore", SAWarning)
        columns = inspect(connection).get_columns(name, schema=home)
    return {column["name"]: column["type"] for column in columns}


def _made_by(row: Any) -> str:
    if row.is_identity:
        return "identity"
    if row.is_generated:
        return "generated"
    return "sequence" if row.has_sequence else ""
