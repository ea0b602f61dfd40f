"""Whatever a record holds: it comes back as it was, or is rejected with a reason, and all of them are accounted for."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from copy import deepcopy
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import Column

from dataarch.models import Base, Product, User
from dataarch.models.base import new_id
from dataarch.models.types import Email, Json, Words
from dataarch.pipelines.records import Row
from dataarch.pipelines.validators.model_rules import valid
from dataarch.proof.strategies import json_values, values
from dataarch.repositories.bulk.encoding import Encoder
from fixtures.shared_data import shared_file
from pipelines.steps_support import checked

pytestmark = pytest.mark.pipeline

TENANT = new_id()
MODELS = sorted((mapper.class_ for mapper in Base.registry.mappers), key=lambda model: model.__name__)
GOOD: dict[Any, dict[str, str]] = {
    Product: {"slug": "tea-pot", "name": "Tea pot", "price": "9.95", "currency": "GBP"},
    User: {"full_name": "Ada"},
}
TEXTUAL = [
    pytest.param(model, column, id=str(column))
    for model in GOOD
    for column in model.__table__.columns
    if isinstance(column.type, Words)
]


# ── naughty strings ───────────────────────────────────────────────────────────────────────────────────────────────


def naughty() -> list[str]:
    strings = json.loads(shared_file("naughty-strings", "blns.json").read_bytes())
    assert len(strings) > 500
    return [*strings, "\x00", "nul\x00inside", "\ud800", "\ufffe", "\u202e"]


@pytest.mark.parametrize(("model", "column"), TEXTUAL)
def test_a_naughty_string_is_accepted_as_it_is_or_rejected_with_its_reason(model: Any, column: Column[Any]) -> None:
    strings = naughty()
    batch = checked([{**GOOD[model], column.name: text} for text in strings], valid(model))
    assert len(batch.rows) + len(batch.rejects) == len(strings)
    for number, row in zip(batch.numbers, batch.rows, strict=True):
        # an address has one form; of text that is not given, there is none
        text = strings[number - 1].lower() if isinstance(column.type, Email) else strings[number - 1]
        assert row[column.name] == (text or None)
    for reject in batch.rejects:
        assert reject.field == column.name
        assert len(reject.reason) > 20
        assert reject.record == {**GOOD[model], column.name: strings[reject.number - 1]}


@pytest.mark.parametrize(("model", "field"), [(Product, "name"), (User, "full_name"), (User, "external_id")])
def test_a_naughty_string_in_plain_text_is_rejected_only_where_no_server_could_hold_it(model: Any, field: str) -> None:
    refused = checked([{**GOOD[model], field: text} for text in naughty()], valid(model)).rejects
    texts = {reject.record[field] for reject in refused if not isinstance(reject.record, str)}
    assert {"\x00", "nul\x00inside", "\ud800"} <= texts
    assert all(not text or "\x00" in text or "\ud800" in text or len(text) > 200 for text in texts)


@pytest.mark.parametrize("model", list(GOOD))
def test_a_naughty_string_in_any_other_column_is_rejected_too(model: Any) -> None:
    for column in model.__table__.columns:
        if not isinstance(column.type, Words):
            batch = checked([{**GOOD[model], column.name: text} for text in naughty()], valid(model))
            kept = [row.get(column.name) for row in batch.rows]
            # the numbers among them are numbers
            assert all(isinstance(value, int | Decimal | None) for value in kept)


# ── properties ────────────────────────────────────────────────────────────────────────────────────────────────────


def typed_rows(model: Any) -> st.SearchStrategy[dict[str, Any]]:
    """Give rows of values that the columns of a model accept, some of those with a default left out."""
    columns = [column for column in model.__table__.columns if column.computed is None]
    needed = {column.name: values(column) for column in columns if column.server_default is None}
    spare = {column.name: values(column) for column in columns if column.server_default is not None}
    return st.fixed_dictionaries(needed, optional=spare).map(in_utc)


def in_utc(row: dict[str, Any]) -> dict[str, Any]:
    """Return a row with its instants in UTC: in a zone that puts its clocks back, equal ones compare as different."""
    return {name: value.astimezone(UTC) if isinstance(value, datetime) else value for name, value in row.items()}


def as_csv(column: Column[Any], value: Any) -> str:
    """Return the text of a value, as a CSV file has it."""
    if isinstance(column.type, Json):
        return json.dumps(value)
    if isinstance(value, datetime):
        return value.isoformat()
    return "" if value is None else f"{value:f}" if isinstance(value, Decimal) else str(value)


@pytest.mark.parametrize("model", MODELS, ids=lambda model: model.__name__)
@settings(max_examples=15)
@given(data=st.data())
def test_the_text_of_an_accepted_row_is_the_same_typed_row_again(model: Any, data: st.DataObject) -> None:
    rows = data.draw(st.lists(typed_rows(model), min_size=1, max_size=4))
    columns = model.__table__.columns
    texts = [{name: as_csv(columns[name], value) for name, value in row.items()} for row in rows]
    for given_rows, step in ((rows, valid(model, json="value")), (texts, valid(model))):
        batch = checked(given_rows, step)
        assert batch.rejects == []
        assert batch.rows == rows
        assert refused_by_the_loader(model, batch.rows) == []


def refused_by_the_loader(model: Any, rows: Sequence[Row]) -> list[Any]:
    """Return why the bulk loaders would refuse rows, before they ask the server."""
    encoder = Encoder(model.__table__)
    own = [{"tenant_id": TENANT, **row} if "tenant_id" in encoder.table.columns else row for row in rows]
    return [refused.error for refused in encoder.encode(own).refused]


anything = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.binary() | st.dates() | st.decimals(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=5,
)


def records(model: Any) -> st.SearchStrategy[dict[str, Any]]:
    """Give records of a good value or any value in some columns, and sometimes in what is no column."""
    columns = [column for column in model.__table__.columns if column.computed is None]
    fields = {column.name: values(column) | anything for column in columns}
    few = st.sets(st.sampled_from([*fields, "no column"]), min_size=3, max_size=3)
    some = few.flatmap(lambda names: st.fixed_dictionaries({n: fields.get(n, anything) for n in names}))
    # of the same size, though not of the same fields
    return some | st.fixed_dictionaries({}, optional={**fields, "no column": anything})


@pytest.mark.parametrize("model", [Product, User])
@pytest.mark.parametrize("extra", ["reject", "ignore"])
@settings(max_examples=25, suppress_health_check=[HealthCheck.too_slow])
@given(data=st.data())
def test_rows_and_rejects_of_any_records_add_up_and_none_is_changed(
    model: Any, extra: Any, data: st.DataObject
) -> None:
    given_records = data.draw(st.lists(records(model), max_size=6))
    before = deepcopy(given_records)
    batch = checked(given_records, valid(model, extra=extra))
    assert repr(given_records) == repr(before)
    assert sorted([*batch.numbers, *(one.number for one in batch.rejects)]) == list(range(1, len(before) + 1))
    for reject in batch.rejects:
        assert reject.record is given_records[reject.number - 1]
        assert reject.reason
    assert refused_by_the_loader(model, batch.rows) == []
    alone = [checked([record], valid(model, extra=extra)) for record in given_records]
    assert list(_all_rows(alone)) == batch.rows
    assert [reject.reason for one in alone for reject in one.rejects] == [reject.reason for reject in batch.rejects]


def _all_rows(batches: list[Any]) -> Iterator[Any]:
    for batch in batches:
        yield from batch.rows


@given(document=json_values())
def test_a_json_value_and_its_text_are_the_same(document: Any) -> None:
    preferences = {"user_id": new_id(), "preferences": json.dumps(document)}
    (settings_model,) = [model for model in MODELS if model.__name__ == "UserSettings"]
    assert checked([preferences], valid(settings_model)).rows[0]["preferences"] == document
