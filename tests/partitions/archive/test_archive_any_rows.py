"""Any rows of any types come back as they were: values by Hypothesis, compared by the server."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Sequence
from datetime import date, datetime
from pathlib import Path
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from sqlalchemy import Connection

from dataarch.partitions.archive import load_archive, verify_archive, write_archive
from partitions.archive.archive_support import OF, differences, sql

pytestmark = pytest.mark.schema

MAKE = """
DO $$ BEGIN
    IF to_regtype('mood') IS NULL THEN
        CREATE TYPE mood AS ENUM ('', 'so "so"', 'é,');
        CREATE DOMAIN small AS int CHECK (VALUE BETWEEN -5 AND 5);
        CREATE TYPE pair AS (n numeric, t text);
    END IF;
END $$
"""

TEXTS = st.text(st.characters(exclude_characters="\x00", exclude_categories=["Cs"]), max_size=20)
NUMBERS = st.from_regex(r"-?[0-9]{1,30}(\.[0-9]{1,12})?", fullmatch=True)
CALENDAR = st.one_of(
    st.datetimes().map(datetime.isoformat),
    st.sampled_from(["infinity", "-infinity", "4713-01-01 BC", "12345-06-07 08:09:10.000001", "0001-01-01"]),
)
DAYS = st.one_of(
    st.dates().map(date.isoformat), st.sampled_from(["infinity", "-infinity", "0044-03-15 BC", "10000-01-01"])
)
FLOATS = st.floats().map(repr)
SINGLES = st.floats(width=32).map(repr)
RAW = st.binary(max_size=20).map(lambda value: "\\x" + value.hex())
JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(10**30), 10**30) | TEXTS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXTS, inner, max_size=3),
    max_leaves=5,
)


def whole(bits: int) -> st.SearchStrategy[str]:
    return st.integers(-(2 ** (bits - 1)), 2 ** (bits - 1) - 1).map(str)


def decimals(digits: int, scale: int) -> st.SearchStrategy[str]:
    largest = 10**digits - 1
    return st.integers(-largest, largest).map(lambda number: f"{number}e-{scale}") | st.just("NaN")


TYPES: dict[str, st.SearchStrategy[Any]] = {
    "bool": st.booleans(),
    "smallint": whole(16),
    "int": whole(32),
    "bigint": whole(64),
    "real": SINGLES,
    "double precision": FLOATS,
    "text": TEXTS,
    "varchar(20)": TEXTS,
    "char(20)": TEXTS,
    "bytea": RAW,
    "timestamptz": CALENDAR,
    "timestamp": CALENDAR,
    "date": DAYS,
    "uuid": st.uuids().map(str),
    "numeric(5,2)": decimals(5, 2),
    "numeric(38,10)": decimals(38, 10),
    "numeric(39,38)": decimals(39, 38),
    "numeric(76,7)": decimals(76, 7),
    "numeric(80,7)": decimals(80, 7),
    "numeric(3,-2)": st.integers(-999, 999).map(lambda number: str(number * 100)),
    "numeric": NUMBERS | st.sampled_from(["NaN", "Infinity", "-Infinity", "1.10", "1e-30"]),
    "json": JSON,
    "jsonb": JSON,
    "mood": st.sampled_from(["", 'so "so"', "é,"]),
    "small": st.integers(-5, 5),
    "interval": st.timedeltas().map(lambda value: f"{value.days} days {value.seconds} seconds {value.microseconds} us"),
    "time": st.times().map(str),
    "timetz": st.times().map(lambda value: f"{value}+05:45"),
    "inet": st.ip_addresses().map(str),
    "text[]": st.lists(st.none() | TEXTS, max_size=3),
    "pair": st.tuples(NUMBERS, TEXTS),
    "int4range": st.tuples(st.integers(-9, 0), st.integers(1, 9)).map(lambda ends: f"[{ends[0]},{ends[1]})"),
    "money": st.integers(-(10**15), 10**15).map(lambda cents: f"{cents}e-2"),
    '"char"': st.sampled_from(["", "a", "\\", '"', ","]),
    "bit varying": st.text("01", max_size=9),
    "tsvector": st.sampled_from(["", "'a':1 'b c':2A"]),
}
"""Types of the server, and values that go in as text parameters, or as what psycopg makes of them."""

NAMES = list(TYPES)


PAIR = """
(SELECT CASE WHEN a IS NOT NULL THEN ROW(a[1]::numeric, a[2])::pair END FROM (SELECT %s::text[] AS a) AS given)
"""


def parameter(kind: str, value: Any) -> Any:
    if value is None or kind not in {"json", "jsonb", "money", "pair"}:
        return value
    if kind == "money":
        return str(value)
    if kind == "pair":
        return list(value)
    return json.dumps(value, ensure_ascii=False)


def placeholder(kind: str) -> str:
    forms = {"money": "%s::numeric::money", "pair": PAIR, '"char"': '%s::text::"char"', "small": "%s::int"}
    return forms.get(kind, f"%s::{kind}")


@st.composite
def tables(draw: st.DrawFn, least: int = 1) -> tuple[list[str], list[tuple[Any, ...]]]:
    kinds = draw(st.lists(st.sampled_from(NAMES), min_size=least, max_size=8))
    row = st.tuples(*(st.none() | TYPES[kind] for kind in kinds))
    return kinds, draw(st.lists(row, max_size=5))


def fill(connection: Connection, kinds: Sequence[str], rows: Sequence[Sequence[Any]]) -> None:
    sql(connection, MAKE)
    sql(connection, "DROP TABLE IF EXISTS drawn, back")
    sql(connection, f"CREATE TABLE drawn ({', '.join(f'c{place} {kind}' for place, kind in enumerate(kinds))})")
    insert = f"INSERT INTO drawn VALUES ({', '.join(placeholder(kind) for kind in kinds)})"
    for row in rows:
        connection.exec_driver_sql(
            insert, tuple(parameter(kind, value) for kind, value in zip(kinds, row, strict=True))
        )
    sql(connection, "CREATE TABLE back (LIKE drawn)")


@given(tables())
@example((["text"], [(None,), ("",), ("\\.",), ("\n",)]))
@example((["uuid", "bytea"], [(None, None), (None, None)]))
@example((["bytea", "bytea"], [("\\x", None), (None, "\\x00")]))
@example(
    (["real", "double precision"], [("-0.0", "5e-324"), ("nan", "-inf"), ("3.4028235e38", "1.7976931348623157e308")])
)
def test_any_rows_come_back_as_they_were(
    connection: Connection, drawn: tuple[list[str], list[tuple[Any, ...]]]
) -> None:
    fill(connection, *drawn)
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "drawn.parquet"
        archive = write_archive(connection, "drawn", file, about=OF)
        assert load_archive(connection, file, "back") == archive.rows == len(drawn[1])
        assert verify_archive(connection, file, "back") == archive
    assert differences(connection, "drawn", "back") == 0


@given(tables(least=2))
def test_any_rows_without_a_lost_column_come_back_as_they_were(
    connection: Connection, drawn: tuple[list[str], list[tuple[Any, ...]]]
) -> None:
    fill(connection, *drawn)
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "drawn.parquet"
        write_archive(connection, "drawn", file, about=OF)
        for table in ("drawn", "back"):
            sql(connection, f"ALTER TABLE {table} DROP COLUMN c0")
        load_archive(connection, file, "back", without=["c0"])
    assert differences(connection, "drawn", "back") == 0


@pytest.mark.parametrize("kind", NAMES)
def test_each_type_is_drawn_with_values_that_the_server_takes(connection: Connection, kind: str) -> None:
    @settings(max_examples=max(5, settings().max_examples // 10))
    @given(st.lists(TYPES[kind], min_size=5, max_size=20))
    def drawn(values: list[Any]) -> None:
        fill(connection, [kind], [(value,) for value in values])
        with tempfile.TemporaryDirectory() as folder:
            file = Path(folder) / "drawn.parquet"
            write_archive(connection, "drawn", file, about=OF)
            load_archive(connection, file, "back")
        assert differences(connection, "drawn", "back") == 0

    drawn()
