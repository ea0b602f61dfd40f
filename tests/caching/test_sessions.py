"""Users are signed in until they are signed out, idle for too long or there for too long, whatever the cache does."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from typing import Any
from uuid import UUID

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sqlalchemy import delete, func, select, text

from caching.session_support import COLD, NOWHERE, WARM, WITHOUT, Clock, Desk, statements
from dataarch.caching.database import Database
from dataarch.caching.session_cache import BATCH, Limits
from dataarch.database.settings import Settings
from dataarch.errors import ConfigurationError, InvalidJson, NaiveDatetime, TenantNotSet, UnknownUser
from dataarch.models import User, UserSession
from dataarch.models.base import new_id
from dataarch.models.json_values import storable
from dataarch.proof.strategies import json_values
from fixtures.tenants import Inhabited, inhabit

pytestmark = pytest.mark.cache


@pytest.fixture(params=[WARM, COLD, WITHOUT])
def desk(cached: Database, home: Inhabited, request: pytest.FixtureRequest) -> Iterator[Desk]:
    """Sessions that are remembered, or not any more, or never."""
    if request.param != WITHOUT:
        yield Desk(cached, home, Clock(), request.param)
        return
    with Database(cached.settings.model_copy(update={"redis_url": NOWHERE})) as database:
        yield Desk(database, home, Clock(), WITHOUT)


@pytest.fixture
def warm(cached: Database, home: Inhabited) -> Desk:
    """Sessions that are remembered."""
    return Desk(cached, home, Clock())


def count(db: Database, tenant: UUID) -> int:
    with db.tenant(tenant) as session:
        return session.scalars(select(func.count()).select_from(UserSession)).one()


# ── created and found ─────────────────────────────────────────────────────────────────────────────────────────────


def test_a_session_is_found_by_its_token_as_it_was_created(desk: Desk) -> None:
    token, made = desk.sessions.create(desk.home.id, desk.home.user_id, {"device": "phone"})
    assert desk.get(token) == made
    assert (made.tenant_id, made.user_id, made.data) == (desk.home.id, desk.home.user_id, {"device": "phone"})
    assert made.created_at == made.seen_at == desk.clock.now
    assert made.expires_at == desk.clock.now + timedelta(days=14)


def test_a_session_that_is_remembered_costs_the_database_nothing(warm: Desk) -> None:
    token = warm.create()
    with statements(warm.db) as sent:
        assert warm.remembers(token)
    assert sent == []


def test_tokens_are_long_random_and_never_the_same(warm: Desk) -> None:
    tokens = {warm.sessions.create(warm.home.id, warm.home.user_id)[0] for _ in range(20)}
    assert len(tokens) == 20
    assert {len(token) for token in tokens} == {43}


def test_a_session_cannot_be_changed_by_who_has_it(warm: Desk) -> None:
    token = warm.create({"cart": [1]})
    mine: Any = warm.sessions.get(warm.home.id, token)
    with pytest.raises(AttributeError):
        mine.user_id = new_id()
    mine.data["cart"].append(2)
    again = warm.sessions.get(warm.home.id, token)
    assert again is not None
    assert again.data == {"cart": [1]}


@given(
    data=st.dictionaries(st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\x00")), json_values())
)
@settings(max_examples=25)
def test_any_json_comes_back_equal_from_the_database_and_from_the_cache(warm: Desk, data: dict[str, object]) -> None:
    token, made = warm.sessions.create(warm.home.id, warm.home.user_id, data)
    read, remembered = warm.sessions.get(warm.home.id, token), warm.sessions.get(warm.home.id, token)
    assert read == remembered == made
    assert made.data == storable(data)


def test_a_session_of_a_user_who_is_not_there_is_refused(desk: Desk) -> None:
    with pytest.raises(UnknownUser):
        desk.sessions.create(desk.home.id, new_id())


def test_data_that_is_no_json_is_refused(warm: Desk) -> None:
    with pytest.raises(InvalidJson):
        warm.sessions.create(warm.home.id, warm.home.user_id, {"a": {1}})


def test_the_tenant_may_be_given_as_text_and_must_be_one(warm: Desk) -> None:
    token = warm.create()
    assert warm.sessions.get(str(warm.home.id), token) == warm.get(token)
    with pytest.raises(TenantNotSet):
        warm.sessions.get("acme", token)


# ── expiry ────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_a_session_ends_when_it_was_idle_for_too_long(desk: Desk) -> None:
    token = desk.create()
    desk.clock.forward(minutes=29, seconds=59)
    assert desk.get(token) is not None
    desk.clock.forward(seconds=1)
    assert desk.get(token) is None
    assert desk.touch(token) is None


def test_a_session_that_is_remembered_does_not_outlive_its_expiry(warm: Desk) -> None:
    token = warm.create()
    assert warm.remembers(token)
    hits = warm.db.cache.stats()["session"].hit
    warm.clock.forward(minutes=30)
    with statements(warm.db) as sent:
        assert warm.sessions.get(warm.home.id, token) is None
    assert sent == []
    assert warm.db.cache.stats()["session"].hit == hits + 1


def test_a_touch_begins_the_idle_time_anew(desk: Desk) -> None:
    token = desk.create()
    for _ in range(3):
        desk.clock.forward(minutes=29)
        touched = desk.touch(token)
        assert touched is not None
        assert touched.seen_at == desk.clock.now
        assert desk.get(token) == touched
    desk.clock.forward(minutes=30)
    assert desk.get(token) is None


def test_a_session_ends_after_its_lifetime_however_much_it_is_used(desk: Desk) -> None:
    desk.limits = Limits(lifetime=timedelta(hours=2))
    token = desk.create()
    for _ in range(5):
        desk.clock.forward(minutes=20)
        assert desk.touch(token) is not None
    desk.clock.forward(minutes=20)
    assert desk.touch(token) is None
    assert desk.get(token) is None


def test_it_is_told_when_a_session_ends_unless_it_is_touched(warm: Desk) -> None:
    _, made = warm.sessions.create(warm.home.id, warm.home.user_id)
    assert warm.sessions.ends_at(made) == made.created_at + timedelta(minutes=30)
    brief = warm.sessions.under(Limits(lifetime=timedelta(minutes=30)))
    warm.clock.forward(minutes=1)
    assert brief.ends_at(brief.create(warm.home.id, warm.home.user_id)[1]) == warm.clock.now + timedelta(minutes=30)


def test_a_shorter_idle_time_counts_at_once_for_sessions_that_are_there(desk: Desk) -> None:
    token = desk.create()
    desk.clock.forward(minutes=10)
    desk.limits = Limits(idle=timedelta(minutes=5))
    assert desk.get(token) is None


def test_limits_come_from_the_settings_and_must_fit_together(settings: Settings) -> None:
    with Database(settings.model_copy(update={"session_idle": 90.0, "session_touch_every": 5.0})) as db:
        assert db.cache.sessions.limits == Limits(timedelta(seconds=90), timedelta(days=14), timedelta(seconds=5))
    for unfit in ({"session_idle": 60.0}, {"session_lifetime": 1799.0}):
        with pytest.raises(ConfigurationError) as refused:
            Database(settings.model_copy(update=unfit))
        assert "DATAARCH_SESSION_IDLE" in refused.value.hint


def test_a_clock_without_a_zone_is_refused(warm: Desk) -> None:
    warm.clock.now = warm.clock.now.replace(tzinfo=None)
    with pytest.raises(NaiveDatetime):
        warm.sessions.create(warm.home.id, warm.home.user_id)


# ── touched ───────────────────────────────────────────────────────────────────────────────────────────────────────


def test_a_touch_is_written_once_in_its_time_at_the_most(desk: Desk) -> None:
    token = desk.create()
    with statements(desk.db) as sent:
        for _ in range(59):
            desk.clock.forward(seconds=1)
            touched = desk.touch(token)
            assert touched is not None
            assert touched.seen_at == touched.created_at
        assert "UPDATE" not in sent
        desk.clock.forward(seconds=1)
        for _ in range(3):
            desk.touch(token)
    assert sent.count("UPDATE") == 1


def test_a_touch_that_is_not_due_costs_the_database_nothing_where_the_session_is_remembered(warm: Desk) -> None:
    token = warm.create()
    warm.clock.forward(seconds=59)
    with statements(warm.db) as sent:
        assert warm.sessions.touch(warm.home.id, token) is not None
    assert sent == []


def test_of_many_who_touch_a_session_at_once_one_writes(warm: Desk, another: Callable[[], Database]) -> None:
    token = warm.create()
    desks = [warm, Desk(another(), warm.home, warm.clock)]
    warm.clock.forward(minutes=5)
    with statements(*(each.db for each in desks)) as sent, ThreadPoolExecutor(12) as pool:
        touched = list(pool.map(lambda n: desks[n % 2].sessions.touch(warm.home.id, token), range(60)))
    assert all(touched)
    assert sent.count("UPDATE") == 1
    for each in desks:
        seen = each.sessions.get(warm.home.id, token)
        assert seen is not None
        assert seen.seen_at == warm.clock.now


def test_a_touch_does_not_wait_for_who_holds_the_row(warm: Desk, another: Callable[[], Database]) -> None:
    token = warm.create()
    warm.clock.forward(minutes=5)
    with another().tenant(warm.home.id) as holding:
        holding.execute(select(UserSession).with_for_update())
        touched = warm.sessions.touch(warm.home.id, token)
    assert touched is not None
    assert touched.seen_at == touched.created_at


def test_a_touch_writes_no_index(warm: Desk) -> None:
    token = warm.create()
    warm.clock.forward(minutes=5)
    with warm.db.tenant(warm.home.id) as session:
        assert warm.sessions.touch(warm.home.id, token) is not None
        counted = text("SELECT pg_stat_get_xact_tuples_hot_updated('user_sessions'::regclass)")
        assert session.scalar(counted) == 1


def test_a_touch_leaves_other_sessions_remembered(warm: Desk) -> None:
    token, other = warm.create(), warm.create()
    warm.clock.forward(minutes=5)
    assert warm.sessions.touch(warm.home.id, token) is not None
    assert warm.remembers(other)


# ── revoked ───────────────────────────────────────────────────────────────────────────────────────────────────────


def test_a_session_that_was_revoked_is_gone_and_the_others_are_not(desk: Desk) -> None:
    token, other = desk.create(), desk.create()
    assert desk.sessions.revoke(desk.home.id, token) is True
    assert desk.sessions.get(desk.home.id, token) is None
    assert desk.touch(token) is None
    assert desk.get(other) is not None
    assert desk.sessions.revoke(desk.home.id, token) is False


def test_all_sessions_of_a_user_are_revoked_and_nobody_elses(desk: Desk) -> None:
    with desk.db.tenant(desk.home.id) as session:
        session.add(bob := User(email="bob@example.com", full_name="Bob"))
    theirs, _ = desk.sessions.create(desk.home.id, bob.id)
    tokens = [desk.create() for _ in range(3)]
    # one is there already
    assert desk.sessions.revoke_all(desk.home.id, desk.home.user_id) == 4
    assert [desk.sessions.get(desk.home.id, token) for token in tokens] == [None, None, None]
    assert desk.get(theirs) is not None
    assert desk.sessions.revoke_all(desk.home.id, desk.home.user_id) == 0


def test_all_sessions_of_a_user_but_one_are_revoked(desk: Desk) -> None:
    kept, *tokens = [desk.create() for _ in range(3)]
    assert desk.sessions.revoke_all(desk.home.id, desk.home.user_id, except_token=kept) == 3
    assert [desk.sessions.get(desk.home.id, token) for token in tokens] == [None, None]
    assert desk.get(kept) is not None


def test_revoking_the_sessions_of_one_user_leaves_those_of_others_remembered(warm: Desk) -> None:
    with warm.db.tenant(warm.home.id) as session:
        session.add(bob := User(email="bob@example.com", full_name="Bob"))
    theirs, _ = warm.sessions.create(warm.home.id, bob.id)
    warm.sessions.get(warm.home.id, theirs)
    warm.create()
    assert warm.sessions.revoke_all(warm.home.id, warm.home.user_id) == 2
    assert warm.remembers(theirs)


def by_token(desk: Desk, token: str) -> None:
    desk.sessions.revoke(desk.home.id, token)


def by_user(desk: Desk, _token: str) -> None:
    desk.sessions.revoke_all(desk.home.id, desk.home.user_id)


def by_deleting_the_user(desk: Desk, _token: str) -> None:
    with desk.db.tenant(desk.home.id) as session:
        session.delete(session.get_one(User, (desk.home.id, desk.home.user_id)))


def by_deleting_the_user_in_sql(desk: Desk, _token: str) -> None:
    with desk.db.tenant(desk.home.id) as session:
        session.execute(text("DELETE FROM users"))


def by_the_owner(desk: Desk, _token: str) -> None:
    with desk.db.owner() as session:
        session.execute(delete(UserSession))


def by_an_object(desk: Desk, _token: str) -> None:
    with desk.db.tenant(desk.home.id) as session:
        for each in session.scalars(select(UserSession)):
            session.delete(each)


def by_ending_its_time(desk: Desk, _token: str) -> None:
    with desk.db.tenant(desk.home.id) as session:
        session.execute(text("UPDATE user_sessions SET expires_at = created_at + interval '1 microsecond'"))


ENDS = [
    by_token,
    by_user,
    by_deleting_the_user,
    by_deleting_the_user_in_sql,
    by_the_owner,
    by_an_object,
    by_ending_its_time,
]


@pytest.mark.parametrize("end", ENDS, ids=lambda way: way.__name__)
def test_m18_a_session_that_was_ended_is_at_once_nobodys_in_any_process(
    warm: Desk, another: Callable[[], Database], end: Callable[[Desk, str], None]
) -> None:
    token = warm.create()
    elsewhere = Desk(another(), warm.home, warm.clock)
    warm.clock.forward(seconds=1)
    assert warm.remembers(token)
    assert elsewhere.remembers(token)
    end(warm, token)
    assert elsewhere.sessions.get(warm.home.id, token) is None
    assert elsewhere.sessions.touch(warm.home.id, token) is None
    assert warm.sessions.get(warm.home.id, token) is None


# ── removed ───────────────────────────────────────────────────────────────────────────────────────────────────────


def test_sessions_that_are_over_are_removed_and_the_others_stay(desk: Desk) -> None:
    with desk.db.tenant(desk.home.id) as session:
        session.execute(delete(UserSession))
    idle = [desk.create() for _ in range(2)]
    desk.clock.forward(minutes=20)
    alive = desk.create()
    desk.clock.forward(minutes=20)
    assert [desk.get(token) for token in idle] == [None, None]
    assert count(desk.db, desk.home.id) == 3
    assert desk.sessions.remove_expired(desk.home.id) == 2
    assert desk.get(alive) is not None
    assert count(desk.db, desk.home.id) == 1
    desk.clock.forward(days=14)
    assert desk.sessions.remove_expired(desk.home.id) == 1
    assert desk.sessions.remove_expired(desk.home.id) == 0


def test_any_number_of_sessions_is_removed_in_short_transactions(warm: Desk) -> None:
    with warm.db.owner() as owner:
        owner.execute(
            text(
                "INSERT INTO user_sessions (tenant_id, token_hash, user_id, created_at, seen_at, expires_at)"
                " SELECT :tenant, lpad(to_hex(n), 64, '0'), :user, '2001-01-01', '2001-01-01', '2001-01-02'"
                " FROM generate_series(1, :many) AS n"
            ),
            {"tenant": warm.home.id, "user": warm.home.user_id, "many": 2 * BATCH + 50},
        )
    alive = warm.create()
    with statements(warm.db) as sent:
        assert warm.sessions.remove_expired(warm.home.id) == 2 * BATCH + 50
    assert sent.count("DELETE") == 3
    assert warm.remembers(alive)


def test_a_session_that_somebody_holds_is_removed_the_next_time(warm: Desk, another: Callable[[], Database]) -> None:
    warm.create()
    warm.clock.forward(days=30)
    with another().tenant(warm.home.id) as holding:
        holding.execute(select(UserSession).with_for_update().limit(1))
        assert warm.sessions.remove_expired(warm.home.id) == 1
    assert warm.sessions.remove_expired(warm.home.id) == 1


def test_only_the_tenants_own_sessions_are_removed(warm: Desk) -> None:
    rival = inhabit(warm.db, "rival")
    warm.clock.forward(days=30)
    assert warm.sessions.remove_expired(warm.home.id) == 1
    assert count(warm.db, rival.id) == 1
