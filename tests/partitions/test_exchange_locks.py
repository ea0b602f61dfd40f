"""What is locked while partitions are made and exchanged, and what happens when a lock is not to be had."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from typing import Any

import psycopg
import pytest
from sqlalchemy import event

from dataarch.clock import Period, utcnow
from dataarch.database.settings import APP_ROLE
from dataarch.database.unit_of_work import Database
from dataarch.errors import LockTimeout
from dataarch.partitions import replace as exchange
from dataarch.partitions.change_log import ChangeLog
from dataarch.partitions.maintenance import Maintenance
from dataarch.partitions.worker import LOCK_WAIT, LONGEST_LOCK_WAIT
from fixtures.lock_notes import Held, lock_notes
from fixtures.months import owner
from fixtures.partitioned_tables import (
    INVOICES,
    TOTALS,
    VISITS,
    Connection,
    add_account,
    checksum,
    create_samples,
    write_samples,
)
from fixtures.servers import Servers

pytestmark = pytest.mark.schema

LOCKS = """
SELECT mode, granted FROM pg_locks
WHERE relation = 'public.visits'::regclass AND locktype = 'relation' AND pid <> pg_backend_pid()
"""

LEFT = """
SELECT relname FROM pg_class WHERE relname ~ '_(staged|moving|new[0-9]+)$'
UNION ALL SELECT tgname FROM pg_trigger WHERE tgname ~ '^dataarch'
UNION ALL SELECT relname FROM pg_class WHERE starts_with(obj_description(oid, 'pg_class'), 'dataarch.partitions')
"""

IDLE = psycopg.pq.TransactionStatus.IDLE

LONG_AGO = datetime(2019, 3, 1, 12, tzinfo=UTC)


@pytest.fixture
def connection(db: Database) -> Iterator[Connection]:
    """The owner's; the sample tables have their partitions."""
    create_samples(db, VISITS, TOTALS, INVOICES)
    for sample in (VISITS, TOTALS, INVOICES):
        Maintenance(db, sample.table).maintain()
    with owner(db.settings) as opened:
        yield opened


@contextmanager
def holding(db: Database, statement: str) -> Iterator[int]:
    """Hold a lock in another transaction for as long as the block lasts; gives its process id."""
    with owner(db.settings) as other, other.transaction():
        other.execute(statement)
        yield other.info.backend_pid


@contextmanager
def watched(db: Database, connection: Connection) -> Iterator[set[tuple[str, bool]]]:
    """Gather the locks on the table that anybody else has or awaits, all the time."""
    seen: set[tuple[str, bool]] = set()
    done = threading.Event()

    def watch() -> None:
        with owner(db.settings) as other:
            while not done.is_set():
                seen.update(other.execute(LOCKS).fetchall())

    watcher = threading.Thread(target=watch)
    watcher.start()
    try:
        yield seen
    finally:
        done.set()
        watcher.join()


@contextmanager
def readers(db: Database) -> Iterator[list[str]]:
    """Read the table again and again, with little patience; gives what was refused."""
    refused: list[str] = []
    done = threading.Event()

    def read() -> None:
        with owner(db.settings) as other:
            other.execute("SET lock_timeout = '300ms'")
            while not done.is_set():
                try:
                    other.execute("SELECT count(*) FROM visits")
                except psycopg.errors.LockNotAvailable as error:
                    refused.append(str(error))

    reader = threading.Thread(target=read)
    reader.start()
    try:
        yield refused
    finally:
        done.set()
        reader.join()


def modes(held: Held) -> set[str]:
    """The modes of the locks on the table."""
    return {mode for relation, mode in held if relation == "visits"}


def make_room(connection: Connection) -> str:
    """Take away the last catch-all, so that what comes after the partitions is free."""
    name = connection.execute(
        "SELECT max(relname) FROM pg_class WHERE relname ~ '^visits_rest_2' AND relkind = 'r'"
    ).fetchone()[0]  # type: ignore[index]  # an aggregate returns one row
    connection.execute(f"DROP TABLE {name}")
    return str(name)


def test_a_free_period_is_attached_without_a_lock_that_readers_or_writers_would_wait_for(
    db: Database, connection: Connection, servers: Servers
) -> None:
    account = add_account(connection)
    make_room(connection)
    later = [Period.of(utcnow(), VISITS.grain).plus(ahead) for ahead in range(4, 12)]
    made: list[str] = []

    def work() -> None:
        made.extend(Maintenance(db, VISITS.table).ensure(later).made)

    with lock_notes(servers, db.settings) as held:
        # somebody writes to what the table refers to, and so holds the making up in its midst
        with (
            watched(db, connection) as seen,
            holding(db, f"INSERT INTO accounts SELECT tenant_id, '{account.tenant_id}' FROM accounts"),
        ):
            maker = threading.Thread(target=work)
            maker.start()
            time.sleep(1)
            with db.tenant(account.tenant_id) as session:
                session.connection().exec_driver_sql("SELECT count(*) FROM visits")
            write_samples(connection, VISITS, account, utcnow())
            assert made == []
        maker.join()
        # tries that failed were seen from outside; those that succeeded have noted what they held
        assert len(made) == len(later) + 1
        assert modes(held()) == {"AccessShareLock", "ShareUpdateExclusiveLock"}
        assert {mode for mode, _ in seen} - {"RowExclusiveLock"} == {"AccessShareLock", "ShareUpdateExclusiveLock"}


def test_a_period_that_a_catch_all_covers_is_carved_under_a_lock_that_readers_wait_for(
    db: Database, connection: Connection, servers: Servers
) -> None:
    """Which the notes of a free period would show as well."""
    later = Period.of(utcnow(), VISITS.grain).plus(6)
    with lock_notes(servers, db.settings) as held:
        assert Maintenance(db, VISITS.table).ensure([later]).made
        assert "AccessExclusiveLock" in modes(held())


def test_an_exchange_waits_a_moment_at_a_time_and_then_names_who_held_the_lock(
    db: Database, connection: Connection
) -> None:
    account = add_account(connection)
    write_samples(connection, VISITS, account, *(LONG_AGO + timedelta(days=n) for n in range(5)))
    rows = checksum(connection, VISITS)
    partitions = connection.execute("SELECT relid::text FROM pg_partition_tree('visits') ORDER BY 1").fetchall()
    sent: list[str] = []
    in_the_way = psycopg.connect(_libpq(db), application_name="the night's report")

    def watch(*given: Any) -> None:
        sent.append(given[2])
        if "IN ACCESS EXCLUSIVE MODE" in given[2] and in_the_way.info.transaction_status == IDLE:
            # it begins after the copy, so that it is in the way of the exchange alone
            in_the_way.execute("SELECT count(*) FROM visits")

    with db.maintenance() as probe:
        event.listen(probe.engine, "before_cursor_execute", watch)
    named = rf"\b{in_the_way.info.backend_pid} \(the night's report"
    with in_the_way, pytest.raises(LockTimeout, match=named) as refused:
        Maintenance(db, VISITS.table, patience=3).maintain()
    assert refused.value.table == "visits"
    locking = [one for one in sent if "IN ACCESS EXCLUSIVE MODE" in one]
    assert len(locking) > 1
    waits = [float(one.split("'")[1].removesuffix("ms")) / 1000 for one in sent if one.startswith("SET lock_timeout")]
    # the last tries wait longer: between transactions without a pause a short wait would never end
    assert (waits[0], waits[-1], LOCK_WAIT < max(waits) <= LONGEST_LOCK_WAIT) == (LOCK_WAIT, LOCK_WAIT, True)
    assert checksum(connection, VISITS) == rows
    assert connection.execute("SELECT relid::text FROM pg_partition_tree('visits') ORDER BY 1").fetchall() == partitions
    write_samples(connection, VISITS, account, LONG_AGO)
    assert Maintenance(db, VISITS.table).maintain().moved == 6
    assert connection.execute(LEFT).fetchall() == []


def _libpq(db: Database) -> str:
    return db.settings.owner.set(drivername="postgresql").render_as_string(hide_password=False)


def test_who_holds_the_table_all_the_time_is_named_and_nothing_is_left_by_the_next_run(
    db: Database, connection: Connection
) -> None:
    later = Period.of(utcnow(), VISITS.grain).plus(20)
    with (
        holding(db, "SELECT count(*) FROM visits") as pid,
        readers(db) as refused,
        pytest.raises(LockTimeout, match=rf"\b{pid}\b"),
    ):
        Maintenance(db, VISITS.table, patience=2).ensure([later])
    # whoever comes meanwhile waits for a moment only
    assert refused == []
    assert Maintenance(db, VISITS.table).ensure([later]).made
    assert connection.execute(LEFT).fetchall() == []


def test_what_a_row_refers_to_can_be_deleted_after_it_while_its_copy_is_there(
    db: Database, connection: Connection
) -> None:
    account = add_account(connection)
    write_samples(connection, INVOICES, account, LONG_AGO, LONG_AGO + timedelta(days=40))
    changed: list[int] = []

    def say(said: str) -> None:
        if said.startswith("copied") and not changed:
            with owner(db.settings) as other, other.transaction():
                changed.append(other.execute("DELETE FROM invoices").rowcount)
                other.execute("DELETE FROM accounts WHERE id = %s", [account.id])

    Maintenance(db, INVOICES.table, say=say).maintain()
    assert changed == [2]
    assert checksum(connection, INVOICES)[0] == 0


def test_a_catch_all_cannot_be_emptied_while_its_rows_move(db: Database, connection: Connection) -> None:
    account = add_account(connection)
    write_samples(connection, VISITS, account, LONG_AGO)
    refused: list[Exception] = []

    def say(said: str) -> None:
        if said.startswith("copied"):
            with owner(db.settings) as other:
                for what in ("visits_rest_min", "visits"):
                    try:
                        other.execute(f"TRUNCATE {what}")
                    except psycopg.Error as error:
                        refused.append(error)

    Maintenance(db, VISITS.table, say=say).maintain()
    assert [type(error) for error in refused] == [psycopg.errors.LockNotAvailable] * 2
    assert checksum(connection, VISITS)[0] == 1
    connection.execute("TRUNCATE visits")


def test_nobody_may_read_what_the_exchange_makes_for_itself(db: Database, connection: Connection) -> None:
    connection.execute(f"ALTER DEFAULT PRIVILEGES GRANT ALL ON TABLES TO {APP_ROLE}, PUBLIC")
    write_samples(connection, VISITS, add_account(connection), LONG_AGO)
    granted: list[Any] = []

    def say(said: str) -> None:
        if said.startswith("copied"):
            granted.extend(
                connection.execute(
                    "SELECT relname, grantee FROM pg_class, aclexplode(relacl) WHERE relname ~ '^visits' AND relkind IN"
                    " ('r', 'p') AND grantee <> relowner AND relname <> 'visits'"
                ).fetchall()
            )
            granted.append("looked")

    Maintenance(db, VISITS.table, say=say).maintain()
    assert granted == ["looked"]


def test_a_snapshot_from_before_an_exchange_finds_each_row_after_it(db: Database, connection: Connection) -> None:
    write_samples(connection, VISITS, add_account(connection), *(LONG_AGO + timedelta(days=n) for n in range(5)))
    finished: list[int] = []
    waiting = threading.Event()

    def say(said: str) -> None:
        if said.startswith("waiting"):
            waiting.set()

    def move() -> None:
        finished.append(Maintenance(db, VISITS.table, say=say).maintain().moved)
        waiting.set()

    with owner(db.settings) as old:
        with old.transaction():
            old.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ")
            # its snapshot is of now, and it locks nothing that the exchange locks
            old.execute("SELECT count(*) FROM tenants")
            mover = threading.Thread(target=move)
            mover.start()
            assert waiting.wait(timeout=60)
            assert old.execute("SELECT count(*) FROM visits").fetchone() == (5,)
        mover.join()
    assert finished == [5]


@pytest.mark.parametrize("under_lock", [False, True], ids=["before", "under the lock"])
@pytest.mark.parametrize("sample", [VISITS, TOTALS], ids=str)
def test_rows_that_change_while_they_are_copied_are_as_they_were_left(
    db: Database, connection: Connection, sample: Any, under_lock: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """TOTALS checks its references when a transaction ends."""
    if under_lock:
        monkeypatch.setattr(exchange, "QUIET_TRIES", 0)
        monkeypatch.setattr(ChangeLog, "work_off", lambda self: None)
    account = add_account(connection)
    name, moment = sample.table.name, sample.moment
    notes = [f"n{n}" for n in range(6)]
    for n, note in enumerate(notes):
        write_samples(connection, sample, account, LONG_AGO + timedelta(days=20 * n), note=note)
    changed: list[bool] = []

    def change() -> None:
        with owner(db.settings) as other, other.transaction():
            other.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ")
            other.execute(f"UPDATE {name} SET amount = 100 WHERE note = 'n0'")
            other.execute(f"UPDATE {name} SET {moment} = {moment} + interval '40 days' WHERE note = 'n1'")
            other.execute(f"UPDATE {name} SET {moment} = now() WHERE note = 'n2'")
            other.execute(f"DELETE FROM {name} WHERE note = 'n3'")
            row = other.execute(f"DELETE FROM {name} WHERE note = 'n4' RETURNING id, {moment}").fetchone()
            assert row is not None
            other.execute(
                f"INSERT INTO {name} (tenant_id, account_id, id, {moment}, note, amount)"
                " VALUES (%s, %s, %s, %s, 'back', 1)",
                [account.tenant_id, account.id, *row],
            )
            other.execute(f"UPDATE {name} SET id = gen_random_uuid() WHERE note = 'n5'")

    def say(said: str) -> None:
        if said.startswith("copied") and not changed:
            changed.append(True)
            change()

    Maintenance(db, sample.table, say=say).maintain()
    assert changed
    after = dict(connection.execute(f"SELECT note, amount FROM {name}").fetchall())
    assert after == {"n0": 100, "n1": 7, "n2": 7, "back": 1, "n5": 7}
    # the changes themselves lie where they belong, or will when the next maintenance has looked
    Maintenance(db, sample.table).maintain()
    rest = connection.execute(f"SELECT count(*) FROM {name} WHERE tableoid::regclass::text ~ '_rest_'").fetchone()
    assert rest == (0,)
    assert connection.execute(LEFT).fetchall() == []


def test_rows_that_break_a_foreign_key_are_named_and_stay_where_they_are(
    db: Database, connection: Connection, servers: Any
) -> None:
    account = add_account(connection)
    write_samples(connection, VISITS, account, LONG_AGO)
    with psycopg.connect(
        servers.login("postgres", db.settings.owner.database).replace("+psycopg", ""), autocommit=True
    ) as superuser:
        superuser.execute("SET session_replication_role = replica")
        superuser.execute("DELETE FROM accounts")
    rows = checksum(connection, VISITS)
    with pytest.raises(Exception, match="constraints") as refused:
        Maintenance(db, VISITS.table, patience=0.5).maintain()
    assert refused.value.table == "visits"  # type: ignore[attr-defined]
    assert checksum(connection, VISITS) == rows
