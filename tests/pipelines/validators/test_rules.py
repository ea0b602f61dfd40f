"""Rules of one's own: a bad record does not stop the good ones, and is told which rule it breaks."""

from __future__ import annotations

from datetime import UTC, datetime
from decimal import Decimal
from typing import Any
from uuid import UUID

import pytest

from dataarch.errors import InvalidValue
from dataarch.models.inventory import InventoryMovement
from dataarch.pipelines.records import Stage
from dataarch.pipelines.validators.model_rules import valid
from dataarch.pipelines.validators.rules import rule
from pipelines.steps_support import checked, told

pytestmark = pytest.mark.pipeline

NOTHING: dict[Any, Any] = {}
NOT_NEGATIVE = rule("quantity", lambda row: row["quantity"] >= 0, "a quantity is not negative")


def test_m26_of_three_records_with_one_negative_value_two_succeed_and_one_error_says_which_and_why() -> None:
    records = [{"id": "a", "quantity": 5}, {"id": "b", "quantity": -1}, {"id": "c", "quantity": 0}]
    batch = checked(records, NOT_NEGATIVE)
    assert batch.rows == [records[0], records[2]]
    assert batch.numbers == [1, 3]
    (reject,) = batch.rejects
    assert (reject.number, reject.record, reject.stage) == (2, records[1], Stage.VALIDATE)
    assert (reject.field, reject.reason) == ("quantity", "A quantity is not negative: quantity is -1.")


def test_a_rule_over_several_fields_names_the_one_it_is_about() -> None:
    later = rule("end", lambda row: row["end"] > row["begin"], "an end comes after its begin")
    batch = checked([{"begin": 1, "end": 2}, {"begin": 2, "end": 2}, {"end": 2}, {"begin": 2, "end": None}, {}], later)
    assert told(batch) == [
        (2, "end", "An end comes after its begin: end is 2."),
        (3, "begin", "The record has no begin."),
    ]
    assert batch.numbers == [1, 4, 5]


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        (Decimal("-9.950"), "-9.950"),
        (datetime(2025, 1, 15, tzinfo=UTC), "2025-01-15 00:00:00+00:00"),
        (UUID(int=7), str(UUID(int=7))),
        ("a\nb", r"'a\nb'"),
        (["x" * 100], f"['{'x' * 77}…"),
    ],
)
def test_a_reason_shows_the_value_on_one_line_and_not_at_length(value: object, shown: str) -> None:
    batch = checked([{"field": value}], rule("field", lambda row: False, "nothing is right"))
    assert told(batch) == [(1, "field", f"Nothing is right: field is {shown}.")]


def test_a_rule_that_cannot_be_asked_of_a_value_rejects_it() -> None:
    batch = checked([{"quantity": "5"}, {"quantity": 5}], NOT_NEGATIVE)
    ((number, field, reason),) = told(batch)
    assert (number, field) == (1, "quantity")
    assert reason.startswith("Whether a quantity is not negative cannot be said of '5': ")


def test_a_mistake_in_a_rule_stops_the_run() -> None:
    broken: Any
    for broken, error in (
        (lambda row: 1 / 0, ZeroDivisionError),
        (lambda row: NOTHING["quantity"], KeyError),
        (lambda row: NOTHING["no field"], KeyError),
    ):
        with pytest.raises(error):
            checked([{"quantity": 5}], rule("quantity", broken, "a rule is right"))


def test_a_rule_may_say_itself_why() -> None:
    def even(row: Any) -> bool:
        if row["quantity"] % 2:
            raise InvalidValue("It is odd.", column="quantity")
        return True

    assert told(checked([{"quantity": 5}, {"quantity": 6}], rule("quantity", even, "a quantity is even"))) == [
        (1, "quantity", "It is odd.")
    ]


def test_a_record_is_rejected_by_the_first_step_that_does_and_by_no_other() -> None:
    step = valid(InventoryMovement, given=["quantity_after", "change"])
    not_nothing = rule("change", lambda row: row["change"], "a movement changes something")
    sold_out = rule("quantity_after", lambda row: row["quantity_after"] >= 0, "stock is never less than nothing")
    rows = [
        {"quantity_after": "5", "change": "1"},
        {"quantity_after": "-5", "change": "0"},
        {"quantity_after": "-5", "change": "?"},
        {"quantity_after": "-5", "change": "-5"},
    ]
    batch = checked(rows, step, not_nothing, sold_out)
    assert batch.rows == [{"quantity_after": 5, "change": 1}]
    assert [(one.number, one.field) for one in batch.rejects] == [(3, "change"), (2, "change"), (4, "quantity_after")]
