"""Ids of rows, and primary keys as text in the one form that all give them: who writes a row, and who reads it."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from typing import Any
from uuid import UUID

from sqlalchemy import CHAR, Column, Enum, Integer, String, Table, TypeDecorator, Uuid
from sqlalchemy.dialects import postgresql

from dataarch.errors import InvalidValue, shown
from dataarch.models.tenancy import tenant_column

__all__ = ["key_columns", "row_id", "row_key"]

DIALECT = postgresql.dialect()  # type: ignore[no-untyped-call]  # SQLAlchemy's own


def row_id(given: UUID | str, what: str = "id") -> UUID:
    """Return an id as a UUID; raises :class:`InvalidValue` for what is none.

    Args:
        given: a UUID, or the text of one.
        what: what it is called in the error: the id of a product, the key of a call.
    """
    if isinstance(given, UUID):
        # the driver knows no subclass of it
        return given if type(given) is UUID else UUID(int=given.int)
    try:
        if isinstance(given, str):
            return UUID(given)
    except ValueError:
        pass
    raise InvalidValue(f"{shown(given)} is no {what}.", hint="Give a UUID.", value=given)


@lru_cache(maxsize=256)
def key_columns(table: Table) -> tuple[Column[Any], ...]:
    """Return the columns of a table's primary key, without the tenant."""
    owner = tenant_column(table)
    return tuple(column for column in table.primary_key if column is not owner)


def row_key(table: Table, values: Sequence[object]) -> tuple[str, ...] | None:
    """Return a row's primary key without its tenant, as text.

    Args:
        table: the row's.
        values: one for each of :func:`key_columns`, in any form that the database takes for it.

    Returns:
        A text for each; the same for every form of the same value. None where nobody can say which row it is, because
        a column's type has values that are equal and differ as text.
    """
    columns = key_columns(table)
    texts = [_text(column.type, value) for column, value in zip(columns, values, strict=False)]
    if len(values) != len(columns) or None in texts:
        return None
    return tuple(text for text in texts if text is not None)


def _text(kind: Any, value: Any) -> str | None:
    try:
        if isinstance(kind, TypeDecorator):
            value, kind = kind.process_bind_param(value, DIALECT), kind.impl_instance
        if isinstance(kind, Uuid):
            return str(value if isinstance(value, UUID) else UUID(str(value).strip()))
        if isinstance(kind, Integer):
            return None if isinstance(value, bool | float) else str(int(value))
    except (ValueError, TypeError, AttributeError):
        return None
    plain = isinstance(kind, String) and not isinstance(kind, Enum | CHAR) and kind.collation is None
    return value if plain and isinstance(value, str) else None
