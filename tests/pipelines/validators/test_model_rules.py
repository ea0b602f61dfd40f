"""Records against a model: each value becomes what the model's column holds, or its record is rejected by name."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from decimal import Decimal
from types import MappingProxyType
from typing import Any
from uuid import UUID

import pytest
from sqlalchemy import Boolean, Integer, LargeBinary, SmallInteger, String
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

from dataarch.errors import ConfigurationError, InvalidValue
from dataarch.models import Product, TenantOwned, User, UserActivity, UserSettings
from dataarch.models.inventory import Inventory, InventoryMovement
from dataarch.models.types import Json, Text
from dataarch.models.user_session import UserSession
from dataarch.pipelines.records import Stage
from dataarch.pipelines.validators.model_rules import valid
from pipelines.steps_support import checked, told

pytestmark = pytest.mark.pipeline

POT = {"slug": "tea-pot", "external_id": "T1", "name": "Tea pot", "price": "9.95", "currency": "GBP"}
TYPED = {**POT, "price": Decimal("9.95")}
ID = UUID("01a20891-88ba-70f6-855a-5949d26d70e5")


class Trying(DeclarativeBase):
    """The root of models of tests alone."""


class Gauge(TenantOwned, Trying):
    """A table with what the models of dataarch do not have."""

    __tablename__ = "gauges"
    __table_args__ = ({"info": {"skip": True}},)

    number: Mapped[int] = mapped_column(Integer(), primary_key=True, autoincrement=True)
    small: Mapped[int] = mapped_column(SmallInteger())
    on: Mapped[bool] = mapped_column(Boolean())
    note: Mapped[str] = mapped_column(Text(10, least=0))
    code: Mapped[str | None] = mapped_column(String(3))
    tag: Mapped[str | None] = mapped_column(Text(10, least=2))
    details: Mapped[Any] = mapped_column(Json(), nullable=True)


class Picture(TenantOwned, Trying):
    """A table with a column that no loader knows."""

    __tablename__ = "pictures"

    picture: Mapped[bytes] = mapped_column(LargeBinary(), primary_key=True)


GAUGE = {"small": 1, "on": True, "note": "n", "code": "c"}


def test_text_becomes_the_typed_values_of_the_columns() -> None:
    text = {
        "id": str(ID),
        **POT,
        "created_at": "2025-01-15T11:30:00+01:00",
        "version": "3",
    }
    batch = checked([text], valid(Product))
    assert told(batch) == []
    assert batch.rows == [{**TYPED, "id": ID, "created_at": datetime(2025, 1, 15, 10, 30, tzinfo=UTC), "version": 3}]
    assert list(batch.rows[0])[:3] == ["id", "slug", "external_id"]


def test_typed_values_stay_as_they_are() -> None:
    row = {**TYPED, "id": ID, "created_at": datetime(2025, 1, 15, 10, 30, tzinfo=UTC), "version": 3}
    assert checked([row, row], valid(Product)).rows == [row, row]


CASES: list[tuple[Any, Mapping[str, Any], str, Any, Any, Any]] = [
    # model, good row, field, value, why it is rejected, what it becomes where it is not
    (Product, POT, "slug", "Tea Pot", "is not a slug", None),
    (Product, POT, "slug", "", "The row has no slug, and products must have one.", None),
    (Product, POT, "slug", None, "The row has no slug, and products must have one.", None),
    (Product, POT, "name", "x" * 501, "has 501 characters, but 1 to 500 are allowed", None),
    (Product, POT, "name", "nul\x00", "contains NUL", None),
    (Product, POT, "name", "\ud800", "contains a lone surrogate", None),
    (Product, POT, "name", 5, "5 is int, not text.", None),
    (Product, POT, "price", "9.955", "has more than 2 decimal places", None),
    (Product, POT, "price", "-1", "is not between 0.00 and", None),
    (Product, POT, "price", "1e2", "'1e2' is no amount.", None),
    (Product, POT, "price", "NaN", "is no amount", None),
    (Product, POT, "price", "9,95", "is no amount", None),
    (Product, POT, "price", "\uff19", "is no amount", None),
    (Product, POT, "price", "9" * 100_000, "is no amount that bigint holds", None),
    (Product, POT, "price", True, "is bool; money is exact", None),
    (Product, POT, "price", 9.955, "has more than 2 decimal places", None),
    (Product, POT, "price", 1e13, "is float; money is exact", None),
    (Product, POT, "price", float("nan"), "is float; money is exact", None),
    (Product, POT, "price", 9.95, None, Decimal("9.95")),
    (Product, POT, "price", 9, None, Decimal(9)),
    (Product, POT, "price", "0", None, Decimal(0)),
    (Product, POT, "price", "92233720368547758.07", None, Decimal("92233720368547758.07")),
    (Product, POT, "currency", "gbp", "is not a currency", None),
    (Product, POT, "external_id", "", None, None),
    (Product, POT, "external_id", None, None, None),
    (Product, POT, "id", "2eb8aa08aa9811eab4aa73b441d16380", "is no id", None),
    (Product, POT, "id", "01a20891-88ba-70f6-855a-5949d26d70e_", "is no id", None),
    (Product, POT, "id", str(ID).upper(), None, ID),
    (Product, POT, "id", ID.bytes, None, ID),
    (Product, POT, "id", 7, "is no id", None),
    (Product, POT, "version", "1.0", "'1.0' is no whole number.", None),
    (Product, POT, "version", "1_000", "is no whole number", None),
    (Product, POT, "version", "9" * 5000, "more digits than the column holds", None),
    (Product, POT, "version", str(2**63), "is beyond what the column holds", None),
    (Product, POT, "version", True, "is bool, not an integer", None),
    (Product, POT, "version", 1.0, "is float, not an integer", None),
    (Product, POT, "version", "+7", None, 7),
    (Product, POT, "version", 0, None, 0),
    (Product, POT, "created_at", "2025-01-15 10:30:00", "has no UTC offset", None),
    (Product, POT, "created_at", "yesterday", "is no date and time as RFC 3339 has it", None),
    (Product, POT, "created_at", 1736937000, "is int, not an instant", None),
    (User, {"full_name": "Ada"}, "email", "ada", "is not an e-mail address", None),
    (User, {"full_name": "Ada"}, "email", "Ada@Example.COM", None, "ada@example.com"),
    (UserSettings, {"user_id": ID}, "preferences", '{"a": [1, null, "b"]}', None, {"a": [1, None, "b"]}),
    (UserSettings, {"user_id": ID}, "preferences", {"a": [1, None]}, None, {"a": [1, None]}),
    (UserSettings, {"user_id": ID}, "preferences", "null", None, None),
    (UserSettings, {"user_id": ID}, "preferences", None, None, None),
    (UserSettings, {"user_id": ID}, "preferences", "{'a': 1}", "is no JSON text", None),
    (UserSettings, {"user_id": ID}, "preferences", '{"a": NaN}', "is no JSON text", None),
    (UserSettings, {"user_id": ID}, "preferences", "9" * 5000, "is no JSON text", None),
    (UserSettings, {"user_id": ID}, "preferences", "[" * 100_000, "is no JSON text", None),
    (UserSettings, {"user_id": ID}, "preferences", '"\\u0000"', "contains NUL", None),
    (UserSettings, {"user_id": ID}, "preferences", '{"a": 1e400}', "is not a number of JSON", None),
    (UserSettings, {"user_id": ID}, "preferences", {1: 2}, "has a key that is int", None),
    (Gauge, GAUGE, "small", "32768", "is beyond what the column holds, -32768 to 32767", None),
    (Gauge, GAUGE, "on", "maybe", "'maybe' is no boolean.", None),
    (Gauge, GAUGE, "on", 1, "is int, not a boolean", None),
    (Gauge, GAUGE, "on", "FALSE", None, False),
    (Gauge, GAUGE, "on", "t", None, True),
    (Gauge, GAUGE, "on", False, None, False),
    (Gauge, GAUGE, "note", "", None, ""),
    (Gauge, GAUGE, "note", None, "The row has no note", None),
    (Gauge, GAUGE, "tag", "t", "has 1 characters, but 2 to 10 are allowed", None),
    (Gauge, GAUGE, "code", "long", "is longer than 3 characters", None),
]


@pytest.mark.parametrize(
    ("model", "good", "field", "value", "reason", "typed"),
    [pytest.param(*case, id=f"{at}-{case[2]}") for at, case in enumerate(CASES)],
)
def test_a_value_becomes_what_its_column_holds_or_rejects_its_record_by_name(
    model: Any, good: dict[str, Any], field: str, value: Any, reason: str | None, typed: Any
) -> None:
    batch = checked([good, {**good, field: value}, good], valid(model))
    if reason is None:
        assert batch.rejects == []
        assert batch.rows[1][field] == typed
        assert type(batch.rows[1][field]) is type(typed)
    else:
        (reject,) = batch.rejects
        assert (reject.number, reject.stage, reject.field) == (2, Stage.VALIDATE, field)
        assert reason in reject.reason
        assert reject.record == {**good, field: value}
        assert len(batch.rows) == 2


@pytest.mark.parametrize(
    ("model", "field", "value"),
    [
        (InventoryMovement, "reason", "theft"),
        (UserSession, "token_hash", "secret"),
    ],
)
def test_choices_and_digests_are_rejected_by_name_too(model: Any, field: str, value: str) -> None:
    (reject,) = checked([{field: value}], valid(model, given=[field])).rejects
    assert reject.field == field


def test_what_is_not_given_is_left_out_where_the_column_has_a_default() -> None:
    rows: list[dict[str, Any]] = [{**POT, "id": "", "created_at": None, "tenant_id": ""}, {**POT, "id": str(ID)}]
    batch = checked(rows, valid(Product))
    assert batch.rows == [TYPED, {**TYPED, "id": ID}]
    gauge: Any = Gauge
    (row,) = checked([{**GAUGE, "number": "", "details": ""}], valid(gauge)).rows
    assert row == GAUGE
    # also where another of the batch is bad, near it or far away
    batch = checked([{**GAUGE, "code": code} for code in ["long", "", *"abc" * 15, ""]], valid(gauge))
    assert [batch.rows[at]["code"] for at in (0, 1, -1)] == [None, "a", None]


def test_text_in_a_column_of_json_is_a_json_text_or_a_string_as_it_is_said() -> None:
    rows: list[Any] = [{"user_id": ID, "preferences": value} for value in ("123", "tea", "", {"a": 1})]
    texts = checked(rows, valid(UserSettings))
    assert [row.get("preferences", "none") for row in texts.rows] == [123, "none", {"a": 1}]
    assert [one.number for one in texts.rejects] == [2]
    strings = checked([*rows, {**rows[0], "preferences": "\x00"}], valid(UserSettings, json="value"))
    assert [row["preferences"] for row in strings.rows] == ["123", "tea", "", {"a": 1}]
    assert [one.number for one in strings.rejects] == [5]


def test_a_mandatory_column_that_is_missing_is_named_and_the_tenant_never_is() -> None:
    (reject,) = checked([{"slug": "tea-pot", "price": "1", "currency": "GBP"}], valid(Product)).rejects
    assert (reject.field, reject.reason) == ("name", "The row has no name, and products must have one.")
    assert checked([{"full_name": "Ada"}], valid(User)).rejects == []
    assert checked([{}], valid(Product)).rejects[0].field == "slug"


def test_a_tenant_that_is_given_is_typed_and_left_to_the_loader() -> None:
    assert checked([{**POT, "tenant_id": str(ID)}], valid(Product)).rows == [{**TYPED, "tenant_id": ID}]
    assert checked([{**POT, "tenant_id": "acme"}], valid(Product)).rejects[0].field == "tenant_id"


def test_a_record_is_rejected_once_for_its_first_bad_column_in_the_order_of_the_model() -> None:
    rows = [
        {"currency": "?", "price": "?", "slug": "?"},
        {"currency": "?", "price": "?", "slug": "a", "name": ""},
        {"currency": "?", "price": "?", "slug": "a", "name": "A"},
        {"currency": "?", "slug": "a", "name": "A", "colour": "red"},
        {"currency": "GBP", "price": "1", "slug": "a", "name": "A", "colour": "red"},
    ]
    batch = checked(rows, valid(Product))
    assert [(one.number, one.field) for one in batch.rejects] == [
        (1, "slug"), (2, "name"), (3, "price"), (4, "price"), (5, ""),
    ]  # fmt: skip
    assert batch.rows == []


def test_a_field_that_the_model_does_not_have_is_rejected_or_ignored_as_it_is_said() -> None:
    rows: list[Any] = [{**POT, "colour": "red", None: ["overflow"]}, POT, {**POT, "next_sequence": 0}]
    batch = checked(rows, valid(Product))
    assert [(one.number, one.reason) for one in batch.rejects] == [
        (1, "The record has what is no column here: 'colour', None."),
        (3, "The record has what is no column here: 'next_sequence'."),
    ]
    assert batch.numbers == [2]
    assert checked(rows, valid(Product, extra="ignore")).rows == [TYPED] * 3
    assert checked([{"product_id": ID, "next_sequence": 0}], valid(Inventory)).rejects[0].field == "quantity"


def test_a_field_has_the_name_of_the_attribute_or_of_the_column_and_keeps_it() -> None:
    activity = {"user_id": str(ID), "activity_type": "view"}
    rows = [{**activity, "metadata": "{}"}, {**activity, "metadata_": "{}"}, {**activity, "metadata": "[1]"}]
    batch = checked([*rows, {**rows[0], **rows[1]}, {**activity, "metadata": "?"}], valid(UserActivity))
    assert [{*row} - {*activity} for row in batch.rows] == [{"metadata"}, {"metadata_"}, {"metadata"}]
    assert [row["user_id"] for row in batch.rows] == [ID] * 3
    assert [(one.number, one.field) for one in batch.rejects] == [(4, ""), (5, "metadata")]
    assert "gives metadata twice" in batch.rejects[0].reason


def test_records_that_are_no_whole_rows_need_only_what_is_said_to_be_given() -> None:
    step = valid(Product, given=("external_id", "price"))
    batch = checked([{"external_id": "T1", "price": "8.95"}, {"external_id": "T1"}, POT], step)
    assert batch.rows == [{"external_id": "T1", "price": Decimal("8.95")}]
    assert [(one.number, one.field) for one in batch.rejects] == [(2, "price"), (3, "")]
    with pytest.raises(InvalidValue, match="Product has no 'prize'"):
        valid(Product, given=("prize",))


def test_records_of_several_forms_are_read_each_by_its_own_in_their_order() -> None:
    short = {name: value for name, value in POT.items() if name != "external_id"}
    other = {("name" if name == "slug" else "slug" if name == "name" else name): v for name, v in reversed(POT.items())}
    other |= {"slug": "kettle", "name": "Kettle"}
    swapped = {**{name: value for name, value in POT.items() if name != "external_id"}, "colour": "red"}
    batch = checked([POT, short, other, MappingProxyType(POT), swapped], valid(Product))
    assert [row["slug"] for row in batch.rows] == ["tea-pot", "tea-pot", "kettle", "tea-pot"]
    assert [one.number for one in batch.rejects] == [5]


def test_records_with_as_many_fields_of_other_names_are_not_taken_for_alike() -> None:
    coded = {**TYPED}
    plain = {name: value for name, value in TYPED.items() if name != "external_id"}
    rows = [{**plain, "colour": "red"}, coded, {**plain, "size": 1}]
    assert checked(rows, valid(Product, extra="ignore")).rows == [plain, coded, plain]
    batch = checked([{**plain, "colour": "red", "slug": "?"}, coded, {**plain, "size": 1}], valid(Product))
    assert batch.rows == [coded]
    assert [(one.number, one.field) for one in batch.rejects] == [(1, "slug"), (3, "")]
    nameless = {name: value for name, value in TYPED.items() if name != "slug"}
    assert checked([{**nameless, "colour": 1}, {**TYPED, "size": 1}, coded], valid(Product)).numbers == [3]
    assert checked([{**nameless, "version": 1}, coded], valid(Product)).numbers == [2]


def test_a_bad_value_costs_none_of_many_others() -> None:
    rows: list[dict[str, Any]] = [{**POT, "slug": f"tea-{at}"} for at in range(200)]
    for at in (0, 31, 32, 150, 199):
        rows[at]["price"] = "?"
    rows[150]["slug"] = "?"
    batch = checked(rows, valid(Product))
    assert [(one.number, one.field) for one in batch.rejects] == [
        (1, "price"), (32, "price"), (33, "price"), (151, "slug"), (200, "price"),
    ]  # fmt: skip
    assert [row["slug"] for row in batch.rows] == [f"tea-{n - 1}" for n in batch.numbers]
    assert len(batch.rows) == 195


class Odd:
    """A value that no type is made for."""

    def __bool__(self) -> bool:
        raise RuntimeError

    def __eq__(self, other: object) -> bool:
        raise RuntimeError

    def __hash__(self) -> int:
        raise TypeError


def too_deep() -> list[Any]:
    """Return a list that is nested so deeply that it cannot even be shown."""
    deep: list[Any] = []
    for _ in range(100_000):
        deep = [deep]
    return deep


@pytest.mark.parametrize("value", [Odd(), [], {}, (1,), {1}, b"x", 1j, object, too_deep()])
def test_a_value_of_any_kind_rejects_its_record_and_raises_nothing(value: Any) -> None:
    for field in ("id", *POT, "created_at", "version"):
        batch = checked([POT, {**POT, field: value}], valid(Product))
        assert [(one.number, one.field) for one in batch.rejects] == [(2, field)]


def test_no_record_is_changed_in_place() -> None:
    document = {"a": [1]}
    rows: list[dict[str, Any]] = [{"user_id": str(ID), "preferences": document, "locale": ""}]
    (row,) = checked(rows, valid(UserSettings)).rows
    assert rows == [{"user_id": str(ID), "preferences": {"a": [1]}, "locale": ""}]
    assert row == {"user_id": ID, "preferences": {"a": [1]}}


def test_a_column_whose_type_nobody_can_read_is_refused_before_any_record() -> None:
    picture: Any = Picture
    with pytest.raises(ConfigurationError, match="LargeBinary"):
        valid(picture)


def test_nothing_is_made_of_nothing() -> None:
    assert checked([], valid(Product)).rows == []


def test_m22_a_user_that_was_extracted_carries_every_field_full_name_among_them() -> None:
    record = {
        "tenant_id": str(ID),
        "id": str(ID),
        "email": "ada@example.com",
        "external_id": "U1",
        "full_name": "Ada Lovelace",
        "created_at": "2025-01-15T10:30:00Z",
        "updated_at": "2025-01-15T10:30:00Z",
        "version": "1",
    }
    assert record.keys() == set(User.__table__.columns.keys())
    (row,) = checked([record], valid(User)).rows
    assert row.keys() == record.keys()
    assert row["full_name"] == "Ada Lovelace"
