"""``op.create_partitioned_index`` while others write, make partitions, build the same index, or kill it."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from subprocess import Popen

import psycopg
import pytest

from dataarch.database.settings import Settings
from fixtures.catalogs import owner_connection
from fixtures.servers import libpq
from migrations.operation_support import ORDERS_BY_MONTH, Revisions, answers, indexes

pytestmark = pytest.mark.migration

UP = "op.create_partitioned_index('idx_orders_note', 'orders', ['tenant_id', 'note'])"
DOWN = "op.drop_partitioned_index('idx_orders_note', 'orders')"

WRITE = "INSERT INTO {} VALUES (gen_random_uuid(), 0, '2025-12-01 00:00+00', 'late')"


@pytest.fixture
def revisions(tmp_path: Path, empty_database: Settings) -> Revisions:
    """A folder with a revision that makes the index, and its table with rows in each partition."""
    with owner_connection(empty_database) as connection:
        connection.execute(ORDERS_BY_MONTH)
    folder = Revisions(tmp_path / "revisions", empty_database)
    folder.write(UP, DOWN)
    return folder


def complete(settings: Settings) -> bool:
    found = indexes(settings, "idx_orders_note")
    in_tree = answers(settings, "SELECT relid::regclass::text FROM pg_partition_tree('orders')")
    return sorted(table for table, _, _ in found) == sorted(map(str, in_tree)) and all(valid for _, _, valid in found)


@contextmanager
def held_up(settings: Settings, partition: str) -> Iterator[None]:
    """Keep a transaction open that has written to a partition: a concurrent build there waits for its end."""
    with psycopg.connect(libpq(settings.owner)) as holder:
        lock = f"LOCK TABLE {partition} IN ROW EXCLUSIVE MODE"
        holder.execute(lock)
        yield
        holder.commit()


def builders(settings: Settings) -> list[object]:
    """Return the backends whose concurrent build waits for a transaction that is kept open.

    Not those that wait for a query's end, such as this one's: they go on by themselves, and have gone when they are
    to be ended.
    """
    return answers(
        settings,
        "SELECT pid FROM pg_stat_activity AS builder WHERE datname = current_database()"
        " AND query LIKE 'CREATE INDEX CONCURRENTLY%' AND EXISTS (SELECT FROM pg_stat_activity AS holder"
        " WHERE holder.pid = ANY (pg_blocking_pids(builder.pid)) AND holder.state = 'idle in transaction')",
    )


def wait_for_builder(settings: Settings, process: Popen[str] | None = None) -> object:
    while not (found := builders(settings)):
        assert process is None or process.poll() is None, process.communicate()[1]
        time.sleep(0.01)
    return found[0]


def is_recorded(settings: Settings) -> bool:
    return answers(settings, "SELECT count(*)::int FROM alembic_version") == [1]


@pytest.mark.parametrize("partition", ["orders_rest_min", "orders_2026_02_b"])
def test_a_process_killed_in_a_build_whose_server_goes_on_is_completed_by_the_next(
    revisions: Revisions, partition: str
) -> None:
    with held_up(revisions.settings, partition):
        killed = revisions.process("upgrade", "head")
        wait_for_builder(revisions.settings, killed)
        killed.kill()
        killed.communicate()
        following = revisions.process("upgrade", "head")
        time.sleep(0.3)
        assert following.poll() is None
        assert not is_recorded(revisions.settings)
    complaints = following.communicate(timeout=60)[1]
    assert following.returncode == 0, complaints
    assert complete(revisions.settings)
    assert is_recorded(revisions.settings)


@pytest.mark.parametrize("partition", ["orders_rest_min", "orders_2026_02_b"])
def test_a_process_killed_together_with_its_backend_is_completed_by_the_next(
    revisions: Revisions, partition: str
) -> None:
    with held_up(revisions.settings, partition):
        killed = revisions.process("upgrade", "head")
        backend = wait_for_builder(revisions.settings, killed)
        killed.kill()
        killed.communicate()
        assert answers(revisions.settings, "SELECT pg_terminate_backend(%s)", backend) == [True]
        while builders(revisions.settings):
            time.sleep(0.01)
    unfinished = [table for table, _, valid in indexes(revisions.settings) if not valid]
    assert partition in unfinished
    assert not is_recorded(revisions.settings)
    revisions.up()
    assert complete(revisions.settings)
    assert is_recorded(revisions.settings)


def test_writers_to_a_partition_that_is_being_built_are_not_held_up(revisions: Revisions) -> None:
    with held_up(revisions.settings, "orders_rest_min"):
        process = revisions.process("upgrade", "head")
        wait_for_builder(revisions.settings, process)
        with owner_connection(revisions.settings) as writer:
            writer.execute("SET lock_timeout = '1ms'")
            for table in ("orders", "orders_rest_min"):
                writer.execute(WRITE.format(table))
            writer.execute("UPDATE orders SET note = 'changed' WHERE note = 'late'")
        assert builders(revisions.settings)
    assert process.communicate(timeout=60)[1] is not None
    assert process.returncode == 0
    assert complete(revisions.settings)


def test_a_build_waits_for_open_transactions_however_short_the_sessions_lock_timeout_is(
    tmp_path: Path, revisions: Revisions
) -> None:
    impatient = Revisions(tmp_path / "impatient", revisions.settings)
    impatient.write(f"op.execute(\"SET lock_timeout = '50ms'\")\n{UP}")
    with held_up(revisions.settings, "orders_rest_min"):
        process = impatient.process("upgrade", "head")
        wait_for_builder(revisions.settings, process)
        time.sleep(0.3)
    complaints = process.communicate(timeout=60)[1]
    assert process.returncode == 0, complaints
    assert complete(revisions.settings)


@pytest.mark.parametrize(("direction", "lock"), [("upgrade", "ROW EXCLUSIVE"), ("downgrade", "ACCESS SHARE")])
def test_an_operation_that_waits_for_the_table_lets_others_pass_and_gets_it_in_the_end(
    revisions: Revisions, direction: str, lock: str
) -> None:
    if direction == "downgrade":
        revisions.up()
    with psycopg.connect(libpq(revisions.settings.owner)) as holder, owner_connection(revisions.settings) as writer:
        holder.execute(f"LOCK TABLE ONLY orders IN {lock} MODE")
        process = revisions.process(direction, "head" if direction == "upgrade" else "base")
        waits = "SELECT count(*)::int FROM pg_locks WHERE relation = 'orders'::regclass AND NOT granted"
        while answers(revisions.settings, waits) == [0]:
            assert process.poll() is None, process.communicate()[1]
        writer.execute("SET lock_timeout = '3s'")
        for _ in range(5):
            writer.execute(WRITE.format("orders"))
        assert process.poll() is None
        holder.commit()
        complaints = process.communicate(timeout=60)[1]
    assert process.returncode == 0, complaints
    assert complete(revisions.settings) is (direction == "upgrade")


def test_a_writer_is_never_refused_from_the_first_step_up_to_the_last_step_down(revisions: Revisions) -> None:
    stop, written, refused = threading.Event(), list[int](), list[BaseException]()

    def write_on() -> None:
        with owner_connection(revisions.settings) as writer:
            writer.execute("SET lock_timeout = '2s'")
            while not stop.is_set():
                try:
                    writer.execute(
                        "INSERT INTO orders VALUES (gen_random_uuid(), 0, timestamptz '2025-12-31' + random() * "
                        "interval '60 days', 'new')"
                    )
                except psycopg.Error as error:
                    refused.append(error)
                    return
                written.append(1)

    writers = [threading.Thread(target=write_on) for _ in range(2)]
    for writer in writers:
        writer.start()
    try:
        for _ in range(3):
            revisions.up()
            assert complete(revisions.settings)
            revisions.down()
    finally:
        stop.set()
        for writer in writers:
            writer.join()
    assert refused == []
    assert answers(revisions.settings, "SELECT count(*)::int FROM orders WHERE note = 'new'") == [len(written)]
    assert len(written) > 20


def test_partitions_that_come_and_go_meanwhile_are_no_trouble(revisions: Revisions) -> None:
    with held_up(revisions.settings, "orders_rest_min"):
        process = revisions.process("upgrade", "head")
        wait_for_builder(revisions.settings, process)
        with owner_connection(revisions.settings) as connection:
            connection.execute("DROP TABLE orders_2026_02")
            connection.execute(
                "CREATE TABLE orders_2026_02 PARTITION OF orders FOR VALUES FROM ('2026-02-01') TO ('2026-03-01')"
            )
            connection.execute("CREATE TABLE late (LIKE orders INCLUDING ALL)")
            connection.execute("ALTER TABLE orders ATTACH PARTITION late FOR VALUES FROM ('2026-03-01') TO (MAXVALUE)")
    assert process.communicate(timeout=60)[1] is not None
    assert process.returncode == 0
    assert complete(revisions.settings)
    assert len(indexes(revisions.settings)) == 5


def test_the_index_that_another_session_is_building_is_waited_for_and_used(revisions: Revisions) -> None:
    statement = "CREATE INDEX CONCURRENTLY orders_2026_01_idx_orders_note ON orders_2026_01 (tenant_id, note)"
    with owner_connection(revisions.settings) as other, held_up(revisions.settings, "orders_2026_01"):
        failed = list[BaseException]()

        def build() -> None:
            try:
                other.execute(statement)
            except psycopg.Error as error:
                failed.append(error)

        building = threading.Thread(target=build)
        building.start()
        wait_for_builder(revisions.settings)
        made = answers(revisions.settings, "SELECT 'orders_2026_01_idx_orders_note'::regclass::oid")
        upgrade = revisions.process("upgrade", "head")
        while not indexes(revisions.settings, "idx_orders_note"):
            assert upgrade.poll() is None, upgrade.communicate()[1]
            time.sleep(0.01)
        # the partitions are next; after deadlock_timeout it is the other session that a deadlock would end
        time.sleep(2)
        assert upgrade.poll() is None
    building.join()
    assert failed == []
    complaints = upgrade.communicate(timeout=60)[1]
    assert upgrade.returncode == 0, complaints
    assert complete(revisions.settings)
    assert answers(revisions.settings, "SELECT 'orders_2026_01_idx_orders_note'::regclass::oid") == made


def test_a_printed_script_leaves_writers_alone_too(revisions: Revisions) -> None:
    script = revisions.script("head")
    with held_up(revisions.settings, "orders_rest_min"):
        running = threading.Thread(target=revisions.psql, args=(script,))
        running.start()
        wait_for_builder(revisions.settings)
        with owner_connection(revisions.settings) as writer:
            writer.execute("SET lock_timeout = '1ms'")
            writer.execute(WRITE.format("orders"))
    running.join()
    assert complete(revisions.settings)
