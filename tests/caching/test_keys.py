"""Keys: total, injective and bounded, whatever they are made of."""

from __future__ import annotations

import json
import re
from typing import Any
from uuid import UUID, uuid4

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from dataarch.caching.keys import LONGEST, Part, cache_key, lease_of, rows_tag, table_tag, tenant_of_key, tenant_tag
from dataarch.errors import InvalidValue
from fixtures.shared_data import shared_file

pytestmark = pytest.mark.cache

# lone surrogates too: any text that Python can have
TEXT = st.text(st.characters(codec=None, exclude_categories=()), max_size=80) | st.text(":%{}!#v1", max_size=8)
PARTS = st.lists(TEXT | st.integers() | st.uuids(), max_size=4)
KINDS = st.from_regex(r"[a-z][a-z0-9_]{0,20}", fullmatch=True)
TENANTS = st.none() | st.uuids()


@given(st.uuids())
def test_m19_a_key_is_kind_id_and_version(user_id: UUID) -> None:
    assert cache_key("user_profile", user_id, version=1) == f"user_profile:{user_id}:v1"
    assert cache_key("user_profile", str(user_id)) == f"user_profile:{user_id}:v1"


@given(KINDS, PARTS, st.integers(0, 10**6), TENANTS)
def test_a_key_is_short_printable_ascii_and_says_whose_it_is(
    kind: str, parts: list[Part], version: int, tenant: UUID | None
) -> None:
    key = cache_key(kind, *parts, version=version, tenant=tenant)
    assert len(key) <= LONGEST
    assert re.fullmatch(r"[\x21-\x7e]+", key)
    assert key.endswith(f":v{version}")
    assert tenant_of_key(key) == tenant
    assert key == cache_key(kind, *parts, version=version, tenant=tenant)


What = tuple[str, tuple[Part, ...], int, UUID | None]


def texts(what: What) -> tuple[str, tuple[str, ...], int, UUID | None]:
    kind, parts, version, tenant = what
    return kind, tuple(map(str, parts)), version, tenant


@given(
    st.tuples(KINDS, PARTS.map(tuple), st.integers(0, 30), TENANTS),
    st.tuples(KINDS, PARTS.map(tuple), st.integers(0, 30), TENANTS),
)
def test_what_differs_has_another_key(one: Any, other: Any) -> None:
    assume(texts(one) != texts(other))
    keys = {cache_key(kind, *parts, version=version, tenant=tenant) for kind, parts, version, tenant in (one, other)}
    assert len(keys) == 2


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (("a", "b"), ("a:b",)),
        (("a", ""), ("a",)),
        (("",), ()),
        (("%3A",), (":",)),
        (("a", "v1"), ("a:v1",)),
        (("\ud800",), ("\udfff",)),
        (("é",), ("e\u0301",)),
        (("x" * 500,), ("x" * 501,)),
        (("x" * 300, "y"), ("x" * 300 + ":y",)),
        (("#" + "0" * 64,), ("x" * 500,)),
    ],
)
def test_parts_cannot_be_mistaken_for_others(one: tuple[str, ...], other: tuple[str, ...]) -> None:
    assert cache_key("kind", *one) != cache_key("kind", *other)


def test_naughty_strings_have_keys_of_their_own() -> None:
    strings = json.loads(shared_file("naughty-strings", "blns.json").read_text())
    keys = {cache_key("kind", text) for text in strings}
    assert len(keys) == len(set(strings))
    assert all(key.isascii() and len(key) <= LONGEST for key in keys)


@pytest.mark.parametrize("kind", ["", "A", "1a", "a-b", "a:b", "a" * 64, "é"])
def test_a_kind_that_would_blur_keys_is_refused(kind: str) -> None:
    with pytest.raises(InvalidValue, match="small letters"):
        cache_key(kind)


@pytest.mark.parametrize("part", [None, True, 1.5, b"x", ("a",), object()])
def test_a_part_that_has_no_one_text_is_refused(part: Any) -> None:
    with pytest.raises(InvalidValue, match="A key cannot be made of"):
        cache_key("kind", part)


@pytest.mark.parametrize("version", [-1, True])
def test_a_version_is_a_whole_number(version: int) -> None:
    with pytest.raises(InvalidValue, match="no version"):
        cache_key("kind", version=version)


@pytest.mark.parametrize("tenant", ["acme", 5, b"x"])
def test_a_tenant_is_a_uuid(tenant: Any) -> None:
    with pytest.raises(InvalidValue, match="not the id of a tenant"):
        cache_key("kind", tenant=tenant)


def test_all_that_is_a_tenants_lies_in_one_slot_and_no_tag_is_a_key() -> None:
    tenant = uuid4()
    names = [
        cache_key("kind", "x", tenant=tenant),
        lease_of(cache_key("kind", "x", tenant=tenant)),
        tenant_tag(tenant),
        table_tag(tenant, "users"),
        rows_tag(tenant, "users"),
    ]
    assert len(set(names)) == len(names)
    assert {name[: name.index("}") + 1] for name in names} == {f"{{{tenant}}}"}
