"""Queries: in the order of a key, resumed behind the last one, on any database."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Engine, NullPool, create_engine, event, text

from dataarch.database.settings import Settings
from dataarch.errors import DependencyMissing, InvalidUrl, InvalidValue
from dataarch.pipelines.extractors.query import Query
from dataarch.pipelines.records import Position, Source
from pipelines.extractors_support import all_of, numbers_of, rows_of, until_refused

pytestmark = pytest.mark.pipeline

STATEMENT = "SELECT id, code, title FROM products"


@pytest.fixture
def url(tmp_path: Path) -> str:
    """A small database of another kind, with 25 products."""
    url = f"sqlite:///{tmp_path / 'shop.db'}"
    run(url, "CREATE TABLE products (id integer, code text, title text)")
    run(url, "INSERT INTO products VALUES " + ", ".join(f"({n}, 'T{n:02}', 'Tea pot')" for n in range(25, 0, -1)))
    return url


def run(url: str, statement: str) -> None:
    engine = create_engine(url, poolclass=NullPool)
    with engine.begin() as connection:
        connection.execute(text(statement))


def source_of(query: Query, given: Any = None) -> Source:
    (source,) = query.sources(given)
    return source


def kept(position: Position) -> Position:
    state = json.loads(json.dumps(dict(position.state)))
    return Position(position.records, position.bytes, position.checksum, state, position.end)


@pytest.mark.parametrize("key", ["id", "code"])
@pytest.mark.parametrize("size", [1, 10, 25, 100])
def test_rows_come_once_wherever_reading_stops_and_goes_on(url: str, key: str, size: int) -> None:
    query = Query(url, STATEMENT, key=key)
    source = source_of(query)
    whole = all_of(query, source, size)
    rows = [{"id": n, "code": f"T{n:02}", "title": "Tea pot"} for n in range(1, 26)]
    assert rows_of(whole) == rows
    assert [batch.after.end for batch in whole] == [False] * (len(whole) - 1) + [True]
    for stop, batch in enumerate(whole, 1):
        place = kept(batch.after)
        assert query.resume(source, place) is place
        batches = [*whole[:stop], *query.read(source, place, 4)]
        assert rows_of(batches) == rows
        assert numbers_of(batches) == list(range(1, 26))
        assert kept(batches[-1].after) == kept(whole[-1].after)


def test_new_rows_are_read_and_old_ones_are_not(url: str) -> None:
    query = Query(url, STATEMENT + ";")
    source = source_of(query)
    last = kept(all_of(query, source)[-1].after)
    run(url, "INSERT INTO products VALUES (30, 'T30', 'Cup')")
    run(url, "DELETE FROM products WHERE id = 25")
    batches = all_of(query, source, position=last)
    assert rows_of(batches) == [{"id": 30, "code": "T30", "title": "Cup"}]
    assert numbers_of(batches) == [26]
    assert rows_of(all_of(query, source, position=kept(batches[-1].after))) == []


def test_a_result_without_rows_gives_one_empty_batch(url: str) -> None:
    query = Query(url, STATEMENT + " WHERE id > 100")
    (batch,) = all_of(query, source_of(query))
    assert (batch.rows, batch.after) == ([], Position(end=True))


def test_parameters_belong_to_the_name_of_the_source(url: str) -> None:
    query = Query(url, STATEMENT + " WHERE id > :low AND id <= :high", name="products")
    assert source_of(query) == Source("products", {})
    source = source_of(query, {"low": 3, "high": 5})
    assert source.name == "products?high=5&low=3"
    assert [row["id"] for row in rows_of(all_of(query, source))] == [4, 5]
    other = Query(url, STATEMENT + " WHERE id > 3")
    assert source_of(other).name != source_of(Query(url, STATEMENT)).name
    with pytest.raises(InvalidValue):
        query.sources("products")


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ("INSERT INTO products VALUES (7, 'T99', 'Cup')", "two rows whose key 'id' is 7"),
        ("INSERT INTO products VALUES (NULL, 'T99', 'Cup')", "rows whose key 'id' is NULL"),
        ("UPDATE products SET id = 3.5 WHERE id = 3", "type float, which cannot be kept"),
    ],
)
def test_a_key_that_rows_could_be_lost_by_stops_the_run(url: str, change: str, told: str) -> None:
    query = Query(url, STATEMENT)
    last = kept(all_of(query, source_of(query))[-1].after)
    run(url, change)
    _, error = until_refused(query, source_of(query), 3)
    assert told in error.message
    if "NULL" in told:
        _, error = until_refused(query, source_of(query), 3, last)
        assert told in error.message


@pytest.mark.parametrize("key", ["'T' || char(0)", "CAST(x'54' || x'00' AS text)"])
def test_a_key_that_no_postgresql_can_keep_stops_the_run(url: str, key: str) -> None:
    query = Query(url, f"SELECT 'T1' AS code UNION ALL SELECT {key} AS code", key="code")
    batches, error = until_refused(query, source_of(query), 1)
    assert rows_of(batches) in ([], [{"code": "T1"}])
    assert "has a key 'code' that holds" in error.message
    assert "NUL" in error.message


def test_a_second_row_with_the_last_key_is_noticed_where_reading_goes_on(url: str) -> None:
    query = Query(url, STATEMENT)
    last = kept(all_of(query, source_of(query))[-1].after)
    run(url, "INSERT INTO products VALUES (25, 'T99', 'Cup')")
    _, error = until_refused(query, source_of(query), position=last)
    assert "two rows whose key 'id' is 25" in error.message


@pytest.mark.parametrize(
    ("statement", "key", "told"),
    [
        ("SELECT * FROM nowhere", "id", "no such table"),
        ("SELEC 1", "id", "syntax error"),
        (STATEMENT, "number", "no such column"),
        ("DELETE FROM products RETURNING id", "id", "syntax error"),
    ],
)
def test_what_the_database_refuses_is_told(url: str, statement: str, key: str, told: str) -> None:
    query = Query(url, statement, key=key)
    batches, error = until_refused(query, source_of(query))
    assert batches == []
    assert told in error.message
    assert len(rows_of(all_of(Query(url, STATEMENT), Source("products", {})))) == 25


def test_a_database_that_cannot_be_reached_is_told_without_its_password() -> None:
    query = Query("postgresql://user:secret@127.0.0.1:1/nothing", STATEMENT)
    _, error = until_refused(query, source_of(query))
    assert "secret" not in f"{error}{query}{error.__cause__}"
    with pytest.raises(DependencyMissing):
        all_of(Query("nothing://here", STATEMENT), Source("products", {}))
    with pytest.raises(InvalidUrl) as caught:
        Query("user:secret", STATEMENT)
    assert "secret" not in str(caught.value)
    for statement, key in (("", "id"), (STATEMENT, "")):
        with pytest.raises(InvalidValue):
            Query("sqlite://", statement, key=key)
    assert query.parse('{"id": 1}') == {"id": 1}


# ── on PostgreSQL ─────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.fixture
def engine(settings: Settings) -> Iterator[Engine]:
    """An engine of somebody else's, on PostgreSQL."""
    engine = create_engine(settings.owner)
    yield engine
    engine.dispose()


def test_on_postgresql_rows_come_through_a_cursor_of_the_server(engine: Engine) -> None:
    cursors = []
    event.listen(engine, "after_cursor_execute", lambda *args: cursors.append(type(args[1]).__name__))
    query = Query(engine, "SELECT n AS id, 'x' AS text FROM generate_series(1, 2500) AS n")
    batches = all_of(query, source_of(query), 1000)
    assert [len(batch.rows) for batch in batches] == [1000, 1000, 500, 0]
    assert cursors[-2:] == ["ServerCursor"] * 2  # the rows, and whether there are some without a key
    assert engine.pool.checkedout() == 0  # type: ignore[attr-defined]


KEYS = (
    "2147483648 + n",
    "lpad(n::text, 3, '0')",
    "('00000000-0000-7000-8000-' || lpad(n::text, 12, '0'))::uuid",
    "timestamptz '2026-01-01 00:00:00.000001Z' + n * interval '1 hour'",
    "timestamp '2026-01-01' + n * interval '1 hour'",
    "date '2026-01-01' + n::integer",
    "n + 0.001::numeric",
)


def test_on_postgresql_a_key_of_any_type_is_kept_and_found_again(settings: Settings) -> None:
    for key in KEYS:
        statement = f'SELECT {key} AS "a Key", n FROM generate_series(1::bigint, 5) AS n'
        query = Query(settings.owner, statement, key="a Key")
        source = source_of(query)
        first = next(iter(query.read(source, Position(), 2)))
        batches = [first, *query.read(source, kept(first.after), 2)]
        assert [row["n"] for row in rows_of(batches)] == [1, 2, 3, 4, 5], key


def test_reading_that_is_given_up_or_fails_gives_its_connection_back(engine: Engine) -> None:
    query = Query(engine, "SELECT n AS id FROM generate_series(1, 100) AS n")
    reading = query.read(source_of(query), Position(), 10)
    next(reading)
    reading.close()  # type: ignore[attr-defined]
    assert engine.pool.checkedout() == 0  # type: ignore[attr-defined]
    for statement, told in {
        "SELECT 1 / 0 AS id": "division by zero",
        "SELECT 1 AS id, 2 AS a, 3 AS a": "named 'a'",
    }.items():
        _, error = until_refused(Query(engine, statement), Source("broken", {}))
        assert told in error.message
    assert engine.pool.checkedout() == 0  # type: ignore[attr-defined]
