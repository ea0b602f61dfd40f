"""An upgrade waits a moment for each lock, holds nothing while it pauses, and says in the end who was in the way."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from io import StringIO
from pathlib import Path

import psycopg
import pytest
from alembic import command
from psycopg.errors import LockNotAvailable
from sqlalchemy import Connection, create_engine, text
from sqlalchemy.ext.asyncio import create_async_engine

from dataarch.database.settings import APP_ROLE, Settings
from dataarch.errors import AlreadyExists, ConfigurationError, LockTimeout
from dataarch.rollout import environment
from fixtures.catalogs import owner_connection
from fixtures.servers import libpq
from migrations.operation_support import Revisions, answers, indexes

pytestmark = pytest.mark.migration

ADD = "op.execute('ALTER TABLE a ADD COLUMN note text')"
BOTH = "op.execute('ALTER TABLE a ADD COLUMN note text'); op.execute('ALTER TABLE b ADD COLUMN note text')"
DROP = "op.execute('ALTER TABLE a DROP COLUMN note')"

COLUMNS = "SELECT attrelid::regclass::text FROM pg_attribute WHERE attname = 'note' ORDER BY 1"
VERSION = "SELECT version_num FROM alembic_version"


@pytest.fixture
def revisions(tmp_path: Path, empty_database: Settings) -> Revisions:
    """A folder of revisions, two tables, and little patience."""
    with owner_connection(empty_database) as connection:
        connection.execute(
            "CREATE TABLE a (id int); CREATE TABLE b (id int, tenant_id uuid); INSERT INTO a VALUES (1), (1), (2)"
        )
    patient = empty_database.model_copy(update={"upgrade_lock_timeout": 0.05, "upgrade_patience": 0.3})
    return Revisions(tmp_path / "revisions", patient)


def patient(revisions: Revisions) -> None:
    revisions.settings = revisions.settings.model_copy(update={"upgrade_patience": 60.0})


@contextmanager
def reading(revisions: Revisions, table: str = "a") -> Iterator[psycopg.Connection[tuple[object, ...]]]:
    """A transaction that has read a table and is left open."""
    with psycopg.connect(libpq(revisions.settings.owner), application_name="report") as reader:
        reader.execute(f"SELECT count(*) FROM {table}")
        yield reader
        reader.rollback()


@contextmanager
def in_background(revisions: Revisions, *, down: bool = False, revision: str = "head") -> Iterator[Future[None]]:
    """Upgrade in a thread, and let it be tried several times before the block begins."""
    with ThreadPoolExecutor(1) as pool, owner_connection(revisions.settings) as watch:
        run = pool.submit(revisions.down, revision) if down else pool.submit(revisions.up, revision)
        tries, waited, deadline = 0, False, time.monotonic() + 30
        while tries < 4:
            assert time.monotonic() < deadline, "it is not tried again"
            assert not run.done(), run.result()
            waits = watch.execute("SELECT FROM pg_locks WHERE locktype = 'relation' AND NOT granted").rowcount > 0
            tries += waits and not waited
            waited = waits
        yield run


OPERATION = "op.execute('ALTER TABLE a ADD COLUMN note text'); op.enable_tenant_isolation('b')"


@pytest.mark.parametrize("body", [BOTH, OPERATION], ids=["a statement", "an operation"])
def test_readers_go_on_while_a_ddl_waits_for_a_long_reader_and_it_succeeds_in_the_end(
    revisions: Revisions, body: str
) -> None:
    patient(revisions)
    revisions.write(body)
    served, refused = [0, 0], list[object]()
    stop = threading.Event()

    def read(number: int) -> None:
        with owner_connection(revisions.settings) as connection:
            # far more than two tries of 50 ms, far less than what the upgrade has waited in the end
            connection.execute("SET lock_timeout = '1s'")
            while not stop.is_set():
                try:
                    connection.execute(f"SELECT count(*) FROM {'ab'[number]}")
                    served[number] += 1
                except LockNotAvailable as waited:
                    refused.append(waited)

    with ThreadPoolExecutor(2) as pool:
        readers = [pool.submit(read, number) for number in (0, 1)]
        try:
            with reading(revisions, "b") as reader, in_background(revisions) as upgrade:
                before = list(served)
                while any(now < then + 50 for now, then in zip(served, before, strict=True)):
                    assert not upgrade.done()
                    assert not refused
                reader.rollback()
                upgrade.result(60)
        finally:
            stop.set()
        for one in readers:
            one.result(60)
    assert refused == []
    assert answers(revisions.settings, VERSION) == ["0001"]


def test_between_its_tries_it_holds_no_lock_on_what_it_has_changed_already(revisions: Revisions) -> None:
    patient(revisions)
    revisions.write(BOTH)
    with reading(revisions, "b") as reader, in_background(revisions) as upgrade:
        free = 0
        with owner_connection(revisions.settings) as other:
            while free < 5:
                try:
                    with other.transaction():
                        other.execute("LOCK TABLE a IN ACCESS EXCLUSIVE MODE NOWAIT")
                        free += 1
                except LockNotAvailable:
                    assert not upgrade.done()
        assert answers(revisions.settings, COLUMNS) == []
        reader.rollback()
        upgrade.result(60)
    assert answers(revisions.settings, COLUMNS) == ["a", "b"]


def test_giving_up_it_names_who_is_in_the_way_and_has_changed_nothing(revisions: Revisions) -> None:
    revisions.write(BOTH)
    with reading(revisions, "b") as reader:
        pid = reader.info.backend_pid
        with pytest.raises(LockTimeout) as given_up:
            revisions.up()
    (blocker,) = given_up.value.blockers
    assert (blocker.pid, blocker.application, blocker.state) == (pid, "report", "idle in transaction")
    assert blocker.query == "SELECT count(*) FROM b"
    assert blocker.age > 0
    said = str(given_up.value)
    assert ": ALTER TABLE b ADD COLUMN note text. In the way: process" in said
    assert f"process {blocker.pid} (" in said
    assert ": SELECT count(*) FROM b." in said
    assert "Nothing of this revision was changed." in said
    assert f"pg_terminate_backend({blocker.pid})" in said
    assert "DATAARCH_UPGRADE_PATIENCE" in said
    assert answers(revisions.settings, COLUMNS) == []
    revisions.up()
    assert answers(revisions.settings, COLUMNS) == ["a", "b"]


def test_who_may_not_be_looked_at_is_named_all_the_same(revisions: Revisions, template: str) -> None:
    with owner_connection(revisions.settings) as connection:
        connection.execute(f"GRANT SELECT ON a TO {APP_ROLE}")
    revisions.write(ADD)
    with psycopg.connect(libpq(revisions.settings.application)) as reader:
        reader.execute("SELECT count(*) FROM a")
        pid = reader.info.backend_pid
        with pytest.raises(LockTimeout, match=rf"process {pid} \({APP_ROLE}") as given_up:
            revisions.up()
    assert [(blocker.pid, blocker.user) for blocker in given_up.value.blockers] == [(pid, APP_ROLE)]


def test_a_downgrade_waits_in_the_same_way(revisions: Revisions) -> None:
    patient(revisions)
    revisions.write(ADD, DROP)
    revisions.up()
    with reading(revisions) as reader, in_background(revisions, down=True, revision="base") as downgrade:
        reader.rollback()
        downgrade.result(60)
    assert answers(revisions.settings, COLUMNS) == []


def test_a_relative_target_means_the_same_after_a_try_that_came_half_way(revisions: Revisions) -> None:
    patient(revisions)
    revisions.write(ADD)
    revisions.write("op.execute('ALTER TABLE b ADD COLUMN note text')")
    revisions.write("op.execute('CREATE TABLE too_far ()')")
    with reading(revisions, "b") as reader, in_background(revisions, revision="+2") as upgrade:
        assert answers(revisions.settings, VERSION) == ["0001"]
        reader.rollback()
        upgrade.result(60)
    assert answers(revisions.settings, VERSION) == ["0002"]


ALONE = """
op.execute("INSERT INTO b VALUES (1)")
with op.get_context().autocommit_block():
    op.execute("ALTER TABLE a ADD COLUMN note text")
"""


def test_in_an_autocommit_block_the_statement_alone_is_tried_again(revisions: Revisions) -> None:
    patient(revisions)
    revisions.write(ALONE)
    with reading(revisions) as reader, in_background(revisions) as upgrade:
        reader.rollback()
        upgrade.result(60)
    assert answers(revisions.settings, COLUMNS) == ["a"]
    assert answers(revisions.settings, "SELECT id FROM b") == [1]


COMMITTING = {
    "an autocommit block": ALONE + "op.execute('ALTER TABLE b ADD COLUMN note text')",
    "COMMIT": "op.execute('INSERT INTO b VALUES (1)')\nop.execute('COMMIT')\n"
    "op.execute('ALTER TABLE b ADD COLUMN note text')",
}


@pytest.mark.parametrize("body", COMMITTING.values(), ids=COMMITTING)
def test_what_a_revision_has_committed_in_its_middle_is_not_run_again(revisions: Revisions, body: str) -> None:
    patient(revisions)
    revisions.write(body)
    with reading(revisions, "b"), pytest.raises(LockTimeout, match="committed in its middle stays") as given_up:
        revisions.up()
    assert len(given_up.value.blockers) <= 1
    assert answers(revisions.settings, "SELECT id FROM b") == [1]


CONCURRENT = """
with op.get_context().autocommit_block():
    op.create_index("i", "a", ["id"], postgresql_concurrently=True, unique=False)
"""
UNIQUE = CONCURRENT.replace("unique=False", "unique=True, if_not_exists=True")


def test_a_concurrent_build_waits_for_old_transactions_longer_than_one_try(revisions: Revisions) -> None:
    patient(revisions)
    revisions.write(CONCURRENT)
    with (
        psycopg.connect(libpq(revisions.settings.owner)) as writer,
        owner_connection(revisions.settings) as watch,
        ThreadPoolExecutor(1) as pool,
    ):
        writer.execute("INSERT INTO a VALUES (3)")
        upgrade = pool.submit(revisions.up)
        while not watch.execute("SELECT FROM pg_stat_progress_create_index WHERE lockers_done = 0").fetchall():
            assert not upgrade.done(), upgrade.result()
        watch.execute("SELECT pg_sleep(0.3)")
        assert not upgrade.done()
        writer.commit()
        upgrade.result(60)
    assert indexes(revisions.settings) == [("a", "i", True)]


def test_a_concurrent_build_that_fails_leaves_no_index_that_refuses_rows(
    revisions: Revisions,
) -> None:
    revisions.write(UNIQUE)
    with pytest.raises(AlreadyExists):
        revisions.up()
    assert indexes(revisions.settings) == []
    with psycopg.connect(libpq(revisions.settings.owner)) as writer:
        writer.execute("DELETE FROM a WHERE id = 1")
        with pytest.raises(LockTimeout) as given_up:
            revisions.up()
        assert [blocker.pid for blocker in given_up.value.blockers] == [writer.info.backend_pid]
        writer.commit()
    # to drop what it had begun would have to wait for the same transaction: the next run does it
    revisions.up()
    assert indexes(revisions.settings) == [("a", "i", True)]


def test_an_index_that_a_killed_build_has_left_unfinished_is_built_anew(revisions: Revisions) -> None:
    with owner_connection(revisions.settings) as connection:
        with pytest.raises(psycopg.errors.UniqueViolation):
            connection.execute("CREATE UNIQUE INDEX CONCURRENTLY i ON a (id)")
        connection.execute("DELETE FROM a WHERE id = 1")
    assert indexes(revisions.settings) == [("a", "i", False)]
    revisions.write(UNIQUE)
    revisions.up()
    assert indexes(revisions.settings) == [("a", "i", True)]


@contextmanager
def lent(settings: Settings) -> Iterator[Connection]:
    """A caller's own connection, whose engine knows nothing of this library."""
    engine = create_engine(settings.owner, pool_size=1, max_overflow=0)
    with engine.connect() as connection:
        yield connection
    engine.dispose()


def test_a_connection_that_the_caller_gives_waits_in_the_same_way(revisions: Revisions) -> None:
    revisions.write(BOTH)
    with lent(revisions.settings) as connection:
        config = revisions.config()
        config.attributes["connection"] = connection
        with reading(revisions, "b") as reader:
            with pytest.raises(LockTimeout) as given_up:
                command.upgrade(config, "head")
            assert [blocker.pid for blocker in given_up.value.blockers] == [reader.info.backend_pid]
        command.upgrade(config, "head")
    assert answers(revisions.settings, COLUMNS) == ["a", "b"]


def test_a_transaction_of_the_callers_stays_open_and_keeps_what_he_did_in_it(revisions: Revisions) -> None:
    revisions.write(BOTH)
    with lent(revisions.settings) as connection, connection.begin() as transaction:
        connection.execute(text("INSERT INTO a VALUES (7)"))
        config = revisions.config()
        config.attributes["connection"] = connection
        with reading(revisions, "b") as reader:
            with pytest.raises(LockTimeout):
                command.upgrade(config, "head")
            # what the tries had locked is given back
            reader.execute("SET LOCAL lock_timeout = '1ms'; SELECT count(*) FROM a")
        command.upgrade(config, "head")
        assert transaction.is_active
        assert answers(revisions.settings, COLUMNS) == []
    assert answers(revisions.settings, COLUMNS) == ["a", "b"]
    assert 7 in answers(revisions.settings, "SELECT id FROM a")


def test_an_upgrade_over_asyncio_is_run_again_too(revisions: Revisions) -> None:
    patient(revisions)
    revisions.write(BOTH)

    def upgrade(connection: Connection) -> None:
        config = revisions.config()
        config.attributes["connection"] = connection
        command.upgrade(config, "head")

    async def main() -> None:
        engine = create_async_engine(revisions.settings.owner)
        async with engine.connect() as connection:
            await connection.run_sync(upgrade)
        await engine.dispose()

    with (
        ThreadPoolExecutor(1) as pool,
        reading(revisions, "b") as reader,
        owner_connection(revisions.settings) as watch,
    ):
        run = pool.submit(asyncio.run, main())
        while not watch.execute("SELECT FROM pg_locks WHERE locktype = 'relation' AND NOT granted").fetchall():
            assert not run.done(), run.result()
        watch.execute("SELECT pg_sleep(0.3)")
        reader.rollback()
        run.result(60)
    assert answers(revisions.settings, COLUMNS) == ["a", "b"]


SAY = "op.execute(\"CREATE TABLE said AS SELECT current_setting('lock_timeout') AS wait\")"


@pytest.mark.parametrize(("arguments", "wait"), [((), "100ms"), (("-x", "lock_timeout=0.25"), "250ms")])
def test_the_limits_come_from_the_settings_or_from_the_command(
    revisions: Revisions, arguments: tuple[str, ...], wait: str
) -> None:
    revisions.write(SAY)
    process = revisions.process(*arguments, "upgrade", "head")
    complaints = process.communicate(timeout=60)[1]
    assert process.returncode == 0, complaints
    assert answers(revisions.settings, "SELECT wait FROM said") == [wait]


@pytest.mark.parametrize("argument", ["lock_timeout=soon", "lock_patience=0"])
def test_a_limit_that_is_none_is_refused_in_words(revisions: Revisions, argument: str) -> None:
    revisions.write(SAY)
    process = revisions.process("-x", argument, "upgrade", "head")
    complaints = process.communicate(timeout=60)[1]
    assert process.returncode == ConfigurationError.exit_code
    assert f"-x {argument}" in complaints
    assert "-x lock_timeout=0.5" in complaints


def test_the_sql_that_is_printed_waits_as_little(revisions: Revisions) -> None:
    revisions.write(ADD)
    assert "SET lock_timeout = '50ms';" in revisions.script("head")


def test_without_a_second_connection_nobody_is_named_and_all_else_holds(
    revisions: Revisions, monkeypatch: pytest.MonkeyPatch
) -> None:
    revisions.write(ADD)
    with owner_connection(revisions.settings) as connection:
        connection.execute(f"ALTER DATABASE {revisions.settings.owner.database} CONNECTION LIMIT 2")
    with reading(revisions), pytest.raises(LockTimeout, match="nobody who could be seen") as given_up:
        revisions.up()
    assert given_up.value.blockers == ()


def test_comparing_is_patient_where_nobody_queues_behind_it(revisions: Revisions) -> None:
    revisions.write("pass")
    revisions.up()
    config = revisions.config()
    config.stdout = StringIO()
    with psycopg.connect(libpq(revisions.settings.owner)) as holder, ThreadPoolExecutor(1) as pool:
        patient(revisions)
        holder.execute("LOCK TABLE alembic_version IN ACCESS EXCLUSIVE MODE")
        current = pool.submit(command.current, revisions.config())
        with owner_connection(revisions.settings) as watch:
            while not watch.execute("SELECT FROM pg_locks WHERE NOT granted AND locktype = 'relation'").fetchall():
                assert not current.done()
            watch.execute("SELECT pg_sleep(0.3)")
        assert not current.done()
        holder.rollback()
        current.result(60)


def test_the_session_leaves_the_time_to_wait_to_the_limits() -> None:
    assert not [one for one in environment.SESSION if "lock_timeout" in one]
