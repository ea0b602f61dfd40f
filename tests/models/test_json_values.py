"""What jsonb can hold, and what is refused before it reaches a server."""

from __future__ import annotations

import json
import sys
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given

from dataarch.errors import InvalidJson
from dataarch.models.json_values import DEEPEST, INTEGER_BITS, storable
from dataarch.proof.strategies import json_values
from fixtures.shared_data import shared_file

pytestmark = pytest.mark.schema


def nested(levels: int, kind: type[list[Any] | dict[str, Any]]) -> Any:
    value: Any = 1
    for _ in range(levels):
        value = [value] if kind is list else {"a": value}
    return value


@given(value=json_values())
def test_a_storable_value_equals_what_went_in(value: Any) -> None:
    assert storable(value) == value


@pytest.mark.parametrize("kind", [list, dict])
def test_a_value_may_be_nested_to_the_limit_and_no_further(kind: type[Any]) -> None:
    assert json.dumps(storable(nested(DEEPEST, kind))) == json.dumps(nested(DEEPEST, kind))
    with pytest.raises(InvalidJson, match="more than 500 levels deep"):
        storable(nested(DEEPEST + 1, kind))


def test_nesting_far_beyond_the_limit_is_refused_and_not_a_recursion_error() -> None:
    with pytest.raises(InvalidJson):
        storable(nested(100_000, list))


def test_a_value_that_holds_itself_is_refused() -> None:
    endless: list[Any] = []
    endless.extend((endless, endless))
    with pytest.raises(InvalidJson):
        storable(endless)


def test_the_limit_does_not_depend_on_how_deep_the_caller_is() -> None:
    def deeper(frames: int) -> Any:
        return deeper(frames - 1) if frames else storable(nested(DEEPEST, list))

    assert deeper(sys.getrecursionlimit() // 2) is not None


@pytest.mark.parametrize(
    ("value", "path"),
    [
        ("a\x00b", "$"),
        ({"a": ["x", {"b": "\x00"}]}, "$.a[1].b"),
        ({"a": {"k\x00": 1}}, "$.a"),
        (["\ud800"], "$[0]"),
        ({"\udfff": 1}, "$"),
        ({"a": float("nan")}, "$.a"),
        ([1, float("inf")], "$[1]"),
        ([1, -float("inf")], "$[1]"),
        ({"a": {1: 2}}, "$.a"),
        ({None: 2}, "$"),
        ({"a": (1, 2)}, "$.a"),
        ({"a": {1, 2}}, "$.a"),
        ([b"bytes"], "$[0]"),
        ([Decimal(1)], "$[0]"),
        ([datetime.now(UTC)], "$[0]"),
        ([1 << (INTEGER_BITS + 1)], "$[0]"),
    ],
)
def test_m04_what_postgresql_cannot_hold_is_refused_with_its_path(value: Any, path: str) -> None:
    with pytest.raises(InvalidJson) as refused:
        storable(value)
    assert f"at '{path}' " in refused.value.message


def test_a_long_path_is_shown_by_its_end() -> None:
    with pytest.raises(InvalidJson) as refused:
        storable({"k" * 10_000: [object()]})
    assert "kkk[0]'" in refused.value.message
    assert len(refused.value.message) < 500


def test_a_refused_value_is_left_as_it_was() -> None:
    value = {"a": [2.0**60, "\x00"]}
    with pytest.raises(InvalidJson):
        storable(value)
    assert value == {"a": [2.0**60, "\x00"]}
    assert isinstance(value["a"][0], float)


def test_keys_keep_their_order() -> None:
    assert list(storable({"b": 1, "a": [2], "c": {}})) == ["b", "a", "c"]


def test_a_float_beyond_exactness_is_stored_as_the_integer_that_it_is() -> None:
    stored = storable([2.0**53, 1e308, 2.0**53 - 1])
    assert stored == [2**53, int(1e308), 2.0**53 - 1]
    assert [type(number) for number in stored] == [int, int, float]


def test_m04_every_json_document_that_no_parser_may_refuse_is_storable_unless_it_holds_nul() -> None:
    refused = set()
    for path in sorted(shared_file("json-test-suite", "test_parsing").glob("y_*.json")):
        try:
            storable(json.loads(path.read_bytes()))
        except InvalidJson:
            refused.add(path.name)
    assert refused == {"y_object_escaped_null_in_key.json", "y_string_null_escape.json"}


def test_a_document_that_parsers_may_refuse_is_storable_or_refused_by_name() -> None:
    for path in shared_file("json-test-suite", "test_parsing").glob("i_*.json"):
        try:
            value = json.loads(path.read_bytes())
        except ValueError:
            continue
        try:
            assert storable(value) == value
        except InvalidJson:
            continue
