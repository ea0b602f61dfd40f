"""A backfill waits for others: replicas, old transactions, waiting sessions; says so, and goes on by itself."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from threading import Event, Thread

import pytest

from dataarch.rollout.backfill import Limits, Progress
from dataarch.rollout.backfill import pause as pause_backfill
from dataarch.rollout.backfill import resume as resume_backfill
from dataarch.rollout.backfill.session import session
from dataarch.rollout.backfill.watch import pressure_of
from fixtures.caches import until
from fixtures.clusters import own_cluster, own_replica
from rollout.backfill.backfill_support import SETS, SMALL, UNTROUBLED, Ground, ground_of, not_done

pytestmark = pytest.mark.migration


@contextmanager
def running(ground: Ground, name: str, limits: Limits) -> Iterator[list[Progress]]:
    """Run a backfill meanwhile, and wait for its end."""
    told: list[Progress] = []
    thread = Thread(target=lambda: ground.run(name, told=told, pace=SMALL, limits=limits), daemon=True)
    thread.start()
    try:
        yield told
    finally:
        thread.join(timeout=60)
        assert not thread.is_alive()


def waits(told: list[Progress], words: str) -> Callable[[], bool]:
    return lambda: any(words in (one.waits or "") for one in told)


def test_it_waits_while_a_transaction_is_older_than_the_limit(ground: Ground) -> None:
    ground.users("old", 500)
    name = ground.register("old", SETS)
    with ground.connect() as other:
        other.execute("BEGIN")
        other.execute("SELECT 1")
        until(lambda: ground.value("SELECT now() > max(xact_start) + interval '0.2 s' FROM pg_stat_activity"
                                   " WHERE state = 'idle in transaction'"), "its age")  # fmt: skip
        with running(ground, name, Limits(transaction=0.1)) as told:
            until(waits(told, f"process {other.info.backend_pid} of"), "the wait")
            assert not_done(ground, ["old"]) == 500
            other.execute("COMMIT")
    assert not_done(ground, ["old"]) == 0


def test_it_waits_while_sessions_wait_for_locks(ground: Ground) -> None:
    ground.users("queue", 500)
    name = ground.register("queue", SETS)
    ended = Event()

    def queue() -> None:
        with ground.connect() as waiting:
            waiting.execute("SELECT pg_advisory_lock(1)")
        ended.set()

    with ground.connect() as other:
        other.execute("SELECT pg_advisory_lock(1)")
        Thread(target=queue, daemon=True).start()
        until(lambda: ground.value("SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock'"), "a queue")
        with running(ground, name, Limits(waiting=0)) as told:
            until(waits(told, "1 sessions wait for locks; the limit is 0"), "the wait")
            assert not_done(ground, ["queue"]) == 500
            other.execute("SELECT pg_advisory_unlock(1)")
    assert ended.wait(30)
    assert not_done(ground, ["queue"]) == 0


def test_it_waits_while_it_is_paused(ground: Ground) -> None:
    ground.users("paused", 500)
    name = ground.register("paused", SETS)
    assert pause_backfill(ground.engine, name).state == "paused"
    with running(ground, name, UNTROUBLED) as told:
        until(waits(told, "it was paused"), "the wait")
        assert not_done(ground, ["paused"]) == 500
        assert resume_backfill(ground.engine, name).state == "running"
    assert not_done(ground, ["paused"]) == 0


def test_what_it_asks_of_the_server_names_the_oldest_transaction_and_not_its_own(ground: Ground) -> None:
    with session(ground.engine, "looks") as connection, session(ground.engine, "looks") as its_own:
        pid = its_own.exec_driver_sql("SELECT pg_backend_pid()").scalar()
        found = pressure_of(connection)
        assert f"{pid} of" not in str(found.oldest)
        assert found.lag is None


def test_it_waits_for_a_replica_that_falls_behind() -> None:
    slow = {"recovery_min_apply_delay": "1500ms", "wal_receiver_status_interval": "1s"}
    with own_cluster() as primary, own_replica(primary, slow), ground_of(primary.servers()) as ground:
        with primary.connect() as admin:
            admin.execute("GRANT pg_monitor TO dataarch_owner")
        ground.users("users", 500)
        name = ground.register("users", SETS)

        def behind() -> object:
            ground.do("UPDATE users SET full_name = full_name WHERE id = 1")
            return ground.value("SELECT max(replay_lag) > interval '1 s' FROM pg_stat_replication")

        until(behind, "the lag")
        with running(ground, name, Limits(lag=0.4)) as told:
            until(waits(told, "a replica is "), "the wait")
            assert not_done(ground, ["users"]) == 500
        assert not_done(ground, ["users"]) == 0


NOTED = """
CREATE TABLE noted (what text, waits text);
CREATE FUNCTION note() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN INSERT INTO noted VALUES (TG_TABLE_NAME, current_setting('synchronous_commit')); RETURN NULL; END $$;
CREATE TRIGGER note AFTER UPDATE ON flushed FOR EACH STATEMENT EXECUTE FUNCTION note();
CREATE TRIGGER note AFTER UPDATE OF finished_at ON dataarch_rollout.backfills FOR EACH ROW
    WHEN (NEW.finished_at IS NOT NULL) EXECUTE FUNCTION note();
"""


def test_a_batch_does_not_wait_for_the_disk_and_the_end_does(ground: Ground) -> None:
    ground.users("flushed", 1_000)
    name = ground.register("flushed", SETS)
    ground.do(NOTED)
    database = ground.settings.owner.database
    ground.do(f'ALTER DATABASE "{database}" SET synchronous_commit = on')
    try:
        ground.run(name)
        assert set(ground.rows("SELECT * FROM noted")) == {("flushed", "off"), ("backfills", "on")}
    finally:
        ground.do("DROP TRIGGER note ON dataarch_rollout.backfills; DROP FUNCTION note CASCADE; DROP TABLE noted")
        ground.do(f'ALTER DATABASE "{database}" RESET synchronous_commit')
