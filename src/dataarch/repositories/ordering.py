"""The order of a list, and the conditions that continue it behind a row: always comparisons that an index can walk.

What lies behind a row is told in parts, one after another in the order of the list, each of which is a range of the
index: rows that are equal in the first columns and greater in the next. Where columns have one direction and no NULLs
between them, one row comparison, ``(a, b, id) > (1, 2, 3)``, is all. One condition of OR and AND would give the same
rows, but PostgreSQL would then read, and throw away, each row that is equal in the first column.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any
from uuid import UUID

from sqlalchemy import (
    Alias,
    ColumnElement,
    FromClause,
    Select,
    Table,
    UnaryExpression,
    inspect,
    literal,
    tuple_,
)
from sqlalchemy.orm import RelationshipProperty
from sqlalchemy.sql import operators
from sqlalchemy.types import NullType, TypeDecorator, TypeEngine

from dataarch.database.select_shape import unwrapped
from dataarch.errors import InvalidValue, shown
from dataarch.models.partitioning import partitioning_of
from dataarch.models.tenancy import tenant_column

__all__ = ["Key", "Source", "backwards", "beyond", "keys_of", "source_of"]

HINT = "Order by columns: order=[User.created_at.desc(), User.email.asc().nulls_first()]."


@dataclass(frozen=True, slots=True)
class Source:
    """What the rows of a list are rows of.

    Attributes:
        selectable: the table or alias, as the statement names it.
        table: the table itself; None for a subquery.
        primary_key: its columns, as the statement names them.
    """

    selectable: FromClause
    table: Table | None
    primary_key: tuple[ColumnElement[Any], ...]


@dataclass(frozen=True, slots=True)
class Key:
    """One column that a list is ordered by.

    Attributes:
        column: the column, or an expression.
        descending: its direction.
        nulls_first: where NULLs come.
        nullable: whether there may be any.
        divides: whether the table is partitioned by it.
    """

    column: ColumnElement[Any]
    descending: bool = False
    nulls_first: bool = False
    nullable: bool = True
    divides: bool = False

    @property
    def clause(self) -> ColumnElement[Any]:
        """What stands in ORDER BY: nothing about NULLs where it is the server's default, as an index has it."""
        directed = self.column.desc() if self.descending else self.column.asc()
        if not self.nullable or self.nulls_first == self.descending:
            return directed
        return directed.nulls_first() if self.nulls_first else directed.nulls_last()

    def value(self, value: object) -> ColumnElement[Any]:
        """Return a value of the column, as a parameter; of a function that tells no type, by the value's own."""
        type_ = _as_returned(self.column.type)
        return literal(value, None if isinstance(type_, NullType) else type_)


def backwards(keys: Sequence[Key]) -> tuple[Key, ...]:
    """Return the same list from its end to its beginning."""
    return tuple(replace(key, descending=not key.descending, nulls_first=not key.nulls_first) for key in keys)


def _as_returned(type_: TypeEngine[Any]) -> TypeEngine[Any]:
    """Return the type that takes what a column gave; one that only checks what is written would check it again.

    Rows that others wrote may hold what it refuses.
    """
    if not isinstance(type_, TypeDecorator):
        return type_
    kind = type(type_)
    if kind.process_result_value is not TypeDecorator.process_result_value:
        return type_
    return _as_returned(type_.impl_instance)


# ── the order that is asked for ───────────────────────────────────────────────────────────────────────────────────


def source_of(statement: Select[*tuple[Any, ...]]) -> Source:
    """Return what a statement selects from: the model or table of the first thing that it selects.

    Raises:
        InvalidValue: it is neither, or has no primary key.
    """
    first: Any = next(iter(statement.column_descriptions), {})
    source = _of_entity(first["entity"]) if first.get("entity") is not None else _of_column(first.get("expr"))
    if source is None or not source.primary_key:
        raise InvalidValue(
            "The statement selects from nothing that has a primary key, so its rows cannot be told apart.",
            hint="Select a model, or columns of one, first: select(User), or select(User.id, User.email).",
        )
    return source


def _of_entity(entity: Any) -> Source:
    about = inspect(entity)
    mapper = about.mapper
    names = (mapper.get_property_by_column(column).key for column in mapper.primary_key)
    return Source(about.selectable, mapper.local_table, tuple(unwrapped(getattr(entity, name)) for name in names))


def _of_column(selected: Any) -> Source | None:
    selectable = getattr(unwrapped(selected), "table", None)
    if not isinstance(selectable, FromClause):
        return None
    table = selectable.element if isinstance(selectable, Alias) else selectable
    return Source(selectable, table if isinstance(table, Table) else None, tuple(selectable.primary_key))


def keys_of(order: object, source: Source, tenant_id: UUID | None) -> tuple[Key, ...]:
    """Return what a list is ordered by, the primary key at its end, in the direction of the column before it.

    Args:
        order: a column, or several, ascending or ``.desc()``, with ``.nulls_first()`` or ``.nulls_last()``; other
            expressions count as columns that may be NULL.
        source: what the rows are rows of.
        tenant_id: whose rows alone there are; then the tenant's column, which is the same in each, is left out.

    Raises:
        InvalidValue: something is no column.
    """
    unique = _without_tenant(source) if tenant_id is not None else set(source.primary_key)
    keys: list[Key] = []
    seen: set[Any] = set()
    for item in order if isinstance(order, list | tuple) else (order,):
        key = _key(item, source)
        if key.column not in seen and not unique <= seen:
            keys.append(key)
            seen.add(key.column)
    descending = bool(keys) and keys[-1].descending
    missing = [column for column in source.primary_key if column in unique and column not in seen]
    return (*keys, *(_described(Key(column, descending=descending), source) for column in missing))


def _without_tenant(source: Source) -> set[ColumnElement[Any]]:
    mine = None if source.table is None else tenant_column(source.table)
    found = {column for column in source.primary_key if mine is None or getattr(column, "name", None) != mine.name}
    return found or set(source.primary_key)


def _key(item: object, source: Source) -> Key:
    if isinstance(getattr(item, "property", None), RelationshipProperty):
        raise InvalidValue(f"A list cannot be ordered by the relationship {item}.", hint=HINT)
    column: Any = unwrapped(item)
    directions = []
    while isinstance(column, UnaryExpression) and column.modifier in DIRECTIONS:
        directions.append(column.modifier)
        column = unwrapped(column.element)
    if not isinstance(column, ColumnElement):
        raise InvalidValue(f"A list cannot be ordered by {shown(item)}: it is no column.", hint=HINT)
    descending = operators.desc_op in directions
    nulls_first = operators.nulls_first_op in directions or (descending and operators.nulls_last_op not in directions)
    return _described(Key(column, descending=descending, nulls_first=nulls_first), source)


DIRECTIONS = frozenset({operators.asc_op, operators.desc_op, operators.nulls_first_op, operators.nulls_last_op})


def _described(key: Key, source: Source) -> Key:
    """Return a key that knows its column; one of another table may be NULL because of an outer join."""
    if {source.selectable}.isdisjoint([getattr(key.column, "table", None)]):
        return key
    column: Any = key.column
    parts = None if source.table is None else partitioning_of(source.table)
    divides = parts is not None and column.name == parts.column
    return replace(key, nullable=bool(column.nullable), divides=divides)


# ── what lies beyond a row ────────────────────────────────────────────────────────────────────────────────────────

Conditions = list[ColumnElement[bool]]


def beyond(keys: Sequence[Key], values: Sequence[object], *, inclusive: bool = False) -> Iterator[Conditions]:
    """Give the conditions of what comes behind a row, part by part in the order of the list.

    Args:
        keys: what the list is ordered by.
        values: those of the row, one a key.
        inclusive: whether the row itself belongs to it.

    Returns:
        For each part, conditions that all hold. No row is in two parts.
    """
    if not keys:
        if inclusive:
            yield []
        return
    first, value = keys[0], values[0]
    if value is None:
        is_null: ColumnElement[bool] = first.column.is_(None)
        yield from ([is_null, *part] for part in beyond(keys[1:], values[1:], inclusive=inclusive))
        if first.nulls_first:
            yield [first.column.is_not(None)]
        return
    length = _comparable(keys, values)
    run = [*zip(keys[:length], values[:length], strict=True)]
    if length == len(keys):
        yield _compared(run, inclusive=inclusive)
    else:
        same: Conditions = [key.column == key.value(one) for key, one in run]
        yield from ([*same, *part] for part in beyond(keys[length:], values[length:], inclusive=inclusive))
        yield _compared(run, inclusive=False)
    if first.nullable and not first.nulls_first:
        yield [first.column.is_(None)]


def _comparable(keys: Sequence[Key], values: Sequence[object]) -> int:
    """Return how many of the first columns one row comparison takes.

    They have one direction; and in those behind the first there is no NULL, which no comparison finds.
    """
    length = 1
    while length < len(keys):
        key = keys[length]
        if key.nullable or key.descending != keys[0].descending or values[length] is None:
            break
        length += 1
    return length


def _compared(run: list[tuple[Key, object]], *, inclusive: bool) -> Conditions:
    first, value = run[0]
    strict = operators.lt if first.descending else operators.gt
    loose = operators.le if first.descending else operators.ge
    if len(run) == 1:
        return [(loose if inclusive else strict)(first.column, first.value(value))]
    left, right = tuple_(*(key.column for key, _ in run)), tuple_(*(key.value(one) for key, one in run))
    compared = (loose if inclusive else strict)(left, right)
    # partitions are left out by comparisons of single columns only
    return [compared, loose(first.column, first.value(value))] if first.divides else [compared]
