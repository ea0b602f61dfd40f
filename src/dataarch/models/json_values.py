"""What jsonb can hold, so that a value comes back equal to the one that went in."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any

from dataarch.errors import InvalidJson, shown

__all__ = ["DEEPEST", "INTEGER_BITS", "storable"]

DEEPEST = 500
"""Levels of nesting: Python's json module gives up a little below 1,000, and no honest document comes near."""

INTEGER_BITS = 13_000
"""Size of the largest integer, some 3,900 digits: Python refuses to read back more than 4,300 digits."""

EXACT_FLOAT = 2.0**53
"""From here on jsonb gives a float back as an integer of other digits, unless it is stored as that integer."""


LONGEST_PATH = 200
"""Characters of a path that a message shows; its end says more than its beginning."""

Step = str | int
Trail = tuple["Trail", Step] | None
"""The way to a value, from the inside out: (way to its container, key or index)."""


def storable(value: Any) -> Any:
    """Return a JSON value in the form that jsonb gives back equal.

    Args:
        value: None, bool, int, float, str, list of these, or dict with str keys.

    Raises:
        InvalidJson: NUL or a lone surrogate in a string, NaN or an infinity, a key that is not a str, another type
            (a tuple would come back as a list), more than 500 levels; the message names the path.

    Nesting costs no stack, so that the limit holds whatever the caller's depth.
    """
    whole: list[Any] = [None]
    waiting: list[tuple[Any, Any, Step, Trail, int]] = [(value, whole, 0, None, 0)]
    while waiting:
        item, container, at, trail, depth = waiting.pop()
        if not isinstance(item, dict | list):
            container[at] = _scalar(item, trail)
            continue
        if depth >= DEEPEST:
            raise InvalidJson(
                f"The JSON value at {_path(trail)} lies more than {DEEPEST} levels deep.",
                hint="Flatten it.",
                value=value,
            )
        copy, inside = _opened(item, trail)
        container[at] = copy
        waiting.extend((inner, copy, step, (trail, step), depth + 1) for step, inner in inside)
    return whole[0]


def _opened(container: dict[str, Any] | list[Any], trail: Trail) -> tuple[Any, Iterable[tuple[Step, Any]]]:
    """Return an empty copy of a container, with its keys in their order, and what belongs into it."""
    if isinstance(container, dict):
        return {_key(key, trail): None for key in container}, container.items()
    return [None] * len(container), enumerate(container)


def _scalar(value: object, trail: Trail) -> object:
    if value is None or value is True or value is False:
        return value
    if isinstance(value, str):
        return _text(value, trail)
    if isinstance(value, int):
        return _integer(value, trail)
    if isinstance(value, float):
        return _float(value, trail)
    raise _refused(value, trail, f"is {type(value).__name__}, which JSON does not have", "Convert it first.")


def _path(trail: Trail) -> str:
    """Return a way as a JSONPath, escaped, and without its beginning where it is long."""
    steps: list[str] = []
    while trail is not None:
        trail, step = trail
        steps.append(f"[{step}]" if isinstance(step, int) else f".{step}")
    path = ascii("$" + "".join(reversed(steps)))
    return path if len(path) <= LONGEST_PATH else f"…{path[1 - LONGEST_PATH :]}"


def _refused(value: object, trail: Trail, why: str, hint: str) -> InvalidJson:
    return InvalidJson(f"The JSON value at {_path(trail)} {why}: {shown(value)}.", hint=hint, value=value)


def _text(value: str, trail: Trail) -> str:
    if "\x00" in value:
        raise _refused(value, trail, "contains NUL (U+0000), which jsonb cannot hold", "Remove it or replace it.")
    try:
        value.encode()
    except UnicodeEncodeError:
        raise _refused(value, trail, "contains a lone surrogate, which is not Unicode text", "Replace it.") from None
    return value


def _key(key: object, trail: Trail) -> str:
    if not isinstance(key, str):
        raise _refused(key, trail, f"has a key that is {type(key).__name__}, not str", "Use text keys.")
    return _text(key, trail)


def _integer(value: int, trail: Trail) -> int:
    if value.bit_length() > INTEGER_BITS:
        raise InvalidJson(
            f"The JSON value at {_path(trail)} is an integer of more than {INTEGER_BITS} bits.",
            hint="Store it as text.",
            value=value,
        )
    return value


def _float(value: float, trail: Trail) -> float | int:
    if not math.isfinite(value):
        raise _refused(value, trail, "is not a number of JSON", "Use None, or text.")
    return int(value) if abs(value) >= EXACT_FLOAT else value
