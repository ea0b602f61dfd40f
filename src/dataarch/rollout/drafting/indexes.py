"""Indexes as the catalog has them, and the operations that make and drop them while everybody goes on."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from alembic.operations import MigrateOperation
from alembic.operations.ops import CreateIndexOp, DropIndexOp
from sqlalchemy import ColumnElement, literal_column, text

from dataarch.errors import InvalidChange
from dataarch.rollout.drafting.directives import Alone, untouched
from dataarch.rollout.drafting.naming import quoted
from dataarch.rollout.drafting.tables import Table, nearest
from dataarch.rollout.operations import CreatePartitionedIndexOp, DropPartitionedIndexOp

__all__ = ["Index", "created_by", "definition", "dropped_by", "index_of", "indexes_of"]

INDEXES = text(
    """
    SELECT relname AS name, indisunique AS unique, indisvalid AS valid,
           substr(written, strpos(written, ' USING ') + 1) AS body,
           (SELECT conname FROM pg_constraint WHERE conindid = indexrelid AND contype IN ('p', 'u', 'x')) AS constraint,
           ARRAY(SELECT DISTINCT attname::text FROM pg_depend
                 JOIN pg_attribute ON attrelid = refobjid AND attnum = refobjsubid
                 WHERE classid = 'pg_class'::regclass AND objid = indexrelid AND refobjid = indrelid
                   AND refobjsubid > 0) AS columns,
           ARRAY(SELECT attname::text FROM unnest(indkey::int2[]) WITH ORDINALITY AS part (number, place)
                 JOIN pg_attribute ON attrelid = indrelid AND attnum = number ORDER BY place) AS plain
    FROM pg_index JOIN pg_class ON pg_class.oid = indexrelid, pg_get_indexdef(indexrelid) AS written
    WHERE indrelid = :table ORDER BY relname
    """
)

NAME = re.compile(r'[a-z_][a-z0-9_$]*|"(?:[^"]|"")+"')

REST = re.compile(
    r"\s*(?:INCLUDE \((?P<include>.*?)\))?"
    r"\s*(?P<nulls>NULLS NOT DISTINCT)?"
    r"\s*(?:WITH \((?P<storage>.*?)\))?"
    r"\s*(?:WHERE (?P<where>.*))?",
    re.DOTALL,
)


@dataclass(frozen=True, slots=True)
class Index:
    """One index of a table.

    Attributes:
        name: without its schema.
        unique: whether it is unique.
        valid: False for what a build that failed has left.
        body: its definition from ``USING`` on, as the server writes it.
        constraint: the constraint that it belongs to, or None.
        columns: every column that it needs, those in expressions and conditions included if the server noted them.
        plain: the columns that are keys or included as they are.
    """

    name: str
    unique: bool
    valid: bool
    body: str
    constraint: str | None
    columns: tuple[str, ...]
    plain: tuple[str, ...]


def indexes_of(table: Table) -> list[Index]:
    """Return the indexes of a table, by name."""
    return [
        Index(row.name, row.unique, row.valid, row.body, row.constraint, tuple(row.columns), tuple(row.plain))
        for row in table.connection.execute(INDEXES, {"table": table.oid})
    ]


def index_of(table: Table, name: str) -> Index:
    """Return an index of a table; raises InvalidChange if it has none of this name."""
    found = {one.name: one for one in indexes_of(table)}
    if name not in found:
        raise InvalidChange(
            f"The table {table.sql} has no index {quoted(name)}.",
            hint=nearest(name, list(found)),
            table=table.name,
            constraint=name,
        )
    return found[name]


def definition(table: Table, name: str, body: str, *, unique: bool, also: str | None = None) -> CreateIndexOp:
    """Return the operation that makes an index of a definition from the catalog, in a transaction.

    Args:
        table: the table.
        name: what the index is called.
        body: ``USING btree (…) …`` as the server writes it.
        unique: whether it is unique.
        also: a column that the table is going to have.
    """
    method, _, rest = body.removeprefix("USING ").partition(" (")
    keys, rest = _enclosed(rest)
    found = REST.fullmatch(rest)
    if found is None:  # pragma: no cover  # the server's own words, of which there are no others
        raise InvalidChange(f"The index {quoted(name)} has a form that is not known: {body}.", table=table.name)
    options: dict[str, Any] = {} if method == "btree" else {"postgresql_using": method}
    if found["include"]:
        options["postgresql_include"] = [_unquoted(one) for one in _parts(found["include"])]
    if found["nulls"]:
        options["postgresql_nulls_not_distinct"] = True
    if found["storage"]:
        options["postgresql_with"] = _storage(found["storage"])
    if found["where"]:
        options["postgresql_where"] = text(untouched(_bare(found["where"])))
    names = {*table.columns, *([] if also is None else [also])}
    columns = [_key(names, one) for one in _parts(keys)]
    return CreateIndexOp(name, table.name, columns, schema=table.schema, unique=unique, **options)


def created_by(table: Table, creation: CreateIndexOp) -> MigrateOperation:
    """Return the operation that makes an index while everybody reads and writes; what a killed run left is replaced."""
    if table.partitioned:
        return CreatePartitionedIndexOp(creation)
    creation.kw["postgresql_concurrently"] = True
    return Alone(
        DropIndexOp(
            str(creation.index_name), table.name, schema=table.schema, if_exists=True, postgresql_concurrently=True
        ),
        creation,
    )


def dropped_by(table: Table, name: str) -> MigrateOperation:
    """Return the operation that drops an index while everybody reads and writes; none of this name is no error."""
    if table.partitioned:
        return DropPartitionedIndexOp(name, table.name, schema=table.schema)
    return Alone(DropIndexOp(name, table.name, schema=table.schema, if_exists=True, postgresql_concurrently=True))


def _key(names: set[str], written: str) -> str | ColumnElement[Any]:
    """Return a key of an index: the column's name, or the expression as it is."""
    plain = _unquoted(written) if NAME.fullmatch(written) else ""
    return plain if plain in names else literal_column(written)


def _unquoted(written: str) -> str:
    return written[1:-1].replace('""', '"') if written.startswith('"') else written


def _bare(condition: str) -> str:
    """Return a condition without the parentheses around all of it."""
    inner, rest = _enclosed(condition[1:]) if condition.startswith("(") else (condition, "")
    return inner if not rest else condition


def _storage(written: str) -> dict[str, str]:
    pairs = (one.partition("=") for one in _parts(written))
    return {name: value.strip("'") for name, _, value in pairs}


def _enclosed(written: str) -> tuple[str, str]:
    """Return what stands before the parenthesis that closes one opened before, and what follows it."""
    depth = 1
    for place, sign in _signs(written):
        depth += (sign == "(") - (sign == ")")
        if not depth:
            return written[:place], written[place + 1 :]
    return written, ""


def _parts(written: str) -> list[str]:
    """Return what commas separate, but for those in parentheses."""
    parts, begin, depth = [], 0, 0
    for place, sign in _signs(written):
        depth += (sign == "(") - (sign == ")")
        if sign == "," and not depth:
            parts.append(written[begin:place].strip())
            begin = place + 1
    return [*parts, written[begin:].strip()]


def _signs(written: str) -> Iterator[tuple[int, str]]:
    """Yield each sign outside of quotes, with its place."""
    quote = ""
    for place, sign in enumerate(written):
        if quote:
            quote = "" if sign == quote else quote
        elif sign in "'\"":
            quote = sign
        else:
            yield place, sign
