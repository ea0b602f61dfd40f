"""JSON values of a column as fields of COPY BINARY, many at a time.

msgspec writes a column in one call, but more leniently than :func:`dataarch.models.json_values.storable`: NaN as null,
tuples as lists, numbers as keys. So what it wrote is read back and compared: where that is what was given, and neither
NUL nor too deep nor too large, ``storable`` would have accepted it too.
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from itertools import repeat
from struct import Struct
from typing import Any

import msgspec

from dataarch.models.json_values import DEEPEST, EXACT_FLOAT
from dataarch.repositories.bulk.fields import Field, Stream

__all__ = ["JsonField"]

VERSION = b"\x01"
"""The first byte of a jsonb that travels; its text follows."""

HEAD = Struct(">iB").pack

NUL = b"\\u0000"
"""How NUL is written; a text with a backslash before u0000 has it too, and takes the slow way for nothing."""

SHORT = 2 * DEEPEST
"""Bytes of a text that is too short to be nested too deeply."""

SHORT_HEADS = tuple(HEAD(size + 1, 1) for size in range(SHORT + 1))
"""The heads of short texts, by their sizes."""

LARGE_INTEGER = re.compile(rb"[0-9]{3900}")
"""Digits of an integer of some 13,000 bits."""


class _Inexact(Exception):
    """A float that jsonb would not give back as it is."""


def _exact(digits: str) -> float:
    number = float(digits)
    if abs(number) >= EXACT_FLOAT:
        raise _Inexact
    return number


ENCODER = msgspec.json.Encoder()
DECODER = msgspec.json.Decoder()
EXACT_DECODER = msgspec.json.Decoder(float_hook=_exact)

DIGITS = bytes.maketrans(b"123456789", b"000000000")
LARGE_FLOATS = (b"0e0", b"0" * 16 + b".")
"""What a float that is too large looks like when its digits are zeros; a text may look so too, and is read again."""


def _decoder(text: bytes) -> msgspec.json.Decoder[Any]:
    zeros = text.translate(DIGITS)
    return EXACT_DECODER if any(large in zeros for large in LARGE_FLOATS) else DECODER


class JsonField(Field):
    """A jsonb: one byte of version, then its text; None is JSON's null, not that of SQL."""

    none_is_value = True

    def packed(self, stored: Any) -> bytes:
        """Return version and text."""
        return VERSION + json.dumps(stored, ensure_ascii=False, allow_nan=False, separators=(",", ":")).encode()

    def plain(self, values: Sequence[Any]) -> tuple[Stream, ...] | None:
        """Take what comes back from its text as it was."""
        try:
            text = ENCODER.encode_lines(values)
            if NUL in text or _decoder(text).decode_lines(text) != values:
                return None
        except (TypeError, ValueError, OverflowError, RecursionError, msgspec.MsgspecError, _Inexact):
            return None
        # every line ends with a line feed, and a text has it as \n
        lines = text.split(b"\n")
        lines.pop()
        sizes = list(map(len, lines))
        if max(sizes) <= SHORT:
            return map(SHORT_HEADS.__getitem__, sizes), lines
        if any(map(too_much, lines)):
            return None
        return map(HEAD, map((1).__add__, sizes), repeat(1)), lines


def too_much(line: bytes) -> bool:
    """Return whether a text may be nested too deeply, or hold an integer that is too large."""
    if len(line) <= SHORT:
        return False
    if line.count(b"[") + line.count(b"{") >= DEEPEST:
        return True
    return LARGE_INTEGER.search(line) is not None
