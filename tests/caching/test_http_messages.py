"""Requests and responses as plain values: what of a request counts, and what HTTP cannot carry is refused."""

from __future__ import annotations

import json
from typing import Any
from urllib.parse import quote, urlencode

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dataarch.caching.http_messages import Request, Response, entity_tag, is_known
from dataarch.errors import InvalidValue
from fixtures.shared_data import shared_file

pytestmark = pytest.mark.cache

HEXADECIMAL = entity_tag(b"x")
KNOWN = [
    HEXADECIMAL,
    f"W/{HEXADECIMAL}",
    f'"a", {HEXADECIMAL}',
    f'"a",{HEXADECIMAL},"b"',
    f' , "a" , W/{HEXADECIMAL} ,',
    f'"with,commas,", {HEXADECIMAL}',
    "*",
    " * ",
]
UNKNOWN = [
    "",
    '"a"',
    HEXADECIMAL.strip('"'),
    HEXADECIMAL.upper(),
    f"w/{HEXADECIMAL}",
    f"{HEXADECIMAL} or so",
    '"*"',
    "*, *",
    f'"a{HEXADECIMAL[1:]}',
    f'"no tag has a space", {HEXADECIMAL}',
]


@pytest.mark.parametrize("field", KNOWN + UNKNOWN)
def test_if_none_match_is_read_as_rfc_9110_has_it(field: str) -> None:
    assert is_known(Request("GET", "/", headers=(("If-None-Match", field),)), HEXADECIMAL) == (field in KNOWN)


def test_several_fields_of_if_none_match_are_one_list() -> None:
    fields = (("If-None-Match", '"a"'), ("IF-NONE-MATCH", HEXADECIMAL))
    assert is_known(Request("GET", "/", headers=fields), HEXADECIMAL)
    assert not is_known(Request("GET", "/", headers=fields[:1]), HEXADECIMAL)
    assert not is_known(Request("GET", "/"), HEXADECIMAL)


ARGUMENTS = st.lists(st.tuples(st.text(max_size=4), st.text(max_size=4)), max_size=5, unique_by=lambda pair: pair[0])


def sent(arguments: list[tuple[str, str]]) -> Request:
    return Request("GET", "/", urlencode(arguments, errors="surrogatepass"))


@given(ARGUMENTS, st.randoms(use_true_random=False))
def test_arguments_of_different_names_may_stand_in_any_order(arguments: list[tuple[str, str]], chance: Any) -> None:
    shuffled = list(arguments)
    chance.shuffle(shuffled)
    assert sent(shuffled).arguments() == sent(arguments).arguments()
    # a framework that writes spaces and letters in another way means the same
    written = "&".join(f"{quote(name, safe='')}={quote(value, safe='')}" for name, value in shuffled)
    assert Request("GET", "/", written).arguments() == sent(arguments).arguments()


RAW = st.lists(st.sampled_from([b"a", b"b", b"=", b"&", b"%", b"+", b";", b"\xff", b"\xc3\xa4"]), max_size=6)


@given(st.binary(max_size=4), st.binary(max_size=4))
def test_arguments_that_are_other_bytes_are_other_arguments(one: bytes, other: bytes) -> None:
    same = Request("GET", "/", f"a={quote(one)}").arguments() == Request("GET", "/", f"a={quote(other)}").arguments()
    assert same == (one == other)


@given(RAW)
def test_any_query_can_be_asked(parts: list[bytes]) -> None:
    arguments = Request("GET", "/", b"".join(parts).decode("latin-1")).arguments()
    assert arguments == sorted(arguments, key=lambda pair: pair[0])


TOKENS = st.text("abcdefghijklmnopqrstuvwxyz-", min_size=1, max_size=8)


@given(TOKENS, st.lists(st.text("abc, ", max_size=4), max_size=3), st.data())
def test_a_header_is_found_whatever_the_case_of_its_name(name: str, values: list[str], data: st.DataObject) -> None:
    written = tuple(
        ("".join(data.draw(st.sampled_from([letter, letter.upper()])) for letter in name), value) for value in values
    )
    request = Request("GET", "/", headers=(*written, (f"{name}x", "other")))
    expected = ", ".join(value.strip(" ") for value in values) if values else None
    assert request.header(name) == request.header(name.upper()) == expected


def test_a_naughty_string_in_a_header_of_the_response_is_sent_as_it_is_or_refused_by_name() -> None:
    naughty: list[str] = json.loads(shared_file("naughty-strings", "blns.json").read_bytes())
    for one in [*naughty, "a\r\nSet-Cookie: x=1", "\x00", "\ud800", "\n"]:
        try:
            response = Response(200, (("X-One", one),), b"")
        except InvalidValue:
            continue
        one.encode("latin-1")
        assert not set(one) & set("\r\n\x00")
        assert response.header("X-One") == one.strip(" \t")
    with pytest.raises(InvalidValue, match="cannot be sent"):
        Response(200, (("X One", "1"),))
