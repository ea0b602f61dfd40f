"""What a process keeps for itself: served without asking anybody, and only so much of it."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any
from uuid import UUID

import msgspec
import pytest
import redis
from sqlalchemy import text

from caching.doors import kept, name_of, near_door, rename, served_near, shelf_of
from caching.redis_relay import Relay, relay
from dataarch.caching.database import AsyncDatabase, Database
from dataarch.caching.entity_views import PROFILE
from dataarch.caching.kinds import Kind
from dataarch.caching.near_cache import immutable
from dataarch.errors import InvalidValue
from dataarch.models import Product, User
from dataarch.models.base import new_id
from fixtures.caches import opened, until
from fixtures.tenants import Inhabited, inhabit

pytestmark = pytest.mark.cache


@pytest.fixture
def near(cached: Database) -> Iterator[Database]:
    """A door that relies on its connection for an hour: whatever is seen in time was heard on it."""
    with near_door(cached, bound=3600.0) as door:
        yield door


@pytest.fixture
def between(cached: Database) -> Iterator[Relay]:
    with relay(cached.settings.redis_url) as made:
        yield made


# ── hits ──────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_a_hit_sends_nothing_to_the_cache(cached: Database, between: Relay, home: Inhabited) -> None:
    with near_door(cached, redis_url=between.url, bound=3600.0, cache_timeout=10.0) as db:
        assert served_near(db, home) == "Ada Lovelace"
        before, asked = kept(db).hits, between.commands(b"MGET")
        assert [name_of(db, home) for _ in range(50)] == ["Ada Lovelace"] * 50
        assert between.commands(b"MGET") - asked == 50 - (kept(db).hits - before)
        assert kept(db).hits - before > 0


def test_many_are_taken_from_the_near_cache_and_the_rest_in_one_trip(near: Database, home: Inhabited) -> None:
    served_near(near, home)
    bob = new_id()
    with near.tenant(home.id) as session:
        session.add(User(id=bob, email="bob@example.com", full_name="Bob"))
    absent = new_id()

    def all_near() -> bool:
        before = kept(near).hits
        found = near.cache.profiles.get_many(home.id, [bob, absent, home.user_id])
        assert [one and one.full_name for one in found] == ["Bob", None, "Ada Lovelace"]
        return kept(near).hits == before + 3

    until(all_near, "three hits in the near cache")


def test_a_miss_of_one_value_leaves_the_others_where_they_are(
    near: Database, another: Callable[[], Database], home: Inhabited
) -> None:
    served_near(near, home)
    elsewhere = another()
    for _ in range(20):
        elsewhere.cache.profiles.get(home.id, new_id())
        elsewhere.cache.products.get(home.id, new_id())
    # what was said came before the answers to those who caused it
    near.cache.profiles.get(home.id, new_id())
    assert near.cache.profiles.key(home.id, home.user_id) in shelf_of(near).values


def test_a_value_that_can_be_changed_is_copied_and_one_that_cannot_is_shared(near: Database, home: Inhabited) -> None:
    served_near(near, home)
    for _ in range(3):
        profile = near.cache.profiles.get(home.id, home.user_id)
        assert profile is not None
        assert profile.preferences == {"theme": "dark"}
        profile.preferences["theme"] = "spoilt"

    def same() -> bool:
        return near.cache.products.get(home.id, home.product_id) is near.cache.products.get(home.id, home.product_id)

    until(same, "the same product")


class Frozen(msgspec.Struct, frozen=True):
    inside: Any


class Open(msgspec.Struct):
    inside: Any


@pytest.mark.parametrize(
    ("value", "is_immutable"),
    [
        (None, True),
        ("text", True),
        (("a", frozenset({1})), True),
        (Frozen((1, Frozen(None))), True),
        ([], False),
        ({}, False),
        (("a", []), False),
        (Frozen({"a": 1}), False),
        (Open(1), False),
        (Frozen(Open(1)), False),
    ],
)
def test_what_can_be_changed_is_told_from_what_cannot(value: object, is_immutable: bool) -> None:
    assert immutable(value) is is_immutable


def test_only_so_many_are_kept_and_those_asked_for_last_stay(cached: Database, home: Inhabited) -> None:
    with near_door(cached, most=3, bound=3600.0) as db:
        zero, one, two, three = ids = [new_id() for _ in range(4)]
        keys = {each: db.cache.products.key(home.id, each) for each in ids}

        def hit(which: UUID) -> None:
            def is_near() -> bool:
                before = kept(db).hits
                db.cache.products.get(home.id, which)
                return kept(db).hits > before

            until(is_near, "a hit in the near cache")

        for each in (zero, one, two, zero, three):
            hit(each)
        assert list(shelf_of(db).values) == [keys[two], keys[zero], keys[three]]
        # and of what is gone no name is left
        assert {key for found in shelf_of(db).keys.values() for key in found} == set(shelf_of(db).values)


def test_a_value_ends_near_with_its_time_although_the_server_keeps_it(near: Database, home: Inhabited) -> None:
    entities = near.cache.entities(replace(PROFILE, name="brief", ttl=0.5, negative_ttl=0.5, jitter=0.0))
    near.cache.keep_near("brief", bound=3600.0)
    opened(near)
    assert near.settings.redis_url is not None
    for one in (home.user_id, new_id()):
        entities.get(home.id, one)
        key, epoch = entities.key(home.id, one), near.cache.fencing.gate.view().epoch
        with redis.Redis.from_url(near.settings.redis_url) as client:
            client.persist(f"da:{epoch}:{key}")

        def over(one: UUID = one, key: str = key, epoch: str = epoch) -> bool:
            entities.get(home.id, one)
            return key in shelf_of(near).values and kept(near).get(key, epoch) is None

        until(over, "the end of a value")


def test_while_values_are_served_the_connection_is_asked_for_signs_of_life(
    cached: Database, between: Relay, home: Inhabited
) -> None:
    with near_door(cached, bound=0.4, redis_url=between.url, cache_timeout=5.0) as db:
        served_near(db, home)

        def pings() -> int:
            name_of(db, home)
            return sum(bytes(line.sent).count(b"PING") for line in between.trackers())

        until(lambda: pings() >= 3, "the third sign of life")
        assert len(between.trackers()) == 1


def test_a_process_that_was_forked_leaves_the_connection_to_its_parent(near: Database, home: Inhabited) -> None:
    served_near(near, home)
    key, epoch = near.cache.profiles.key(home.id, home.user_id), near.cache.fencing.gate.view().epoch
    program = os.fork()
    if program == 0:
        os._exit(0 if kept(near).get(key, epoch) is None else 1)
    assert os.waitpid(program, 0)[1] == 0
    assert served_near(near, home) == "Ada Lovelace"


def test_a_store_that_is_no_redis_keeps_nothing_near(settings: Any) -> None:
    for url in (None, "memory://"):
        with Database(settings.model_copy(update={"redis_url": url})) as db:
            home = inhabit(db)
            db.cache.keep_near("user_profile")
            assert [name_of(db, home) for _ in range(2)] == ["Ada Lovelace"] * 2
            assert len(kept(db)) == 0


def test_a_kind_that_is_not_defined_and_a_size_of_nothing_are_refused(cached: Database) -> None:
    with pytest.raises(InvalidValue, match="No kind 'nonsense'"):
        cached.cache.keep_near("nonsense")
    for most, bound in ((0, 1.0), (10, 0.0), (10, float("nan"))):
        with pytest.raises(InvalidValue, match="keeps nothing"):
            cached.cache.keep_near("user_profile", most=most, bound=bound)
    assert cached.cache.fencing.near is None


def test_any_kind_of_region_may_be_near(cached: Database, home: Inhabited) -> None:
    names = cached.cache.define(Kind("names", ttl=60, reads=(User,)))
    cached.cache.keep_near("names")
    key = names.key(tenant=home.id)

    def read() -> list[str]:
        with cached.tenant(home.id) as session:
            return list(session.scalars(text("SELECT full_name FROM users ORDER BY 1")))

    def hit() -> bool:
        before = kept(cached).hits
        assert names.get_or_create(key, read) == ["Ada Lovelace"]
        return kept(cached).hits > before

    until(hit)
    rename(cached, home, "Ada King")
    assert names.get_or_create(key, read) == ["Ada King"]


async def test_asyncio_is_served_near(cached: Database, home: Inhabited) -> None:
    async with AsyncDatabase(cached.settings) as db:
        db.cache.keep_near("user_profile")

        def read() -> str | None:
            profile = db.cache.profiles.get(home.id, home.user_id)
            return None if profile is None else profile.full_name

        async with db.tenant(home.id) as session:
            await session.run_sync(lambda _: until(db.cache.fencing.readable))
            near = db.cache.fencing.near
            assert near is not None
            while near.hits == 0:
                assert await session.run_sync(lambda _: read()) == "Ada Lovelace"


def test_products_are_near_too_until_they_change(near: Database, home: Inhabited) -> None:
    with near.tenant(home.id) as session:
        for number in range(5):
            session.get_one(Product, (home.id, home.product_id)).name = f"Pot {number}"
            session.flush()
    product = near.cache.products.get(home.id, home.product_id)
    assert product is not None
    assert product.name == "Pot 4"
