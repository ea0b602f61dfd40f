"""Profiles and products are never older than a commit, whoever asks and whatever fails."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest
import redis
from sqlalchemy import delete, select, text, update

from caching.doors import add_products, name_of, rename, through
from dataarch.caching.database import AsyncDatabase, Database
from dataarch.caching.entity_views import ProductView, ProfileView
from dataarch.caching.kinds import Kind
from dataarch.database.tenancy import Isolation
from dataarch.errors import DataArchError, InvalidValue, TenantNotSet
from dataarch.models import InventoryMovement, User, UserProfile, UserSettings
from dataarch.models.base import new_id
from database.wire import Proxy, proxy
from fixtures.caches import until
from fixtures.tenants import Inhabited, inhabit

pytestmark = pytest.mark.cache


@pytest.fixture
def wire(cached: Database) -> Iterator[Proxy]:
    """A proxy in front of the database."""
    with proxy(cached.settings.application) as between:
        yield between


@pytest.fixture
def watched(cached: Database, wire: Proxy) -> Iterator[Database]:
    """The same database and cache, reached through the proxy."""
    with through(cached, database_url=wire.url()) as db:
        yield db


# ── never wrong ───────────────────────────────────────────────────────────────────────────────────────────────────


def by_user(db: Database, home: Inhabited) -> None:
    rename(db, home, "Ada King")


def by_profile(db: Database, home: Inhabited) -> None:
    with db.tenant(home.id) as session:
        session.execute(update(UserProfile).where(UserProfile.user_id == home.user_id).values(bio="a countess"))


def by_settings(db: Database, home: Inhabited) -> None:
    with db.tenant(home.id) as session:
        session.get_one(UserSettings, (home.id, home.user_id)).preferences = {"theme": "light"}


def by_deletion(db: Database, home: Inhabited) -> None:
    with db.tenant(home.id) as session:
        session.execute(delete(User).where(User.id == home.user_id))


@pytest.mark.parametrize("write", [by_user, by_profile, by_settings, by_deletion], ids=lambda way: way.__name__)
def test_m18_after_a_commit_no_reader_gets_the_old_profile(
    cached: Database, another: Callable[[], Database], home: Inhabited, write: Callable[[Database, Inhabited], None]
) -> None:
    elsewhere = another()
    before = cached.cache.profiles.get(home.id, home.user_id)
    assert elsewhere.cache.profiles.get(home.id, home.user_id) == before
    write(cached, home)
    [after] = elsewhere.cache.profiles.get_many(home.id, [home.user_id])
    assert after != before
    assert cached.cache.profiles.get(home.id, home.user_id) == after
    assert elsewhere.cache.stats()["user_profile"].hit == 1


def test_a_profile_is_kept_although_the_session_holds_an_older_object(
    watched: Database, wire: Proxy, home: Inhabited
) -> None:
    with watched.tenant(home.id) as session:
        user = session.get_one(User, (home.id, home.user_id))
        session.connection()
        rename(watched, home, "Ada King")
        asked = len(wire.sent)
        assert name_of(watched, home) == "Ada King"
        # in the session that is open: no BEGIN and no COMMIT of its own
        assert not any(b"BEGIN" in one or b"COMMIT" in one for one in wire.sent[asked:] if b"cache_gate" not in one)
        assert user.full_name == "Ada Lovelace"
    assert watched.cache.stats()["user_profile"].set == 1
    assert name_of(watched, home) == "Ada King"
    assert watched.cache.stats()["user_profile"].hit == 1


def test_a_unit_of_work_that_has_written_reads_its_own_profile_and_keeps_it_from_the_others(
    cached: Database, another: Callable[[], Database], home: Inhabited
) -> None:
    elsewhere = another()
    with pytest.raises(ZeroDivisionError), cached.tenant(home.id) as session:
        session.execute(update(User).values(full_name="Ada King"))
        assert name_of(cached, home) == "Ada King"
        assert name_of(elsewhere, home) == "Ada Lovelace"
        raise ZeroDivisionError
    assert cached.cache.stats()["user_profile"].set == 0
    assert name_of(cached, home) == "Ada Lovelace"


def test_a_unit_of_work_as_of_one_moment_sees_that_moment_and_keeps_nothing(
    cached: Database, another: Callable[[], Database], home: Inhabited
) -> None:
    elsewhere = another()
    with cached.tenant(home.id, isolation=Isolation.REPEATABLE_READ) as session:
        session.scalar(select(User.full_name))
        rename(elsewhere, home, "Ada King")
        assert name_of(elsewhere, home) == "Ada King"
        assert name_of(cached, home) == "Ada Lovelace"
    assert name_of(cached, home) == "Ada King"


def test_the_session_of_another_database_is_not_asked(
    cached: Database, another: Callable[[], Database], home: Inhabited
) -> None:
    elsewhere = another()
    with elsewhere.tenant(home.id) as session:
        session.execute(update(User).values(full_name="Ada King"))
        assert name_of(cached, home) == "Ada Lovelace"


def test_a_query_that_fails_gives_its_leases_back(cached: Database, home: Inhabited) -> None:
    with cached.owner() as session:
        session.execute(text("ALTER TABLE user_settings RENAME TO elsewhere"))
    with pytest.raises(DataArchError):
        cached.cache.profiles.get(home.id, home.user_id)
    with cached.owner() as session:
        session.execute(text("ALTER TABLE elsewhere RENAME TO user_settings"))
    assert name_of(cached, home) == "Ada Lovelace"
    assert cached.cache.stats()["user_profile"].set == 1


def test_without_a_cache_everything_is_read_from_the_database(cached: Database, home: Inhabited) -> None:
    for url in (None, "redis://127.0.0.1:1/0"):
        with Database(cached.settings.model_copy(update={"redis_url": url})) as db:
            assert name_of(db, home) == "Ada Lovelace"
            absent = new_id()
            found = db.cache.products.get_many(home.id, [home.product_id, absent])
            assert [one and one.name for one in found] == ["Tea pot", None]
            assert db.cache.stats()["product"].bypass == 2


def test_a_profile_with_what_cannot_be_encoded_is_read_each_time(cached: Database, home: Inhabited) -> None:
    with cached.tenant(home.id) as session:
        session.get_one(UserSettings, (home.id, home.user_id)).preferences = {"number": 10**30}
    for _ in range(2):
        profile = cached.cache.profiles.get(home.id, home.user_id)
        assert profile is not None
        assert profile.preferences == {"number": 10**30}
    assert cached.cache.stats()["user_profile"].refused == 2


def test_the_scripts_are_sent_again_to_a_server_that_has_forgotten_them(cached: Database, home: Inhabited) -> None:
    ids = add_products(cached, home, 5)
    assert cached.settings.redis_url is not None
    with redis.Redis.from_url(cached.settings.redis_url) as client:
        client.script_flush()
        assert None not in cached.cache.products.get_many(home.id, ids)
    assert cached.cache.stats()["product"].set == 5


async def test_asyncio_reads_in_the_session_or_in_one_of_its_own(cached: Database, home: Inhabited) -> None:
    abroad = inhabit(cached, "abroad")
    async with AsyncDatabase(cached.settings) as db:
        async with db.tenant(home.id) as session:
            await session.run_sync(lambda _: until(db.cache.ready))
            first = await session.run_sync(lambda _: db.cache.profiles.get(home.id, home.user_id))
            other = await session.run_sync(lambda _: db.cache.profiles.get(abroad.id, abroad.user_id))
            again = await session.run_sync(lambda _: db.cache.profiles.get(home.id, home.user_id))
        assert first == again
        assert first is not None
        assert other is not None
        assert (first.email, other.email) == ("ada@home.example.com", "ada@abroad.example.com")
        assert db.cache.stats()["user_profile"].hit == 1
        with pytest.raises(TenantNotSet, match="run_sync"):
            db.cache.products.get(home.id, home.product_id)


def test_a_kind_of_other_than_entities_is_refused(cached: Database) -> None:
    for kind in (
        Kind("bare", ttl=60, rows=(User,)),
        Kind("rowless", ttl=60, type=ProfileView),
        Kind("wider", ttl=60, rows=(InventoryMovement,), type=ProductView),
    ):
        with pytest.raises(InvalidValue, match="none of entities"):
            cached.cache.entities(kind)
