"""Records against a pydantic model: what it makes of the good ones, and why it does not accept the others."""

from __future__ import annotations

from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import pytest
from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from dataarch.pipelines.records import Stage
from dataarch.pipelines.validators.pydantic_model import conforms
from pipelines.steps_support import checked, told

pytestmark = pytest.mark.pipeline


class Line(BaseModel):
    """A line of an order."""

    quantity: int = Field(gt=0)
    price: Decimal


class Order(BaseModel):
    """An order."""

    model_config = ConfigDict(extra="forbid")

    code: str
    at: datetime = datetime(2025, 1, 15, tzinfo=UTC)
    lines: list[Line] = []

    @field_validator("code")
    @classmethod
    def no_spaces(cls, code: str) -> str:
        """Refuse spaces."""
        if code == "stop":
            raise RuntimeError(code)
        if " " in code:
            raise ValueError("no spaces, please")
        return code.upper()

    @model_validator(mode="before")
    @classmethod
    def greedy(cls, data: Any) -> Any:
        """Take the record apart."""
        data.pop("comment", None)
        return data

    @model_validator(mode="after")
    def not_empty(self) -> Order:
        """Refuse an order of nothing."""
        if self.code == "EMPTY":
            raise ValueError("an order has lines")
        return self


GOOD: dict[str, Any] = {"code": "a1", "at": "2025-01-15T10:30:00Z", "lines": [{"quantity": "2", "price": "9.95"}]}


def test_a_record_becomes_what_the_model_makes_of_it() -> None:
    batch = checked([GOOD, {"code": "b"}], conforms(Order))
    assert batch.rows == [
        {
            "code": "A1",
            "at": datetime(2025, 1, 15, 10, 30, tzinfo=UTC),
            "lines": [{"quantity": 2, "price": Decimal("9.95")}],
        },
        {"code": "B", "at": datetime(2025, 1, 15, tzinfo=UTC), "lines": []},
    ]
    assert batch.rows == [Order(**row).model_dump() for row in (GOOD, {"code": "b"})]


@pytest.mark.parametrize(
    ("change", "field", "reason"),
    [
        ({"code": "a b"}, "code", "'a b': Value error, no spaces, please."),
        ({"lines": [{"quantity": 0, "price": 1}]}, "lines.0.quantity", "0: Input should be greater than 0."),
        ({"lines": [{"quantity": 1, "price": 1}, {"quantity": 1}]}, "lines.1.price", "Field required."),
        ({"colour": "red"}, "colour", "'red': Extra inputs are not permitted."),
        ({"code": "empty"}, "", "Value error, an order has lines."),
    ],
)
def test_a_record_that_does_not_conform_is_rejected_with_place_and_reason(
    change: dict[str, Any], field: str, reason: str
) -> None:
    batch = checked([GOOD, {**GOOD, **change}, GOOD], conforms(Order))
    assert told(batch) == [(2, field, reason)]
    assert (batch.rejects[0].stage, batch.rejects[0].record) == (Stage.VALIDATE, {**GOOD, **change})
    assert len(batch.rows) == 2


def test_of_several_errors_the_first_is_told_and_the_others_are_counted() -> None:
    batch = checked([{"code": 1, "at": "?"}, {"code": 1, "at": "?", "lines": 5}], conforms(Order))
    assert [reason.partition("(")[2] for _, _, reason in told(batch)] == ["1 more error).", "2 more errors)."]
    assert [field for _, field, _ in told(batch)] == ["code", "code"]


def test_a_validator_cannot_take_the_record_apart_that_is_kept() -> None:
    rows = [{"code": "a b", "comment": "mine"}, {"code": "a", "comment": "mine"}]
    batch = checked(rows, conforms(Order))
    assert rows == [{"code": "a b", "comment": "mine"}, {"code": "a", "comment": "mine"}]
    assert batch.rejects[0].record == {"code": "a b", "comment": "mine"}


def test_a_mistake_in_a_validator_stops_the_run() -> None:
    with pytest.raises(RuntimeError):
        checked([{"code": "stop"}], conforms(Order))


def test_nothing_is_made_of_nothing() -> None:
    assert checked([], conforms(Order)).rows == []
