"""A run that is killed, doubled, or loses its server is finished by the next, and writes no row twice."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from threading import Thread
from threading import enumerate as enumerate_threads

import pytest

from dataarch.errors import BackfillBusy, DataArchError, ServerUnreachable
from dataarch.rollout.backfill import Limits, Options, Outcome, Pace, Progress, run, verify
from dataarch.rollout.backfill.session import session
from fixtures.caches import until
from fixtures.clusters import Cluster, own_cluster
from fixtures.databases import ROOT
from fixtures.interrupts import CtrlC
from rollout.backfill.backfill_support import SETS, SMALL, Ground, count_updates, ground_of, not_done

pytestmark = pytest.mark.migration

ROUNDS = int(os.environ.get("DATAARCH_KILL_ROUNDS", "4"))
BRIEF = Pace(seconds=0.005, most=300, first=100)


def started(ground: Ground, name: str, workers: int) -> subprocess.Popen[str]:
    kept = {one: value for one, value in os.environ.items() if not one.startswith("DATAARCH_")}
    process = subprocess.Popen(
        [sys.executable, "-m", "rollout.backfill.killed_backfill", name, str(workers)],
        cwd=ROOT / "tests",
        env={
            **kept,
            "DATAARCH_OWNER_URL": str(ground.settings.owner_url),
            "DATAARCH_DATABASE_URL": "postgresql:///none",
        },
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n"
    return process


def seen(ground: Ground, name: str) -> int:
    found = ground.value(f"SELECT sum(seen) FROM dataarch_rollout.backfill_ranges WHERE name = '{name}'")
    return int(found or 0)


@pytest.mark.parametrize("workers", [1, 2])
def test_a_run_killed_at_any_moment_is_finished_by_the_next_and_no_row_is_written_twice(
    ground: Ground, workers: int
) -> None:
    table = f"killed_{workers}"
    ground.users(table, 20_000)
    count_updates(ground, table)
    name = ground.register(table, SETS)
    stops = []
    for _ in range(ROUNDS):
        process = started(ground, name, workers)
        began = seen(ground, name)
        while seen(ground, name) == began and process.poll() is None:
            time.sleep(0.002)
        time.sleep(random.random() * 0.1)
        process.send_signal(signal.SIGKILL)
        process.communicate()
        stops.append(seen(ground, name))
    assert 0 < stops[0] < 20_000, "the kills came too early or too late to prove anything"
    # what a killed worker had begun is free when its server process has seen the end of it
    outcome = ground.run(name, workers=workers, pace=BRIEF)
    assert not_done(ground, [table]) == 0
    assert ground.rows(f"SELECT count(*), count(DISTINCT id) FROM {table}_updates") == [(20_000, 20_000)]
    assert seen(ground, name) == 20_000
    assert outcome.seen < 20_000
    assert ground.verify(name).differing == 0


def test_several_runs_at_once_share_the_work(ground: Ground) -> None:
    ground.users("shared", 30_000)
    count_updates(ground, "shared")
    name = ground.register("shared", SETS)
    with ThreadPoolExecutor() as pool:
        runs = [pool.submit(ground.run, name, workers=2, pace=BRIEF) for _ in range(3)]
        outcomes: list[Outcome] = [run.result() for run in runs]
    assert sum(one.changed for one in outcomes) == 30_000
    assert ground.rows("SELECT count(*), count(DISTINCT id) FROM shared_updates") == [(30_000, 30_000)]
    assert not_done(ground, ["shared"]) == 0


def test_a_verification_and_a_run_from_the_beginning_are_alone(ground: Ground) -> None:
    ground.users("alone", 1_000)
    name = ground.register("alone", SETS)
    ground.run(name)
    refused: list[DataArchError] = []

    def try_others(told: Progress) -> None:
        for other in (lambda: ground.verify(name), lambda: ground.run(name, again=True)):
            with pytest.raises(BackfillBusy) as busy:
                other()
            refused.append(busy.value)

    ground.do("UPDATE alone SET display_name = NULL")
    run(ground.engine, name, Options(again=True), on_progress=try_others)
    verify(ground.engine, name, on_progress=try_others)
    assert len(refused) >= 4
    assert ground.verify(name).differing == 0


def test_a_range_that_another_worker_holds_is_waited_for_and_taken_over(ground: Ground) -> None:
    ground.users("taken", 500)
    name = ground.register("taken", SETS)
    told: list[Progress] = []
    ground.run(name, again=True)
    ground.do("UPDATE taken SET display_name = NULL")
    ground.do(f"UPDATE dataarch_rollout.backfills SET finished_at = NULL WHERE name = '{name}'")
    ground.do(f"UPDATE dataarch_rollout.backfill_ranges SET done_at = NULL, reached = NULL WHERE name = '{name}'")
    with session(ground.engine, "another") as other:
        other.exec_driver_sql("SELECT FROM dataarch_rollout.backfill_ranges FOR UPDATE")
        thread = Thread(target=lambda: ground.run(name, told=told), daemon=True)
        thread.start()
        until(lambda: any("other workers" in (one.waits or "") for one in told), "the wait")
        assert thread.is_alive()
    thread.join(timeout=60)
    assert not_done(ground, ["taken"]) == 0


@pytest.fixture(scope="module")
def cluster() -> Iterator[Cluster]:
    with own_cluster() as made:
        yield made


@pytest.mark.parametrize("comes_back", [True, False])
def test_a_server_that_is_killed_in_the_middle_is_waited_for_or_named(cluster: Cluster, *, comes_back: bool) -> None:
    if cluster.pid is None:
        cluster.start()
    with ground_of(cluster.servers()) as ground:
        ground.users("users", 20_000)
        count_updates(ground, "users")
        name = ground.register("users", SETS)
        told: list[Progress] = []
        found: list[BaseException | Outcome] = []

        def run() -> None:
            try:
                found.append(ground.run(name, told=told, pace=BRIEF, limits=Limits(patience=30 if comes_back else 0.5)))
            except DataArchError as error:
                found.append(error)

        thread = Thread(target=run, daemon=True)
        thread.start()
        until(lambda: len(told) > 5, "some batches")
        # a crash may forget the last batches: they do not wait for the disk; this does, and so for all before
        ground.do("CREATE TABLE flushed ()")
        cluster.kill()
        if comes_back:
            cluster.start()
            thread.join(timeout=60)
            assert isinstance(found[0], Outcome)
            assert any("cannot be reached" in (one.waits or "") for one in told)
        else:
            thread.join(timeout=60)
            assert isinstance(found[0], ServerUnreachable)
            cluster.start()
            ground.engine.dispose()
            assert ground.run(name).seen < 20_000
        assert not_done(ground, ["users"]) == 0
        assert ground.rows("SELECT count(*), count(DISTINCT id) FROM users_updates") == [(20_000, 20_000)]
        assert ground.verify(name).differing == 0


def test_a_batch_of_one_size_is_all_or_nothing(ground: Ground) -> None:
    ground.users("whole", 1_000)
    ground.do(
        "CREATE FUNCTION dies() RETURNS trigger LANGUAGE plpgsql AS"
        " $$BEGIN PERFORM pg_terminate_backend(pg_backend_pid()); RETURN NEW; END$$",
        "CREATE TRIGGER dies AFTER UPDATE ON whole FOR EACH ROW WHEN (NEW.id = 550) EXECUTE FUNCTION dies()",
    )
    name = ground.register("whole", SETS)
    with pytest.raises(ServerUnreachable):
        ground.run(name, pace=SMALL, limits=Limits(patience=0.3))
    assert (not_done(ground, ["whole"]), seen(ground, name)) == (500, 500)
    ground.do("DROP TRIGGER dies ON whole")
    assert ground.run(name, pace=SMALL).seen == 500


def goes_on(ground: Ground, name: str, table: str) -> None:
    assert not [one for one in enumerate_threads() if one.name.startswith("backfill ")]
    done = seen(ground, name)
    assert done < 2_000
    assert ground.run(name).seen == 2_000 - done
    assert not_done(ground, [table]) == 0


def test_ctrl_c_ends_the_workers_and_the_next_run_goes_on(ground: Ground) -> None:
    ground.users("ctrl_c", 2_000)
    name = ground.register("ctrl_c", SETS)
    told: list[Progress] = []

    def press(progress: Progress) -> None:
        if not told:
            signal.raise_signal(signal.SIGINT)
        told.append(progress)

    with pytest.raises(KeyboardInterrupt):
        run(ground.engine, name, Options(2, SMALL), on_progress=press)
    assert told, "what was being told was told to its end"
    goes_on(ground, name, "ctrl_c")


def test_ctrl_c_while_a_worker_is_begun_ends_it_and_the_next_run_goes_on(
    ground: Ground, ctrl_c_in_a_lock: CtrlC, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Begun(Thread):
        def start(self) -> None:
            ctrl_c_in_a_lock(1)
            super().start()

    ground.users("begun", 2_000)
    name = ground.register("begun", SETS)
    with monkeypatch.context() as begun, pytest.raises(KeyboardInterrupt):
        begun.setattr("dataarch.rollout.backfill.runner.Thread", Begun)
        run(ground.engine, name, Options(1, SMALL))
    goes_on(ground, name, "begun")
