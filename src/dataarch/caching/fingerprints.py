"""A name for anything that a value is asked by: the same for the same, in every process, and another for another."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from enum import Enum
from typing import Any
from uuid import UUID

from dataarch.errors import InvalidValue

__all__ = ["fingerprint"]


def fingerprint(*values: Any) -> str:
    """Return a SHA-256, in hexadecimal digits, of values and their types.

    Args:
        values: None, booleans, numbers, text of any kind (lone surrogates included), bytes, UUIDs, dates and times,
            members of an Enum, and lists, tuples, sets and dictionaries of them. Neither a set nor a dictionary has an
            order; ``1``, ``"1"``, ``True``, ``1.0`` and ``Decimal(1)`` are five values.

    Raises:
        InvalidValue: a value is of another type, which could mean anything.
    """
    digest = hashlib.sha256()
    for value in values:
        digest.update(_encoded(value))
    return digest.hexdigest()


def _encoded(value: Any) -> bytes:
    """Return bytes that no other value has, and that say where they end."""
    kind = type(value)
    if isinstance(value, Enum):
        return _tagged(_name_of(kind), value.name.encode())
    known = next((one for one in kind.__mro__ if one in FORMS), None)
    if known is None:
        raise InvalidValue(
            f"Nothing can be remembered by a value that is a {_name_of(kind)}.",
            hint="Give text, numbers, dates, UUIDs, bytes, None, or collections of them.",
            value=value,
        )
    return _tagged(_name_of(kind), FORMS[known](value))


def _tagged(name: str, content: bytes) -> bytes:
    return b"%s %d:%s" % (name.encode(), len(content), content)


def _name_of(kind: type) -> str:
    return kind.__qualname__ if kind.__module__ == "builtins" else f"{kind.__module__}.{kind.__qualname__}"


def _text(value: str) -> bytes:
    return str.__str__(value).encode("utf-8", "surrogatepass")


def _sequence(values: Iterable[Any]) -> bytes:
    return b"".join(_encoded(one) for one in values)


def _without_order(values: Iterable[Any]) -> bytes:
    return b"".join(sorted(_encoded(one) for one in values))


def _written(value: Any) -> bytes:
    return str(value).encode()


FORMS: dict[type, Callable[[Any], bytes]] = {
    type(None): lambda _: b"",
    bool: _written,
    int: lambda value: b"%x" % int(value),
    float: lambda value: float(value).hex().encode(),
    Decimal: _written,
    str: _text,
    bytes: bytes,
    UUID: lambda value: value.bytes,
    datetime: lambda value: value.isoformat().encode(),
    date: lambda value: value.isoformat().encode(),
    time: lambda value: value.isoformat().encode(),
    timedelta: lambda value: b"%d,%d,%d" % (value.days, value.seconds, value.microseconds),
    list: _sequence,
    tuple: _sequence,
    set: _without_order,
    frozenset: _without_order,
    dict: lambda value: _without_order(value.items()),
}
