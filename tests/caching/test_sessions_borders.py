"""Nobody gets a session by what is no token, nobody another tenant's, and nobody reads a token anywhere."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import redis
from sqlalchemy import func, select, text

from caching.session_support import COLD, NO_TOKENS, NOWHERE, WARM, Clock, Desk
from dataarch.caching.database import Database
from dataarch.database.settings import APP_ROLE
from dataarch.errors import InvalidText, UnknownUser
from dataarch.models import User, UserSession
from dataarch.models.base import new_id
from fixtures.catalogs import owner_connection, tables
from fixtures.shared_data import shared_file
from fixtures.tenants import Inhabited, inhabit

pytestmark = pytest.mark.cache


@pytest.fixture(params=[WARM, COLD])
def desk(cached: Database, home: Inhabited, request: pytest.FixtureRequest) -> Desk:
    """Sessions that are remembered, or not any more."""
    return Desk(cached, home, Clock(), request.param)


@pytest.fixture
def rival(cached: Database) -> Inhabited:
    """Another tenant."""
    return inhabit(cached, "rival")


# ── tenants ───────────────────────────────────────────────────────────────────────────────────────────────────────


def test_a_token_opens_nothing_at_another_tenant(desk: Desk, rival: Inhabited) -> None:
    token = desk.create({"secret": "ours"})
    assert desk.sessions.get(rival.id, token) is None
    assert desk.sessions.touch(rival.id, token) is None
    assert desk.sessions.revoke(rival.id, token) is False
    assert desk.sessions.revoke_all(rival.id, desk.home.user_id) == 0
    assert desk.sessions.revoke_all(rival.id, rival.user_id, except_token=token) == 1
    assert desk.sessions.remove_expired(rival.id) == 0
    assert desk.get(token) is not None


def test_a_session_cannot_be_created_for_another_tenants_user(desk: Desk, rival: Inhabited) -> None:
    with pytest.raises(UnknownUser):
        desk.sessions.create(desk.home.id, rival.user_id)


def test_a_session_that_is_read_in_another_tenants_unit_of_work_is_read_in_one_of_its_own(
    desk: Desk, rival: Inhabited
) -> None:
    token = desk.create()
    with desk.db.tenant(rival.id) as session:
        assert desk.get(token) is not None
        assert desk.sessions.get(rival.id, token) is None
        assert session.scalars(select(func.count()).select_from(UserSession)).one() == 1
        assert desk.sessions.revoke(desk.home.id, token) is True
    assert desk.get(token) is None


def test_the_application_sees_its_tenants_sessions_alone(desk: Desk, rival: Inhabited) -> None:
    desk.create()
    with desk.db.tenant(rival.id) as session:
        assert session.scalar(text("SELECT current_user")) == APP_ROLE
        owners = session.scalars(text("SELECT tenant_id FROM user_sessions")).all()
    assert owners == [rival.id]


# ── tokens ────────────────────────────────────────────────────────────────────────────────────────────────────────


def refused(desk: Desk, token: Any) -> None:
    """Use something that is no token, everywhere that a token is taken."""
    assert desk.sessions.get(desk.home.id, token) is None, ascii(token)
    assert desk.sessions.touch(desk.home.id, token) is None, ascii(token)
    assert desk.sessions.revoke(desk.home.id, token) is False, ascii(token)


def test_what_is_no_token_gives_no_session_and_no_error(desk: Desk) -> None:
    known = desk.create()
    with desk.db.tenant(desk.home.id) as session:
        for token in NO_TOKENS:
            refused(desk, token)
        # the transaction goes on
        assert session.scalar(select(1)) == 1
    for token in NO_TOKENS:
        refused(desk, token)
    assert desk.get(known) is not None


def test_no_naughty_string_is_a_token(desk: Desk) -> None:
    for string in json.loads(shared_file("naughty-strings", "blns.json").read_bytes()):
        refused(desk, string)


def test_a_token_that_is_nearly_right_is_wrong(desk: Desk) -> None:
    token = desk.create()
    for near in (token.swapcase(), token[::-1], token[:-1], f" {token}", f"{token}\n", hashed(token)):
        assert desk.sessions.get(desk.home.id, near) is None
    assert desk.get(token) is not None


def test_sessions_that_are_to_be_kept_by_what_is_no_token_are_not(desk: Desk) -> None:
    desk.create()
    nothing: Any = "\x00"
    assert desk.sessions.revoke_all(desk.home.id, desk.home.user_id, except_token=nothing) == 2


def test_the_table_takes_nothing_that_is_no_hash_and_no_error_shows_it(desk: Desk) -> None:
    token = desk.create()
    with pytest.raises(InvalidText) as refusal, desk.db.tenant(desk.home.id) as session:
        session.add(UserSession(token_hash=token, user_id=desk.home.user_id, expires_at=desk.clock.now))
    assert token not in f"{refusal.value} {refusal.value!r} {refusal.value.value!r}"


# ── dumps ─────────────────────────────────────────────────────────────────────────────────────────────────────────


def hashed(token: str) -> str:
    return hashlib.sha256(token.encode()).hexdigest()


def dump_of_database(db: Database) -> str:
    with owner_connection(db.settings) as connection:
        rows = [
            str(row)
            for table in sorted(tables(db.settings))
            for (row,) in connection.execute(f"SELECT t::text FROM {table} AS t")
        ]
    return "\n".join(rows)


def dump_of_store(db: Database) -> str:
    """Return each key of this database's epoch, with all that is in it."""
    assert db.settings.redis_url is not None
    epoch = db.cache.fencing.gate.view().epoch
    assert epoch
    with redis.Redis.from_url(db.settings.redis_url) as client:
        found = list(client.scan_iter(match=f"da:{epoch}:*", count=1000))
        return "\n".join(f"{key!r} {content(client, key)!r}" for key in found)


def content(client: redis.Redis, key: bytes) -> object:
    kind = client.type(key)
    return client.get(key) if kind == b"string" else client.dump(key)


def test_no_token_is_in_a_dump_of_the_database_or_of_the_cache(cached: Database, home: Inhabited) -> None:
    desk = Desk(cached, home, Clock())
    tokens = [desk.create({"n": n}) for n in range(3)]
    unknown = "A" * 43
    desk.sessions.get(home.id, unknown)
    desk.clock.forward(minutes=5)
    desk.touch(tokens[0])
    desk.sessions.revoke(home.id, tokens[1])
    database, store = dump_of_database(cached), dump_of_store(cached)
    for there in (database, store):
        assert hashed(tokens[2]) in there
        assert [token for token in (*tokens, unknown) if token in there] == []


# ── units of work ─────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.fixture
def warm(cached: Database, home: Inhabited) -> Desk:
    """Sessions that are remembered."""
    return Desk(cached, home, Clock())


def test_a_session_is_part_of_the_unit_of_work_it_is_created_in(warm: Desk, another: Callable[[], Database]) -> None:
    elsewhere = another().cache.sessions.under(clock=warm.clock)
    with warm.db.tenant(warm.home.id):
        token, made = warm.sessions.create(warm.home.id, warm.home.user_id)
        assert warm.sessions.get(warm.home.id, token) == made
        assert elsewhere.get(warm.home.id, token) is None
    assert elsewhere.get(warm.home.id, token) == made


def test_a_user_and_its_first_session_are_one_unit_of_work(warm: Desk) -> None:
    bob = new_id()
    with warm.db.tenant(warm.home.id) as session:
        session.add(User(id=bob, email="bob@example.com", full_name="Bob"))
        token, _ = warm.sessions.create(warm.home.id, bob)
    assert warm.get(token) is not None


def test_what_is_rolled_back_has_not_happened(warm: Desk) -> None:
    kept = warm.create()
    before = warm.sessions.get(warm.home.id, kept)
    warm.clock.forward(minutes=5)
    with pytest.raises(ZeroDivisionError), warm.db.tenant(warm.home.id):
        token, _ = warm.sessions.create(warm.home.id, warm.home.user_id)
        assert warm.sessions.touch(warm.home.id, kept) != before
        assert warm.sessions.revoke_all(warm.home.id, warm.home.user_id) == 3
        assert warm.sessions.get(warm.home.id, kept) is None
        raise ZeroDivisionError
    assert warm.sessions.get(warm.home.id, token) is None
    assert warm.sessions.get(warm.home.id, kept) == before


def test_a_unit_of_work_of_another_database_is_not_written_in(warm: Desk, another: Callable[[], Database]) -> None:
    with pytest.raises(ZeroDivisionError), another().tenant(warm.home.id):
        token, made = warm.sessions.create(warm.home.id, warm.home.user_id)
        raise ZeroDivisionError
    assert warm.sessions.get(warm.home.id, token) == made


def test_objects_that_are_loaded_do_not_hide_what_was_revoked(warm: Desk, another: Callable[[], Database]) -> None:
    elsewhere = another().cache.sessions.under(clock=warm.clock)
    token = warm.create()
    with warm.db.tenant(warm.home.id) as session:
        loaded = session.scalars(select(UserSession)).all()
        assert len(loaded) == 2
        assert warm.sessions.get(warm.home.id, token) is not None
        elsewhere.revoke(warm.home.id, token)
        assert warm.sessions.get(warm.home.id, token) is None


# ── without Redis ─────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.fixture(params=[None, NOWHERE], ids=["none", "unreachable"])
def without(cached: Database, request: pytest.FixtureRequest) -> Iterator[Database]:
    """A door whose cache is not there."""
    with Database(cached.settings.model_copy(update={"redis_url": request.param})) as database:
        yield database


def test_m18_who_has_no_cache_revokes_for_those_who_have_one(warm: Desk, without: Database) -> None:
    token = warm.create()
    assert warm.remembers(token)
    assert without.cache.sessions.under(clock=warm.clock).revoke(warm.home.id, token) is True
    assert warm.sessions.get(warm.home.id, token) is None
