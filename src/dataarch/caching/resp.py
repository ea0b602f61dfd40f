"""RESP3, as far as a connection needs it on which the server speaks unasked."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

__all__ = ["Incomplete", "Push", "Refusal", "parse"]

END = b"\r\n"


class Incomplete(Exception):
    """The rest of a message has not come yet."""


@dataclass(frozen=True, slots=True)
class Push:
    """What the server says unasked."""

    parts: list[Any]


@dataclass(frozen=True, slots=True)
class Refusal:
    """An error that the server answers with."""

    text: str


Parsed = tuple[Any, int]


def parse(data: bytearray, at: int) -> Parsed:
    """Return the message that begins at a place, and where it ends.

    Raises:
        Incomplete: its end has not come yet.
        ValueError: it is no RESP3.
    """
    end = data.find(END, at)
    if end == -1:
        raise Incomplete
    form = FORMS.get(data[at])
    if form is None:
        raise ValueError(f"{bytes(data[at : at + 20])!r} is no RESP3")
    return form(data, bytes(data[at + 1 : end]), end + len(END))


def _simple(of: Callable[[bytes], Any]) -> Callable[[bytearray, bytes, int], Parsed]:
    return lambda _data, head, at: (of(head), at)


def _bulk(data: bytearray, head: bytes, at: int) -> Parsed:
    length = int(head)
    if length < 0:
        return None, at
    end = at + length + len(END)
    if len(data) < end:
        raise Incomplete
    return bytes(data[at : at + length]), end


def _parts(data: bytearray, count: int, at: int) -> tuple[list[Any], int]:
    found = []
    for _ in range(count):
        one, at = parse(data, at)
        found.append(one)
    return found, at


def _array(data: bytearray, head: bytes, at: int) -> Parsed:
    return (None, at) if int(head) < 0 else _parts(data, int(head), at)


def _map(data: bytearray, head: bytes, at: int) -> Parsed:
    flat, at = _parts(data, 2 * int(head), at)
    return list(zip(flat[::2], flat[1::2], strict=True)), at


def _push(data: bytearray, head: bytes, at: int) -> Parsed:
    parts, at = _parts(data, int(head), at)
    return Push(parts), at


FORMS: dict[int, Callable[[bytearray, bytes, int], Parsed]] = {
    ord("+"): _simple(bytes),
    ord("-"): _simple(lambda head: Refusal(head.decode(errors="replace"))),
    ord(":"): _simple(int),
    ord(","): _simple(float),
    ord("#"): _simple(lambda head: head == b"t"),
    ord("_"): _simple(lambda _: None),
    ord("("): _simple(int),
    ord("$"): _bulk,
    ord("="): _bulk,
    ord("*"): _array,
    ord("~"): _array,
    ord("%"): _map,
    ord(">"): _push,
}
