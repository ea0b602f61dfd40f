"""Rows that are archived come back as they were, whatever they are."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from pathlib import Path

import pytest
from sqlalchemy import Connection

from dataarch.clock import utcnow
from dataarch.partitions.archive import load_archive, read_archive, verify_archive, write_archive
from dataarch.partitions.archive.library import pyarrow
from fixtures.shared_data import shared_file
from partitions.archive.archive_support import OF, count, differences, sql

pytestmark = pytest.mark.schema


def test_an_archive_says_of_itself_what_it_is(connection: Connection, detached: str, file: Path) -> None:
    before = utcnow()
    archive = write_archive(connection, detached, file, about=OF)
    assert read_archive(file) == archive
    assert (archive.path, archive.of, archive.rows) == (file, OF, 1000)
    assert archive.size_bytes == file.stat().st_size
    assert before <= archive.archived_at <= utcnow()
    assert archive.primary_key == ("tenant_id", "id", "created_at")
    assert {column.name: (column.type, column.stored) for column in archive.columns} == {
        "tenant_id": ("uuid", "uuid"),
        "id": ("uuid", "uuid"),
        "user_id": ("uuid", "uuid"),
        "activity_type": ("text", "text"),
        "metadata": ("jsonb", "text"),
        "created_at": ("timestamp with time zone", "timestamptz"),
    }


def test_an_archive_comes_back_as_it_was_into_a_table_of_the_same_shape(
    connection: Connection, detached: str, file: Path
) -> None:
    write_archive(connection, detached, file, about=OF)
    sql(connection, f"CREATE TABLE back (LIKE {detached} INCLUDING ALL)")
    assert load_archive(connection, file, "back") == 1000
    assert differences(connection, detached, "back") == 0
    assert verify_archive(connection, file, "back") == read_archive(file)


def test_an_archive_has_the_same_checksum_whatever_the_order_of_its_rows(
    connection: Connection, detached: str, tmp_path: Path
) -> None:
    one = write_archive(connection, detached, tmp_path / "one.parquet", about=OF)
    sql(connection, f"CREATE TABLE turned AS SELECT * FROM {detached} ORDER BY id DESC")
    sql(connection, "ALTER TABLE turned DROP COLUMN doubled")
    other = write_archive(connection, "turned", tmp_path / "other.parquet", about=OF)
    assert one.checksum == other.checksum


@pytest.mark.parametrize(
    "change",
    [
        "UPDATE {0} SET user_id = NULL WHERE id = (SELECT id FROM {0} WHERE user_id IS NOT NULL LIMIT 1)",
        "UPDATE {0} SET activity_type = activity_type || ' ' WHERE id = (SELECT min(id::text)::uuid FROM {0})",
        "DELETE FROM {0} WHERE id = (SELECT id FROM {0} LIMIT 1)",
        "UPDATE {0} SET created_at = created_at + interval '1 microsecond' WHERE id = (SELECT id FROM {0} LIMIT 1)",
    ],
)
def test_the_smallest_change_to_a_row_changes_the_checksum(
    connection: Connection, detached: str, tmp_path: Path, change: str
) -> None:
    before = write_archive(connection, detached, tmp_path / "before.parquet", about=OF)
    sql(connection, change.format(detached))
    after = write_archive(connection, detached, tmp_path / "after.parquet", about=OF)
    assert after.checksum != before.checksum


def test_two_rows_that_swap_values_change_the_checksum(connection: Connection, tmp_path: Path) -> None:
    checksums = []
    for number, rows in enumerate(
        ("(1, 'a', 'b'), (2, 'c', 'd')", "(1, 'c', 'b'), (2, 'a', 'd')", "(1, 'b', 'a'), (2, 'c', 'd')")
    ):
        sql(connection, f"CREATE TABLE swapped_{number} AS SELECT * FROM (VALUES {rows}) AS v (k, x, y)")
        checksums.append(
            write_archive(connection, f"swapped_{number}", tmp_path / f"{number}.parquet", about=OF).checksum
        )
    assert len(set(checksums)) == 3


def test_an_empty_partition_has_an_archive_too(connection: Connection, detached: str, file: Path) -> None:
    sql(connection, f"TRUNCATE {detached}")
    assert write_archive(connection, detached, file, about=OF).rows == 0
    assert load_archive(connection, file, detached) == 0
    assert verify_archive(connection, file, detached).rows == 0


def test_a_column_beyond_its_type_in_the_file_is_stored_as_text_and_says_so(connection: Connection, file: Path) -> None:
    sql(
        connection,
        """
        CREATE TABLE odd AS SELECT * FROM (VALUES
            (timestamptz 'infinity', timestamp '2020-01-01', date '0044-03-15 BC', 'NaN'::numeric(5, 2)),
            (timestamptz '2020-01-01 00:00:00+00', timestamp '12020-01-01', date '-infinity', 1.5)
        ) AS v (a, b, c, d)
        """,
    )
    sql(connection, "ALTER TABLE odd ALTER d TYPE numeric(5, 2)")
    sql(connection, "CREATE TABLE back (LIKE odd)")
    archive = write_archive(connection, "odd", file, about=OF)
    assert [column.stored for column in archive.columns] == ["text"] * 4
    calendar = "a value before the year 1, after the year 9999, or infinite"
    assert [column.because for column in archive.columns] == [calendar] * 3 + ["a value that is not a finite number"]
    load_archive(connection, file, "back")
    assert differences(connection, "odd", "back") == 0


def test_the_first_and_the_last_instant_of_the_calendar_are_stored_as_what_they_are(
    connection: Connection, file: Path
) -> None:
    sql(
        connection,
        """
        CREATE TABLE edges AS SELECT * FROM (VALUES
            (timestamptz '0001-01-01 00:00:00+00', timestamp '0001-01-01', date '0001-01-01'),
            (timestamptz '9999-12-31 23:59:59.999999+00', timestamp '9999-12-31 23:59:59.999999', date '9999-12-31')
        ) AS v (a, b, c)
        """,
    )
    sql(connection, "CREATE TABLE back (LIKE edges)")
    assert [c.stored for c in write_archive(connection, "edges", file, about=OF).columns] == [
        "timestamptz",
        "timestamp",
        "date",
    ]
    load_archive(connection, file, "back")
    assert differences(connection, "edges", "back") == 0


def test_the_settings_of_the_session_change_neither_file_nor_checksum(
    connection: Connection, detached: str, tmp_path: Path
) -> None:
    sql(connection, f"ALTER TABLE {detached} ADD COLUMN span interval, ADD COLUMN raw bytea, ADD COLUMN ratio float8")
    sql(connection, f"ALTER TABLE {detached} ADD COLUMN price money, ADD COLUMN day date")
    sql(
        connection,
        f"UPDATE {detached} SET span = '1 year -2 days 03:04:05.6', raw = decode('00ff5c', 'hex'), "
        "ratio = 1 / 3.0::float8, price = 1234.5, day = '2020-02-03'",
    )
    one = write_archive(connection, detached, tmp_path / "one.parquet", about=OF)
    strange = {
        "timezone": "Asia/Kathmandu",
        "datestyle": "German, DMY",
        "intervalstyle": "sql_standard",
        "bytea_output": "escape",
        "extra_float_digits": "-5",
        "quote_all_identifiers": "on",
    }
    for name, value in strange.items():
        sql(connection, f"SET LOCAL {name} = '{value}'")
    other = write_archive(connection, detached, tmp_path / "other.parquet", about=OF)
    assert (one.checksum, one.columns) == (other.checksum, other.columns)
    sql(connection, f"CREATE TABLE back (LIKE {detached} INCLUDING ALL)")
    load_archive(connection, tmp_path / "one.parquet", "back")
    assert differences(connection, detached, "back") == 0
    for name, value in strange.items():
        assert sql(connection, f"SHOW {name}").scalar_one() == value


def test_odd_names_of_tables_and_columns_do_no_harm(connection: Connection, file: Path) -> None:
    names = ['a "b"', "c:d", "e%f", "{g}", "select", "Ü", "back\\slash", "x'y", "%s", "a,b\n"]
    quoted = ['"' + name.replace('"', '""') + '"' for name in names]
    sql(connection, 'CREATE SCHEMA "My: %s {x} ""S"""')
    table = '"My: %s {x} ""S"""."T\'t:x %(a)s"'
    sql(connection, f"CREATE TABLE {table} ({', '.join(f'{name} timestamptz' for name in quoted)})")
    sql(connection, f"INSERT INTO {table} SELECT {', '.join(['now()'] * len(names))} FROM generate_series(1, 3)")
    sql(connection, f"CREATE TABLE back (LIKE {table})")
    assert [c.name for c in write_archive(connection, table, file, about=OF).columns] == names
    assert load_archive(connection, file, "back") == 3
    assert differences(connection, table, "back") == 0


def test_a_table_of_more_columns_than_a_function_takes_arguments_comes_back(connection: Connection, file: Path) -> None:
    columns = ", ".join(f"c{number} int DEFAULT {number}" for number in range(300))
    sql(connection, f"CREATE TABLE wide ({columns})")
    sql(connection, "INSERT INTO wide (c0) VALUES (7), (NULL)")
    sql(connection, "CREATE TABLE back (LIKE wide)")
    write_archive(connection, "wide", file, about=OF)
    load_archive(connection, file, "back")
    assert differences(connection, "wide", "back") == 0


def test_naughty_strings_come_back_as_they_were(connection: Connection, file: Path) -> None:
    strings = json.loads(shared_file("naughty-strings", "blns.json").read_bytes())
    strings += ["", " ", "\\.", "\\N", "NULL", '"', '""', "\r", "\n", "\r\n", "a\n\\.\nb", ",", "'", "\ufeff", "\ufffe"]
    sql(connection, "CREATE TABLE naughty (t text, c char(900), v varchar, j json, b bytea, a text[])")
    insert = "INSERT INTO naughty VALUES (%s, %s, %s, to_json(%s::text), convert_to(%s, 'UTF8'), ARRAY[%s, NULL, ''])"
    for string in [string for string in strings if "\x00" not in string]:
        connection.exec_driver_sql(insert, (string,) * 6)
    sql(connection, "CREATE TABLE alone AS SELECT t FROM naughty UNION ALL VALUES (NULL)")
    for table in ("naughty", "alone"):
        sql(connection, f"CREATE TABLE {table}_back (LIKE {table})")
        path = file.with_name(f"{table}.parquet")
        write_archive(connection, table, path, about=OF)
        load_archive(connection, path, f"{table}_back")
        assert differences(connection, table, f"{table}_back") == 0


def test_values_larger_than_a_group_of_rows_come_back(connection: Connection, file: Path) -> None:
    sql(
        connection,
        "CREATE TABLE large AS SELECT repeat(n::text, 12000000) AS t, NULL::bytea AS b FROM generate_series(1, 2) AS n",
    )
    sql(connection, "UPDATE large SET b = convert_to(t, 'UTF8')")
    sql(connection, "CREATE TABLE back (LIKE large)")
    write_archive(connection, "large", file, about=OF)
    load_archive(connection, file, "back")
    assert differences(connection, "large", "back") == 0


def test_others_can_read_the_file_without_dataarch(connection: Connection, detached: str, file: Path) -> None:
    write_archive(connection, detached, file, about=OF)
    pa = pyarrow()
    schema = pa.parquet.read_schema(file)
    assert schema.field("created_at").type == pa.timestamp("us", tz="UTC")
    assert schema.field("tenant_id").type == pa.uuid()
    rows = pa.parquet.read_table(file).to_pylist()
    assert len(rows) == 1000
    first = sql(connection, f"SELECT tenant_id, id, metadata::text, created_at FROM {detached} LIMIT 1").one()
    assert tuple(first) in {(row["tenant_id"], row["id"], row["metadata"], row["created_at"]) for row in rows}
    assert min(row["created_at"] for row in rows) > datetime(2020, 1, 1, tzinfo=UTC)


def test_the_rows_lie_in_groups_of_bounded_size(connection: Connection, detached: str, file: Path) -> None:
    sql(connection, f"CREATE TABLE more AS SELECT * FROM {detached} CROSS JOIN generate_series(1, 140) AS again")
    assert write_archive(connection, "more", file, about=OF).rows == count(connection, "more") == 140_000
    metadata = pyarrow().parquet.read_metadata(file)
    assert [metadata.row_group(group).num_rows for group in range(metadata.num_row_groups)] == [65_536, 65_536, 8_928]
