"""What text means in a column of each type, and which typed values are as good.

What is valid the column's type says, and nothing here says it again: text is turned into the Python value that it
means, and the type accepts that or refuses it. Whole columns of plain values have a faster way, which gives just what
one value after the other would.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from decimal import Decimal
from itertools import repeat
from operator import attrgetter, is_
from typing import Any, NamedTuple
from uuid import UUID

from dataarch.clock import aware
from dataarch.errors import InvalidJson, InvalidMoney, InvalidValue, shown
from dataarch.pipelines.transformers.times import instants_read, normalised_time
from dataarch.repositories.bulk.fields import (
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

__all__ = ["Reading", "reading_of"]

# what int(), Decimal() and UUID() take is wider: other scripts' digits, 1_000, 1e3, NaN, braces
WHOLE = re.compile("[+-]?[0-9]+").fullmatch
NUMBER = re.compile(r"[+-]?[0-9]+(?:\.[0-9]+)?").fullmatch
HYPHENATED = re.compile("[0-9A-Fa-f]{8}(?:-[0-9A-Fa-f]{4}){3}-[0-9A-Fa-f]{12}").fullmatch

LONGEST_WHOLE = 40
"""Characters of a number that may fit a column; int() refuses more than 4,300 digits in its own way."""

UUID_BYTES = 16

FLOAT_DIGITS = 15
"""Decimal digits that a float always gives back."""

BOOLEANS = {"true": True, "t": True, "1": True, "false": False, "f": False, "0": False}


class Reading(NamedTuple):
    """How the values of a column are read.

    Attributes:
        one: returns the typed value of one that is given, or raises.
        many: returns the typed values of those that are given, at least one; where it returns None or raises, it takes
            :attr:`one` to tell.
    """

    one: Callable[[Any], Any]
    many: Callable[[Sequence[Any]], Sequence[Any] | None]


def reading_of(field: Field, *, json_texts: bool = True) -> Reading:
    """Return how the values of a field are read.

    Args:
        field: how they travel to the server, and what is valid there.
        json_texts: whether text in a column of JSON is the text of a JSON value, and not a string of JSON.
    """
    if isinstance(field, JsonField) and not json_texts:
        return Reading(field.bind, lambda values: values if field.plain(values) is not None else None)
    return next((reading for kind, reading in READINGS if isinstance(field, kind)), _words)(field)


def _texts(field: Field) -> Reading:
    kind: Any = field.column.type

    def many(values: Sequence[Any]) -> Sequence[Any] | None:
        lengths = set(map(len, values))
        if set(map(type, values)) != {str} or min(lengths) < kind.least or max(lengths) > kind.most:
            return None
        whole = "".join(values)
        # encode() raises where there is a lone surrogate
        return None if "\x00" in whole or not (whole.isascii() or whole.encode()) else values

    return Reading(field.bind, many)


def _words(field: Field) -> Reading:
    def many(values: Sequence[Any]) -> Sequence[Any] | None:
        if set(map(type, values)) != {str}:
            return None
        known = {word: field.bind(word) for word in set(values)}
        return list(map(known.__getitem__, values))

    return Reading(field.bind, many)


def _slugs(field: Field) -> Reading:
    return Reading(field.bind, lambda values: values if field.plain(values) is not None else None)


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

    return Reading(one, many)


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

    return Reading(one, many)


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

    return Reading(one, many)


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

    return Reading(one, many)


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

    return Reading(one, many)


def _no_number(name: str) -> Any:
    raise ValueError(name)


JSON_TEXT = json.JSONDecoder(parse_constant=_no_number)


def _documents(field: Field) -> Reading:
    def one(value: Any) -> Any:
        return field.bind(_parsed(value) if isinstance(value, str) else value)

    def many(values: Sequence[Any]) -> Sequence[Any] | None:
        found = [JSON_TEXT.decode(value) if isinstance(value, str) else value for value in values]
        return found if field.plain(found) is not None else None

    return Reading(one, many)


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
