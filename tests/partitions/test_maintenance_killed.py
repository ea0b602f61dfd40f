"""M13: a maintenance that is killed before any of its steps is finished by the next one, and no row is lost or doubled.

Each scenario is killed before some six of its steps, evenly spread; where they begin is drawn for each run, so that
many runs see every step. Where ``DATAARCH_TEST_EVERY_KILL`` is set, one sees them all. A step is a statement that is
sent, or a change of a file.
"""

from __future__ import annotations

import json
import os
import random
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psycopg
import pytest

from dataarch.database.settings import Settings
from dataarch.database.unit_of_work import Database
from fixtures.catalogs import owner_connection
from fixtures.databases import ROOT
from fixtures.retirement import IN_OLD, OLD, Place, furnish, old_instant

pytestmark = pytest.mark.integrity

EVERY = "DATAARCH_TEST_EVERY_KILL" in os.environ
"""Looked at once: a test sees none of these variables."""

KILLS = 6

JANUARY = list(range(1000, 1000 + IN_OLD))
TODAY = list(range(9000, 9010))


class Killer:
    """Runs maintenances that kill themselves."""

    def __init__(self, settings: Settings) -> None:
        self.settings = {
            "database_url": str(settings.database_url),
            "owner_url": str(settings.owner_url),
            "redis_url": settings.redis_url,
        }
        path = os.pathsep.join([str(ROOT / "tests"), str(Path(__file__).parent)])
        self.process = subprocess.Popen(
            [sys.executable, str(Path(__file__).with_name("killing_server.py"))],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env={**os.environ, "PYTHONPATH": path},
        )

    def run(self, scenario: str, place: Place, at: int | None = None) -> dict[str, Any]:
        """Run a scenario until its ``at``-th step, or to its end; return how many steps that were, if it came there."""
        asked = {"scenario": scenario, "at": at, "folder": str(place.folder), "settings": self.settings}
        assert self.process.stdin
        assert self.process.stdout
        self.process.stdin.write(json.dumps(asked) + "\n")
        self.process.stdin.flush()
        answer: dict[str, Any] = json.loads(self.process.stdout.readline())
        assert "error" not in answer, answer
        return answer

    def end(self) -> None:
        """End the program."""
        self.process.communicate()


@pytest.fixture(scope="module")
def killer(retirement_database: Settings) -> Iterator[Killer]:
    """A program that forks maintenances."""
    killer = Killer(retirement_database)
    yield killer
    killer.end()


Arrange = Callable[[Place], None]
Scene = Callable[[Arrange], Place]


@pytest.fixture
def scene(retirement_database: Settings, tmp_path: Path) -> Iterator[Scene]:
    """The table with one old month, made anew as often as it is asked for."""
    with Database(retirement_database) as db:
        folders = iter(range(10_000))

        def made(arrange: Arrange) -> Place:
            folder = tmp_path / str(next(folders))
            furnish(retirement_database, folder, OLD[:1])
            place = Place(retirement_database, db, folder)
            arrange(place)
            return place

        yield made


def nothing(place: Place) -> None:
    """Leave the table as it is made."""


def drawn(steps: int) -> range:
    """Return the steps before which a scenario is killed."""
    stride = 1 if EVERY else -(-steps // KILLS)
    return range(random.randint(1, stride), steps + 1, stride)


def test_the_steps_before_which_a_scenario_is_killed_are_all_of_them_after_some_runs() -> None:
    for steps in (KILLS + 1, 37, 120):
        runs = [drawn(steps) for _ in range(500)]
        assert set().union(*runs) == set(range(1, steps + 1))
        assert max(map(len, runs)) <= (steps if EVERY else KILLS)


def after_each_kill(
    killer: Killer, scenario: str, scene: Scene, check: Callable[[Place], None], arrange: Arrange = nothing
) -> None:
    """Check the table after each kill of a scenario, and where it has run through."""
    whole = scene(arrange)
    steps = killer.run(scenario, whole)["steps"]
    check(whole)
    assert steps > KILLS
    kills = drawn(steps)
    for at in kills:
        place = scene(arrange)
        where = f"step {at} of {steps}; this run drew {kills}"
        assert killer.run(scenario, place, at) == {}, f"not killed before {where}"
        try:
            check(place)
        except Exception as error:
            error.add_note(f"killed before {where}")
            raise


def test_m13_a_retirement_killed_at_any_step_is_finished_by_the_next_maintenance(killer: Killer, scene: Scene) -> None:
    def check(place: Place) -> None:
        if "visits_2020_01" not in place.partitions() and "visits_2020_01" not in place.tables():
            assert place.archived() == JANUARY
        place.maintenance().maintain()
        place.assert_tidy()
        assert (place.ids(), place.archived()) == (TODAY, JANUARY)
        assert list(place.archives()) == ["visits_2020_01.parquet"]

    after_each_kill(killer, "retire", scene, check)


def test_m13_a_retirement_that_keeps_its_table_is_finished_after_a_kill(killer: Killer, scene: Scene) -> None:
    def check(place: Place) -> None:
        place.maintenance(drop=False).maintain()
        place.assert_tidy("visits_2020_01")
        assert (place.ids(), place.archived(), place.ids("visits_2020_01")) == (TODAY, JANUARY, JANUARY)
        assert place.sql("SELECT count(*) FROM pg_constraint WHERE conrelid = 'visits_2020_01'::regclass") > [(1,)]

    after_each_kill(killer, "keep", scene, check)


def test_m13_a_retirement_by_name_is_finished_after_a_kill_once_it_was_begun(killer: Killer, scene: Scene) -> None:
    def check(place: Place) -> None:
        # it was asked for by name, so it is only finished if it came to be noted
        place.maintenance(keep=None).maintain()
        place.assert_tidy()
        assert place.archived() == []
        assert place.ids() in (JANUARY + TODAY, TODAY)
        place.maintenance(keep=None, archive=False).maintain()
        if "visits_2020_01" in place.partitions():
            place.maintenance(keep=None, archive=False).retire(["visits_2020_01"])
        assert place.ids() == TODAY

    after_each_kill(killer, "drop", scene, check)


@pytest.mark.parametrize("rows", [50, 1500], ids=["few rows", "many rows, copied beforehand"])
def test_m13_months_that_are_made_when_the_kill_comes_are_made_by_the_next_maintenance(
    killer: Killer, scene: Scene, rows: int
) -> None:
    before = list(range(10_001, 10_001 + rows))
    everything = sorted(before + JANUARY + TODAY)

    def check(place: Place) -> None:
        assert place.ids() == everything
        place.maintenance(keep=None).maintain()
        place.assert_tidy()
        assert place.ids() == everything
        assert place.ids("visits_2019_05") == before
        assert place.ids("visits_rest_min") == []

    def arrange(place: Place) -> None:
        place.sql(
            "INSERT INTO visits SELECT n, timestamptz '2019-05-02 00:00+00' + n * interval '1 second', 1, 'x'"
            f" FROM generate_series(10001, 10000 + {rows}) AS n"
        )

    after_each_kill(killer, "ensure", scene, check, arrange)


def test_m13_a_restore_killed_at_any_step_brings_all_rows_back_or_none(killer: Killer, scene: Scene) -> None:
    # the visits of person 1, who is deleted, stay in the archive
    left, rest = [[one for one in ids if one % 4] for ids in (JANUARY, [5000, 5001, *TODAY])]

    def arrange(place: Place) -> None:
        place.maintenance().maintain()
        place.add(5000, old_instant(20), 2)
        place.sql("DELETE FROM people WHERE id = 1")

    def check(place: Place) -> None:
        assert place.ids() in (rest, left + rest)
        place.maintenance(drop=False).maintain()
        place.assert_tidy()
        if place.ids() == rest:
            restored = place.maintenance().restore(place.folder / "visits_2020_01.parquet")
            assert (restored.rows, restored.orphans) == (len(left), IN_OLD - len(left))
        place.assert_tidy()
        assert (place.ids(), place.archived()) == (left + rest, JANUARY)
        # no policy retires it again
        assert place.maintenance().maintain().retired == []

    after_each_kill(killer, "restore", scene, check, arrange)


@pytest.mark.parametrize("ours", [True, False], ids=["by a retirement", "by somebody else"])
def test_m13_a_detach_that_was_interrupted_between_its_transactions_is_finished(place: Place, *, ours: bool) -> None:
    mark = {"of": "visits", "state": "retiring", "archive": True, "drop": True}
    bounds = {"lower": OLD[0].start.isoformat(), "upper": OLD[0].end.isoformat()}
    with owner_connection(place.settings) as connection, place.session() as reader:
        if ours:
            connection.execute(f"COMMENT ON TABLE visits_2020_01 IS 'dataarch.partitions {json.dumps(mark | bounds)}'")
        reader.execute("SELECT FROM visits")
        connection.execute("SET lock_timeout = '100ms'")
        with pytest.raises(psycopg.errors.LockNotAvailable):
            connection.execute("ALTER TABLE visits DETACH PARTITION visits_2020_01 CONCURRENTLY")
    assert place.partitions()["visits_2020_01"].detach_pending
    place.maintenance(keep=None, archive=False, drop=False).maintain()
    assert not any(one.detach_pending for one in place.partitions().values())
    place.add(5000, old_instant(3), 1)
    assert place.archived() == (JANUARY if ours else [])
    assert ("visits_2020_01" in place.tables()) is not ours
    place.assert_tidy(*(() if ours else ("visits_2020_01",)))
