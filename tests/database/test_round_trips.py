"""What a unit of work costs: round trips, counted on the wire."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from sqlalchemy import select, text, update

from dataarch.database.settings import Settings
from dataarch.database.unit_of_work import AsyncDatabase, Database
from dataarch.errors import DataArchError, SchemaNotMigrated
from dataarch.models import User
from database.opening import OpenDatabase, tuned
from database.wire import Proxy, proxy
from fixtures.tenants import Inhabited, inhabit


def read(db: Database, tenant: Inhabited) -> None:
    with db.tenant(tenant.id) as session:
        assert session.scalars(select(User.id)).one() == tenant.user_id


def only_read(db: Database, tenant: Inhabited) -> None:
    with db.reading(tenant.id) as session:
        assert session.scalars(select(User.id)).one() == tenant.user_id


def test_a_read_of_a_tenant_costs_two_trips(open_db: OpenDatabase, wire: Proxy, home: Inhabited) -> None:
    db = open_db(database_url=wire.url(), role="dataarch_app")
    read(db, home)  # connects, and asks about the role
    before, told = wire.trips, len(wire.texts)
    read(db, home)
    assert len(wire.sent[before:]) == 2
    begin, prologue, query = wire.texts[told : told + 3]
    assert b"BEGIN ISOLATION LEVEL READ COMMITTED" in begin
    assert b"begin_unit" in prologue
    assert b"FROM users" in query
    assert wire.sent[-1].rstrip(b"\0").endswith(b"COMMIT")


def test_a_unit_of_work_that_only_reads_costs_one_trip(open_db: OpenDatabase, wire: Proxy, home: Inhabited) -> None:
    db = open_db(database_url=wire.url())
    only_read(db, home)
    # no COMMIT is answered before the next BEGIN has followed it
    wire.patience = 20
    before = wire.trips
    for _ in range(5):
        only_read(db, home)
    assert wire.waited == 0
    # the last COMMIT may still be under way, and the one before the first may have been
    assert wire.trips - before in {9, 10, 11}


def test_nothing_is_asked_of_the_server_that_it_does_anyway(
    open_db: OpenDatabase, wire: Proxy, home: Inhabited
) -> None:
    db = open_db(database_url=wire.url())
    read(db, home)
    before = len(wire.kinds)
    read(db, home)
    # BEGIN, begin_unit and the query, each parsed, bound, described and executed; then Sync, and COMMIT. No Flush.
    assert wire.kinds[before:] == b"PBDE" * 3 + b"SQ"


def test_a_statement_that_cannot_be_sent_leaves_its_connection_as_it_was(
    open_db: OpenDatabase, home: Inhabited
) -> None:
    db = open_db(pool_size=1)
    read(db, home)
    with pytest.raises(DataArchError), db.tenant(home.id) as session:
        # the protocol has 16 bits for their number
        session.execute(select(User.id).where(User.full_name.in_([str(number) for number in range(70_000)])))
    for _ in range(8):
        read(db, home)


def test_a_first_unit_of_work_begins_by_itself(open_db: OpenDatabase, wire: Proxy, home: Inhabited) -> None:
    db = open_db(database_url=wire.url(), role="dataarch_app")
    read(db, home)
    begin = next(sent for sent in wire.sent if b"BEGIN ISOLATION" in sent)
    for part in (
        b"statement_timeout",
        b"lock_timeout",
        b"SET LOCAL ROLE",
        b"set_tenant",
        home.id.hex[:8].encode(),
    ):
        assert part in begin


@pytest.mark.parametrize("use", [read, only_read])
def test_it_stays_at_that_when_the_statement_is_prepared_and_afterwards(
    use: Callable[[Database, Inhabited], None], open_db: OpenDatabase, wire: Proxy, home: Inhabited
) -> None:
    db = open_db(database_url=wire.url())
    use(db, home)
    read(db, home)
    before = wire.trips
    for _ in range(11):
        use(db, home)
    read(db, home)
    assert wire.trips - before == 24


def test_each_statement_after_the_first_costs_one_trip(open_db: OpenDatabase, wire: Proxy, home: Inhabited) -> None:
    db = open_db(database_url=wire.url())
    read(db, home)
    before = wire.trips
    with db.tenant(home.id) as session:
        for _ in range(4):
            session.scalars(select(User.id)).one()
    assert wire.trips - before == 5


def test_a_write_costs_two_trips_and_its_commit_is_waited_for(
    open_db: OpenDatabase, wire: Proxy, home: Inhabited
) -> None:
    db = open_db(database_url=wire.url())
    read(db, home)
    wire.patience, before = 0.2, wire.trips
    with db.tenant(home.id) as session:
        session.execute(update(User).values(full_name="Ada"))
    assert (wire.trips - before, wire.waited) == (2, 1)


def test_a_savepoint_may_come_first(open_db: OpenDatabase, wire: Proxy, home: Inhabited) -> None:
    db = open_db(database_url=wire.url())
    read(db, home)
    before = wire.trips
    with db.tenant(home.id) as session, session.begin_nested():
        session.scalars(select(User.id)).one()
    assert wire.trips - before == 4


def test_without_the_function_a_transaction_begins_by_itself_as_before(settings: Settings) -> None:
    with Database(settings) as db:
        tenant = inhabit(db)
        with db.owner() as session:
            session.execute(text("DROP FUNCTION begin_unit(uuid, text, int4, int4, int4)"))
    with proxy(settings.application) as own_wire, Database(tuned(settings, database_url=own_wire.url())) as db:
        read(db, tenant)
        before = own_wire.trips
        read(db, tenant)
        assert own_wire.trips - before == 3


def test_a_function_that_goes_away_is_named(settings: Settings) -> None:
    with Database(settings) as db:
        tenant = inhabit(db)
        read(db, tenant)
        with db.owner() as session:
            session.execute(text("DROP FUNCTION begin_unit(uuid, text, int4, int4, int4)"))
        with pytest.raises(SchemaNotMigrated) as error:
            read(db, tenant)
        assert "begin_unit" in error.value.message
        # and after that a transaction begins by itself
        for _ in range(3):
            read(db, tenant)


def test_after_a_pause_a_transaction_begins_by_itself(
    open_db: OpenDatabase, wire: Proxy, home: Inhabited, monkeypatch: pytest.MonkeyPatch
) -> None:
    db = open_db(database_url=wire.url())
    monkeypatch.setattr("dataarch.database.driver.FRESH", 0.0)
    read(db, home)
    before = wire.trips
    read(db, home)
    assert wire.trips - before == 3


def test_a_unit_of_work_without_a_statement_costs_nothing(open_db: OpenDatabase, wire: Proxy, home: Inhabited) -> None:
    db = open_db(database_url=wire.url())
    with db.tenant(home.id), db.session(), db.owner():
        pass
    assert wire.trips == 0


def test_a_unit_of_work_that_fails_costs_one_trip_more_than_its_statements_and_begin(
    open_db: OpenDatabase, wire: Proxy, home: Inhabited
) -> None:
    db = open_db(database_url=wire.url())
    read(db, home)
    for trips in (2, 3):  # after a rollback the next transaction begins by itself
        before = wire.trips
        with pytest.raises(ZeroDivisionError), db.tenant(home.id) as session:
            session.scalars(select(User.id)).one()
            raise ZeroDivisionError
        assert wire.trips - before == trips
    assert b"ROLLBACK" in wire.sent[-1]


async def test_asyncio_costs_the_same_trips(open_db: OpenDatabase, wire: Proxy, home: Inhabited) -> None:
    settings = open_db(database_url=wire.url()).settings
    async with AsyncDatabase(settings) as db:
        for opens, waited in ((db.tenant, 3), (db.reading, 0)):
            async with opens(home.id) as session:
                await session.scalars(select(User.id))
            wire.patience, wire.waited, before = 0.2 if waited else 20, 0, wire.trips
            for _ in range(3):
                async with opens(home.id) as session:
                    assert (await session.scalars(select(User.id))).one() == home.user_id
            assert wire.waited == waited
            assert wire.trips - before in ({6} if waited else {5, 6, 7})
            wire.patience = None


def test_statements_stay_prepared_from_one_unit_of_work_to_the_next(open_db: OpenDatabase, home: Inhabited) -> None:
    db = open_db(pool_size=1)
    for _ in range(8):
        with db.tenant(home.id) as session:
            session.scalars(select(User.id)).one()
    with db.tenant(home.id) as session:
        prepared = session.scalars(text("SELECT statement FROM pg_prepared_statements")).all()
    assert len(prepared) == 1
    assert "users" in prepared[0]


def test_nothing_is_prepared_where_the_settings_say_never(open_db: OpenDatabase, home: Inhabited) -> None:
    db = open_db(pool_size=1, prepare_threshold=None)
    for _ in range(8):
        with db.tenant(home.id) as session:
            session.scalars(select(User.id)).one()
    with db.tenant(home.id) as session:
        assert session.scalar(text("SELECT count(*) FROM pg_prepared_statements")) == 0
