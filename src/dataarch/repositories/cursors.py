"""Cursors: where a page begins, sealed so that only the list that gave it can read it.

A cursor holds the values by which one row is ordered. It is sealed with authenticated encryption in its deterministic
form: the tag is an HMAC-SHA256 of the content, and the content is covered by a stream that is made of the tag
(Rogaway and Shrimpton, "Deterministic Authenticated-Encryption", 2006; RFC 5297 has the same form for AES). No random
number is needed, and the same position of the same list is always the same token.

What a token shows to those who have no secret: the version, how long the values are, and whether two tokens are equal.
No value, so that a person's e-mail address by which a list is ordered does not end in the log of a web server.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from enum import Enum
from functools import lru_cache
from types import MappingProxyType
from typing import Any, NamedTuple
from uuid import UUID

import msgspec

from dataarch.errors import InvalidCursor, InvalidValue

__all__ = ["LONGEST", "Binding", "Position", "seal", "unseal"]

VERSION = 1

LONGEST = 16_384
"""Characters of the longest token; an index of PostgreSQL takes no longer values either."""

LETTERS = re.compile(r"[A-Za-z0-9_-]+")

# version, name of the secret, length of the content, tag
SECRET_NAME = slice(1, 5)
LENGTH = slice(5, 7)
TAG = slice(7, 23)
CONTENT = 23

SEALED_ELSEWHERE = (
    "Begin again at the first page. Where several processes serve one list, or a restart must not end it, give all of "
    "them the same DATAARCH_CURSOR_SECRET."
)


@dataclass(frozen=True, slots=True)
class Position:
    """A place between two rows of an ordered list.

    Attributes:
        values: what the row beside it is ordered by, in the order of the columns.
        backward: whether the page lies before it.
        inclusive: whether the row itself belongs to the page.
    """

    values: tuple[object, ...]
    backward: bool = False
    inclusive: bool = False


@dataclass(frozen=True, slots=True)
class Binding:
    """What a cursor belongs to; it opens for nothing else.

    Attributes:
        secret: from which the keys are made.
        tenant_id: whose list it is; None for the owner's.
        query: a digest of the statement and its values.
        order: a digest of what it is ordered by.
    """

    secret: str
    tenant_id: UUID | None
    query: bytes
    order: bytes


def seal(position: Position, binding: Binding) -> str:
    """Return the token of a position: up to 16,384 of the characters A-Z, a-z, 0-9, - and _.

    Raises:
        InvalidValue: a value is of a type that no cursor carries, or is too long.
    """
    keys = _keys(binding.secret)
    flags = position.backward | position.inclusive << 1
    tenant = None if binding.tenant_id is None else binding.tenant_id.bytes
    values = [_carried(value) for value in position.values]
    content = msgspec.msgpack.encode((tenant, binding.query, binding.order, flags, values))
    if len(content) * 4 // 3 + 32 > LONGEST:
        raise InvalidValue(
            f"The values that a row is ordered by take {len(content):,} bytes, which is too long for a cursor.",
            hint="Order the list by shorter columns.",
        )
    tag = _tag(keys, content)
    raw = b"".join((bytes((VERSION,)), keys.name, len(content).to_bytes(2), tag, _covered(keys, tag, content)))
    return base64.urlsafe_b64encode(raw).rstrip(b"=").decode()


def unseal(token: str, binding: Binding) -> Position:
    """Return the position that a token stands for.

    Raises:
        InvalidCursor: it is no token, was changed or cut off, or is of another version, secret, tenant, query or order;
            the message says which, and shows nothing of it.
    """
    raw = _decoded(token)
    keys = _keys(binding.secret)
    if raw[0] != VERSION:
        raise InvalidCursor(f"The cursor is of version {raw[0]}, and this version of dataarch reads {VERSION}.")
    if len(raw) < CONTENT or len(raw) < CONTENT + int.from_bytes(raw[LENGTH]):
        raise InvalidCursor("The cursor was cut off.")
    if not hmac.compare_digest(raw[SECRET_NAME], keys.name):
        raise InvalidCursor("The cursor was sealed with another secret.", hint=SEALED_ELSEWHERE)
    content = _covered(keys, raw[TAG], raw[CONTENT:])
    if len(content) != int.from_bytes(raw[LENGTH]) or not hmac.compare_digest(raw[TAG], _tag(keys, content)):
        raise InvalidCursor("The cursor was changed: it is not as this list gave it.")
    return _position(content, binding)


def _decoded(token: object) -> bytes:
    """Return a token's bytes; base64 alone would overlook letters that do not belong, and bits that do not count."""
    if not isinstance(token, str):
        raise InvalidCursor(f"A cursor is text, not {type(token).__name__}.")
    if not token:
        raise InvalidCursor("The cursor is empty.", hint="Give None for the first page.")
    if len(token) > LONGEST:
        raise InvalidCursor(f"The cursor has {len(token):,} characters, which is too long: {LONGEST:,} at the most.")
    if LETTERS.fullmatch(token) is None:
        raise InvalidCursor("The cursor has letters that no cursor has.")
    if len(token) % 4 == 1:
        raise InvalidCursor("The cursor was cut off.")
    raw = base64.urlsafe_b64decode(token + "=" * (-len(token) % 4))
    if base64.urlsafe_b64encode(raw).rstrip(b"=") != token.encode():
        raise InvalidCursor("The cursor was changed, or cut off: its last letter is none that a cursor ends with.")
    return raw


def _position(content: bytes, binding: Binding) -> Position:
    tenant, query, order, flags, values = msgspec.msgpack.decode(content)
    if tenant != (None if binding.tenant_id is None else binding.tenant_id.bytes):
        raise InvalidCursor("The cursor belongs to the list of another tenant.", tenant_id=binding.tenant_id)
    if query != binding.query:
        raise InvalidCursor(
            "The cursor belongs to another query: another statement, or the same with other values.",
            hint="Give the query that the cursor came from, or begin again at the first page.",
        )
    if order != binding.order:
        raise InvalidCursor(
            "The cursor belongs to the same query in another order.",
            hint="Give the order that the cursor came from, or begin again at the first page.",
        )
    return Position(tuple(map(_restored, values)), backward=bool(flags & 1), inclusive=bool(flags & 2))


# ── the seal ──────────────────────────────────────────────────────────────────────────────────────────────────────


class _Keys(NamedTuple):
    name: bytes
    tag: bytes
    stream: bytes


@lru_cache(maxsize=16)
def _keys(secret: str) -> _Keys:
    """Return the keys of a secret, and a name that tells it apart from others but gives nothing of it away."""
    made = [hmac.digest(secret.encode(), b"dataarch cursor " + use, "sha256") for use in (b"name", b"tag", b"stream")]
    return _Keys(made[0][:4], *made[1:])


def _tag(keys: _Keys, content: bytes) -> bytes:
    return hmac.digest(keys.tag, bytes((VERSION,)) + content, "sha256")[:16]


def _covered(keys: _Keys, tag: bytes, content: bytes) -> bytes:
    """Return the content under its stream, and what was under it laid open again."""
    stream = hashlib.shake_256(keys.stream + tag).digest(len(content))
    return (int.from_bytes(content) ^ int.from_bytes(stream)).to_bytes(len(content))


# ── values ────────────────────────────────────────────────────────────────────────────────────────────────────────


class _Form(NamedTuple):
    """How values of a type are written: under a letter, and as what MessagePack keeps exactly."""

    letter: str
    write: Callable[[Any], Any]
    read: Callable[[Any], Any]


AS_THEY_ARE = frozenset({type(None), bool, float, str, bytes})

FORMS: Mapping[type, _Form] = MappingProxyType(
    {
        UUID: _Form("u", lambda value: value.bytes, lambda raw: UUID(bytes=raw)),
        datetime: _Form("t", datetime.isoformat, datetime.fromisoformat),
        date: _Form("d", date.isoformat, date.fromisoformat),
        time: _Form("c", time.isoformat, time.fromisoformat),
        timedelta: _Form(
            "l", lambda value: [value.days, value.seconds, value.microseconds], lambda parts: timedelta(*parts)
        ),
        Decimal: _Form("n", str, Decimal),
        # MessagePack has 64 bits
        int: _Form("i", lambda value: f"{value:x}", lambda digits: int(digits, 16)),
        str: _Form("s", str.__str__, str),
    }
)

READERS: Mapping[str, Callable[[Any], Any]] = MappingProxyType({form.letter: form.read for form in FORMS.values()})


def _carried(value: object) -> object:
    """Return a value in the form that comes back as it was."""
    kind = type(value)
    if kind in AS_THEY_ARE or (kind is int and -(2**63) <= value < 2**63):  # type: ignore[operator]  # an int
        return value
    known = next((FORMS[one] for one in kind.__mro__ if one in FORMS), None)
    if known is None or isinstance(value, Enum):
        raise InvalidValue(
            f"A cursor cannot carry a value that is a {kind.__name__}.",
            hint="Order the list by columns of text, numbers, dates, times, UUIDs or booleans.",
        )
    return known.letter, known.write(value)


def _restored(carried: Any) -> object:
    return READERS[carried[0]](carried[1]) if isinstance(carried, list) else carried
