"""Streams hold one batch at a time, leave nothing in the session, and let go of their cursor."""

from __future__ import annotations

import gc
import tracemalloc
from contextlib import closing
from typing import Any

import pytest
from sqlalchemy import func, insert, select, text, union_all
from sqlalchemy.orm import Session

from dataarch.database.settings import Settings
from dataarch.database.unit_of_work import AsyncDatabase, Database
from dataarch.errors import InvalidValue, TenantNotSet
from dataarch.models import User
from dataarch.models.base import new_id
from dataarch.repositories.streams import stream
from fixtures.tenants import Inhabited, inhabit

MANY = 200_000


def numbers(many: int = MANY) -> Any:
    return select(func.generate_series(1, many).label("n"), func.repeat("x", 100).label("text"))


def add_users(db: Database, home: Inhabited, many: int) -> None:
    rows = [
        {"tenant_id": home.id, "id": new_id(), "external_id": f"x{n}", "full_name": f"User {n}"} for n in range(many)
    ]
    with db.tenant(home.id) as session:
        session.execute(insert(User), rows)


def open_cursors(session: Session) -> int:
    # the portal of this very statement has no name
    return int(session.scalars(text("SELECT count(*) FROM pg_cursors WHERE name <> ''")).one())


def peak_of(session: Session, read: Any) -> int:
    """Return the bytes that a read takes at its highest."""
    # what is made once does not count
    list(stream(session, numbers(10), batch=5))
    gc.collect()
    tracemalloc.start()
    try:
        read()
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


def test_a_long_stream_takes_the_memory_of_one_batch(db: Database, acme: Inhabited) -> None:
    with db.tenant(acme.id) as session:
        short = peak_of(session, lambda: sum(row.n for row in stream(session, numbers(5_000), batch=1000)))
        long = peak_of(session, lambda: sum(row.n for row in stream(session, numbers(), batch=1000)))
        all_at_once = peak_of(session, lambda: session.execute(numbers(20_000)).all())
    assert long < short * 1.5
    assert long < all_at_once / 4
    assert long < 2_000_000


def test_objects_of_a_stream_do_not_stay_in_the_session(db: Database, acme: Inhabited) -> None:
    add_users(db, acme, 3000)
    with db.tenant(acme.id) as session:
        most = 0
        seen = set()
        for user in stream(session, select(User).order_by(User.id), batch=100):
            most = max(most, len(session.identity_map))
            seen.add(user.id)
        assert len(seen) == 3001
        # a batch that is handed out, and one that is being made
        assert most <= 201


def test_a_change_to_an_object_of_a_stream_is_written(db: Database, acme: Inhabited) -> None:
    add_users(db, acme, 250)
    with db.tenant(acme.id) as session:
        for user in stream(session, select(User), batch=10):
            user.full_name = "Changed"
    with db.tenant(acme.id) as session:
        assert set(session.scalars(select(User.full_name))) == {"Changed"}


def test_a_stream_gives_what_the_statement_gives(db: Database, acme: Inhabited) -> None:
    inhabit(db, "rival")
    add_users(db, acme, 25)
    with db.tenant(acme.id) as session:
        for batch in (1, 7, 26, 1000):
            everyone = select(User).order_by(User.id)
            assert list(stream(session, everyone, batch=batch)) == list(session.scalars(everyone))
            columns = select(User.id, User.full_name).order_by(User.id)
            assert list(stream(session, columns, batch=batch)) == list(session.execute(columns))
        assert next(iter(stream(session, select(User.full_name.label("name"), User.id)))).name
        assert list(stream(session, select(User).where(User.full_name == "nobody"))) == []
        assert len(list(stream(session, union_all(select(User.id), select(User.id))))) == 52


def test_rows_come_through_a_cursor_that_is_closed_at_the_end(db: Database, acme: Inhabited) -> None:
    with db.tenant(acme.id) as session:
        rows = stream(session, numbers(), batch=10)
        assert open_cursors(session) == 0
        assert next(rows).n == 1
        assert open_cursors(session) == 1
        assert len(list(rows)) == MANY - 1
        assert open_cursors(session) == 0


def test_a_stream_that_is_closed_or_forgotten_frees_its_cursor(db: Database, acme: Inhabited) -> None:
    with db.tenant(acme.id) as session:
        with closing(stream(session, numbers())) as rows:
            next(rows)
            assert open_cursors(session) == 1
        assert open_cursors(session) == 0
        for row in stream(session, numbers()):
            if row.n == 5:
                break
        gc.collect()
        assert open_cursors(session) == 0


def test_a_stream_whose_reader_fails_frees_its_cursor_and_the_transaction_lives(db: Database, acme: Inhabited) -> None:
    def read(session: Session) -> None:
        for row in stream(session, numbers(), batch=10):
            if row.n == 25:
                raise KeyError(row.n)

    with db.tenant(acme.id) as session:
        with pytest.raises(KeyError):
            read(session)
        gc.collect()
        assert open_cursors(session) == 0
        assert session.scalars(select(func.count()).select_from(User)).one() == 1


def test_a_stream_that_outlives_its_unit_of_work_can_be_closed(db: Database, acme: Inhabited) -> None:
    with db.tenant(acme.id) as session:
        rows = stream(session, numbers())
        next(rows)
    rows.close()
    with db.tenant(acme.id) as session:
        assert open_cursors(session) == 0


def test_writes_between_the_rows_of_a_stream_are_not_seen_by_it(db: Database, acme: Inhabited) -> None:
    add_users(db, acme, 20)
    with db.tenant(acme.id) as session:
        rows = stream(session, select(User.id), batch=2)
        seen = {next(rows)}
        add_users(db, inhabit(db, "rival"), 1)
        session.add(User(external_id="late", full_name="Late"))
        session.flush()
        seen |= set(rows)
        assert len(seen) == 21


def test_a_stream_of_a_tenants_table_without_a_tenant_is_refused(db: Database) -> None:
    with db.session() as session, pytest.raises(TenantNotSet):
        next(stream(session, select(User)))


@pytest.mark.parametrize("batch", [0, -1, 100_001])
def test_a_batch_of_no_rows_or_too_many_is_refused_at_once(db: Database, acme: Inhabited, batch: int) -> None:
    with db.tenant(acme.id) as session, pytest.raises(InvalidValue, match="streamed"):
        stream(session, select(User), batch=batch)


@pytest.mark.parametrize("statement", [text("SELECT 1"), insert(User), "users", None])
def test_what_is_no_select_is_refused_at_once(db: Database, acme: Inhabited, statement: Any) -> None:
    with db.tenant(acme.id) as session, pytest.raises(InvalidValue, match="no rows to stream"):
        stream(session, statement)


async def test_a_stream_is_read_under_asyncio_in_constant_memory(
    settings: Settings, db: Database, acme: Inhabited
) -> None:
    add_users(db, acme, 1000)

    def read(session: Session) -> tuple[int, int, int]:
        peak = peak_of(session, lambda: sum(row.n for row in stream(session, numbers(), batch=1000)))
        with closing(stream(session, select(User), batch=10)) as users:
            next(users)
            during = open_cursors(session)
        assert len(list(stream(session, select(User), batch=10))) == 1001
        return peak, during, open_cursors(session)

    async with AsyncDatabase(settings) as async_db, async_db.tenant(acme.id) as session:
        peak, during, after = await session.run_sync(read)
    assert peak < 2_500_000
    assert (during, after) == (1, 0)
