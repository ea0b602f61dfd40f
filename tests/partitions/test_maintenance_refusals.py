"""M13: what stands in the way is named, with its table, its partition and a remedy that works; no row is lost by it."""

from __future__ import annotations

import resource
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import psycopg
import pytest

from dataarch.clock import Grain, Period, utcnow
from dataarch.database.unit_of_work import Database
from dataarch.errors import (
    ArchiveError,
    ClockImplausible,
    ConfigurationError,
    DataArchError,
    DependencyMissing,
    PartitionRefused,
    PrivilegeMissing,
    SchemaNotMigrated,
)
from dataarch.partitions import maintenance as maintenance_module
from fixtures.retirement import IN_OLD, OLD, OLD_NAMES, Place, old_instant
from fixtures.servers import Servers, libpq

pytestmark = pytest.mark.integrity

THIS_MONTH = Period.of(utcnow(), Grain.MONTH)
FAR = THIS_MONTH.plus(3)
"""A month that the maintenance of these tests makes with ``premake=3`` only."""


@contextmanager
def refused(place: Place, kind: type[DataArchError], *said: str) -> Iterator[pytest.ExceptionInfo[DataArchError]]:
    """Assert that a refusal says these words, has a remedy, and loses no row: it may be in an archive now."""
    rows = sorted(place.ids() + place.archived())
    with pytest.raises(kind) as error:
        yield error
    for one in said:
        assert one in str(error.value)
    assert error.value.hint
    assert error.value.table
    assert sorted(place.ids() + place.archived()) == rows
    assert not [note for note in place.states().values() if "retiring" in note]


def followed(place: Place, hint: str) -> None:
    """Do what a hint says, statement by statement."""
    for part in hint.split(": ", 1)[1].split("; "):
        statement = part.strip().removeprefix("then ")
        if statement == "`dataarch partitions maintain`":
            place.maintenance(premake=3, keep=None).maintain()
        else:
            place.sql(statement)


# ── partitions that somebody made ─────────────────────────────────────────────────────────────────────────────────


def test_m13_a_partition_by_hand_across_a_month_is_named_and_everything_else_is_made(place: Place) -> None:
    rest = next(one for one in place.partitions().values() if one.upper is None)
    assert rest.lower is not None
    place.sql(f"DROP TABLE {rest.name}")
    place.sql(
        f"CREATE TABLE winter PARTITION OF visits FOR VALUES FROM ('{rest.lower.isoformat()}')"
        f" TO ('{(FAR.end + timedelta(days=40)).isoformat()}')"
    )
    place.add(7000, FAR.start, 5)
    with refused(place, PartitionRefused, str(FAR.plus(-1)), "winter", "visits") as error:
        place.maintenance(premake=3, keep=None).maintain()
    assert place.partitions()["visits_rest_min"].lower is None
    place.add(8000, FAR.end + timedelta(days=60), 1)
    followed(place, error.value.hint)
    assert place.ids(f"visits_{FAR}") == [7000, 7001, 7002, 7003, 7004]
    place.assert_tidy("winter")


def test_m13_a_month_that_has_a_name_of_somebodys_own_is_taken_as_it_is(place: Place) -> None:
    place.sql("ALTER TABLE visits_2020_01 RENAME TO first_month")
    rows = place.checksum()
    assert place.maintenance(keep=None).ensure(OLD).made == []
    assert place.maintenance(drop=False).maintain().retired == ["first_month", "visits_2020_02"]
    everywhere = "SELECT * FROM first_month UNION ALL SELECT * FROM visits_2020_02 UNION ALL SELECT * FROM visits"
    assert place.checksum(f"({everywhere}) AS everywhere") == rows
    assert (len(place.ids("first_month")), len(place.ids("visits_2020_02"))) == (IN_OLD, IN_OLD)
    place.assert_tidy("first_month", "visits_2020_02")


def test_m13_rows_in_somebodys_default_partition_are_named_and_can_be_brought_back(place: Place) -> None:
    rest = next(one for one in place.partitions().values() if one.upper is None)
    place.sql(f"DROP TABLE {rest.name}")
    place.sql("CREATE TABLE others PARTITION OF visits DEFAULT")
    place.add(7000, FAR.start, 5)
    with refused(place, PartitionRefused, "others", "visits", "5 rows", str(FAR)) as error:
        place.maintenance(premake=3, keep=None).maintain()
    # what has no rows in it is made
    assert f"visits_{FAR.plus(-1)}" in place.partitions()
    followed(place, error.value.hint)
    assert place.ids(f"visits_{FAR}") == [7000, 7001, 7002, 7003, 7004]
    place.assert_tidy("others")


def test_m13_a_table_with_the_name_of_a_month_is_named(place: Place) -> None:
    name = f"visits_{FAR}"
    place.sql(f"CREATE TABLE {name} (LIKE visits INCLUDING ALL)")
    with refused(place, PartitionRefused, name, "visits", "RENAME TO"):
        place.maintenance(premake=3, keep=None).maintain()
    place.sql(f"ALTER TABLE {name} RENAME TO something")
    place.maintenance(premake=3, keep=None).maintain()
    place.assert_tidy("something")


def test_m13_a_partition_in_another_schema_is_not_retired(place: Place) -> None:
    place.sql("CREATE SCHEMA IF NOT EXISTS attic")
    place.sql("ALTER TABLE visits_2020_01 SET SCHEMA attic")
    with refused(place, PartitionRefused, "visits_2020_01", "visits", "attic") as error:
        place.maintenance().maintain()
    followed(place, error.value.hint)
    assert place.maintenance().maintain().retired == OLD_NAMES[:1]
    place.sql("DROP SCHEMA attic")


def test_m13_a_partition_that_is_partitioned_itself_is_not_archived(place: Place) -> None:
    place.sql("DROP TABLE visits_2020_01")
    place.sql(
        "CREATE TABLE visits_2020_01 PARTITION OF visits FOR VALUES FROM ('2020-01-01 00:00+00')"
        " TO ('2020-02-01 00:00+00') PARTITION BY RANGE (id)"
    )
    place.sql("CREATE TABLE part PARTITION OF visits_2020_01 DEFAULT")
    place.add(7000, old_instant(3), 3)
    with refused(place, PartitionRefused, "visits_2020_01", "visits", "DETACH PARTITION"):
        place.maintenance().maintain()


def test_m13_a_partition_that_a_view_reads_is_not_detached_and_all_others_are(place: Place) -> None:
    place.sql("CREATE VIEW january AS SELECT * FROM visits_2020_01")
    with refused(place, PartitionRefused, "visits_2020_01", "visits", "january"):
        place.maintenance(premake=3).maintain()
    # each time
    done = place.maintenance(premake=4).attempt()
    assert [problem.table for problem in done.problems] == ["visits_2020_01"]
    assert "visits_2020_01" in place.partitions()
    assert place.archives() == {"visits_2020_02.parquet": [2000 + n for n in range(IN_OLD)]}
    assert {f"visits_{FAR}", f"visits_{FAR.plus(1)}"} <= set(place.partitions())
    place.assert_tidy()
    place.sql("CREATE OR REPLACE VIEW january AS SELECT * FROM visits")
    assert place.maintenance().maintain().retired == OLD_NAMES[:1]


def test_m13_a_table_with_the_name_of_a_month_holds_no_retirement_up(place: Place) -> None:
    place.sql(f"CREATE TABLE visits_{FAR} (LIKE visits INCLUDING ALL)")
    done = place.maintenance(premake=3).attempt()
    assert [(type(problem), problem.table) for problem in done.problems] == [(PartitionRefused, f"visits_{FAR}")]
    assert done.retired == OLD_NAMES


def test_m13_rows_that_cannot_be_moved_hold_no_retirement_up_and_leave_nothing_behind(place: Place) -> None:
    place.add(7000, old_instant(3).replace(year=2019), 5)
    place.sql("ALTER TABLE visits ADD CONSTRAINT late CHECK (at > '2019-06-01') NOT VALID")
    done = place.maintenance(patience=1).attempt()
    assert [problem.constraint for problem in done.problems] == ["late"]
    assert done.retired == OLD_NAMES
    assert place.ids("visits_rest_min") == [7000, 7001, 7002, 7003, 7004]
    assert place.tables() == {"people", "visits"}


def test_m13_a_table_that_others_refer_to_is_not_retired(place: Place) -> None:
    place.sql("CREATE TABLE notes (id bigint, at timestamptz, FOREIGN KEY (id, at) REFERENCES visits (id, at))")
    with refused(place, PartitionRefused, "visits", "notes", "foreign key"):
        place.maintenance().maintain()
    assert set(OLD_NAMES) <= set(place.partitions())


def test_m13_a_table_that_is_not_there_is_named(place: Place) -> None:
    place.sql("DROP TABLE visits")
    for work in (place.maintenance().maintain, place.maintenance().plan):
        with pytest.raises(SchemaNotMigrated, match="visits"):
            work()


def test_m13_a_table_that_is_partitioned_otherwise_is_named(place: Place) -> None:
    place.sql("DROP TABLE visits")
    place.sql("CREATE TABLE visits (id bigint, at timestamptz) PARTITION BY LIST (id)")
    with pytest.raises(PartitionRefused, match=r"visits is partitioned by LIST \(id\).*RANGE \(at\)"):
        place.maintenance().maintain()


# ── clocks ────────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("apart", [-365, -2, 2, 36500], ids=lambda days: f"{days} days")
def test_m13_nothing_is_made_or_retired_where_two_clocks_disagree(
    place: Place, monkeypatch: pytest.MonkeyPatch, apart: int
) -> None:
    monkeypatch.setattr(maintenance_module, "utcnow", lambda: utcnow() + timedelta(days=apart))
    partitions = place.partitions()
    for work in (
        place.maintenance(premake=3).maintain,
        place.maintenance(premake=3).ensure,
        place.maintenance().plan,
        lambda: place.maintenance().retire(["visits_2020_01"]),
    ):
        with refused(place, ClockImplausible, "visits", "clock"):
            work()
    assert place.partitions() == partitions


@pytest.mark.parametrize("wrong", [0, 1], ids=["no row since", "one row that a wrong clock has dated"])
@pytest.mark.parametrize("keep", [0, 1, 12])
def test_m13_where_the_log_does_not_go_on_behind_the_present_no_row_is_retired(
    place: Place, keep: int, wrong: int
) -> None:
    place.sql("DELETE FROM visits WHERE at > '2021-01-01'")
    place.add(9000, utcnow(), wrong)
    with refused(place, ClockImplausible, "visits", "has no row from", "server's clock", str(utcnow().date())) as error:
        place.maintenance(premake=3, keep=keep).maintain()
    # everything else is done
    assert f"visits_{FAR}" in place.partitions()
    # who retires nothing has no trouble
    assert f"visits_{FAR.plus(1)}" in place.maintenance(premake=4, keep=keep).ensure().made
    command, names = error.value.hint.split("dataarch partitions retire ")
    assert "Check the server's clock" in command
    assert set(OLD_NAMES) <= set(place.maintenance(keep=keep).retire(names.split()).retired)
    assert place.maintenance(keep=keep).maintain().problems == ()


def test_m13_a_clock_that_has_been_wrong_for_a_while_retires_no_row(place: Place) -> None:
    place.sql("DELETE FROM visits WHERE at > '2021-01-01'")
    for ago in range(3):
        place.add(9000 + ago, THIS_MONTH.plus(-ago).start, 1)
    with refused(place, ClockImplausible, "visits"):
        place.maintenance(keep=12).maintain()


def test_m13_a_server_whose_clock_is_decades_behind_makes_and_retires_nothing(place: Place) -> None:
    # as it is for somebody whose clock was right when that partition was made
    decades = THIS_MONTH.plus(12 * 25)
    rest = next(one for one in place.partitions().values() if one.upper is None)
    place.sql(f"DROP TABLE {rest.name}")
    place.sql(
        f"CREATE TABLE visits_{decades} PARTITION OF visits FOR VALUES FROM ('{decades.start.isoformat()}')"
        f" TO ('{decades.end.isoformat()}')"
    )
    place.add(7000, decades.start, 1)
    with refused(place, ClockImplausible, "visits", f"visits_{decades}", "which cannot be", str(utcnow().date())):
        place.maintenance(premake=3).maintain()
    assert f"visits_{FAR}" not in place.partitions()
    assert set(OLD_NAMES) <= set(place.partitions())


def test_m13_an_hour_between_two_clocks_is_nothing(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(maintenance_module, "utcnow", lambda: utcnow() + timedelta(hours=1))
    assert place.maintenance().maintain().retired == OLD_NAMES


# ── privileges ────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.fixture
def poor(place: Place, servers: Servers) -> Iterator[Place]:
    """The table, owned by a role that may do nothing else."""
    role = f"{place.settings.owner.database}_poor"
    admin = psycopg.connect(libpq(servers.admin.set(database=place.settings.owner.database)), autocommit=True)
    admin.execute(f"CREATE ROLE {role} LOGIN")
    # so that the test itself may look
    admin.execute(f"GRANT {role} TO {place.settings.owner.username}")
    admin.execute(f"ALTER TABLE visits OWNER TO {role}")
    for name in place.partitions():
        admin.execute(f"ALTER TABLE {name} OWNER TO {role}")
    admin.execute(f"GRANT CREATE, USAGE ON SCHEMA public TO {role}")
    admin.execute(f"GRANT ALL ON people TO {role}")
    settings = place.settings.model_copy(update={"owner_url": servers.login(role, str(place.settings.owner.database))})
    try:
        with Database(settings) as db:
            yield replace(place, db=db)
    finally:
        admin.execute(f"REASSIGN OWNED BY {role} TO {place.settings.owner.username}; DROP OWNED BY {role}")
        admin.execute(f"GRANT TEMPORARY ON DATABASE {place.settings.owner.database} TO PUBLIC")
        admin.execute(f"DROP ROLE {role}")
        admin.close()


def test_m13_a_role_that_does_not_own_the_table_may_not_maintain_it(place: Place) -> None:
    application = place.settings.model_copy(update={"owner_url": place.settings.database_url})
    with Database(application) as db:
        work = replace(place.maintenance(), db=db)
        with refused(place, PrivilegeMissing, "visits", "DATAARCH_OWNER_URL"):
            work.maintain()
        with refused(place, PrivilegeMissing, "visits"):
            work.restore(place.folder / "x.parquet")


def test_m13_an_owner_who_owns_nothing_else_may_maintain_it(poor: Place) -> None:
    done = poor.maintenance(premake=3).maintain()
    assert done.retired == OLD_NAMES
    assert poor.maintenance().restore(done.archives[0]).rows == IN_OLD
    poor.assert_tidy()


@pytest.mark.parametrize(
    ("taken", "said"),
    [
        ("CREATE ON SCHEMA public FROM {role}, PUBLIC", "tables in the schema public"),
        ("TEMPORARY ON DATABASE {database} FROM {role}, PUBLIC", "temporary tables"),
    ],
)
def test_m13_an_owner_who_may_make_no_tables_is_told_which_grant_is_missing(poor: Place, taken: str, said: str) -> None:
    names = {"role": f"{poor.settings.owner.database}_poor", "database": poor.settings.owner.database}
    poor.sql(f"REVOKE {taken.format(**names)}")
    partitions = poor.partitions()
    with refused(poor, PrivilegeMissing, "visits", said, "GRANT") as error:
        poor.maintenance(premake=3).maintain()
    assert poor.partitions() == partitions
    followed(poor, error.value.hint)
    assert poor.maintenance().maintain().retired == OLD_NAMES


def test_m13_an_owner_who_may_not_lock_another_table_is_told_what_was_not_done(poor: Place) -> None:
    poor.sql(f"REVOKE ALL ON people FROM {poor.settings.owner.database}_poor")
    with refused(poor, PrivilegeMissing, "visits", f"visits_{FAR}", "people"):
        poor.maintenance(premake=3, keep=None).maintain()


# ── the folder of the archives ────────────────────────────────────────────────────────────────────────────────────


def folders(place: Place) -> dict[str, Path | None]:
    """Folders that take no archive."""
    (place.folder / "file").touch()
    return {
        "none": None,
        "missing": place.folder / "missing",
        "a file": place.folder / "file",
        # nobody may write there, not even root
        "read-only": Path("/proc/sys/kernel"),
    }


@pytest.mark.parametrize("kind", ["none", "missing", "a file", "read-only"])
def test_m13_a_folder_that_takes_no_archive_is_named_before_anything_is_detached(place: Place, kind: str) -> None:
    folder = folders(place)[kind]
    partitions = place.partitions()
    work = replace(place.maintenance(premake=3), archive_dir=folder)
    with refused(place, ConfigurationError, "visits_2020_01", "visits", str(folder or "DATAARCH_ARCHIVE_DIR")):
        work.maintain()
    # months are made all the same
    assert f"visits_{FAR}" in place.partitions()
    assert {name: one.bounds for name, one in place.partitions().items() if name in OLD_NAMES} == {
        name: one.bounds for name, one in partitions.items() if name in OLD_NAMES
    }
    assert place.maintenance().maintain().retired == OLD_NAMES


def test_m13_a_full_folder_is_named_and_the_rows_stay_in_the_database(place: Place) -> None:
    january = place.checksum("visits_2020_01")
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    # as on a full disk, a file ends after some bytes
    resource.setrlimit(resource.RLIMIT_FSIZE, (512, hard))
    try:
        with pytest.raises(ArchiveError, match=r"visits_2020_01 of visits .* full") as error:
            place.maintenance(premake=3).maintain()
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert "Free space" in error.value.hint
    assert list(place.folder.iterdir()) == []
    assert place.checksum("visits_2020_01") == january
    # a row that comes late finds its place, and the next run goes on
    place.add(7000, old_instant(3), 1)
    assert place.ids("visits_rest_2020_01") == [7000]
    with pytest.raises(ConfigurationError, match="visits_2020_01"):
        replace(place.maintenance(premake=4), archive_dir=place.folder / "missing").maintain()
    assert f"visits_{FAR.plus(1)}" in place.partitions()
    assert place.maintenance().maintain().retired == ["visits_2020_01", "visits_2020_02", "visits_2020_01"]
    assert place.archived() == sorted([*(n + m for m in (1000, 2000) for n in range(IN_OLD)), 7000])
    place.assert_tidy()


def test_m13_without_the_library_for_archives_nothing_is_detached(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "pyarrow.csv", None)
    with pytest.raises(DependencyMissing, match="pip install"):
        place.maintenance().maintain()
    assert set(OLD_NAMES) <= set(place.partitions())
    assert place.states() == {}
