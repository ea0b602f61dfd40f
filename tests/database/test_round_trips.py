"""What a unit of work costs: round trips, counted on the wire."""

from __future__ import annotations

import pytest
from sqlalchemy import select, text

from dataarch.database.unit_of_work import AsyncDatabase
from dataarch.models import User
from database.opening import OpenDatabase
from database.wire import Proxy
from fixtures.tenants import Inhabited


def test_a_read_of_a_tenant_costs_three_trips(open_db: OpenDatabase, wire: Proxy, home: Inhabited) -> None:
    db = open_db(database_url=wire.url(), role="dataarch_app")
    for _ in range(2):  # the first one connects, and asks about the role
        before = wire.trips
        with db.tenant(home.id) as session:
            assert session.scalars(select(User.id)).one() == home.user_id
    assert len(wire.sent[before:]) == 3
    begin, _, commit = wire.sent[before:]
    for part in (
        b"BEGIN",
        b"statement_timeout",
        b"lock_timeout",
        b"SET LOCAL ROLE",
        b"set_tenant",
        home.id.hex[:8].encode(),
    ):
        assert part in begin
    assert commit.rstrip(b"\0").endswith(b"COMMIT")


def test_it_stays_at_three_trips_when_the_statement_is_prepared_and_afterwards(
    open_db: OpenDatabase, wire: Proxy, home: Inhabited
) -> None:
    db = open_db(database_url=wire.url())
    costs = []
    for _ in range(12):
        before = wire.trips
        with db.tenant(home.id) as session:
            session.scalars(select(User.id)).one()
        costs.append(wire.trips - before)
    # one that prepares sends Parse in a trip of its own
    assert costs[1:5] == [3] * 4
    assert sorted(costs[5:])[:-1] == [3] * 6


def test_a_unit_of_work_without_a_statement_costs_nothing(open_db: OpenDatabase, wire: Proxy, home: Inhabited) -> None:
    db = open_db(database_url=wire.url())
    with db.tenant(home.id), db.session(), db.owner():
        pass
    assert wire.trips == 0


def test_a_unit_of_work_that_fails_costs_one_trip_more_than_its_statements_and_begin(
    open_db: OpenDatabase, wire: Proxy, home: Inhabited
) -> None:
    db = open_db(database_url=wire.url())
    for _ in range(2):
        before = wire.trips
        with pytest.raises(ZeroDivisionError), db.tenant(home.id) as session:
            session.scalars(select(User.id)).one()
            raise ZeroDivisionError
    assert wire.trips - before == 3
    assert b"ROLLBACK" in wire.sent[-1]


async def test_asyncio_costs_the_same_three_trips(open_db: OpenDatabase, wire: Proxy, home: Inhabited) -> None:
    settings = open_db(database_url=wire.url()).settings
    async with AsyncDatabase(settings) as db:
        for _ in range(2):
            before = wire.trips
            async with db.tenant(home.id) as session:
                assert (await session.scalars(select(User.id))).one() == home.user_id
        assert wire.trips - before == 3


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
