"""The fields of a record get other names, are fewer or more, and every record is accounted for."""

from __future__ import annotations

from copy import deepcopy
from operator import itemgetter
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dataarch.errors import ConfigurationError, InvalidValue
from dataarch.models.types import slugify
from dataarch.pipelines.pipeline import Step
from dataarch.pipelines.records import Stage
from dataarch.pipelines.transformers.fields import computed, dropped, kept, renamed, stripped, with_defaults
from dataarch.pipelines.transformers.record import mapped
from dataarch.pipelines.transformers.times import times
from pipelines.steps_support import checked, told

pytestmark = pytest.mark.pipeline


def test_a_field_gets_another_name_and_keeps_its_place() -> None:
    step = renamed({"Unit Price": "price"}, Code="external_id")
    batch = checked([{"Code": "T1", "n": 1, "Unit Price": "9.95"}, {"n": 2}], step)
    assert [list(row.items()) for row in batch.rows] == [
        [("external_id", "T1"), ("n", 1), ("price", "9.95")],
        [("n", 2)],
    ]


def test_two_fields_can_swap_their_names_and_never_have_the_same() -> None:
    assert checked([{"a": 1, "b": 2}], renamed(a="b", b="a")).rows == [{"b": 1, "a": 2}]
    batch = checked([{"a": 1, "b": 2}, {"a": 1}, {"b": 2, "c": 3, "a": 1}], renamed(a="b"))
    assert batch.rows == [{"b": 1}]
    assert told(batch) == [
        (1, "b", "The fields a and b would both be called b."),
        (3, "a", "The fields b and a would both be called b."),
    ]
    assert batch.rejects[0].stage is Stage.TRANSFORM


def test_fields_are_kept_or_dropped_where_they_are_there() -> None:
    rows = [{"a": 1, "b": 2, "c": 3}, {"c": 3}]
    assert checked(rows, kept("b", "a")).rows == [{"b": 2, "a": 1}, {}]
    assert list(checked(rows, kept("b", "a")).rows[0]) == ["b", "a"]
    assert checked(rows, dropped("b", "a")).rows == [{"c": 3}, {"c": 3}]


def test_a_field_that_is_not_given_gets_its_default() -> None:
    rows: list[dict[str, Any]] = [{}, {"currency": None}, {"currency": ""}, {"currency": "EUR"}, {"currency": 0}]
    found = checked(rows, with_defaults(currency="GBP")).rows
    assert [row["currency"] for row in found] == ["GBP", "GBP", "GBP", "EUR", 0]
    assert rows[:2] == [{}, {"currency": None}]


def test_a_field_is_computed_from_the_record_as_it_came() -> None:
    step = computed(slug=lambda row: slugify(row["name"]), name=lambda row: row["name"].upper())
    batch = checked([{"name": "Tea Pot"}, {"name": "茶"}, {"title": "Kettle"}, {"name": None}], step)
    assert batch.rows == [{"name": "TEA POT", "slug": "tea-pot"}]
    assert [(number, field) for number, field, _ in told(batch)] == [(2, "slug"), (3, "name"), (4, "slug")]
    assert told(batch)[1][2] == "The record has no name."
    (row,) = checked([{"n": 1}], computed(n=lambda row: row["n"] + 1, next=lambda row: row["n"] + 1)).rows
    assert (row, type(row)) == ({"n": 2, "next": 2}, dict)


def test_the_reason_of_a_function_names_its_own_field_where_it_says_one() -> None:
    def refused(row: Any) -> Any:
        raise InvalidValue("No.", column="name")

    assert told(checked([{"name": 1}], computed(slug=refused))) == [(1, "name", "No.")]


def test_text_is_stripped_in_the_fields_that_are_named_or_in_all() -> None:
    rows: list[dict[str, Any]] = [{"a": " x\t", "b": "\u00a0y ", "n": 1, "none": None}]
    assert checked(rows, stripped()).rows == [{"a": "x", "b": "y", "n": 1, "none": None}]
    assert checked(rows, stripped("a", "n")).rows == [{"a": "x", "b": "\u00a0y ", "n": 1, "none": None}]


def test_any_function_from_record_to_record_is_a_step_and_may_change_its_copy() -> None:
    def greedy(row: dict[str, Any]) -> dict[str, Any]:
        row["total"] = row.pop("quantity") * row["price"]
        return row

    rows = [{"quantity": 2, "price": 5}, {"price": 5}]
    before = deepcopy(rows)
    batch = checked(rows, mapped(greedy))
    assert batch.rows == [{"price": 5, "total": 10}]
    assert type(batch.rows[0]) is dict
    assert told(batch) == [(2, "quantity", "The record has no quantity.")]
    assert rows == before
    assert batch.originals == before[:1]


def test_a_field_that_is_not_there_rejects_its_record_however_it_is_looked_up() -> None:
    def deleted(row: dict[str, Any]) -> dict[str, Any]:
        del row["b"]
        return row

    for look_up in (lambda row: {"b": row["b"]}, lambda row: {"b": row.pop("b")}, itemgetter("b"), deleted):
        assert told(checked([{"a": 1}], mapped(look_up))) == [(1, "b", "The record has no b.")]
    assert checked([{"a": 1}], mapped(lambda row: {"b": row.get("b", row.pop("b", 7))})).rows == [{"b": 7}]
    assert checked([{"b": 1}], mapped(deleted)).rows == [{}]


def test_a_function_that_returns_no_record_or_fails_stops_the_run() -> None:
    nothing: Any = lambda row: None  # noqa: E731  # what a careless caller gives
    with pytest.raises(ConfigurationError, match="returned NoneType, not a record"):
        checked([{"a": 1}], mapped(nothing))
    with pytest.raises(ZeroDivisionError):
        checked([{"a": 1}], computed(b=lambda row: 1 / 0))
    with pytest.raises(KeyError):
        checked([{"a": 1}], computed(b=lambda row: {"GB": "GBP"}["FR"]))


STEPS: list[Step] = [
    renamed(a="b"),
    kept("a", "c"),
    dropped("a"),
    with_defaults(a=1),
    computed(d=lambda row: row["a"]),
    stripped(),
    times("a"),
    mapped(lambda row: {**row, "e": row["b"]}),
]

values = st.none() | st.integers() | st.text(max_size=5) | st.lists(st.integers(), max_size=2) | st.datetimes()


@given(
    records=st.lists(st.dictionaries(st.sampled_from("abcd"), values), max_size=5),
    steps=st.lists(st.sampled_from(STEPS), max_size=4),
)
def test_rows_and_rejects_of_any_steps_add_up_and_no_record_is_changed(
    records: list[dict[str, Any]], steps: list[Step]
) -> None:
    before = deepcopy(records)
    batch = checked(records, *steps)
    assert records == before
    assert sorted([*batch.numbers, *(one.number for one in batch.rejects)]) == list(range(1, len(records) + 1))
    assert batch.originals == [records[number - 1] for number in batch.numbers]
    assert [one.record for one in batch.rejects] == [records[one.number - 1] for one in batch.rejects]
