"""M13: an archive comes back as a partition, all of it or nothing, and stays what it is."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from sqlalchemy import BigInteger, Column, MetaData, Table
from sqlalchemy.dialects.postgresql import TIMESTAMP

from dataarch.database.unit_of_work import Database
from dataarch.errors import ArchiveError, DataArchError, PartitionRefused
from dataarch.models.partitioning import partitioned
from dataarch.partitions.restore import Restored
from fixtures.databases import new_database
from fixtures.retirement import IN_OLD, OLD, OLD_NAMES, Place, furnish, old_instant
from fixtures.servers import Servers

pytestmark = pytest.mark.integrity

JANUARY = "visits_2020_01"


@pytest.fixture
def file(place: Place) -> Path:
    """The archive of January; the table has neither January nor February any more."""
    return place.maintenance().maintain().archives[0]


def assert_refused(place: Place, file: Path, *said: str, kind: type[DataArchError] = ArchiveError) -> DataArchError:
    """Assert that a restore is refused in these words, with a remedy, and that nothing is changed by it."""
    before = place.ids(), place.partitions(), place.tables(), place.states()
    there = file.read_bytes() if file.exists() else None
    with pytest.raises(kind) as refused:
        place.maintenance(patience=2).restore(file)
    for one in (*said, "visits"):
        assert one in str(refused.value)
    assert refused.value.hint
    assert (place.ids(), place.partitions(), place.tables(), place.states()) == before
    assert (file.read_bytes() if file.exists() else None) == there
    return refused.value


def test_m13_the_same_rows_come_back_and_the_file_stays(place: Place) -> None:
    rows, january = place.checksum(), place.checksum(JANUARY)
    files = place.maintenance().maintain().archives
    written = [file.read_bytes() for file in files]
    assert place.maintenance().restore(files[0]) == Restored(JANUARY, IN_OLD, 0)
    assert place.checksum(JANUARY) == january
    place.assert_tidy()
    place.maintenance().restore(files[1])
    assert place.checksum() == rows
    assert [file.read_bytes() for file in files] == written
    place.assert_tidy()


def test_m13_what_was_restored_is_like_any_other_partition(place: Place) -> None:
    before = place.partitions()[JANUARY]
    described = (
        "SELECT conname, pg_get_constraintdef(oid) FROM pg_constraint WHERE conrelid = 'visits_2020_01'::regclass"
    )
    constraints = sorted(place.sql(described))
    place.maintenance().restore(place.maintenance().maintain().archives[0])
    after = place.partitions()[JANUARY]
    assert sorted(place.sql(described)) == constraints
    assert (after.lower, after.upper, after.indexed, after.guarded) == (before.lower, before.upper, True, True)
    place.sql("DELETE FROM people WHERE id = 1")
    assert len(place.ids(JANUARY)) == IN_OLD * 3 // 4


def test_m13_no_policy_retires_what_was_restored_and_its_name_does(place: Place, file: Path) -> None:
    place.maintenance().restore(file)
    assert place.maintenance().maintain().retired == []
    assert place.maintenance().retire([JANUARY]).retired == [JANUARY]
    assert place.archives() == {
        "visits_2020_01.2.parquet": [1000 + n for n in range(IN_OLD)],
        "visits_2020_01.parquet": [1000 + n for n in range(IN_OLD)],
        "visits_2020_02.parquet": [2000 + n for n in range(IN_OLD)],
    }
    place.assert_tidy()


def test_m13_rows_that_came_late_join_what_is_restored(place: Place, file: Path) -> None:
    place.add(5000, old_instant(20), 3)
    place.add(6000, old_instant(20, month=2), 3)
    assert place.maintenance().restore(file) == Restored(JANUARY, IN_OLD, 0)
    assert place.ids(JANUARY) == [*(1000 + n for n in range(IN_OLD)), 5000, 5001, 5002]
    assert len(place.ids()) == IN_OLD + 3 + 3 + 10
    place.assert_tidy()


def test_m13_many_late_rows_join_it_without_a_long_lock(place: Place, file: Path) -> None:
    place.sql(
        "INSERT INTO visits SELECT n, timestamptz '2020-01-05 00:00+00' + n * interval '1 second', 2, 'late'"
        " FROM generate_series(20000, 21999) AS n"
    )
    assert place.maintenance().restore(file).rows == IN_OLD
    assert len(place.ids(JANUARY)) == IN_OLD + 2000
    place.assert_tidy()


@pytest.mark.parametrize("others", [0, 2000], ids=["few rows", "many rows"])
def test_m13_a_row_that_was_written_again_stays_as_it_is_in_the_table(place: Place, file: Path, others: int) -> None:
    place.sql("INSERT INTO visits VALUES (1003, timestamptz '2020-01-01 03:00+00', 2, 'again')")
    place.sql(
        "INSERT INTO visits SELECT n, timestamptz '2020-01-05 00:00+00' + n * interval '1 second', 2, 'late'"
        f" FROM generate_series(20001, 20000 + {others}) AS n"
    )
    assert place.maintenance().restore(file) == Restored(JANUARY, IN_OLD - 1, 0, 1)
    assert place.sql("SELECT note FROM visits WHERE id = 1003") == [("again",)]
    assert len(place.ids(JANUARY)) == IN_OLD + others


# ── what must be unique besides the key ───────────────────────────────────────────────────────────────────────────

SAME_VALUES = """
INSERT INTO visits
SELECT 5000 + n, timestamptz '2020-01-01 00:00+00' + n * interval '1 hour', n % 4 + 1, 'visit ' || n
FROM generate_series(0, {last}) AS n
"""
"""What the visits of January said, written again under new ids."""

OTHERS = """
INSERT INTO visits SELECT n, timestamptz '2020-01-05 00:00+00' + n * interval '1 second', 2, 'late'
FROM generate_series(20001, 20000 + {rows}) AS n
"""

UNIQUE = {
    "a constraint": ("ALTER TABLE visits ADD CONSTRAINT once UNIQUE (person, note, at)", 40),
    "a constraint that is put off": (
        "ALTER TABLE visits ADD CONSTRAINT once UNIQUE (person, note, at) DEFERRABLE INITIALLY DEFERRED",
        40,
    ),
    "an expression": ('CREATE UNIQUE INDEX once ON visits (lower(note COLLATE "C"), (person + 1), at)', 40),
    # of the people 1 to 4 two are counted
    "some rows": ("CREATE UNIQUE INDEX once ON visits (note text_pattern_ops, at) WHERE person IN (2, 3)", 20),
}
"""What may be there once only, and how many of the 40 visits of January clash on it when they are written again."""


@pytest.mark.parametrize("others", [0, 2000], ids=["few rows", "many rows"])
@pytest.mark.parametrize("unique", UNIQUE)
def test_m13_a_row_that_clashes_on_anything_unique_stays_in_the_table(place: Place, unique: str, others: int) -> None:
    rule, clashing = UNIQUE[unique]
    place.sql(rule)
    file = place.maintenance().maintain().archives[0]
    place.sql(SAME_VALUES.format(last=IN_OLD - 1))
    place.sql(OTHERS.format(rows=others))
    live = place.ids()
    assert place.maintenance().restore(file) == Restored(JANUARY, IN_OLD - clashing, 0, clashing)
    after = place.ids()
    assert [one for one in after if one >= IN_OLD + 1000] == live
    assert len(after) == len(live) + IN_OLD - clashing
    assert place.maintenance().maintain().retired == []
    place.assert_tidy()


@pytest.mark.parametrize("others", [0, 2000], ids=["one late row", "2,000 late rows"])
def test_m13_one_row_that_clashes_is_kept_among_the_late_ones(place: Place, others: int) -> None:
    place.sql(UNIQUE["a constraint"][0])
    file = place.maintenance().maintain().archives[0]
    place.sql(SAME_VALUES.format(last=0))
    place.sql(OTHERS.format(rows=others))
    assert place.maintenance().restore(file) == Restored(JANUARY, IN_OLD - 1, 0, 1)
    assert len(place.ids(JANUARY)) == IN_OLD + others
    assert 1000 not in place.ids()
    assert place.ids("(SELECT id FROM visits WHERE id = 5000) AS late") == [5000]


def test_m13_empty_values_clash_only_where_the_table_says_so(place: Place) -> None:
    place.sql("UPDATE visits SET note = NULL WHERE id < 1010")
    place.sql("CREATE UNIQUE INDEX once ON visits (note, at) NULLS NOT DISTINCT WHERE id % 2 = 0")
    place.sql("CREATE UNIQUE INDEX twice ON visits (note, at, person)")
    file = place.maintenance().maintain().archives[0]
    place.sql(
        "INSERT INTO visits SELECT 5000 + n, timestamptz '2020-01-01' + n * interval '1 hour', n % 4 + 1"
        " FROM generate_series(0, 9) AS n"
    )
    live = place.ids()
    assert place.maintenance().restore(file) == Restored(JANUARY, IN_OLD - 5, 0, 5)
    assert set(live) <= set(place.ids())


@pytest.mark.parametrize(
    ("first", "written_again"), [(1003, 1), (5003, 1), (5100, 0)], ids=["its key", "what is unique", "nothing"]
)
@pytest.mark.parametrize("others", [0, 2000, 20_000], ids=["one row", "one batch", "several batches"])
def test_m13_a_row_that_is_written_again_while_rows_are_copied_stays_as_it_is(
    place: Place, others: int, first: int, written_again: int
) -> None:
    place.sql(UNIQUE["a constraint"][0])
    file = place.maintenance().maintain().archives[0]
    place.sql(OTHERS.format(rows=others))
    place.add(4000, old_instant(20), 1)
    late = {1003: (1003, "'again'"), 5003: (5003, "'visit 3'"), 5100: (5100, "'new'")}[first]
    written: list[str] = []

    def say(said: str) -> None:
        if said.startswith("copied") and not written:
            written.append(said)
            place.sql(f"INSERT INTO visits VALUES ({late[0]}, timestamptz '2020-01-01 03:00+00', 4, {late[1]})")

    restored = replace(place.maintenance(), say=say).restore(file)
    assert written
    assert restored == Restored(JANUARY, IN_OLD - written_again, 0, written_again)
    assert place.sql(f"SELECT note FROM visits WHERE id = {first}") == [(late[1].strip("'"),)]
    assert len(place.ids(JANUARY)) == IN_OLD + others + 1 + 1 - written_again
    place.assert_tidy()


def test_m13_a_row_that_an_archived_one_excludes_stays_in_the_table(place: Place, servers: Servers) -> None:
    if servers.version < 17:
        pytest.skip("exclusion constraints of partitioned tables came with PostgreSQL 17")
    place.sql("ALTER TABLE visits ADD CONSTRAINT once EXCLUDE USING btree (at WITH =, note WITH =) WHERE (person > 1)")
    file = place.maintenance().maintain().archives[0]
    place.sql(SAME_VALUES.format(last=IN_OLD - 1))
    live = place.ids()
    assert place.maintenance().restore(file) == Restored(JANUARY, IN_OLD // 4, 0, IN_OLD * 3 // 4)
    assert set(live) <= set(place.ids())
    place.assert_tidy()


def test_m13_without_a_primary_key_what_is_unique_is_looked_at_as_well(place: Place) -> None:
    place.sql("ALTER TABLE visits DROP CONSTRAINT visits_pkey")
    place.sql(UNIQUE["a constraint"][0])
    file = place.maintenance().maintain().archives[0]
    place.sql(SAME_VALUES.format(last=9))
    live = place.ids()
    assert place.maintenance().restore(file) == Restored(JANUARY, IN_OLD - 10, 0, 10)
    assert set(live) <= set(place.ids())


def test_m13_rows_of_people_who_were_deleted_meanwhile_stay_out_and_are_counted(place: Place, file: Path) -> None:
    place.sql("DELETE FROM people WHERE id IN (1, 2)")
    assert place.maintenance().restore(file) == Restored(JANUARY, IN_OLD // 2, IN_OLD // 2)
    assert not place.sql("SELECT 1 FROM visits WHERE person IN (1, 2)")
    place.assert_tidy()


def test_m13_an_archive_comes_back_in_another_database(
    place: Place, file: Path, servers: Servers, tmp_path: Path
) -> None:
    with new_database(servers) as settings:
        furnish(settings, tmp_path / "elsewhere", [])
        with Database(settings) as db:
            elsewhere = Place(settings, db, tmp_path / "elsewhere")
            assert elsewhere.maintenance().restore(file) == Restored(JANUARY, IN_OLD, 0)
            assert elsewhere.ids(JANUARY) == place.archives()["visits_2020_01.parquet"]
            elsewhere.assert_tidy()


def test_m13_an_archive_that_was_restored_already_is_refused(place: Place, file: Path) -> None:
    place.maintenance().restore(file)
    refused = assert_refused(place, file, JANUARY, "restored already", kind=PartitionRefused)
    assert f"dataarch partitions retire {JANUARY}" in refused.hint
    # what the hint says
    place.maintenance().retire([JANUARY])
    assert place.maintenance().restore(file).rows == IN_OLD


def test_m13_a_period_that_has_a_partition_is_refused(place: Place, file: Path) -> None:
    place.maintenance(keep=None).ensure(OLD[:1])
    assert_refused(place, file, JANUARY, "Retire that one first", kind=PartitionRefused)
    place.maintenance().retire([JANUARY])
    assert place.maintenance().restore(file).rows == IN_OLD


def test_m13_a_table_that_was_kept_and_has_the_name_is_refused(place: Place) -> None:
    file = place.maintenance(drop=False).maintain().archives[0]
    assert_refused(place, file, JANUARY, "RENAME TO", kind=PartitionRefused)
    place.sql("ALTER TABLE visits_2020_01 RENAME TO visits_once")
    assert place.maintenance().restore(file).rows == IN_OLD


def test_m13_rows_of_its_time_in_somebodys_default_partition_are_refused(place: Place, file: Path) -> None:
    place.sql("DROP TABLE visits_rest_min")
    place.sql("CREATE TABLE visits_others PARTITION OF visits DEFAULT")
    place.add(5000, old_instant(20), 3)
    refused = assert_refused(place, file, "visits_others", "3 rows", kind=PartitionRefused)
    detach, _, insert = refused.hint.removeprefix("Replace it by catch-alls: ").split("; ")
    place.sql(detach)
    place.maintenance(keep=None).maintain()
    place.sql(insert.removeprefix("then "))
    assert place.maintenance().restore(file).rows == IN_OLD
    assert len(place.ids(JANUARY)) == IN_OLD + 3


def test_m13_beside_a_default_partition_without_such_rows_it_comes_back(place: Place, file: Path) -> None:
    place.sql("DROP TABLE visits_rest_min")
    place.sql("CREATE TABLE visits_others PARTITION OF visits DEFAULT")
    assert place.maintenance().restore(file).rows == IN_OLD


OTHER = Table(
    "events",
    MetaData(),
    Column("id", BigInteger, primary_key=True),
    Column("at", TIMESTAMP(timezone=True), primary_key=True),
    **partitioned("at"),
)


def test_m13_an_archive_of_another_table_is_refused(place: Place, file: Path) -> None:
    place.sql("CREATE TABLE events (id bigint, at timestamptz, PRIMARY KEY (id, at)) PARTITION BY RANGE (at)")
    with pytest.raises(ArchiveError, match=r"visits_2020_01 of visits, .* events") as refused:
        place.maintenance(table=OTHER).restore(file)
    assert refused.value.hint
    assert "events_2020_01" not in place.tables()


@pytest.mark.parametrize("damage", ["truncated", "turned over", "missing", "something else"])
def test_m13_a_damaged_file_is_refused_and_nothing_is_half_done(place: Place, file: Path, damage: str) -> None:
    whole = bytearray(file.read_bytes())
    match damage:
        case "truncated":
            file.write_bytes(whole[: len(whole) // 2])
        case "turned over":
            whole[40] ^= 1
            file.write_bytes(whole)
        case "missing":
            file.unlink()
        case "something else":
            file.write_text("id,at\n1,2020-01-01\n")
    assert_refused(place, file, str(file))
    place.assert_tidy()


def test_m13_a_table_that_gained_columns_gives_them_their_defaults(place: Place, file: Path) -> None:
    place.sql("ALTER TABLE visits ADD COLUMN mood text NOT NULL DEFAULT 'calm', ADD COLUMN place text")
    assert place.maintenance().restore(file).rows == IN_OLD
    assert place.sql("SELECT DISTINCT mood, place FROM visits_2020_01") == [("calm", None)]


def test_m13_a_new_column_that_has_no_default_and_may_not_be_empty_is_named(place: Place, file: Path) -> None:
    place.sql("ALTER TABLE visits ADD COLUMN mood text NOT NULL DEFAULT 'calm'")
    place.sql("ALTER TABLE visits ALTER COLUMN mood DROP DEFAULT")
    refused = assert_refused(place, file, JANUARY, "mood", "default")
    assert refused.column == "mood"
    place.sql("ALTER TABLE visits ALTER COLUMN mood SET DEFAULT 'calm'")
    assert place.maintenance().restore(file).rows == IN_OLD


def test_m13_a_new_rule_that_the_rows_break_is_named(place: Place, file: Path) -> None:
    place.sql("ALTER TABLE visits ADD CONSTRAINT later CHECK (id > 1999)")
    refused = assert_refused(place, file, JANUARY, "later")
    assert refused.constraint is not None


def test_m13_a_table_that_lost_a_column_is_refused_unless_it_is_left_out(place: Place, file: Path) -> None:
    place.sql("ALTER TABLE visits DROP COLUMN note")
    refused = assert_refused(place, file, JANUARY, "note")
    assert "without=['note']" in refused.hint
    assert place.maintenance().restore(file, without=["note"]).rows == IN_OLD
    assert len(place.ids(JANUARY)) == IN_OLD


def test_m13_the_months_of_these_tests_are_gone_before_they_are_restored(place: Place, file: Path) -> None:
    assert file.name == "visits_2020_01.parquet"
    assert not set(OLD_NAMES) & set(place.partitions())
