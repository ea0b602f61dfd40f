"""JSON metadata comes back as it went in, from the server itself."""

from __future__ import annotations

import json
import math
from typing import Any
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st
from sqlalchemy import func, select

from dataarch.database.unit_of_work import Database
from dataarch.errors import InvalidJson
from dataarch.models import UserActivity, UserSettings
from dataarch.models.base import new_id
from dataarch.models.json_values import DEEPEST
from dataarch.proof.strategies import characters, json_values
from fixtures.shared_data import shared_file
from fixtures.tenants import Inhabited, inhabit

pytestmark = pytest.mark.integrity


@pytest.fixture(scope="module")
def tenant(shared_db: Database) -> Inhabited:
    """A tenant whose user does all that is logged here."""
    return inhabit(shared_db, "json")


def logged(tenant: Inhabited, metadata: Any) -> UserActivity:
    return UserActivity(id=new_id(), user_id=tenant.user_id, activity_type="json", metadata_=metadata)


def round_trip(db: Database, tenant: Inhabited, *values: Any) -> list[Any]:
    rows = [logged(tenant, value) for value in values]
    with db.tenant(tenant.id) as session:
        session.add_all(rows)
        session.flush()
        query = select(UserActivity.id, UserActivity.metadata_).where(UserActivity.id.in_([row.id for row in rows]))
        found: dict[UUID, Any] = {row.id: row.metadata_ for row in session.execute(query)}
        session.rollback()
    return [found[row.id] for row in rows]


def same(one: Any, other: Any) -> bool:
    """Equal, and true told from 1."""
    if isinstance(one, bool) or isinstance(other, bool):
        return one is other
    if isinstance(one, dict) and isinstance(other, dict):
        return one.keys() == other.keys() and all(same(value, other[key]) for key, value in one.items())
    if isinstance(one, list) and isinstance(other, list):
        return len(one) == len(other) and all(map(same, one, other))
    return bool(one == other)


@given(values=st.lists(json_values(), min_size=1, max_size=10))
def test_m04_json_comes_back_as_it_went_in(shared_db: Database, tenant: Inhabited, values: list[Any]) -> None:
    assert same(round_trip(shared_db, tenant, *values), values)


@given(words=st.lists(st.text(characters), min_size=1, max_size=30))
def test_m04_every_legal_string_comes_back_as_key_and_as_value(
    shared_db: Database, tenant: Inhabited, words: list[str]
) -> None:
    value = {word: word for word in words}
    assert round_trip(shared_db, tenant, value) == [value]


@given(numbers=st.lists(st.floats(allow_nan=False, allow_infinity=False) | st.integers(-(10**3900), 10**3900)))
def test_m04_every_number_comes_back_equal(shared_db: Database, tenant: Inhabited, numbers: list[float | int]) -> None:
    assert round_trip(shared_db, tenant, numbers) == [numbers]


def test_m04_numbers_at_the_edges_come_back_equal(shared_db: Database, tenant: Inhabited) -> None:
    edges = [
        2.0**53,
        2.0**53 + 2,
        1e22,
        1e308,
        -1e308,
        5e-324,
        2.2250738585072014e-308,
        0.1,
        1e16,
        2**63,
        -(2**64),
        10**3900,
    ]
    assert round_trip(shared_db, tenant, edges) == [edges]


def test_minus_zero_comes_back_as_zero_which_is_equal(shared_db: Database, tenant: Inhabited) -> None:
    [[back]] = round_trip(shared_db, tenant, [-0.0])
    assert back == -0.0
    assert math.copysign(1, back) == 1


@pytest.mark.parametrize("value", [None, True, False, 0, "", [], {}, [[]], {"": {}}])
def test_m04_any_value_may_stand_alone(shared_db: Database, tenant: Inhabited, value: Any) -> None:
    assert same(round_trip(shared_db, tenant, value), [value])


def test_none_is_the_null_of_json(shared_db: Database, tenant: Inhabited) -> None:
    with shared_db.tenant(tenant.id) as session:
        session.add(logged(tenant, None))
        session.flush()
        assert session.scalars(select(func.jsonb_typeof(UserActivity.metadata_))).all().count("null") == 1


def test_m04_nesting_to_the_limit_comes_back(shared_db: Database, tenant: Inhabited) -> None:
    deep: Any = "bottom"
    for level in range(DEEPEST):
        deep = [deep] if level % 2 else {"down": deep}
    [back] = round_trip(shared_db, tenant, deep)
    assert json.dumps(back) == json.dumps(deep)


@pytest.mark.parametrize("value", ["\x00", {"\x00": 1}, "\ud800", math.nan, math.inf, {1: 2}, (1, 2), {"a": {1}}])
def test_m04_what_cannot_come_back_is_refused_before_anything_reaches_the_server(
    shared_db: Database, tenant: Inhabited, value: Any
) -> None:
    with pytest.raises(InvalidJson):
        round_trip(shared_db, tenant, value)
    with shared_db.tenant(tenant.id) as session:  # the connection did not see an error
        assert session.scalars(select(UserSettings.user_id)).all() == [tenant.user_id]


def test_m04_every_json_document_that_no_parser_may_refuse_comes_back(shared_db: Database, tenant: Inhabited) -> None:
    values = []
    for path in sorted(shared_file("json-test-suite", "test_parsing").glob("y_*.json")):
        text = path.read_bytes()
        if b"\\u0000" not in text:
            values.append(json.loads(text))
    assert len(values) > 90
    assert same(round_trip(shared_db, tenant, *values), values)
