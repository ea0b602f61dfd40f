"""M13: while a month is retired, everybody else goes on; what they may meet is named."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from threading import Event

import pytest
from sqlalchemy import text

from dataarch.errors import ArchiveError, LockTimeout, PartitionMissing
from dataarch.partitions import retire as retire_module
from dataarch.partitions.archive import write_archive
from dataarch.partitions.maintenance import Maintained
from dataarch.partitions.steps import Retire
from dataarch.partitions.worker import working_on
from fixtures.catalogs import owner_connection
from fixtures.lock_notes import lock_notes
from fixtures.retirement import IN_OLD, OLD, OLD_NAMES, VISITS, Place, old_instant
from fixtures.servers import Servers

pytestmark = pytest.mark.integrity

WAITS = """
SELECT relation::regclass::text, mode FROM pg_locks
WHERE locktype = 'relation' AND database = (SELECT oid FROM pg_database WHERE datname = current_database())
"""


@contextmanager
def beside(work: Callable[[], Maintained]) -> Iterator[Future[Maintained]]:
    """Run a maintenance in a second thread."""
    with ThreadPoolExecutor(1) as pool:
        yield pool.submit(work)


def until(found: Callable[[], object]) -> None:
    """Wait until something is true."""
    deadline = time.monotonic() + 30
    while not found():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def test_m13_a_detach_never_locks_the_table_against_its_readers_and_writers(place: Place) -> None:
    with place.session() as reader:
        reader.execute("SELECT FROM visits")
        seen: set[tuple[str, str]] = set()
        with beside(lambda: place.maintenance(patience=30).maintain()) as retiring:
            until(lambda: place.states().get("visits_2020_01"))
            for number in range(20):
                seen |= {(str(table), str(mode)) for table, mode in place.sql(WAITS)}
                # neither waits, though the maintenance waits for the reader
                place.sql("SET lock_timeout = '1ms'; SELECT count(*) FROM visits")
                place.sql(f"SET lock_timeout = '1ms'; INSERT INTO visits VALUES ({6000 + number}, now(), 1)")
            assert not retiring.done()
            assert "visits_2020_01" in place.partitions()
            reader.execute("ROLLBACK")
            assert retiring.result().retired == OLD_NAMES
    assert ("visits", "AccessExclusiveLock") not in seen
    place.assert_tidy()


@pytest.mark.parametrize("drop", [True, False], ids=["dropped", "kept"])
def test_m13_from_the_detach_to_its_end_a_retirement_holds_no_lock_that_readers_or_writers_would_wait_for(
    place: Place, servers: Servers, drop: bool
) -> None:
    steps = [step for step in place.maintenance(drop=drop).plan().steps if isinstance(step, Retire)]
    with lock_notes(servers, place.settings) as held:
        with working_on(place.db, VISITS) as worker:
            for step in steps:
                retire_module.retire(worker, step, place.folder)
        retired = held()
        # what joins the catch-alls again comes after it, and does hold one
        assert place.maintenance(drop=drop).maintain().retired == []
        joined = held() - retired
    assert [step.partition for step in steps] == OLD_NAMES
    assert {mode for table, mode in retired if table == "visits"} == {"AccessShareLock", "ShareUpdateExclusiveLock"}
    assert {mode for table, mode in retired if table == "visits_2020_01"} >= {"AccessExclusiveLock"}
    assert ("visits", "AccessExclusiveLock") in joined
    place.assert_tidy(*(() if drop else OLD_NAMES))


def test_m13_a_reader_who_comes_when_the_detach_has_begun_makes_nobody_wait(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    # as if a reader came just after the maintenance had looked
    monkeypatch.setattr(retire_module, "_until_quiet", lambda worker, name: None)
    seen: set[tuple[str, str]] = set()
    with place.session() as reader:
        reader.execute("SELECT FROM visits")
        with beside(lambda: place.maintenance(patience=30).maintain()) as retiring:
            until(lambda: place.partitions()["visits_2020_01"].detach_pending)
            seen |= {(str(table), str(mode)) for table, mode in place.sql(WAITS)}
            assert place.sql("SET lock_timeout = '1ms'; SELECT count(*) FROM visits") is not None
            place.sql("SET lock_timeout = '1ms'; INSERT INTO visits VALUES (6000, now(), 1)")
            # the reader's own transaction still sees what it saw
            assert reader.execute("SELECT count(*) FROM visits_2020_01").fetchone() == (IN_OLD,)
            reader.execute("ROLLBACK")
            assert retiring.result().retired == OLD_NAMES
    assert ("visits", "AccessExclusiveLock") not in seen
    place.assert_tidy()


def test_m13_a_row_for_the_month_on_its_way_out_may_be_tried_again_and_is_taken_then(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(retire_module, "_until_quiet", lambda worker, name: None)
    late = text("INSERT INTO visits VALUES (5000, :at, 1, 'late')")
    with place.session() as reader:
        reader.execute("SELECT FROM visits")
        with beside(lambda: place.maintenance(patience=30).maintain()) as retiring:
            until(lambda: place.partitions()["visits_2020_01"].detach_pending)
            with pytest.raises(PartitionMissing) as refused, place.db.owner() as session:
                session.execute(late, {"at": old_instant(3)})
            assert refused.value.table == "visits"
            reader.execute("ROLLBACK")
            retiring.result()
    with place.db.owner() as session:
        session.execute(late, {"at": old_instant(3)})
    assert place.ids("visits_rest_min") == [5000]


def test_m13_somebody_who_reads_all_the_time_ends_the_retirement_with_nothing_changed(place: Place) -> None:
    rows, partitions = place.checksum(), place.partitions()
    with place.session() as reader:
        reader.execute("SELECT FROM visits")
        with pytest.raises(LockTimeout, match=r"visits.* its partition visits_2020_01") as refused:
            place.maintenance(patience=0.3).maintain()
    assert "pg_stat_activity" in refused.value.hint
    assert (place.checksum(), place.partitions(), place.states()) == (rows, partitions, {})
    place.assert_tidy()
    assert place.maintenance().maintain().retired == OLD_NAMES


def test_m13_somebody_who_writes_what_the_table_refers_to_is_waited_for_before_anything_is_done(place: Place) -> None:
    with place.session() as writer:
        writer.execute("UPDATE people SET name = 'Ada' WHERE id = 1")
        with pytest.raises(LockTimeout, match="visits_2020_01"):
            place.maintenance(patience=0.3).maintain()
        assert not place.partitions()["visits_2020_01"].detach_pending
    assert place.maintenance().maintain().retired == OLD_NAMES


def test_m13_a_person_is_deleted_while_a_month_is_archived(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    written, deleted = Event(), Event()

    def slow(*given: object, **named: object) -> object:
        archive = write_archive(*given, **named)  # type: ignore[arg-type]
        written.set()
        assert deleted.wait(20)
        return archive

    monkeypatch.setattr(retire_module, "write_archive", slow)
    with beside(lambda: place.maintenance(patience=5).maintain()) as retiring:
        assert written.wait(20)
        place.sql("SET lock_timeout = '1s'; DELETE FROM people WHERE id = 1")
        deleted.set()
        assert retiring.result().retired == OLD_NAMES
    assert len(place.archives()["visits_2020_01.parquet"]) == IN_OLD
    assert not place.sql("SELECT 1 FROM visits WHERE person = 1")
    place.assert_tidy()


def test_m13_rows_that_somebody_writes_into_a_detached_table_after_its_archive_stop_its_end(place: Place) -> None:
    place.maintenance(drop=False).maintain()
    # as a kill between the archive and the drop leaves it
    note = place.states()["visits_2020_01"].replace('"archived": true, ', "").replace("retired", "retiring")
    note = note.replace('"drop": false', '"drop": true')
    place.sql(f"COMMENT ON TABLE visits_2020_01 IS '{note}'")
    place.sql("INSERT INTO visits_2020_01 VALUES (7000, '2020-01-09 00:00+00', 1)")
    with pytest.raises(ArchiveError, match=r"visits_2020_01 of visits .*says 40, found 41") as refused:
        place.maintenance().maintain()
    assert "move the file away" in refused.value.hint
    assert len(place.ids("visits_2020_01")) == IN_OLD + 1
    (place.folder / "visits_2020_01.parquet").unlink()
    place.maintenance(drop=False).maintain()
    assert len(place.archives()["visits_2020_01.parquet"]) == IN_OLD + 1
    place.assert_tidy("visits_2020_02")


def test_m13_a_kept_table_that_is_archived_is_not_compared_again_when_it_has_its_foreign_keys_back(
    place: Place,
) -> None:
    place.maintenance(drop=False).maintain()
    # as a kill between the foreign keys and the last note leaves it
    note = place.states()["visits_2020_01"].replace("retired", "retiring")
    place.sql(f"COMMENT ON TABLE visits_2020_01 IS '{note}'")
    place.sql("DELETE FROM people WHERE id = 1")
    assert place.maintenance(drop=False).maintain().archives == []
    place.assert_tidy(*OLD_NAMES)


def test_m13_where_a_detach_was_killed_a_late_row_need_not_wait_for_the_archive(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    mark = {"of": "visits", "state": "retiring", "archive": True, "drop": True}
    mark |= {"lower": OLD[0].start.isoformat(), "upper": OLD[0].end.isoformat()}
    place.sql(f"COMMENT ON TABLE visits_2020_01 IS 'dataarch.partitions {json.dumps(mark)}'")
    place.sql("ALTER TABLE visits DETACH PARTITION visits_2020_01")

    def slow(*given: object, **named: object) -> object:
        place.add(7000, old_instant(3), 1)
        monkeypatch.setattr(retire_module, "write_archive", write_archive)
        return write_archive(*given, **named)  # type: ignore[arg-type]

    monkeypatch.setattr(retire_module, "write_archive", slow)
    assert place.maintenance(keep=None).retire(["visits_2020_02"]).retired == ["visits_2020_01", "visits_2020_02"]
    assert 7000 in place.ids()


def test_m13_the_readers_of_a_month_that_goes_see_all_of_it_or_nothing(place: Place) -> None:
    done = Event()

    def read() -> set[int]:
        counts: set[int] = set()
        with owner_connection(place.settings) as connection:
            while not done.is_set():
                found = connection.execute("SELECT count(*) FROM visits WHERE at < '2020-02-01'")
                counts |= {int(str(one)) for (one,) in found}
        return counts

    with ThreadPoolExecutor(1) as pool:
        reader = pool.submit(read)
        try:
            place.maintenance().maintain()
        finally:
            done.set()
        assert reader.result() <= {0, IN_OLD}
