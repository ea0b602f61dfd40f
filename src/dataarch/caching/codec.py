"""How a value travels: MessagePack with a version before it, compressed where it is large, and never pickled.

::

    d1 <stamp>,<stamp>,… | <seconds: 8 bytes> <flags: 1 byte> <payload>

The stamps are those of the tags that the value was made under. An entry is alive as long as they still are the tags'
stamps, which is told by comparing bytes, before anything is decoded. What cannot be decoded is no entry.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Callable, Sequence
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from typing import Any, NamedTuple
from uuid import UUID

import msgspec
from msgspec.msgpack import Ext

__all__ = ["FORMAT", "CannotDecode", "CannotEncode", "Codec", "Entry", "prefix"]

FORMAT = b"d1"
"""Which form entries have; another one is no entry."""

HEAD = struct.Struct(">dB")
COMPRESSED, NEGATIVE = 1, 2

COMPRESS_FROM = 4096
"""Bytes of a payload from which on it is compressed."""

LARGEST = 64 * 1024 * 1024
"""Bytes of a payload, decompressed; a small entry must not become a large one without end."""


class CannotEncode(Exception):
    """The value cannot be remembered as it is: an object of a type that has no form here, or one too large."""


class CannotDecode(Exception):
    """The bytes are no entry of this form."""


class Entry(NamedTuple):
    """What was remembered.

    Attributes:
        value: as it was given.
        made_at: seconds since 1970.
        negative: whether it says that there is nothing.
    """

    value: Any
    made_at: float
    negative: bool = False


def prefix(stamps: Sequence[bytes]) -> bytes:
    """Return how an entry begins that was made under these stamps."""
    return FORMAT + b",".join(stamps) + b"|"


class Codec:
    """Turns values into bytes and back.

    Without a type it takes what JSON takes, and also bytes, tuples, sets, UUID, Decimal, datetime, date, time,
    timedelta, whole numbers of any size, and mappings with any keys; each comes back as what it was, an aware datetime
    in UTC. With a type, of msgspec's kinds (a Struct, a dataclass, a TypedDict …), values are checked against it when
    they come back.
    """

    def __init__(self, type_: Any = None, *, compress_from: int = COMPRESS_FROM) -> None:
        self._plain = type_ is None
        self._compress_from = compress_from
        self._encoder = msgspec.msgpack.Encoder()
        self._decoder: msgspec.msgpack.Decoder[Any] = (
            msgspec.msgpack.Decoder(ext_hook=_from_ext) if self._plain else msgspec.msgpack.Decoder(type_)
        )

    def encode(self, value: Any, made_at: float, *, negative: bool = False) -> bytes:
        """Return what follows the stamps; raises :class:`CannotEncode`."""
        flags = NEGATIVE if negative else 0
        try:
            payload = self._encoder.encode(_plain(value) if self._plain and not negative else value)
        except (TypeError, ValueError, OverflowError, RecursionError) as unfit:
            raise CannotEncode(f"{type(value).__name__}: {unfit}") from None
        if len(payload) > LARGEST:
            raise CannotEncode(f"{len(payload):,} bytes are more than {LARGEST:,}")
        if len(payload) >= self._compress_from:
            smaller = zlib.compress(payload, 1)
            if len(smaller) < len(payload):
                payload, flags = smaller, flags | COMPRESSED
        return HEAD.pack(made_at, flags) + payload

    def decode(self, entry: bytes, start: int = 0) -> Entry:
        """Return what was remembered; ``start`` is where the stamps end. Raises :class:`CannotDecode`."""
        try:
            made_at, flags = HEAD.unpack_from(entry, start)
            payload: Any = memoryview(entry)[start + HEAD.size :]
            if flags & COMPRESSED:
                payload = _decompressed(payload)
            if flags & NEGATIVE:
                return Entry(None, made_at, negative=True)
            return Entry(self._decoder.decode(payload), made_at)
        except (struct.error, zlib.error, msgspec.DecodeError, ValueError, TypeError, RecursionError) as damaged:
            raise CannotDecode(str(damaged)) from None


def _decompressed(payload: memoryview) -> bytes:
    inflating = zlib.decompressobj()
    found = inflating.decompress(payload, LARGEST)
    if not inflating.eof or inflating.unused_data:
        raise CannotDecode("the compressed data is damaged or too large")
    return found


# ── values without a type ─────────────────────────────────────────────────────────────────────────────────────────

PACK = msgspec.msgpack.Encoder()

SMALLEST_INT, LARGEST_INT = -(2**63), 2**64 - 1


def _packed(value: Any) -> bytes:
    return PACK.encode(_plain(value))


def _sequence(value: Any) -> list[Any]:
    return [_plain(one) for one in value]


def _mapping(value: dict[Any, Any]) -> Any:
    if all(type(key) is str for key in value):
        try:
            return {_known_text(key): _plain(one) for key, one in value.items()}
        except UnicodeEncodeError:
            pass
    return Ext(9, PACK.encode([[_plain(key), _plain(one)] for key, one in value.items()]))


def _known_text(text: str) -> str:
    if not text.isascii():
        text.encode()
    return text


def _text(value: str) -> Any:
    try:
        return _known_text(value)
    except UnicodeEncodeError:
        return Ext(10, value.encode("utf-8", "surrogatepass"))


def _number(value: int) -> Any:
    return value if SMALLEST_INT <= value <= LARGEST_INT else Ext(8, str(value).encode())


def _instant(value: datetime) -> Any:
    return Ext(11, value.isoformat().encode()) if value.tzinfo is None else value


def _same(value: Any) -> Any:
    return value


FORMS: dict[type, Callable[[Any], Any]] = {
    type(None): _same,
    bool: _same,
    float: _same,
    bytes: _same,
    int: _number,
    str: _text,
    list: _sequence,
    dict: _mapping,
    datetime: _instant,
    UUID: lambda value: Ext(1, value.bytes),
    Decimal: lambda value: Ext(2, str(value).encode()),
    date: lambda value: Ext(3, value.isoformat().encode()),
    time: lambda value: Ext(4, value.isoformat().encode()),
    timedelta: lambda value: Ext(5, PACK.encode([value.days, value.seconds, value.microseconds])),
    tuple: lambda value: Ext(6, _packed(list(value))),
    set: lambda value: Ext(7, _packed(list(value))),
    frozenset: lambda value: Ext(12, _packed(list(value))),
}


def _plain(value: Any) -> Any:
    """Return a value in the forms that MessagePack has; raises TypeError for any other type."""
    form = FORMS.get(type(value))
    if form is None:
        raise TypeError("its type has no form here; give the kind a type, or make it plain")
    return form(value)


def _nested(data: memoryview) -> Any:
    return msgspec.msgpack.decode(data, ext_hook=_from_ext)


BACK: dict[int, Callable[[memoryview], Any]] = {
    1: lambda data: UUID(bytes=bytes(data)),
    2: lambda data: Decimal(str(data, "ascii")),
    3: lambda data: date.fromisoformat(str(data, "ascii")),
    4: lambda data: time.fromisoformat(str(data, "ascii")),
    5: lambda data: timedelta(*_nested(data)),
    6: lambda data: tuple(_nested(data)),
    7: lambda data: set(_nested(data)),
    8: lambda data: int(str(data, "ascii")),
    9: lambda data: {_hashable(key): value for key, value in _nested(data)},
    10: lambda data: str(data, "utf-8", "surrogatepass"),
    11: lambda data: datetime.fromisoformat(str(data, "ascii")),
    12: lambda data: frozenset(_nested(data)),
}


def _hashable(key: Any) -> Any:
    return tuple(key) if isinstance(key, list) else key


def _from_ext(code: int, data: memoryview) -> Any:
    back = BACK.get(code)
    if back is None:
        raise ValueError(f"extension {code} is unknown")
    try:
        return back(data)
    except (ArithmeticError, UnicodeError, TypeError) as damaged:
        raise ValueError(str(damaged)) from None
