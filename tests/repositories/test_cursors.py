"""Cursors carry any value exactly, show none of it, and open for nobody but the list that they come from."""

from __future__ import annotations

import base64
import hashlib
import math
from dataclasses import replace
from datetime import UTC, date, datetime, time, timedelta, timezone
from decimal import Decimal
from enum import Enum
from typing import Any
from uuid import UUID, uuid4

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dataarch.errors import InvalidCursor, InvalidValue
from dataarch.repositories.cursors import LONGEST, Binding, Position, seal, unseal

ACME, RIVAL = UUID(int=1), UUID(int=2)
BINDING = Binding("a secret of the list", ACME, b"which query", b"which order")
EMAIL = "ada.lovelace@example.com"
HERE = Position((datetime(2026, 1, 31, 23, 59, 59, 999_999, UTC), EMAIL, None, UUID(int=7)))
TOKEN = seal(HERE, BINDING)

# whole seconds, as PostgreSQL has them
offsets = st.integers(-82_800, 82_800).map(lambda seconds: timezone(timedelta(seconds=seconds)))
values = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False)
    | st.text(st.characters(exclude_categories=["Cs"]))
    | st.binary()
    | st.decimals(allow_nan=False)
    | st.datetimes().map(lambda value: value.replace(fold=0))
    | st.datetimes(timezones=offsets)
    | st.dates()
    | st.times().map(lambda value: value.replace(fold=0))
    | st.timedeltas()
    | st.uuids()
)


def refused(token: Any, binding: Binding = BINDING) -> InvalidCursor:
    """Return the error for a token, which says what to do and repeats nothing of the token."""
    with pytest.raises(InvalidCursor) as caught:
        unseal(token, binding)
    assert "first page" in caught.value.hint
    assert len(str(caught.value)) < 500
    assert not isinstance(token, str) or len(token) < 10 or token not in str(caught.value)
    return caught.value


# ── what a cursor carries ─────────────────────────────────────────────────────────────────────────────────────────


def same(one: Any, other: Any) -> bool:
    return type(one) is type(other) and repr(one) == repr(other)


@given(st.lists(values, max_size=6).map(tuple), st.booleans(), st.booleans())
def test_a_cursor_gives_back_every_value_as_it_was(
    given_values: tuple[object, ...], backward: bool, inclusive: bool
) -> None:
    position = Position(given_values, backward=backward, inclusive=inclusive)
    found = unseal(seal(position, BINDING), BINDING)
    assert (found.backward, found.inclusive, len(found.values)) == (backward, inclusive, len(given_values))
    for one, other in zip(found.values, given_values, strict=True):
        if isinstance(other, datetime) and other.tzinfo is not None:
            assert (one, one.utcoffset()) == (other, other.utcoffset())  # type: ignore[attr-defined]  # a datetime too
        else:
            assert same(one, other)


@pytest.mark.parametrize(
    "value",
    [
        2**63 - 1,
        -(2**63),
        2**64,
        -(10**40),
        Decimal("0.10"),
        Decimal("-1E+30"),
        math.inf,
        -0.0,
        math.nan,
        "",
        "é\u202e😀",
        datetime.max.replace(tzinfo=UTC),
        datetime.min.replace(tzinfo=UTC),
        date.min,
        time.max,
        timedelta.min,
        timedelta(microseconds=1),
        b"\x00\xff",
    ],
    ids=repr,
)
def test_a_cursor_gives_back_the_extremes(value: object) -> None:
    (found,) = unseal(seal(Position((value,)), BINDING), BINDING).values
    assert same(found, value)


class Colour(Enum):
    RED = "red"


class Shout(str):
    __slots__ = ()


@pytest.mark.parametrize("value", [object(), [1], {"a": 1}, Colour.RED, 1j])
def test_a_value_that_no_cursor_can_carry_is_refused_by_its_type(value: object) -> None:
    with pytest.raises(InvalidValue, match=type(value).__name__) as caught:
        seal(Position((value,)), BINDING)
    assert not isinstance(caught.value, InvalidCursor)


def test_text_of_a_class_of_its_own_is_carried_as_text() -> None:
    (found,) = unseal(seal(Position((Shout("tea"),)), BINDING), BINDING).values
    assert same(found, "tea")


def test_a_position_that_would_make_too_long_a_cursor_is_refused() -> None:
    with pytest.raises(InvalidValue, match="too long"):
        seal(Position((EMAIL * LONGEST,)), BINDING)


def test_a_token_is_safe_in_urls_and_in_logs() -> None:
    assert set(TOKEN) <= set("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_")
    raw = base64.urlsafe_b64decode(TOKEN + "==")
    for shown in (EMAIL.encode(), b"ada", b"2026", UUID(int=7).bytes, ACME.bytes, BINDING.query, BINDING.order):
        assert shown not in raw


def test_the_same_position_has_the_same_token_and_another_has_another() -> None:
    assert seal(HERE, BINDING) == TOKEN
    tokens = {
        seal(position, binding)
        for position in (HERE, replace(HERE, backward=True), replace(HERE, inclusive=True), Position(HERE.values[:3]))
        for binding in (BINDING, replace(BINDING, tenant_id=RIVAL), replace(BINDING, secret="another secret"))
    }
    assert len(tokens) == 12


# ── what a cursor is bound to ─────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("tenant", [RIVAL, None])
def test_a_cursor_of_another_tenant_is_refused(tenant: UUID | None) -> None:
    assert "another tenant" in refused(TOKEN, replace(BINDING, tenant_id=tenant)).message


def test_an_owners_cursor_is_none_of_a_tenant() -> None:
    owners = replace(BINDING, tenant_id=None)
    assert unseal(seal(HERE, owners), owners) == HERE
    assert "another tenant" in refused(seal(HERE, owners)).message


def test_a_cursor_of_another_query_is_refused() -> None:
    assert "another query" in refused(TOKEN, replace(BINDING, query=b"other query")).message


def test_a_cursor_of_another_order_is_refused() -> None:
    assert "another order" in refused(TOKEN, replace(BINDING, order=b"other order")).message


def test_a_cursor_of_another_secret_is_refused_and_the_variable_named() -> None:
    error = refused(TOKEN, replace(BINDING, secret="another secret of this list"))
    assert "another secret" in error.message
    assert "DATAARCH_CURSOR_SECRET" in error.hint


# ── what is no cursor ─────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("at", range(len(TOKEN)))
def test_a_cursor_that_was_changed_anywhere_is_refused(at: int) -> None:
    for other in "A_-9z":
        if other != TOKEN[at]:
            refused(TOKEN[:at] + other + TOKEN[at + 1 :])


@pytest.mark.parametrize("bit", range(0, len(TOKEN) * 6 // 8 * 8, 5))
def test_a_single_bit_that_flipped_is_noticed(bit: int) -> None:
    raw = bytearray(base64.urlsafe_b64decode(TOKEN + "=" * (-len(TOKEN) % 4)))
    raw[bit // 8] ^= 1 << bit % 8
    refused(base64.urlsafe_b64encode(raw).decode().rstrip("="))


@pytest.mark.parametrize("length", range(1, len(TOKEN)))
def test_a_cursor_that_was_cut_off_is_refused(length: int) -> None:
    assert "cut off" in refused(TOKEN[:length]).message


def test_a_cursor_with_something_behind_it_is_refused() -> None:
    for more in ("A", "AA", "AAAA", TOKEN, "="):
        refused(TOKEN + more)


def test_a_cursor_whose_body_was_changed_is_said_to_be_changed() -> None:
    changed = TOKEN[:-8] + ("AAAA" if TOKEN[-8:-4] != "AAAA" else "BBBB") + TOKEN[-4:]
    assert "changed" in refused(changed).message


@pytest.mark.parametrize("version", [0, 2, 255])
def test_a_cursor_of_another_version_is_refused_by_its_number(version: int) -> None:
    raw = bytes([version]) + base64.urlsafe_b64decode(TOKEN + "=" * (-len(TOKEN) % 4))[1:]
    token = base64.urlsafe_b64encode(raw).decode().rstrip("=")
    assert f"version {version}" in refused(token).message


def test_the_version_cannot_be_changed_without_being_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    raw = bytes([2]) + base64.urlsafe_b64decode(TOKEN + "=" * (-len(TOKEN) % 4))[1:]
    monkeypatch.setattr("dataarch.repositories.cursors.VERSION", 2)
    assert "changed" in refused(base64.urlsafe_b64encode(raw).decode().rstrip("=")).message


@pytest.mark.parametrize("token", ["é", "TÖKEN", "😀" * 40, "a b", "a\nb", TOKEN + "\n", " " + TOKEN, "\x00", "\ud800"])
def test_letters_that_no_cursor_has_are_refused(token: str) -> None:
    assert "letters that no cursor has" in refused(token).message


def test_a_huge_cursor_is_refused_before_it_is_read(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("dataarch.repositories.cursors.base64", None)
    assert "too long" in refused("A" * 10_000_000).message
    assert "too long" in refused("A" * (LONGEST + 1)).message


def test_an_empty_cursor_is_refused() -> None:
    assert "empty" in refused("").message


@pytest.mark.parametrize("token", [None, 7, b"bytes", UUID(int=7), ["a"]])
def test_what_is_no_text_is_refused(token: Any) -> None:
    assert type(token).__name__ in refused(token).message


@given(st.text(max_size=300) | st.binary(max_size=300).map(lambda raw: base64.urlsafe_b64encode(raw).decode()))
def test_no_text_at_all_gets_past(token: str) -> None:
    refused(token)


def test_a_stranger_who_knows_the_format_but_not_the_secret_can_make_no_cursor() -> None:
    theirs = seal(HERE, replace(BINDING, secret=uuid4().hex))
    raw, mine = (base64.urlsafe_b64decode(one + "=" * (-len(one) % 4)) for one in (theirs, TOKEN))
    forged = mine[:5] + raw[5:]
    assert hashlib.sha256(forged).digest() != hashlib.sha256(mine).digest()
    assert "changed" in refused(base64.urlsafe_b64encode(forged).decode().rstrip("=")).message
