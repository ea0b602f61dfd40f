"""What a table must be to take an archive, and what it gets."""

from __future__ import annotations

from pathlib import Path

import pytest
from sqlalchemy import Connection

from dataarch.errors import AlreadyExists, ArchiveError, MissingValue
from dataarch.partitions.archive import load_archive, verify_archive, write_archive
from partitions.archive.archive_support import OF, count, differences, sql

pytestmark = pytest.mark.schema


@pytest.fixture
def archived(connection: Connection, detached: str, file: Path) -> Path:
    """The archive of the table, and an empty copy of it named back."""
    write_archive(connection, detached, file, about=OF)
    sql(connection, f"CREATE TABLE back (LIKE {detached} INCLUDING ALL)")
    return file


def test_a_column_that_came_since_gets_its_default(connection: Connection, archived: Path) -> None:
    sql(connection, "ALTER TABLE back ADD COLUMN source text NOT NULL DEFAULT 'unknown'")
    assert load_archive(connection, archived, "back") == 1000
    assert sql(connection, "SELECT DISTINCT source FROM back").scalars().all() == ["unknown"]


def test_a_column_that_came_since_and_must_have_a_value_is_named(connection: Connection, archived: Path) -> None:
    sql(connection, "ALTER TABLE back ADD COLUMN source text NOT NULL")
    with pytest.raises(MissingValue, match="source"):
        load_archive(connection, archived, "back")
    assert count(connection, "back") == 0


def test_a_column_that_was_lost_is_named_until_it_is_left_out(connection: Connection, archived: Path) -> None:
    sql(connection, "ALTER TABLE back DROP COLUMN user_id, DROP COLUMN metadata")
    with pytest.raises(ArchiveError, match=r"takes no user_id, metadata.*without=\['user_id', 'metadata'\]"):
        load_archive(connection, archived, "back")
    assert count(connection, "back") == 0
    assert load_archive(connection, archived, "back", without=["user_id", "metadata"]) == 1000
    sql(connection, "ALTER TABLE events_2020_01 DROP COLUMN user_id, DROP COLUMN metadata")
    assert differences(connection, "events_2020_01", "back") == 0


def test_a_lost_column_whose_type_is_gone_can_be_left_out(connection: Connection, tmp_path: Path) -> None:
    sql(connection, "CREATE TYPE gone AS ENUM ('a', 'b')")
    sql(connection, "CREATE TABLE typed AS SELECT n, 'a'::gone AS g FROM generate_series(1, 9) AS n")
    write_archive(connection, "typed", tmp_path / "typed.parquet", about=OF)
    sql(connection, "ALTER TABLE typed DROP COLUMN g")
    sql(connection, "DROP TYPE gone")
    sql(connection, "TRUNCATE typed")
    assert load_archive(connection, tmp_path / "typed.parquet", "typed", without=["g"]) == 9


@pytest.mark.parametrize(
    ("without", "why"), [(["typo"], "the archive has no typo"), (["a", "b"], "every column is left out")]
)
def test_columns_that_cannot_be_left_out_are_named(
    connection: Connection, tmp_path: Path, without: list[str], why: str
) -> None:
    sql(connection, "CREATE TABLE two AS SELECT 1 AS a, 2 AS b")
    write_archive(connection, "two", tmp_path / "two.parquet", about=OF)
    with pytest.raises(ArchiveError, match=why):
        load_archive(connection, tmp_path / "two.parquet", "two", without=without)


def test_a_column_that_the_server_computes_now_counts_as_lost(connection: Connection, tmp_path: Path) -> None:
    sql(connection, "CREATE TABLE two AS SELECT 1 AS a, 2 AS b")
    write_archive(connection, "two", tmp_path / "two.parquet", about=OF)
    sql(connection, "CREATE TABLE computed (a int, b int GENERATED ALWAYS AS (a + 1) STORED)")
    with pytest.raises(ArchiveError, match="takes no b"):
        load_archive(connection, tmp_path / "two.parquet", "computed")
    assert load_archive(connection, tmp_path / "two.parquet", "computed", without=["b"]) == 1
    assert sql(connection, "SELECT b FROM computed").scalar_one() == 2


def test_numbers_of_an_identity_come_back_too(connection: Connection, tmp_path: Path) -> None:
    sql(connection, "CREATE TABLE numbered (n int GENERATED ALWAYS AS IDENTITY (START 50), t text, u text)")
    sql(connection, "INSERT INTO numbered (t) VALUES ('a'), ('b')")
    write_archive(connection, "numbered", tmp_path / "n.parquet", about=OF)
    for without in ([], ["u"]):
        sql(connection, "TRUNCATE numbered")
        load_archive(connection, tmp_path / "n.parquet", "numbered", without=without)
        assert sql(connection, "SELECT array_agg(n ORDER BY n) FROM numbered").scalar_one() == [50, 51]


def test_a_type_that_makes_other_values_is_named_and_nothing_is_loaded(connection: Connection, archived: Path) -> None:
    sql(connection, "ALTER TABLE back DROP COLUMN doubled, ALTER created_at TYPE timestamptz(0)")
    with pytest.raises(ArchiveError, match=r"created_at was timestamp with time zone and is timestamp\(0\)"):
        load_archive(connection, archived, "back")
    assert count(connection, "back") == 0


def test_a_type_that_takes_no_such_value_is_named_without_the_value(connection: Connection, archived: Path) -> None:
    sql(connection, "ALTER TABLE back DROP COLUMN doubled, ALTER activity_type TYPE int USING 0")
    for without in ([], ["user_id"]):
        with pytest.raises(ArchiveError, match="SQLSTATE 22P02") as caught:
            load_archive(connection, archived, "back", without=without)
        assert "login" not in str(caught.value)
        assert count(connection, "back") == 0


def test_a_wider_type_takes_the_archive(connection: Connection, tmp_path: Path) -> None:
    sql(
        connection,
        "CREATE TABLE narrow AS SELECT n::smallint AS n, n::text::varchar(5) AS t FROM generate_series(1, 9) AS n",
    )
    write_archive(connection, "narrow", tmp_path / "narrow.parquet", about=OF)
    sql(connection, "CREATE TABLE wider (n bigint, t text)")
    assert load_archive(connection, tmp_path / "narrow.parquet", "wider") == 9


def test_a_table_whose_columns_have_another_order_takes_the_archive(connection: Connection, tmp_path: Path) -> None:
    sql(connection, "CREATE TABLE one AS SELECT n AS a, -n AS b, n * 2 AS c FROM generate_series(1, 9) AS n")
    write_archive(connection, "one", tmp_path / "one.parquet", about=OF)
    sql(connection, "CREATE TABLE other (c int, a int, b int)")
    assert load_archive(connection, tmp_path / "one.parquet", "other") == 9
    assert verify_archive(connection, tmp_path / "one.parquet", "other").rows == 9
    sql(connection, "UPDATE other SET a = b, b = a")
    with pytest.raises(ArchiveError, match="checksum"):
        verify_archive(connection, tmp_path / "one.parquet", "other")


def test_a_table_with_rows_takes_those_of_the_archive_in_addition(connection: Connection, archived: Path) -> None:
    sql(
        connection,
        "INSERT INTO back SELECT tenant_id, gen_random_uuid(), user_id, activity_type, metadata, created_at "
        "FROM events_2020_01 LIMIT 10",
    )
    assert load_archive(connection, archived, "back") == 1000
    assert count(connection, "back") == 1010


def test_rows_that_are_there_already_are_refused_and_the_transaction_goes_on(
    connection: Connection, archived: Path
) -> None:
    load_archive(connection, archived, "back")
    with pytest.raises(AlreadyExists):
        load_archive(connection, archived, "back")
    assert count(connection, "back") == 1000


def test_a_trigger_that_changes_or_swallows_rows_is_found_out(connection: Connection, archived: Path) -> None:
    for body in ("RETURN NULL", "NEW.activity_type := 'x'; RETURN NEW"):
        sql(
            connection,
            f"CREATE OR REPLACE FUNCTION meddle() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN {body}; END'".replace(
                "'x'", "''x''"
            ),
        )
        sql(connection, "CREATE OR REPLACE TRIGGER meddle BEFORE INSERT ON back FOR EACH ROW EXECUTE FUNCTION meddle()")
        with pytest.raises(ArchiveError, match="Nothing was loaded"):
            load_archive(connection, archived, "back")
        assert count(connection, "back") == 0


def test_comparing_finds_rows_and_columns_that_differ(connection: Connection, archived: Path) -> None:
    load_archive(connection, archived, "back")
    sql(connection, "DELETE FROM back WHERE id = (SELECT id FROM back LIMIT 1)")
    with pytest.raises(ArchiveError, match="rows: the archive says 1000, found 999"):
        verify_archive(connection, archived, "back")
    sql(connection, "ALTER TABLE back ADD COLUMN source text")
    with pytest.raises(ArchiveError, match="columns: the archive says"):
        verify_archive(connection, archived, "back")


@pytest.mark.parametrize("name", ["missing", "a_view", "parent", "no such.name"])
def test_only_a_plain_table_is_archived_or_loaded(connection: Connection, archived: Path, name: str) -> None:
    sql(connection, "CREATE VIEW a_view AS SELECT 1 AS n")
    sql(connection, "CREATE TABLE parent (n int) PARTITION BY RANGE (n)")
    with pytest.raises(ArchiveError, match="There is no plain table"):
        load_archive(connection, archived, name)
    with pytest.raises(ArchiveError, match="There is no plain table"):
        write_archive(connection, name, archived.with_name("other.parquet"), about=OF)


def test_a_table_without_a_column_of_its_own_is_refused(connection: Connection, file: Path) -> None:
    sql(connection, "CREATE TABLE nothing ()")
    with pytest.raises(ArchiveError, match="has no column"):
        write_archive(connection, "nothing", file, about=OF)
