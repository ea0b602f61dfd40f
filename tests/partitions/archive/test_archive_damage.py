"""A file that is truncated, damaged, foreign or of another version is refused; no wrong row is ever loaded."""

from __future__ import annotations

import json
import random
from collections.abc import Callable
from hashlib import sha256
from pathlib import Path

import pytest
from sqlalchemy import Connection

from dataarch.errors import ArchiveError
from dataarch.partitions.archive import load_archive, read_archive, verify_archive, write_archive
from dataarch.partitions.archive.library import pyarrow
from partitions.archive.archive_support import OF, count, differences, sql

pytestmark = pytest.mark.schema

NOTE, SEAL = b"dataarch.archive", b"dataarch.archive.sha256"


@pytest.fixture
def archived(connection: Connection, detached: str, file: Path) -> Path:
    """The archive of the table, and an empty copy of it named back."""
    write_archive(connection, detached, file, about=OF)
    sql(connection, f"CREATE TABLE back (LIKE {detached} INCLUDING ALL)")
    return file


def rewritten(file: Path, change: Callable[[dict[str, object]], object], *, seal: bool = True) -> None:
    """Write an archive again with the same rows and another note."""
    pa = pyarrow()
    metadata = pa.parquet.read_metadata(file).metadata
    note = json.loads(metadata[NOTE])
    change(note)
    data = json.dumps(note).encode()
    table = pa.parquet.read_table(file)
    with pa.parquet.ParquetWriter(file, table.schema) as writer:
        writer.write_table(table)
        writer.add_key_value_metadata({NOTE: data, SEAL: sha256(data).hexdigest() if seal else metadata[SEAL]})


def test_a_flipped_bit_anywhere_is_refused_or_changes_no_row(connection: Connection, archived: Path) -> None:
    sql(connection, "DELETE FROM events_2020_01 WHERE activity_type <> 'login'")
    archived.unlink()
    write_archive(connection, "events_2020_01", archived, about=OF)
    whole = archived.read_bytes()
    chosen = random.Random(7)
    places = {*range(12), *range(len(whole) - 60, len(whole)), *chosen.sample(range(len(whole)), 200)}
    refused = 0
    for place in sorted(places):
        damaged = bytearray(whole)
        damaged[place] ^= 1 << chosen.randrange(8)
        archived.write_bytes(damaged)
        try:
            load_archive(connection, archived, "back")
        except ArchiveError:
            refused += 1
            assert count(connection, "back") == 0
        else:
            assert differences(connection, "events_2020_01", "back") == 0
            sql(connection, "TRUNCATE back")
    assert refused > 100


def test_a_file_cut_off_anywhere_is_refused(connection: Connection, archived: Path) -> None:
    whole = archived.read_bytes()
    for length in (0, 1, 4, 8, len(whole) // 3, len(whole) // 2, len(whole) - 8, len(whole) - 1):
        archived.write_bytes(whole[:length])
        for use in (read_archive, lambda file: load_archive(connection, file, "back")):
            with pytest.raises(ArchiveError, match="truncated, damaged"):
                use(archived)
    assert count(connection, "back") == 0


def test_a_missing_archive_is_named(tmp_path: Path) -> None:
    with pytest.raises(ArchiveError, match=r"There is no archive .*missing\.parquet\. Correct the path\."):
        read_archive(tmp_path / "missing.parquet")


def test_a_folder_is_no_archive(tmp_path: Path) -> None:
    with pytest.raises(ArchiveError, match="cannot be read as a Parquet file"):
        read_archive(tmp_path)


def test_a_parquet_file_of_somebody_else_is_named(tmp_path: Path) -> None:
    pa = pyarrow()
    pa.parquet.write_table(pa.table({"a": [1]}), tmp_path / "foreign.parquet")
    with pytest.raises(ArchiveError, match="is no archive of dataarch"):
        read_archive(tmp_path / "foreign.parquet")


def test_an_archive_of_another_version_says_which_dataarch_wrote_it(archived: Path) -> None:
    rewritten(archived, lambda note: note.update(format=2, dataarch_version="9.8.7"))
    with pytest.raises(ArchiveError, match=r"its format is 2.*reads format 1.*Use the version that wrote it: 9\.8\.7"):
        read_archive(archived)


@pytest.mark.parametrize(
    ("change", "why"),
    [
        (lambda note: note.pop("of"), "incomplete"),
        (lambda note: note["columns"][0].update(stored="thing"), "incomplete"),
        (lambda note: note["columns"][0].update(extra=1), "incomplete"),
        (lambda note: note.update(rows=999), "its rows or columns are not those"),
        (lambda note: note["columns"].pop(), "its rows or columns are not those"),
        (lambda note: note["columns"][0].update(stored="text"), "its rows or columns are not those"),
    ],
)
def test_a_note_that_does_not_fit_its_file_is_refused(
    archived: Path, change: Callable[[dict[str, object]], object], why: str
) -> None:
    rewritten(archived, change)
    with pytest.raises(ArchiveError, match=why):
        read_archive(archived)


def test_a_note_that_was_changed_by_hand_is_refused(archived: Path) -> None:
    rewritten(archived, lambda note: note.update(checksum="0" * 32), seal=False)
    with pytest.raises(ArchiveError, match="what it says of itself is damaged"):
        read_archive(archived)


@pytest.mark.parametrize("without", [[], ["metadata"]])
def test_rows_that_do_not_have_the_checksum_are_not_loaded(
    connection: Connection, archived: Path, without: list[str]
) -> None:
    rewritten(archived, lambda note: note.update(checksum="0" * 32))
    with pytest.raises(ArchiveError, match=r"did not come to .* as it was"):
        load_archive(connection, archived, "back", without=without)
    assert count(connection, "back") == 0
    with pytest.raises(ArchiveError, match="checksum: the archive says 0000"):
        verify_archive(connection, archived, "events_2020_01")


def test_rows_that_are_not_the_tables_are_found_by_reading_them_back(connection: Connection, archived: Path) -> None:
    sql(connection, "CREATE TABLE other AS SELECT * FROM events_2020_01")
    sql(connection, "ALTER TABLE other DROP COLUMN doubled")
    sql(connection, "UPDATE other SET activity_type = 'x' WHERE id = (SELECT id FROM other LIMIT 1)")
    # right in all that it says, wrong in what it holds
    checksum = write_archive(connection, "other", archived.with_name("other.parquet"), about=OF).checksum
    rewritten(archived, lambda note: note.update(checksum=checksum))
    with pytest.raises(ArchiveError, match="checksum: the archive says"):
        verify_archive(connection, archived, "other")
