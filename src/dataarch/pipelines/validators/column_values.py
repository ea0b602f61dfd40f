"""The values of a column, as files have them: text, as in CSV, or typed already, as in JSON and Parquet.

What is valid the column's type says, and nothing here says it again: text is turned into the Python value that it
means, and the type accepts that or refuses it. Whole columns of plain values have a faster way, which gives just what
one value after the other would.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import Decimal
from itertools import repeat
from operator import attrgetter, is_
from types import NoneType
from typing import Any
from uuid import UUID

from sqlalchemy import Column

from dataarch.clock import aware
from dataarch.errors import DataArchError, InvalidJson, InvalidMoney, InvalidValue, MissingValue, shown
from dataarch.models.tenancy import tenant_column
from dataarch.models.types import Text
from dataarch.pipelines.transformers.times import instants_read, normalised_time
from dataarch.repositories.bulk.encoding import field_of
from dataarch.repositories.bulk.fields import (
    MISSING,
    BooleanField,
    Field,
    InstantField,
    IntegerField,
    MoneyField,
    SlugField,
    TextField,
    UuidField,
    WordField,
)
from dataarch.repositories.bulk.json_field import JsonField

__all__ = ["ColumnValues", "values_of"]

# what int(), Decimal() and UUID() take is wider: other scripts' digits, 1_000, 1e3, NaN, braces
WHOLE = re.compile("[+-]?[0-9]+").fullmatch
NUMBER = re.compile(r"[+-]?[0-9]+(?:\.[0-9]+)?").fullmatch
HYPHENATED = re.compile("[0-9A-Fa-f]{8}(?:-[0-9A-Fa-f]{4}){3}-[0-9A-Fa-f]{12}").fullmatch

LONGEST_WHOLE = 40
"""Characters of a number that may fit a column; int() refuses more than 4,300 digits in its own way."""

UUID_BYTES = 16

GAPS = {NoneType, str}
"""Of what kinds a value is that counts as not given."""

PART = 32
"""Values that take the slow way together."""

FLOAT_DIGITS = 15
"""Decimal digits that a float always gives back."""

BOOLEANS = {"true": True, "t": True, "1": True, "false": False, "f": False, "0": False}


@dataclass(frozen=True, slots=True)
class ColumnValues:
    """How the values of one column are read.

    Attributes:
        column: the column.
        one: returns the typed value of one that is given, or raises.
        many: returns the typed values of those that are given, or None where it takes :attr:`one` to tell.
        needed: whether a row must give it.
    """

    column: Column[Any]
    one: Callable[[Any], Any]
    many: Callable[[Sequence[Any]], Sequence[Any] | None]
    needed: bool
    _absent: Any
    _none_is_value: bool
    _empty_is_value: bool

    def read(self, values: Sequence[Any], bad: dict[int, DataArchError], name: str) -> tuple[Sequence[Any], bool]:
        """Return the typed values of a field, and whether rows go on without it: MISSING stands for it there.

        Args:
            values: one of each row.
            bad: why rows are rejected, by their places among them; the first reason counts. Their values mean nothing.
            name: what the field is called.
        """
        given = values if self._has_all(values) else [value for value in values if not self._is_gap(value)]
        gaps = len(given) < len(values)
        found = None if gaps and self.needed else self._quickly(given)
        if found is None:
            found = self._in_parts(values, bad, name)
        elif gaps:
            typed = iter(found)
            found = [self._absent if self._is_gap(value) else next(typed) for value in values]
        return found, gaps and self._absent is MISSING

    def missing(self, name: str) -> MissingValue:
        """Return why a row without the field is rejected."""
        table = self.column.table.description
        return MissingValue(
            f"The row has no {name}, and {table} must have one.", hint="Give it a value.", column=name, table=table
        )

    def _has_all(self, values: Sequence[Any]) -> bool:
        """Return whether no value counts as not given, where that is quick to see."""
        kinds = set(map(type, values))
        # of other kinds nothing is asked, not even whether they are true: some raise
        return kinds.isdisjoint(GAPS) or (kinds == {str} and all(values))

    def _is_gap(self, value: Any) -> bool:
        return (value is None and not self._none_is_value) or (
            not self._empty_is_value and type(value) is str and not value
        )

    def _quickly(self, values: Sequence[Any]) -> Sequence[Any] | None:
        try:
            return self.many(values) if values else values
        except (DataArchError, TypeError, ValueError, ArithmeticError, RecursionError):
            return None

    def _in_parts(self, values: Sequence[Any], bad: dict[int, DataArchError], name: str) -> list[Any]:
        """Take the quick way as far as it goes: a value that is not plain costs only those around it the slow one."""
        typed: list[Any] = []
        for start in range(0, len(values), PART):
            part = values[start : start + PART]
            found = self._quickly(part) if self._has_all(part) else None
            if found is None:
                found = [self._slowly(at, value, bad, name) for at, value in enumerate(part, start)]
            typed += found
        return typed

    def _slowly(self, at: int, value: Any, bad: dict[int, DataArchError], name: str) -> Any:
        if at in bad:
            return MISSING
        try:
            return self._value(value, name)
        except DataArchError as error:
            error.column, error.table = name, self.column.table.description
            bad[at] = error
        except (TypeError, ValueError, ArithmeticError, RecursionError) as odd:
            # a type meets what it was not made for: the row is rejected, the others go on
            said = f"A {type(value).__name__} that cannot be stored was given ({type(odd).__name__})."
            bad[at] = InvalidValue(said, value=value, column=name, table=self.column.table.description)
        return MISSING

    def _value(self, value: Any, name: str) -> Any:
        if not self._is_gap(value):
            return self.one(value)
        if self.needed:
            raise self.missing(name)
        return self._absent


def values_of(column: Column[Any], *, json_texts: bool = True) -> ColumnValues:
    """Return how the values of a column are read; raises :class:`ConfigurationError` where its type is not known.

    Args:
        column: the column.
        json_texts: whether text in a column of JSON is the text of a JSON value, and not a string of JSON.
    """
    field = field_of(column)
    strings = isinstance(field, JsonField) and not json_texts
    one, many = (field.bind, _strings(field)) if strings else _reading(field)
    defaulted = column.default is not None or column.server_default is not None or column is _numbered(column)
    needed = not (column.nullable or defaulted or column is tenant_column(column.table))
    return ColumnValues(
        column,
        one,
        many,
        needed,
        # what is not given stays as it is, or is the default
        None if column.nullable and not field.none_is_value else MISSING,
        field.none_is_value,
        strings or (isinstance(column.type, Text) and column.type.least == 0),
    )


def _numbered(column: Column[Any]) -> Column[Any] | None:
    """Return the column of the table that the server numbers by itself."""
    found: Column[Any] | None = column.table.autoincrement_column
    return found


# ── type by type ──────────────────────────────────────────────────────────────────────────────────────────────────

Reading = tuple[Callable[[Any], Any], Callable[[Sequence[Any]], Sequence[Any] | None]]


def _reading(field: Field) -> Reading:
    reading = next((reading for kind, reading in READINGS if isinstance(field, kind)), _words)
    return reading(field)


def _texts(field: Field) -> Reading:
    kind: Any = field.column.type

    def many(values: Sequence[Any]) -> Sequence[Any] | None:
        lengths = set(map(len, values))
        if set(map(type, values)) != {str} or min(lengths) < kind.least or max(lengths) > kind.most:
            return None
        whole = "".join(values)
        # encode() raises where there is a lone surrogate
        return None if "\x00" in whole or not (whole.isascii() or whole.encode()) else values

    return field.bind, many


def _words(field: Field) -> Reading:
    def many(values: Sequence[Any]) -> Sequence[Any] | None:
        if set(map(type, values)) != {str}:
            return None
        known = {word: field.bind(word) for word in set(values)}
        return list(map(known.__getitem__, values))

    return field.bind, many


def _slugs(field: Field) -> Reading:
    return field.bind, lambda values: values if field.plain(values) is not None else None


def _ids(field: Field) -> Reading:
    def one(value: Any) -> Any:
        if isinstance(value, bytes) and len(value) == UUID_BYTES:
            return UUID(bytes=value)
        if isinstance(value, str) and not HYPHENATED(value):
            raise InvalidValue(
                f"{shown(value)} is no {field.column.name}.",
                hint="Write a UUID as 8-4-4-4-12 hexadecimal digits.",
                value=value,
            )
        return field.bind(value)

    def many(values: Sequence[Any]) -> Sequence[Any] | None:
        kinds = set(map(type, values))
        if kinds == {UUID}:
            return values
        return list(map(UUID, values)) if kinds == {str} and all(map(HYPHENATED, values)) else None

    return one, many


def _instants(field: Field) -> Reading:
    def one(value: Any) -> Any:
        return normalised_time(value, None) if isinstance(value, str) else field.bind(value)

    def many(values: Sequence[Any]) -> Sequence[Any] | None:
        kinds = set(map(type, values))
        found = instants_read(values) if kinds == {str} else values
        if not kinds <= {str, datetime}:
            return None
        in_utc = all(map(is_, map(attrgetter("tzinfo"), found), repeat(UTC)))
        return found if in_utc else list(map(aware, found))

    return one, many


def _integers(field: Field) -> Reading:
    def one(value: Any) -> Any:
        if not isinstance(value, str):
            return _accepted(field, value)
        if not WHOLE(value):
            raise InvalidValue(
                f"{shown(value)} is no whole number.", hint="Write digits, as in 1000 or -5.", value=value
            )
        if len(value) > LONGEST_WHOLE:
            raise InvalidValue(
                f"{shown(value)} has more digits than the column holds.", hint="Correct the number.", value=value
            )
        return _accepted(field, int(value))

    def many(values: Sequence[Any]) -> Sequence[Any] | None:
        if set(map(type, values)) == {str}:
            if not all(map(WHOLE, values)) or max(map(len, values)) > LONGEST_WHOLE:
                return None
            values = list(map(int, values))
        return values if field.plain(values) is not None else None

    return one, many


def _accepted(field: Field, value: Any) -> Any:
    """Return a value that the type accepts; what it stores for it may be another one."""
    field.bind(value)
    return value


def _amounts(field: Field) -> Reading:
    def one(value: Any) -> Any:
        if isinstance(value, str):
            if not NUMBER(value):
                raise InvalidMoney(f"{shown(value)} is no amount.", hint="Write it as in 1234.50.", value=value)
            return _accepted(field, Decimal(value))
        if isinstance(value, float):
            value = _of_float(value, field)
        return Decimal(_accepted(field, value))

    def many(values: Sequence[Any]) -> Sequence[Any] | None:
        if set(map(type, values)) == {str}:
            values = list(map(Decimal, values)) if all(map(NUMBER, values)) else ()
        return values if values and field.plain(values) is not None else None

    return one, many


def _of_float(value: float, field: Field) -> Any:
    """Return the decimal that a float was read from; the float itself where that cannot be told any more."""
    kind: Any = field.column.type
    return Decimal(repr(value)) if abs(value) < 10 ** (FLOAT_DIGITS - kind.scale) else value


def _booleans(field: Field) -> Reading:
    def one(value: Any) -> Any:
        if not isinstance(value, str):
            return field.bind(value)
        if value.lower() not in BOOLEANS:
            raise InvalidValue(f"{shown(value)} is no boolean.", hint="Write true or false.", value=value)
        return BOOLEANS[value.lower()]

    def many(values: Sequence[Any]) -> Sequence[Any]:
        return values if set(map(type, values)) == {bool} else list(map(one, values))

    return one, many


def _no_number(name: str) -> Any:
    raise ValueError(name)


JSON_TEXT = json.JSONDecoder(parse_constant=_no_number)


def _documents(field: Field) -> Reading:
    def one(value: Any) -> Any:
        return field.bind(_parsed(value) if isinstance(value, str) else value)

    def many(values: Sequence[Any]) -> Sequence[Any] | None:
        found = [JSON_TEXT.decode(value) if isinstance(value, str) else value for value in values]
        return found if field.plain(found) is not None else None

    return one, many


def _strings(field: Field) -> Callable[[Sequence[Any]], Sequence[Any] | None]:
    return lambda values: values if field.plain(values) is not None else None


def _parsed(text: str) -> Any:
    try:
        return JSON_TEXT.decode(text)
    except (ValueError, RecursionError):
        raise InvalidJson(
            f"{shown(text)} is no JSON text.", hint='Write a string of JSON with its quotes, as in "tea".', value=text
        ) from None


READINGS: tuple[tuple[type[Field], Callable[[Field], Reading]], ...] = (
    (SlugField, _slugs),
    (WordField, _words),
    (TextField, _texts),
    (UuidField, _ids),
    (InstantField, _instants),
    (MoneyField, _amounts),
    (IntegerField, _integers),
    (BooleanField, _booleans),
    (JsonField, _documents),
)
"""How the values of each kind of field are read; the first that fits counts."""
