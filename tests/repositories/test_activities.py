"""The activity log as the application reads it: the latest of a user, search in metadata, additions."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

import pytest
from sqlalchemy import event, update
from sqlalchemy.orm import Session

from dataarch.clock import utcnow
from dataarch.database.unit_of_work import AsyncDatabase, Database, TenantSession
from dataarch.errors import InvalidJson, InvalidValue, NaiveDatetime
from dataarch.models import UserActivity
from dataarch.repositories import ActivityQueries, ActivityRepository
from fixtures.tenants import Inhabited, inhabit

NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)


@pytest.fixture
def tenant(shared_db: Database) -> Inhabited:
    """A tenant of the test's own."""
    return inhabit(shared_db, "own")


@pytest.fixture
def session(shared_db: Database, tenant: Inhabited) -> Iterator[TenantSession]:
    """Its session, with thirty activities of a user, a day apart and with their number in the metadata."""
    with shared_db.tenant(tenant.id) as session:
        ActivityRepository(session).add_many(
            UserActivity(
                user_id=tenant.user_id,
                activity_type="visit",
                metadata_={"number": number, "page": {"path": f"/{number % 3}"}, "tags": ["a", f"t{number % 2}"]},
                created_at=NOON + timedelta(days=number),
            )
            for number in range(30)
        )
        yield session


def numbers(rows: object) -> list[int]:
    assert isinstance(rows, list)
    return [row.metadata_["number"] for row in rows]


def test_the_latest_of_a_user_come_newest_first(session: TenantSession, tenant: Inhabited) -> None:
    log = ActivityQueries(session)
    made_with_the_tenant = [row for row in log.latest(tenant.user_id) if row.id == tenant.activity_id]
    found = [row for row in log.latest(tenant.user_id, 50) if row not in made_with_the_tenant]
    assert numbers(found) == list(range(29, -1, -1))
    assert len(log.latest(str(tenant.user_id), limit=7)) == 7
    assert log.latest(tenant.user_id, limit=0) == []
    with pytest.raises(InvalidValue):
        log.latest(tenant.user_id, limit=-1)


def test_the_latest_come_as_rows_too_and_either_way_in_one_trip(
    shared_db: Database, session: TenantSession, tenant: Inhabited
) -> None:
    log = ActivityQueries(session)
    log.latest(tenant.user_id, limit=1)
    sent: list[str] = []

    @event.listens_for(shared_db.engine, "before_cursor_execute")
    def note(_connection: object, _cursor: object, statement: str, *_: object) -> None:
        sent.append(statement)

    session.execute(update(UserActivity).where(UserActivity.user_id == tenant.user_id).values(created_at=utcnow()))
    sent.clear()
    rows, objects = log.latest_rows(tenant.user_id, limit=9), log.latest(tenant.user_id, limit=9)
    event.remove(shared_db.engine, "before_cursor_execute", note)
    assert [row.id for row in rows] == [one.id for one in objects]
    assert [(row.metadata_, row.created_at) for row in rows] == [(one.metadata_, one.created_at) for one in objects]
    assert len(sent) == 2


def test_an_activity_is_found_by_its_id_in_whatever_month_it_is(session: TenantSession, tenant: Inhabited) -> None:
    log = ActivityQueries(session)
    ids = [row.id for row in log.list(activity_type="visit", order=[UserActivity.created_at])]
    last = log.get(ids[-1])
    assert last is not None
    assert last.created_at == NOON + timedelta(days=29)
    found = log.get_many([ids[20], ids[0]])
    assert numbers(found) == [20, 0]
    assert log.get(tenant.user_id) is None


SEARCHES: dict[str, tuple[object, list[int]]] = {
    "a key with its value": ({"number": 7}, [7]),
    "a nested one": ({"page": {"path": "/1"}}, list(range(28, -1, -3))),
    "an element of an array": ({"tags": ["t1"]}, list(range(29, 0, -2))),
    "several": ({"tags": ["t1", "a"], "page": {"path": "/0"}}, [27, 21, 15, 9, 3]),
    "what is not there": ({"number": "7"}, []),
}


@pytest.mark.parametrize("what", SEARCHES)
def test_metadata_is_searched_by_what_it_contains(session: TenantSession, what: str) -> None:
    metadata, expected = SEARCHES[what]
    assert numbers(list(ActivityQueries(session).search(metadata))) == expected


def test_a_search_has_bounds_and_a_limit(session: TenantSession) -> None:
    log = ActivityQueries(session)
    since, until = NOON + timedelta(days=10), NOON + timedelta(days=20)
    assert numbers(list(log.search({"tags": ["a"]}, since=since, until=until))) == list(range(19, 9, -1))
    assert numbers(list(log.search({"tags": ["a"]}, since=since, limit=3))) == [29, 28, 27]


def test_a_search_gives_rows_as_well_as_objects(session: TenantSession) -> None:
    log = ActivityQueries(session)
    rows = log.search_rows({"tags": ["t0"]}, until=NOON + timedelta(days=6))
    assert [row.metadata_["number"] for row in rows] == [4, 2, 0]
    assert [row.id for row in rows] == [row.id for row in log.search({"tags": ["t0"]}, until=NOON + timedelta(days=6))]


def test_a_search_finds_nothing_of_another_tenant(shared_db: Database, session: TenantSession) -> None:
    session.flush()
    other = inhabit(shared_db, "other")
    with shared_db.tenant(other.id) as there:
        assert list(ActivityQueries(there).search({"tags": ["a"]})) == []
        assert {row.tenant_id for row in ActivityQueries(there).search({})} == {other.id}


@pytest.mark.parametrize("limit", [0, -1, 10_001])
def test_a_search_without_a_sensible_limit_is_refused(session: TenantSession, limit: int) -> None:
    with pytest.raises(InvalidValue, match=r"1 to 10000"):
        ActivityQueries(session).search({}, limit=limit)


def test_a_search_for_what_nobody_can_mean_is_refused(session: TenantSession) -> None:
    log = ActivityQueries(session)
    with pytest.raises(InvalidJson):
        log.search({"text": "a\0b"})
    with pytest.raises(InvalidJson):
        log.search({"number": float("nan")})
    with pytest.raises(NaiveDatetime):
        log.search({}, since=datetime(2026, 3, 1))  # noqa: DTZ001  # what is tested
    assert numbers(list(log.search({"number": 7}))) == [7], "the unit of work goes on"


def test_what_is_logged_cannot_be_changed_through_the_repository(session: TenantSession) -> None:
    assert not {"update", "remove", "save"} & set(dir(ActivityRepository(session)))


async def test_the_same_code_runs_under_asyncio(shared_db: Database, tenant: Inhabited) -> None:
    def ask(session: Session) -> int:
        log = ActivityRepository(session)
        log.add(UserActivity(user_id=tenant.user_id, activity_type="visit", metadata_={"asked": True}))
        return len(log.search({"asked": True})) + len(log.latest(tenant.user_id))

    async with AsyncDatabase(shared_db.settings) as db, db.tenant(tenant.id) as session:
        assert await session.run_sync(ask) == 3
