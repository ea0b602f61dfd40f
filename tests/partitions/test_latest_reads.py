"""latest() gives what ORDER BY … LIMIT gives, and refuses what it could not give."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta
from itertools import count
from typing import Any
from uuid import UUID

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sqlalchemy import (
    Column,
    Date,
    DateTime,
    Integer,
    MetaData,
    Select,
    Table,
    and_,
    bindparam,
    func,
    insert,
    literal,
    select,
    text,
    union,
)
from sqlalchemy.orm import Session, aliased

from dataarch.clock import Grain, Month, Period, utcnow
from dataarch.database.unit_of_work import AsyncDatabase, Database
from dataarch.errors import InvalidValue, TenantNotSet
from dataarch.models import User, UserActivity
from dataarch.models.base import new_id
from dataarch.models.partitioning import partitioned
from dataarch.partitions.maintain import ensure_months
from dataarch.partitions.windows import latest
from fixtures.tenants import Inhabited, inhabit

NOW = utcnow()
THIS_MONTH = Month.of(NOW)
NUMBERS = count(1)

edges = st.integers(-40, 16).map(lambda months: THIS_MONTH.plus(months).start)
near = st.datetimes(THIS_MONTH.plus(-40).start.replace(tzinfo=None), THIS_MONTH.plus(16).start.replace(tzinfo=None))
anywhere = st.datetimes(datetime(1, 1, 2), datetime(9999, 12, 30), timezones=st.just(UTC))  # noqa: DTZ001  # as Hypothesis asks
instants = edges | edges.map(lambda edge: edge - timedelta(microseconds=1)) | near.map(lambda t: t.replace(tzinfo=UTC))


@pytest.fixture(scope="module")
def home(shared_db: Database) -> Inhabited:
    """A tenant whose log has a month of its own for each of the last six, and for one long ago."""
    ensure_months(shared_db, [THIS_MONTH.plus(-back) for back in (*range(7), 30)])
    return inhabit(shared_db, "home")


def someone(session: Session, *when: datetime) -> UUID:
    """Make a user with an activity at each instant, and return the user's id."""
    user = User(id=new_id(), email=f"u{next(NUMBERS)}@example.com", full_name="Ada")
    session.add(user)
    session.flush()
    rows = [
        {"tenant_id": user.tenant_id, "user_id": user.id, "activity_type": f"kind {number % 3}", "created_at": instant}
        for number, instant in enumerate(when)
    ]
    if rows:
        session.execute(insert(UserActivity), rows)
    return user.id


def naive(session: Session, statement: Select[Any], limit: int) -> list[UserActivity]:
    order = UserActivity.created_at.desc(), UserActivity.tenant_id.desc(), UserActivity.id.desc()
    return list(session.scalars(statement.order_by(*order).limit(limit)))


@settings(max_examples=30)
@given(
    st.lists(instants | anywhere, max_size=12).flatmap(
        # few instants for many rows: ties
        lambda few: st.lists(st.sampled_from(few), max_size=40) if few else st.just([])
    ),
    st.integers(0, 45),
    st.none() | instants,
)
def test_it_gives_what_order_by_and_limit_give(
    shared_db: Database, home: Inhabited, when: list[datetime], limit: int, now: datetime | None
) -> None:
    with shared_db.tenant(home.id) as session:
        statement = select(UserActivity).where(UserActivity.user_id == someone(session, *when))
        found = latest(session, statement, limit=limit, now=now)
        assert found == naive(session, statement, limit)
        kind = statement.where(UserActivity.activity_type == "kind 1").order_by(UserActivity.created_at.desc())
        assert latest(session, kind, limit=limit, now=now) == naive(session, kind.order_by(None), limit)


def test_rows_of_one_instant_are_cut_in_the_order_of_their_key(shared_db: Database, home: Inhabited) -> None:
    with shared_db.tenant(home.id) as session:
        statement = select(UserActivity).where(UserActivity.user_id == someone(session, *[NOW] * 9))
        everything = latest(session, statement, limit=20)
        assert [row.id for row in everything] == sorted((row.id for row in everything), reverse=True)
        assert [latest(session, statement, limit=limit) for limit in range(10)] == [
            everything[:limit] for limit in range(10)
        ]


def test_one_column_gives_values_and_several_give_rows(shared_db: Database, home: Inhabited) -> None:
    with shared_db.tenant(home.id) as session:
        user = someone(session, NOW, NOW - timedelta(days=400))
        mine = UserActivity.user_id == user
        assert latest(session, select(UserActivity.activity_type).where(mine), limit=5) == ["kind 0", "kind 1"]
        rows = latest(session, select(UserActivity.created_at, UserActivity.activity_type).where(mine), limit=5)
        assert [tuple(row) for row in rows] == [(NOW, "kind 0"), (NOW - timedelta(days=400), "kind 1")]
        assert rows[0].activity_type == "kind 0"
        assert rows[0].created_at == NOW
        assert rows[0]._fields == ("created_at", "activity_type")


def test_an_alias_a_join_and_a_plain_table_may_be_selected_from(shared_db: Database, home: Inhabited) -> None:
    with shared_db.tenant(home.id) as session:
        user = someone(session, NOW, NOW - timedelta(days=40))
        other = aliased(UserActivity)
        joined = select(other.created_at, User.id).join(User, (User.id == other.user_id)).where(User.id == user)
        assert [tuple(row) for row in latest(session, joined.order_by(other.created_at.desc()), limit=1)] == [
            (NOW, user)
        ]
        table = UserActivity.metadata.tables["user_activity_log"]
        assert latest(session, select(table.c.created_at).where(table.c.user_id == user), limit=1) == [NOW]


def test_a_tenant_sees_its_own_rows_only(shared_db: Database, home: Inhabited) -> None:
    abroad = inhabit(shared_db, "abroad")
    with shared_db.tenant(home.id) as session:
        assert {row.tenant_id for row in latest(session, select(UserActivity), limit=10_000)} == {home.id}
    with shared_db.tenant(abroad.id) as session:
        assert [row.id for row in latest(session, select(UserActivity), limit=10)] == [abroad.activity_id]
    with shared_db.session() as session, pytest.raises(TenantNotSet):
        latest(session, select(UserActivity), limit=10)


async def test_it_runs_under_asyncio(shared_db: Database, home: Inhabited) -> None:
    statement = select(UserActivity).where(UserActivity.user_id == home.user_id)
    async with AsyncDatabase(shared_db.settings) as db, db.tenant(home.id) as session:
        found = await session.run_sync(latest, statement, limit=50)
    assert [row.id for row in found] == [home.activity_id]


def trips(session: Session, statement: Select[Any], limit: int) -> int:
    """Return how many statements a read sends."""
    sent: list[object] = []

    class Counting(Session):
        def execute(self, *given: Any, **named: Any) -> Any:
            sent.append(given)
            return session.execute(*given, **named)

    latest(Counting(), statement, limit=limit)
    return len(sent)


def test_few_round_trips_are_made(shared_db: Database, home: Inhabited) -> None:
    with shared_db.tenant(home.id) as session:

        def sent(limit: int, *months_ago: int, joined: bool = False) -> int:
            user = someone(session, *(THIS_MONTH.plus(-ago).start for ago in months_ago))
            mine = select(UserActivity).where(UserActivity.user_id == user)
            return trips(session, mine.join(User, User.id == UserActivity.user_id) if joined else mine, limit)

        assert sent(0, 0) == 0
        assert sent(1, -2) == 1, "the future and the present are one trip"
        assert sent(3, 0, 1, 3) == 1, "four months are one window"
        assert sent(4, 0, 1, 3, 7) == 2
        assert sent(5, 0, 3, 7, 11, 20) == 3
        assert sent(6, 0, 3, 7, 11, 20, 100) == 4
        assert sent(50) == 2, "who did nothing for months is looked for in all the rest at once"
        assert sent(50, 0, 1, 2) == 2, "so is who does too little"
        user = someone(session, THIS_MONTH.start)
        twice = select(UserActivity).where(UserActivity.user_id == user).where(UserActivity.activity_type != "x")
        assert trips(session, twice, 1) == 1
        both = select(UserActivity).where(and_(UserActivity.user_id == user, UserActivity.activity_type != "x"))
        assert trips(session, both, 1) == 1
        assert sent(1, -2, joined=True) == 1, "rows of the future are found first"
        assert sent(3, 0, 1, 3, joined=True) == 2, "windows of a statement with joins are not put together"
        assert sent(50, joined=True) == 3


def test_a_kept_statement_is_read_with_the_values_that_are_given(shared_db: Database, home: Inhabited) -> None:
    kept = select(UserActivity.created_at).where(UserActivity.user_id == bindparam("user"))
    with shared_db.tenant(home.id) as session:
        some = [someone(session, *(THIS_MONTH.plus(-ago).start for ago in range(many))) for many in (1, 2, 6)]
        for _ in range(2):
            found = [len(latest(session, kept, limit=5, parameters={"user": user})) for user in some]
            assert found == [1, 2, 5]


REFUSED: dict[str, Any] = {
    "the oldest first": select(UserActivity).order_by(UserActivity.created_at),
    "another column": select(UserActivity).order_by(UserActivity.id.desc()),
    "a second column": select(UserActivity).order_by(UserActivity.created_at.desc(), UserActivity.activity_type),
    "a limit": select(UserActivity).limit(5),
    "a fetch": select(UserActivity).fetch(5),
    "an offset": select(UserActivity).offset(5),
    "distinct": select(UserActivity.user_id).distinct(),
    "groups": select(UserActivity.user_id, func.count()).group_by(UserActivity.user_id),
    "a window function": select(UserActivity.id, func.row_number().over()),
    "a window function inside": select(UserActivity.id, func.row_number().over() + literal(1)),
    "no partitioned table": select(User),
    "nothing": select(literal(1)),
    "two of them": select(UserActivity, aliased(UserActivity)),
    "a subquery": select(select(UserActivity).subquery()),
    "a union": union(select(UserActivity.id), select(UserActivity.id)),
}


@pytest.mark.parametrize("statement", REFUSED.values(), ids=REFUSED)
def test_what_windows_would_answer_wrongly_is_refused_before_anything_is_sent(statement: Any) -> None:
    with pytest.raises(InvalidValue, match="latest"):
        latest(Session(), statement, limit=5)


def test_the_refusal_names_the_table_the_column_and_what_to_do() -> None:
    with pytest.raises(InvalidValue) as refused:
        latest(Session(), select(UserActivity).limit(5), limit=5)
    assert (refused.value.table, refused.value.column) == ("user_activity_log", "created_at")
    assert str(refused.value) == (
        "The latest rows of user_activity_log cannot be read by this statement: it has another order, or its own "
        "limit, offset or GROUP BY. Order it by created_at descending or not at all, and give the limit to latest()."
    )


def test_a_negative_limit_is_refused() -> None:
    with pytest.raises(InvalidValue, match="no latest -1 rows"):
        latest(Session(), select(UserActivity), limit=-1)


@pytest.mark.parametrize(
    "kind", [Date(), DateTime(), DateTime(timezone=True)], ids=["date", "timestamp", "timestamptz"]
)
@pytest.mark.parametrize("grain", Grain)
def test_every_grain_and_type_of_column_is_read_alike(shared_db: Database, kind: Any, grain: Grain) -> None:
    table = Table(
        f"readings_{next(NUMBERS)}",
        MetaData(),
        Column("n", Integer, primary_key=True),
        Column("at", kind, primary_key=True),
        **partitioned("at", grain=grain),
    )
    period = Period.of(NOW, grain)
    starts = [period.plus(-back).start for back in (0, 1, 3, 4, 11, 12, 27, 28, 29)]
    with shared_db.owner() as session:
        # bounds in the SQL must mean the same wherever the session believes to be
        session.execute(text("SET LOCAL timezone = 'Pacific/Kiritimati'; SET LOCAL datestyle = 'ISO, DMY'"))
        table.create(session.connection())
        session.execute(text(f"CREATE TABLE {table.name}_all PARTITION OF {table.name} DEFAULT"))
        values: list[date] = [start.date() if isinstance(kind, Date) else start for start in starts]
        if isinstance(kind, DateTime) and not kind.timezone:
            values = [start.replace(tzinfo=None) for start in starts]
        session.execute(insert(table), [{"n": number, "at": value} for number, value in enumerate(values)])
        assert latest(session, select(table.c.n), limit=20) == list(range(len(starts)))
        assert latest(session, select(table.c.n), limit=4) == [0, 1, 2, 3]
        assert latest(session, select(table.c.n, table.c.at).where(table.c.n > 5), limit=1)[0].n == 6
        session.rollback()
