"""Values come back as what they were; what is no entry is told from one, and never run."""

from __future__ import annotations

import math
import pickle
import zlib
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta, timezone
from decimal import Decimal
from typing import Any
from uuid import UUID

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dataarch.caching.codec import HEAD, LARGEST, CannotDecode, CannotEncode, Codec, prefix

pytestmark = pytest.mark.cache

TEXT = st.text(st.characters(codec=None, exclude_categories=()), max_size=20)
ZONES = st.integers(-23, 23).map(lambda hours: timezone(timedelta(hours=hours)))
# bounds of a strategy with zones are given without one
YEAR_2, YEAR_9998 = datetime.fromisoformat("0002-01-01"), datetime.fromisoformat("9998-01-01")

PLAIN = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False)
    | TEXT
    | st.binary(max_size=20)
    | st.uuids()
    | st.decimals(allow_nan=False)
    | st.dates()
    | st.times()
    | st.timedeltas()
    | st.datetimes()
    | st.datetimes(min_value=YEAR_2, max_value=YEAR_9998, timezones=ZONES)
)
HASHABLE = st.none() | st.booleans() | st.integers() | TEXT | st.uuids() | st.tuples(st.integers(), TEXT)
VALUES = st.recursive(
    PLAIN,
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.lists(inner, max_size=4).map(tuple)
        | st.dictionaries(TEXT, inner, max_size=4)
        | st.dictionaries(HASHABLE, inner, max_size=4)
        | st.sets(HASHABLE, max_size=4)
        | st.frozensets(HASHABLE, max_size=4)
    ),
    max_leaves=15,
)


def same(one: Any, other: Any) -> bool:
    """Equal, and of the same types all the way down."""
    if type(one) is not type(other):
        return False
    if isinstance(one, dict):
        # 1 and True are one key: what the types are, the values say
        return one.keys() == other.keys() and all(same(one[key], other[key]) for key in one)
    if isinstance(one, list | tuple):
        return len(one) == len(other) and all(map(same, one, other))
    return bool(one == other)


@given(VALUES, st.floats(0, 4e9))
def test_a_value_comes_back_as_what_it_was(value: Any, made_at: float) -> None:
    codec = Codec()
    entry = codec.decode(codec.encode(value, made_at))
    assert same(entry.value, value)
    assert (entry.made_at, entry.negative) == (made_at, False)


@given(st.floats())
def test_numbers_that_json_has_no_words_for_come_back_too(value: float) -> None:
    codec = Codec()
    back = codec.decode(codec.encode(value, 0)).value
    assert back == value or (math.isnan(back) and math.isnan(value))


def test_that_there_is_nothing_can_be_remembered() -> None:
    codec = Codec()
    entry = codec.decode(codec.encode(None, 1, negative=True))
    assert (entry.value, entry.negative) == (None, True)


class View(msgspec.Struct, frozen=True):
    id: UUID
    price: Decimal
    seen: datetime


def test_a_typed_value_comes_back_as_its_type() -> None:
    codec = Codec(View)
    view = View(UUID(int=5), Decimal("1.50"), datetime(2026, 1, 2, 3, 4, 5, 6, tzinfo=UTC))
    assert codec.decode(codec.encode(view, 1)).value == view


@pytest.mark.parametrize("stored", [{"id": "x"}, {"id": str(UUID(int=1)), "price": "1"}, [1], "text"])
def test_what_does_not_fit_the_type_is_no_entry(stored: Any) -> None:
    with pytest.raises(CannotDecode):
        Codec(View).decode(HEAD.pack(1.0, 0) + msgspec.msgpack.encode(stored))


@dataclass
class Unknown:
    name: str


@pytest.mark.parametrize("value", [Unknown("x"), object(), [1, {"a": Unknown("x")}], {"a": lambda: 1}, iter([1])])
def test_a_value_of_an_unknown_type_cannot_be_remembered(value: Any) -> None:
    with pytest.raises(CannotEncode):
        Codec().encode(value, 1)


def test_a_value_that_contains_itself_cannot_be_remembered() -> None:
    endless: list[Any] = []
    endless.append(endless)
    with pytest.raises(CannotEncode):
        Codec().encode(endless, 1)


def test_a_large_value_is_compressed_and_comes_back() -> None:
    value = {"text": "abc" * 10_000}
    encoded = Codec().encode(value, 1)
    assert len(encoded) < 1000
    assert Codec().decode(encoded).value == value


def test_what_would_not_become_smaller_is_left_as_it_is() -> None:
    value = bytes(range(256)) * 16 + b"".join(zlib.compress(bytes([n]) * n) for n in range(200))
    assert Codec().decode(Codec().encode(value, 1)).value == value


def test_a_small_entry_cannot_become_a_large_one_without_end() -> None:
    bomb = zlib.compress(b"\0" * (LARGEST + 1), 9)
    with pytest.raises(CannotDecode):
        Codec().decode(HEAD.pack(1.0, 1) + bomb)


@given(st.binary(max_size=200))
def test_bytes_of_somebody_else_are_no_entry_and_nothing_worse(data: bytes) -> None:
    for codec in (Codec(), Codec(View)):
        with suppress(CannotDecode):
            codec.decode(data)


@given(st.integers(0, 300), st.integers(0, 255))
def test_a_damaged_entry_is_no_entry_or_another_value(at: int, byte: int) -> None:
    encoded = bytearray(Codec().encode({"a": [UUID(int=1), Decimal(1), date(2026, 1, 1), time(1), {1}]}, 1))
    encoded[at % len(encoded)] = byte
    with suppress(CannotDecode):
        Codec().decode(bytes(encoded))


class Exploit:
    def __reduce__(self) -> Any:
        return pytest.fail, ("code of an entry was run",)


def test_a_pickle_is_never_loaded() -> None:
    poisoned = pickle.dumps(Exploit())
    for data in (poisoned, HEAD.pack(1.0, 0) + poisoned, HEAD.pack(1.0, 1) + zlib.compress(poisoned)):
        with pytest.raises(CannotDecode):
            Codec().decode(data)


def test_an_entry_begins_with_its_form_and_its_stamps() -> None:
    assert prefix([b"one", b"two"]) == b"d1one,two|"
    assert prefix([]) == b"d1|"
