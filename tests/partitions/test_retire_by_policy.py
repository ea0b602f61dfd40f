"""M13: what the policy no longer keeps leaves its table, for an archive or a table of its own; the rest stays."""

from __future__ import annotations

from pathlib import Path

import psycopg
import pytest

from dataarch.clock import Grain, Period, utcnow
from dataarch.database.unit_of_work import Database
from dataarch.errors import PartitionRefused
from dataarch.models import Base, UserActivity
from dataarch.models.partitioning import Policy
from dataarch.partitions.archive import read_archive
from dataarch.partitions.maintenance import Maintenance
from fixtures.months import add_writer, owner, write
from fixtures.retirement import IN_OLD, OLD, OLD_NAMES, VISITS, Place, old_instant
from fixtures.servers import libpq

pytestmark = pytest.mark.integrity


@pytest.mark.parametrize("archive", [True, False], ids=["archived", "not archived"])
@pytest.mark.parametrize("drop", [True, False], ids=["dropped", "kept"])
def test_old_months_are_archived_and_dropped_or_kept_as_the_policy_says(
    place: Place, *, archive: bool, drop: bool
) -> None:
    before = {name: place.checksum(name) for name in OLD_NAMES}
    rest = place.checksum("(SELECT * FROM visits WHERE at > '2021-01-01') AS late")
    done = place.maintenance(archive=archive, drop=drop).maintain()
    assert done.retired == OLD_NAMES
    assert [file.name for file in done.archives] == ([f"{name}.parquet" for name in OLD_NAMES] if archive else [])
    assert place.checksum() == rest
    assert [len(ids) for ids in place.archives().values()] == ([IN_OLD, IN_OLD] if archive else [])
    for name in OLD_NAMES if not drop else ():
        assert place.checksum(name) == before[name]
    place.assert_tidy(*(() if drop else OLD_NAMES))
    assert place.maintenance(archive=archive, drop=drop).maintain().retired == []


def test_an_archive_holds_the_rows_that_were_detached_and_says_which_partition_it_was(place: Place) -> None:
    rows = place.ids("visits_2020_01")
    file, _ = place.maintenance().maintain().archives
    said = read_archive(file)
    assert (said.of.parent, said.of.partition) == ("visits", "visits_2020_01")
    assert (said.of.lower, said.of.upper) == (OLD[0].start, OLD[0].end)
    assert place.archives()["visits_2020_01.parquet"] == rows


def test_the_months_that_the_policy_keeps_stay(place: Place) -> None:
    rows = place.checksum()
    assert place.maintenance(keep=None).maintain().retired == []
    assert place.maintenance(keep=1200).maintain().retired == []
    assert place.checksum() == rows


def test_rows_that_come_late_are_archived_in_a_second_file(place: Place) -> None:
    place.maintenance().maintain()
    place.add(5000, old_instant(3), 3)
    assert place.sql("SELECT DISTINCT tableoid::regclass::text FROM visits WHERE id >= 5000 AND id < 6000") == [
        ("visits_rest_min",)
    ]
    done = place.maintenance().maintain()
    assert (done.retired, [file.name for file in done.archives]) == (["visits_2020_01"], ["visits_2020_01.2.parquet"])
    assert place.archives()["visits_2020_01.2.parquet"] == [5000, 5001, 5002]
    assert len(place.archives()["visits_2020_01.parquet"]) == IN_OLD
    place.assert_tidy()


def test_rows_that_come_late_stay_in_the_catch_all_beside_a_kept_table(place: Place) -> None:
    place.maintenance(drop=False).maintain()
    place.add(5000, old_instant(3), 3)
    for drop in (False, True):
        assert place.maintenance(drop=drop).maintain().retired == []
    assert place.ids("visits_rest_min") == [5000, 5001, 5002]
    place.assert_tidy(*OLD_NAMES)


def test_retiring_by_name_takes_what_the_policy_would_keep_and_nothing_else(place: Place) -> None:
    done = place.maintenance(keep=None).retire(["visits_2020_02"])
    assert done.retired == ["visits_2020_02"]
    assert place.archives() == {"visits_2020_02.parquet": [2000 + n for n in range(IN_OLD)]}
    assert "visits_2020_01" in place.partitions()
    place.assert_tidy()


def test_late_rows_of_a_month_that_was_retired_by_name_and_kept_disturb_no_maintenance(place: Place) -> None:
    work = place.maintenance(keep=None, drop=False)
    work.retire(["visits_2020_02"])
    place.add(5000, old_instant(3, month=2), 3)
    assert work.maintain().retired == []
    assert len(place.ids("visits_rest_2020_02")) == 3


@pytest.mark.parametrize("name", ["visits_rest_min", "{present}", "{next}", "visits_1999_01", "people"])
def test_a_catch_all_the_present_the_future_and_strangers_are_not_retired(place: Place, name: str) -> None:
    present = Period.of(utcnow(), Grain.MONTH)
    name = name.format(present=f"visits_{present}", next=f"visits_{present.plus(1)}")
    rows, partitions = place.checksum(), place.partitions()
    with pytest.raises(PartitionRefused, match=name) as refused:
        place.maintenance().retire(["visits_2020_01", name])
    assert "visits" in str(refused.value)
    assert refused.value.hint
    assert (place.checksum(), place.partitions()) == (rows, partitions)
    assert {f"visits_{present}", f"visits_{present.plus(1)}"} <= set(partitions)


def test_a_partition_that_is_named_twice_is_retired_once(place: Place) -> None:
    assert place.maintenance(keep=None).retire(["visits_2020_01", "visits_2020_01"]).retired == ["visits_2020_01"]


def test_a_kept_table_still_loses_the_rows_of_people_who_are_deleted(place: Place) -> None:
    for archive in (True, False):
        place.maintenance(keep=None, archive=archive, drop=False).retire([OLD_NAMES[archive]])
    place.sql("DELETE FROM people WHERE id = 1")
    for name in OLD_NAMES:
        assert place.sql(f"SELECT count(*) FROM {name} WHERE person = 1") == [(0,)]
        assert len(place.ids(name)) == IN_OLD * 3 // 4


def test_with_somebodys_default_partition_the_month_is_detached_under_a_bounded_lock(place: Place) -> None:
    gap = place.partitions()["visits_rest_min"]
    place.sql("DROP TABLE visits_rest_min")
    place.sql("CREATE TABLE visits_others PARTITION OF visits DEFAULT")
    assert gap.upper == OLD[0].start
    rows = place.checksum("visits_2020_01")
    assert place.maintenance(drop=False).maintain().retired == OLD_NAMES
    assert place.checksum("visits_2020_01") == rows
    place.add(5000, old_instant(3), 1)
    assert place.ids("visits_others") == [5000]


def test_a_kept_month_of_the_log_is_read_by_nobody_but_the_owner(db: Database, tmp_path: Path) -> None:
    with owner(db.settings) as connection:
        writer = add_writer(connection)
        present = Period.of(utcnow(), Grain.MONTH)
        write(connection, writer, *([old_instant(3)] * 5), *(present.plus(-ago).start for ago in (1, 2)))
        log = Base.metadata.tables["user_activity_log"]
        Maintenance(db, log, policy=Policy(keep=None)).maintain()
        work = Maintenance(db, log, policy=Policy(keep=2, drop=False), archive_dir=tmp_path)
        assert work.maintain().retired == ["user_activity_log_2020_01"]
        found = connection.execute(
            "SELECT relrowsecurity, relacl::text, (SELECT count(*) FROM pg_policy WHERE polrelid = pg_class.oid)"
            " FROM pg_class WHERE relname = 'user_activity_log_2020_01'"
        ).fetchone()
        assert connection.execute("SELECT count(*) FROM user_activity_log_2020_01").fetchone() == (5,)
    assert found is not None
    assert found[0] is True
    assert "dataarch_app" not in (found[1] or "")
    assert found[2] > 0
    application = libpq(str(db.settings.database_url))
    with psycopg.connect(application) as connection, pytest.raises(psycopg.errors.InsufficientPrivilege):
        connection.execute("SELECT FROM user_activity_log_2020_01")
    with db.tenant(writer.tenant_id) as session:
        assert session.query(UserActivity).count() == 2


def test_the_table_of_these_tests_declares_its_partitions(place: Place) -> None:
    assert place.maintenance().table is VISITS
