"""Many rows at once, as a tenant and as the owner: each is inserted, a duplicate, or refused by name."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

import pytest
from sqlalchemy import func, select
from sqlalchemy.orm import Session

from dataarch.clock import utcnow
from dataarch.database.unit_of_work import Database
from dataarch.errors import (
    DataArchError,
    InvalidText,
    InvalidValue,
    MissingValue,
    NaiveDatetime,
    TenantMismatch,
    TenantNotSet,
    UnknownUser,
)
from dataarch.models import User, UserActivity
from dataarch.models.base import new_id
from dataarch.repositories.bulk.ingest import ingest
from fixtures.tenants import Inhabited, inhabit

pytestmark = pytest.mark.pipeline

AT = datetime(2025, 1, 15, 10, 30, tzinfo=UTC)

Door = Callable[[Database, Inhabited], AbstractContextManager[Session]]


def as_tenant(db: Database, acme: Inhabited) -> AbstractContextManager[Session]:
    return db.tenant(acme.id)


def as_owner(db: Database, acme: Inhabited) -> AbstractContextManager[Session]:
    return db.owner()


both = pytest.mark.parametrize("door", [as_tenant, as_owner])


@pytest.fixture
def acme(shared_db: Database) -> Inhabited:
    return inhabit(shared_db)


def row(acme: Inhabited, **changed: Any) -> dict[str, Any]:
    made = {
        "tenant_id": acme.id,
        "id": new_id(),
        "user_id": acme.user_id,
        "activity_type": "view",
        "metadata_": {"n": 1},
        "created_at": AT,
    }
    return {**made, **changed}


def ids(db: Database, acme: Inhabited) -> set[UUID]:
    with db.tenant(acme.id) as session:
        return set(session.scalars(select(UserActivity.id).where(UserActivity.id != acme.activity_id)))


@both
def test_rows_are_there_after_the_commit_as_they_were_given(shared_db: Database, acme: Inhabited, door: Door) -> None:
    rows = [row(acme, metadata_={"n": n, "text": "ä\n\\"}, activity_type=f"type {n}") for n in range(1200)]
    with door(shared_db, acme) as session:
        result = ingest(session, rows, batch=500)
        assert (result.read, result.inserted, result.duplicate, result.refused) == (1200, 1200, 0, ())
    with shared_db.tenant(acme.id) as session:
        found = {one.id: one for one in session.scalars(select(UserActivity))}
    for one in rows:
        mine = found[one["id"]]
        for name in ("tenant_id", "user_id", "activity_type", "metadata_", "created_at"):
            assert getattr(mine, name) == one[name]


@both
def test_what_is_not_given_is_made(shared_db: Database, acme: Inhabited, door: Door) -> None:
    before = utcnow()
    sparse = {"tenant_id": acme.id, "user_id": acme.user_id, "activity_type": "sparse"}
    with door(shared_db, acme) as session:
        assert ingest(session, [sparse] * 3).inserted == 3
    with shared_db.tenant(acme.id) as session:
        found = session.scalars(select(UserActivity).where(UserActivity.activity_type == "sparse")).all()
    assert len({one.id for one in found}) == 3
    assert {one.id.version for one in found} == {7}
    assert all(before <= one.created_at <= utcnow() and one.metadata_ == {} for one in found)


def test_a_tenants_rows_need_not_say_whose_they_are(shared_db: Database, acme: Inhabited) -> None:
    with shared_db.tenant(acme.id) as session:
        assert ingest(session, [{"user_id": acme.user_id, "activity_type": "view"}]).inserted == 1


@both
def test_the_same_row_twice_is_one_row_within_a_call_and_against_the_table(
    shared_db: Database, acme: Inhabited, door: Door
) -> None:
    rows = [row(acme) for _ in range(20)]
    with door(shared_db, acme) as session:
        result = ingest(session, [*rows, *rows[:5]])
        assert (result.inserted, result.duplicate) == (20, 5)
        again = ingest(session, rows, batch=7)
        assert (again.inserted, again.duplicate) == (0, 20)
    with door(shared_db, acme) as session:
        again = ingest(session, [*rows, row(acme)])
        assert (again.inserted, again.duplicate) == (1, 20)
    assert len(ids(shared_db, acme)) == 21


@both
def test_a_row_with_an_id_and_no_instant_is_there_once_however_often_it_is_sent(
    shared_db: Database, acme: Inhabited, door: Door
) -> None:
    rows = [row(acme) for _ in range(3)]
    for one in rows:
        del one["created_at"]
    for expected in ((3, 3), (0, 6)):
        with door(shared_db, acme) as session:
            result = ingest(session, [*rows, *rows])
            assert (result.inserted, result.duplicate) == expected
    assert len(ids(shared_db, acme)) == 3


BAD: list[tuple[dict[str, Any], type[DataArchError], str]] = [
    ({"user_id": UUID(int=5)}, UnknownUser, "user_id"),
    ({"activity_type": "a\x00"}, InvalidText, "activity_type"),
    ({"activity_type": None}, MissingValue, "activity_type"),
    ({"created_at": datetime(2025, 1, 1)}, NaiveDatetime, "created_at"),  # noqa: DTZ001  # that is the point
]


@both
@pytest.mark.parametrize(("change", "error", "column"), BAD, ids=range(len(BAD)))
def test_a_bad_row_is_refused_by_name_and_costs_the_good_ones_nothing(
    shared_db: Database, acme: Inhabited, door: Door, change: dict[str, Any], error: type[DataArchError], column: str
) -> None:
    rows = [row(acme) for _ in range(5)]
    rows[3] |= change
    with door(shared_db, acme) as session:
        result = ingest(session, rows)
        (refused,) = result.refused
        assert (type(refused.error), refused.position, refused.row, refused.column) == (error, 3, rows[3], column)
        assert result.inserted == 4
    assert ids(shared_db, acme) == {one["id"] for one in rows if one is not rows[3]}


@both
def test_a_user_of_another_tenant_is_unknown(shared_db: Database, acme: Inhabited, door: Door) -> None:
    rival = inhabit(shared_db, "rival")
    rows = [row(acme), row(acme, user_id=rival.user_id)]
    with door(shared_db, acme) as session:
        (refused,) = ingest(session, rows).refused
    assert isinstance(refused.error, UnknownUser)
    assert refused.constraint == "fk_user_activity_log_users"
    assert str(rival.user_id) not in str(refused.error)
    assert ids(shared_db, acme) == {rows[0]["id"]}


def test_a_row_of_another_tenant_is_refused_in_a_tenants_session(shared_db: Database, acme: Inhabited) -> None:
    rival = inhabit(shared_db, "rival")
    with shared_db.tenant(acme.id) as session:
        result = ingest(session, [row(acme), row(rival)])
    (refused,) = result.refused
    assert isinstance(refused.error, TenantMismatch)
    assert refused.column == "tenant_id"
    assert ids(shared_db, rival) == set()


def test_the_owner_writes_rows_of_many_tenants_and_of_none_without(shared_db: Database, acme: Inhabited) -> None:
    rival = inhabit(shared_db, "rival")
    with shared_db.owner() as session:
        result = ingest(session, [row(acme), row(rival), row(acme, tenant_id=None)])
    assert result.inserted == 2
    assert isinstance(result.refused[0].error, MissingValue)
    assert (len(ids(shared_db, acme)), len(ids(shared_db, rival))) == (1, 1)


def test_a_session_of_no_tenant_is_refused(shared_db: Database, acme: Inhabited) -> None:
    with pytest.raises(TenantNotSet), shared_db.session() as session:
        ingest(session, [row(acme)])
    with pytest.raises(TenantNotSet), Session(shared_db.engine) as plain:
        ingest(plain, [row(acme)])


@both
def test_an_iterator_that_raises_half_way_leaves_nothing_and_the_transaction_goes_on(
    shared_db: Database, acme: Inhabited, door: Door
) -> None:
    def broken() -> Iterator[dict[str, Any]]:
        for _ in range(95):
            yield row(acme)
        raise LookupError

    kept = row(acme)
    with door(shared_db, acme) as session:
        assert ingest(session, [kept]).inserted == 1
        with pytest.raises(LookupError):
            ingest(session, broken(), batch=10)
        assert session.scalar(select(func.count()).select_from(User)) is not None
    assert ids(shared_db, acme) == {kept["id"]}


@both
def test_rows_may_be_read_from_the_session_that_writes_them(shared_db: Database, acme: Inhabited, door: Door) -> None:
    with door(shared_db, acme) as session:
        source = (row(acme, metadata_={"n": session.scalar(select(func.count()).select_from(User))}) for _ in range(30))
        assert ingest(session, source, batch=10).inserted == 30


@both
def test_rows_may_refer_to_what_the_session_has_not_sent_yet(shared_db: Database, acme: Inhabited, door: Door) -> None:
    user = User(tenant_id=acme.id, id=new_id(), email="new@example.com", full_name="New")
    with door(shared_db, acme) as session:
        session.add(user)
        assert ingest(session, [row(acme, user_id=user.id)]).inserted == 1


@both
def test_what_is_rolled_back_was_never_there(shared_db: Database, acme: Inhabited, door: Door) -> None:
    with pytest.raises(LookupError), door(shared_db, acme) as session:
        assert ingest(session, [row(acme) for _ in range(5)]).inserted == 5
        raise LookupError
    assert ids(shared_db, acme) == set()


@both
def test_instances_and_tuples_are_rows(shared_db: Database, acme: Inhabited, door: Door) -> None:
    one, other = row(acme), row(acme)
    with door(shared_db, acme) as session:
        assert ingest(session, [UserActivity(**one), tuple(other.values())]).inserted == 2
    assert ids(shared_db, acme) == {one["id"], other["id"]}


@both
def test_no_rows_are_no_work(shared_db: Database, acme: Inhabited, door: Door) -> None:
    with door(shared_db, acme) as session:
        assert ingest(session, []).read == 0


@both
def test_65536_rows_and_more_are_written_in_one_call(shared_db: Database, acme: Inhabited, door: Door) -> None:
    rows = [row(acme) for _ in range(66_000)]
    with door(shared_db, acme) as session:
        assert ingest(session, iter(rows)).inserted == 66_000
    assert len(ids(shared_db, acme)) == 66_000


def test_a_batch_of_none_is_refused(shared_db: Database, acme: Inhabited) -> None:
    with pytest.raises(InvalidValue), shared_db.tenant(acme.id) as session:
        ingest(session, [], batch=0)


@both
def test_the_unit_of_work_knows_that_the_table_changed(shared_db: Database, acme: Inhabited, door: Door) -> None:
    with door(shared_db, acme) as session:
        ingest(session, [row(acme)])
        unit: Any = session
        assert [(one.table, one.tenant_id) for one in unit.unit.changes] == [
            ("user_activity_log", acme.id if door is as_tenant else None)
        ]
