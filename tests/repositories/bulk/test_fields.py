"""The fast way for a column gives exactly what its type gives, or nothing."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta, timezone
from decimal import Decimal
from enum import Enum, IntEnum, StrEnum
from typing import Any
from uuid import UUID
from zoneinfo import ZoneInfo

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from sqlalchemy import Boolean, Column, Integer, MetaData, SmallInteger, String, Table, Uuid

from dataarch.errors import DataArchError
from dataarch.models.types import Choice, CurrencyCode, Email, Json, Money, Sha256, Slug, Text, UtcDateTime
from dataarch.repositories.bulk.encoding import Encoder
from dataarch.repositories.bulk.fields import MISSING, Field

pytestmark = pytest.mark.pipeline


class Word(StrEnum):
    VIEW = "view"


class Number(IntEnum):
    ONE = 1


class Colour(Enum):
    RED = "red"


TYPES: dict[str, Any] = {
    "uuid": Uuid(),
    "instant": UtcDateTime(),
    "text": Text(5, least=0),
    "choice": Choice("view", "login"),
    "currency": CurrencyCode(),
    "sha256": Sha256(),
    "slug": Slug(),
    "email": Email(),
    "money": Money(scale=2),
    "amount": Money(scale=0, least=-5),
    "json": Json(),
    "small": SmallInteger(),
    "whole": Integer(),
    "yes": Boolean(),
    "plain": String(4),
}
TABLE = Table(
    "everything",
    MetaData(),
    *(Column(name, kind, nullable=False) for name, kind in TYPES.items()),
    *(Column(f"{name}_or_none", kind) for name, kind in TYPES.items()),
)

ODD_TEXTS = ["\x00", "\ud800", "", "view", "EUR", "a-b", "ada@example.com", "x" * 6, "\\u0000", "0" * 64, "ä\n"]
texts = st.text(max_size=6) | st.sampled_from(ODD_TEXTS)
numbers = st.integers() | st.floats() | st.decimals() | st.sampled_from([2.0**53, 1e23, 2**63, -(2**63), 10**4000])
zones = st.none() | st.sampled_from([UTC, timezone(timedelta(hours=2)), ZoneInfo("Europe/Berlin"), ZoneInfo("UTC")])
instants = st.datetimes(timezones=zones) | st.sampled_from([datetime.max.replace(tzinfo=UTC)])
odd = st.sampled_from([Word.VIEW, Number.ONE, Colour.RED, b"", (1,), {1}, object(), [], True, None, MISSING])
odd_keys = st.sampled_from([Word.VIEW, Number.ONE, None, True, 1.5])
scalars = st.none() | st.booleans() | numbers | texts | odd
documents = st.recursive(
    scalars,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(texts | st.integers() | odd_keys, inner, max_size=3),
    max_leaves=6,
)
anything = scalars | instants | st.uuids() | documents


def several(values: st.SearchStrategy[Any]) -> st.SearchStrategy[list[Any]]:
    return st.lists(values, min_size=1, max_size=4)


def field(name: str) -> Field:
    return Encoder(TABLE, [name])._fields[0]


def told(one: Field, value: Any) -> bytes | None:
    """Return what the slow way gives, None where it refuses."""
    bad: dict[int, DataArchError] = {}
    (found,) = one._singly([value], bad)
    return None if bad else found


def same(kind: str, fast: bytes, slow: bytes) -> bool:
    if not kind.startswith("json") or len(slow) == 4:
        return fast == slow
    # jsonb reads the text as JSON: numbers by their value
    one, other = (json.loads(found[5:], parse_float=Decimal) for found in (fast, slow))
    return bool(one == other)


likely = {
    "uuid": st.uuids(),
    "instant": st.datetimes(timezones=st.just(UTC)),
    "text": st.text(max_size=5),
    "choice": st.sampled_from(["view", "login"]),
    "currency": st.from_regex("[A-Z]{3}", fullmatch=True),
    "sha256": st.from_regex("[0-9a-f]{64}", fullmatch=True),
    "slug": st.from_regex("[a-z0-9]{1,5}(-[a-z]{1,3}){0,2}", fullmatch=True),
    "email": st.sampled_from(["ada@example.com", "Bob@Example.com", "x"]),
    "money": st.decimals(min_value=-1, max_value=10**17, places=2) | st.decimals(),
    "amount": st.decimals(min_value=-9, max_value=10**19, places=0),
    "json": st.dictionaries(st.text(max_size=5), st.integers() | st.text(max_size=5) | st.floats(), max_size=3),
    "small": st.integers(-(2**15) - 1, 2**15),
    "whole": st.integers(-(2**31) - 1, 2**31),
    "yes": st.booleans(),
    "plain": st.text(max_size=5),
}


@pytest.mark.parametrize("name", [*TYPES, *(f"{name}_or_none" for name in TYPES)])
@given(data=st.data())
def test_whole_columns_are_encoded_as_their_types_encode_each_value(name: str, data: st.DataObject) -> None:
    plausible = likely[name.removesuffix("_or_none")]
    values = data.draw(several(plausible | st.none()) | several(plausible | anything))
    one = field(name)
    bad: dict[int, DataArchError] = {}
    # a piece that all rows share has no end
    found = [b"".join(pieces) for _, *pieces in zip(values, *one.encoded(values, bad), strict=False)]
    for at, value in enumerate(values):
        slow = told(one, value)
        assert (slow is None) == (at in bad), (value, bad)
        if slow is not None:
            assert same(name, found[at], slow), (value, found[at], slow)


@given(st.lists(documents, min_size=1, max_size=3))
@example([[[[]] * 2] * 3])
@example([{"a": 2.0**53}])
@example([{"a": -0.0}])
@example([{"a": float("nan")}])
@example([{"a": "\x00"}])
@example([{1: 2}])
@example([{"a": (1, 2)}])
@example([{"a": 10**3950}])
@example([{"a": "\\u0000"}])
def test_documents_that_are_encoded_together_are_those_that_the_type_accepts(values: list[Any]) -> None:
    one = field("json")
    found = one.plain(values)
    if found is not None:
        for pieces, value in zip(zip(*found, strict=False), values, strict=True):
            slow = told(one, value)
            assert slow is not None, value
            assert same("json", b"".join(pieces), slow)


@pytest.mark.parametrize("deep", [499, 500, 501, 700])
def test_documents_are_as_deep_as_the_type_allows(deep: int) -> None:
    value: Any = 1
    for _ in range(deep):
        value = [value]
    one = field("json")
    bad: dict[int, DataArchError] = {}
    list(one.encoded([value, value], bad)[0])
    assert bool(bad) == (deep > 500)


def test_a_uuid_may_be_text() -> None:
    assert field("uuid").one(str(UUID(int=5))) == field("uuid").one(UUID(int=5))


def test_plain_columns_really_take_the_fast_way() -> None:
    """Else the tests above would compare the slow way with itself."""
    for name, value in (
        ("uuid", UUID(int=1)),
        ("instant", datetime.now(UTC)),
        ("text", "ä"),
        ("slug", "a-b"),
        ("money", Decimal("1.10")),
        ("json", {"a": [1, 2.5, None, "x"]}),
        ("whole", 5),
        ("yes", True),
        ("plain", "x"),
    ):
        assert field(name).plain([value, value]) is not None, name
