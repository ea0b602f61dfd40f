"""Values worth trying in a column, as the database holds them: first a plain one, then those at the edges.

A type that is not known here is an error, so that no new type goes unproven.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from datetime import timedelta
from typing import Any

from sqlalchemy import BigInteger, Uuid
from sqlalchemy.sql.schema import Column
from sqlalchemy.types import TypeEngine

from dataarch.clock import utcnow
from dataarch.models.base import new_id
from dataarch.models.types import Choice, CurrencyCode, Email, Json, Money, Sha256, Slug, Text, UtcDateTime

__all__ = ["Pool", "pool", "usual"]

Pool = tuple[object, ...]
AnyColumn = Column[Any]


def _text(kind: Text, number: int) -> Pool:
    return (f"text {number}", "x" * (kind.most + 1), "x" * (kind.least - 1), "x" * kind.most)


def _slug(_kind: Slug, number: int) -> Pool:
    return (f"slug-{number}", "two--hyphens", "-", "", "x" * 64, "x\n")


def _email(_kind: Email, number: int) -> Pool:
    return (f"user-{number}@example.com", "no address", f"{'x' * 65}@example.com", f"x@{'x.' * 126}com")


def _sha256(_kind: Sha256, number: int) -> Pool:
    digits = hashlib.sha256(str(number).encode()).hexdigest()
    return (digits, "x", "a" * 63, "a" * 65, "A" * 64, f"{digits}\n")


def _instant(_kind: UtcDateTime, _number: int) -> Pool:
    # the plain one is to come: a column for what has been has a default
    return (utcnow() + timedelta(days=1), utcnow() - timedelta(days=1))


def _choice(kind: Choice, _number: int) -> Pool:
    return (*kind.words, "no such word")


def _money(kind: Money, _number: int) -> Pool:
    return (kind.least, kind.least - 1, kind.least + 1)


MAKERS: Mapping[type[TypeEngine[Any]], Callable[[Any, int], Pool]] = {
    Text: _text,
    Slug: _slug,
    Email: _email,
    Choice: _choice,
    Money: _money,
    Sha256: _sha256,
    CurrencyCode: lambda _kind, _number: ("EUR", "eur", "EURO"),
    BigInteger: lambda _kind, _number: (1, 0, -1, 2),
    UtcDateTime: _instant,
    Json: lambda _kind, _number: ({},),
    Uuid: lambda _kind, _number: (new_id(),),
}


def pool(column: AnyColumn, number: int) -> Pool:
    """Return values to try in a column, the plain one first, and NULL last where it may be.

    Args:
        column: a column that is not computed.
        number: makes the plain value of a text differ from that of other rows.

    Raises:
        LookupError: nobody has said what is worth trying in a column of this type.
    """
    for kind in type(column.type).__mro__:
        if (maker := MAKERS.get(kind)) is not None:
            made = maker(column.type, number)
            return (*made, None) if column.nullable else made
    raise LookupError(f"{column}: no values are known for {column.type!r}; add its type to dataarch.proof.pools.")


def usual(column: AnyColumn, number: int) -> object:
    """Return what a column of a plain row holds: its default, or the first of its pool."""
    default = column.default
    if default is None:
        return pool(column, number)[0]
    given = getattr(default, "arg")  # noqa: B009  # SQLAlchemy types it only on the subclasses
    return given(None) if callable(given) else given
