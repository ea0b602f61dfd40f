"""A batch as an Arrow table: every record comes back in its place, as it was where nothing was done to it."""

from __future__ import annotations

import sys
from collections.abc import Callable
from datetime import UTC, date, datetime, timedelta, timezone
from decimal import Decimal
from typing import Any
from uuid import UUID

import pyarrow as pa
import pyarrow.compute as pc
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dataarch.errors import DependencyMissing, InvalidValue
from dataarch.models.base import new_id
from dataarch.pipelines.transformers.arrow import on_arrow
from dataarch.pipelines.validators.rules import rule
from pipelines.steps_support import checked

pytestmark = pytest.mark.pipeline

AT = datetime(2025, 1, 15, 10, 30, 0, 5, tzinfo=UTC)
LOCAL = datetime(2025, 1, 15, 10, 30)  # noqa: DTZ001  # local on purpose


def same(table: Any) -> Any:
    return table


def test_what_a_function_makes_of_the_table_are_the_records() -> None:
    def dearer(table: Any) -> Any:
        table = table.append_column("dear", pc.greater(table["price"], pa.scalar(Decimal("5.00"))))
        return table.drop_columns(["comment"])

    rows: list[dict[str, Any]] = [
        {"price": Decimal("9.95"), "comment": "x"},
        {"price": Decimal("1.95"), "comment": None},
    ]
    assert checked(rows, on_arrow(dearer)).rows == [
        {"price": Decimal("9.95"), "dear": True},
        {"price": Decimal("1.95"), "dear": False},
    ]


def test_records_that_were_rejected_before_stay_rejected_and_the_others_keep_their_numbers() -> None:
    rows = [{"n": 1}, {"n": -1}, {"n": 3}]
    batch = checked(rows, rule("n", lambda row: row["n"] > 0, "a number is positive"), on_arrow(same))
    assert (batch.rows, batch.numbers, [one.number for one in batch.rejects]) == ([{"n": 1}, {"n": 3}], [1, 3], [2])


def test_every_kind_of_value_comes_back_as_it_was() -> None:
    row = {
        "text": "tea", "bytes": b"\x00", "yes": True, "number": 2**62, "share": 0.1, "price": Decimal("9.950"),
        "day": date(2025, 1, 15), "at": AT, "local": LOCAL, "id": new_id(), "tags": ["a"], "size": {"w": 1, "h": None},
    }  # fmt: skip
    found = checked([row, dict.fromkeys(row)], on_arrow(same)).rows
    assert found == [row, dict.fromkeys(row)]
    assert [type(value) for value in found[0].values()] == [type(value) for value in row.values()]
    assert found[0]["at"].tzinfo is UTC


def test_a_field_that_a_record_does_not_have_stays_away_unless_it_is_filled() -> None:
    rows: list[dict[str, Any]] = [{"a": 1}, {"b": None}, {"a": 2, "b": "x"}, {}]
    assert checked(rows, on_arrow(same)).rows == rows

    def filled(table: Any) -> Any:
        return table.set_column(1, "b", pc.fill_null(table["b"], "none"))

    assert [row.get("b") for row in checked(rows, on_arrow(filled)).rows] == ["none", "none", "x", "none"]

    def other(table: Any) -> Any:
        return table.drop_columns(["b"]).append_column("c", pa.nulls(table.num_rows))

    assert checked(rows, on_arrow(other)).rows == [{"a": 1, "c": None}, {"c": None}, {"a": 2, "c": None}, {"c": None}]
    assert checked(rows, on_arrow(lambda table: table.select([]))).rows == [{}] * 4
    assert checked([{}, {}], on_arrow(same)).rows == [{}, {}]
    assert checked([], on_arrow(same)).rows == []


def test_instants_come_back_in_utc_and_without_what_is_finer_than_a_microsecond() -> None:
    def finer(table: Any) -> Any:
        nanoseconds = pa.array([1736937000000001999], pa.timestamp("ns", "Europe/Berlin"))
        return table.append_column("fine", nanoseconds).append_column("naive", nanoseconds.cast(pa.timestamp("ns")))

    (row,) = checked([{"at": AT.astimezone(timezone(timedelta(hours=3)))}], on_arrow(finer)).rows
    assert row["at"] == AT
    assert row["at"].tzinfo is UTC
    assert row["fine"] == datetime(2025, 1, 15, 10, 30, 0, 1, tzinfo=UTC)
    assert row["naive"].tzinfo is None


@pytest.mark.parametrize(
    ("function", "said"),
    [
        (lambda table: table.slice(1), "given a table of 2 rows, and returned 1 rows"),
        (lambda table: pa.concat_tables([table, table]), "returned 4 rows"),
        (lambda table: table.to_pylist(), "returned a list"),
        (lambda table: None, "returned a NoneType"),
        (lambda table: table.append_column("a", table["a"]), "two columns of the same name"),
    ],
)
def test_a_function_that_loses_records_stops_the_run(function: Callable[[Any], Any], said: str) -> None:
    with pytest.raises(InvalidValue, match=said):
        checked([{"a": 1}, {"a": 2}], on_arrow(function))


@pytest.mark.parametrize(
    "values",
    [
        [1, "a"], [2**70], [AT, LOCAL], [{"a": 1}, {"b": 2}], ["\ud800"], [(1,), (2,)], [object()], [1, True],
        [UUID(int=1), "x"], [Decimal("1E+100")], [datetime.max.replace(tzinfo=timezone(timedelta(hours=-1)))],
    ],
)  # fmt: skip
def test_values_that_arrow_would_change_stop_the_run_by_name(values: list[Any]) -> None:
    with pytest.raises(InvalidValue, match="no column for the values of field") as refused:
        checked([{"field": value} for value in values], on_arrow(same))
    assert refused.value.column == "field"


def test_a_name_that_is_no_text_stops_the_run() -> None:
    rows: list[Any] = [{None: ["overflow"]}]
    with pytest.raises(InvalidValue, match="cannot be called None"):
        checked(rows, on_arrow(same))


def test_without_pyarrow_the_step_is_refused_before_any_record(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    with pytest.raises(DependencyMissing, match="dataarch\\[archive\\]"):
        on_arrow(same)


scalars = st.sampled_from(
    [st.text(max_size=5), st.integers(-(2**63), 2**63 - 1), st.booleans(), st.binary(max_size=5), st.floats(-1e9, 1e9)]
)


@given(data=st.data())
def test_what_a_function_leaves_alone_comes_back_equal(data: st.DataObject) -> None:
    fields = {name: st.none() | data.draw(scalars) for name in ("a", "b", "c")}
    rows = data.draw(st.lists(st.fixed_dictionaries({}, optional=fields), max_size=6))
    assert checked(rows, on_arrow(same)).rows == rows
