"""Profiles and products by id: read once, in one statement, and never older than a commit."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import replace
from decimal import Decimal
from uuid import UUID

import pytest
import redis

from caching.doors import add_products, name_of, questions, through
from caching.redis_relay import Relay, relay
from dataarch.caching.database import Database
from dataarch.caching.entity_views import PROFILE, ProductView, ProfileView
from dataarch.caching.keys import cache_key
from dataarch.caching.kinds import Kind
from dataarch.errors import InvalidValue, TenantNotSet
from dataarch.models import Product, User, UserProfile, UserSettings
from dataarch.models.base import new_id
from database.wire import Proxy, proxy
from fixtures.caches import opened
from fixtures.tenants import Inhabited, inhabit

pytestmark = pytest.mark.cache

CALLERS = 200


@pytest.fixture
def wire(cached: Database) -> Iterator[Proxy]:
    """A proxy in front of the database."""
    with proxy(cached.settings.application) as between:
        yield between


@pytest.fixture
def between(cached: Database) -> Iterator[Relay]:
    """A relay in front of the cache."""
    with relay(cached.settings.redis_url) as made:
        yield made


@pytest.fixture
def watched(cached: Database, wire: Proxy) -> Iterator[Database]:
    """The same database and cache, reached through the proxy."""
    with through(cached, database_url=wire.url()) as db:
        yield db


# ── what they are ─────────────────────────────────────────────────────────────────────────────────────────────────


def test_m17_a_profile_is_read_from_the_database_once_and_the_second_read_sends_no_query(
    watched: Database, wire: Proxy, home: Inhabited
) -> None:
    first = watched.cache.profiles.get(home.id, home.user_id)
    assert len(questions(wire)) == 1
    # of the gate itself somebody asks twice a lease, on connections of its own
    tenants = [sent for sent in wire.sent if b"set_tenant" in sent]
    second = watched.cache.profiles.get(home.id, home.user_id)
    assert first == second
    assert len(questions(wire)) == 1
    assert [sent for sent in wire.sent if b"set_tenant" in sent] == tenants
    assert watched.cache.stats()["user_profile"].hit == 1


def test_a_profile_has_the_columns_of_user_profile_and_settings(cached: Database, home: Inhabited) -> None:
    columns = {column.name for model in (User, UserProfile, UserSettings) for column in model.__table__.columns}
    assert set(ProfileView.__struct_fields__) == columns - {"user_id", "version"}
    assert set(ProductView.__struct_fields__) == {column.name for column in Product.__table__.columns} - {"version"}
    with cached.tenant(home.id) as session:
        user = session.get_one(User, (home.id, home.user_id))
        assert user.profile is not None
        assert user.settings is not None
        expected = ProfileView(
            tenant_id=home.id,
            id=home.user_id,
            email=user.email,
            external_id=user.external_id,
            full_name="Ada Lovelace",
            created_at=user.created_at,
            updated_at=user.updated_at,
            display_name="Ada",
            bio=None,
            avatar_url=None,
            locale=user.settings.locale,
            timezone=user.settings.timezone,
            preferences={"theme": "dark"},
        )
    assert [cached.cache.profiles.get(home.id, home.user_id) for _ in range(2)] == [expected] * 2


def test_a_product_has_its_price_as_decimal_from_the_database_and_from_the_cache(
    cached: Database, home: Inhabited
) -> None:
    products = [cached.cache.products.get(home.id, home.product_id) for _ in range(2)]
    assert cached.cache.stats()["product"].hit == 1
    assert [type(one.price) for one in products if one] == [Decimal, Decimal]
    assert [(one.slug, one.price, one.currency) for one in products if one] == [("tea-pot", Decimal("9.95"), "GBP")] * 2


def test_a_view_cannot_be_changed(cached: Database, home: Inhabited) -> None:
    profile = cached.cache.profiles.get(home.id, home.user_id)
    assert profile is not None
    with pytest.raises(AttributeError):
        profile.full_name = "Somebody"  # type: ignore[misc]  # that is what is tested


def test_a_user_without_profile_and_settings_has_none_of_their_columns(cached: Database, home: Inhabited) -> None:
    with cached.tenant(home.id) as session:
        session.add(bob := User(email="bob@example.com", full_name="Bob"))
    for _ in range(2):
        profile = cached.cache.profiles.get(home.id, bob.id)
        assert profile is not None
        assert (profile.full_name, profile.display_name, profile.locale, profile.preferences) == ("Bob", *[None] * 3)


def test_m19_a_profile_lies_under_its_cache_key(cached: Database, home: Inhabited) -> None:
    key = cached.cache.profiles.key(home.id, home.user_id)
    assert key == cache_key("user_profile", home.user_id, version=1, tenant=home.id)
    assert key == cached.cache.region("user_profile").key(home.user_id, tenant=home.id)
    cached.cache.profiles.get(home.id, home.user_id)
    found = cached.cache.region("user_profile").get(key)
    assert isinstance(found, ProfileView)


def test_m19_a_new_version_of_a_kind_makes_older_entries_invisible_at_once(
    cached: Database, another: Callable[[], Database], home: Inhabited
) -> None:
    card = Kind("card", ttl=60, rows=(User, UserProfile, UserSettings), type=ProfileView)
    cached.cache.entities(card)
    opened(cached).cache.entities(card).get(home.id, home.user_id)
    elsewhere = another()
    newer = elsewhere.cache.entities(replace(card, version=2))
    opened(elsewhere)
    assert newer.key(home.id, home.user_id).endswith(f":card:{home.user_id}:v2")
    assert newer.get(home.id, home.user_id) is not None
    assert newer._backend.stats.hit == 0
    assert newer._backend.stats.set == 1


def test_m20_the_time_to_live_is_set_per_kind_and_read_back_from_the_server(cached: Database, home: Inhabited) -> None:
    assert cached.cache.region("session").ttl == 300
    assert cached.cache.region("user_profile").ttl == 3600
    cached.cache.profiles.get(home.id, home.user_id)
    assert cached.settings.redis_url is not None
    name = f"da:{cached.cache.fencing.gate.view().epoch}:{cached.cache.profiles.key(home.id, home.user_id)}"
    with redis.Redis.from_url(cached.settings.redis_url) as client:
        left = client.pttl(name)
    shortest = 3600_000 * (1 - PROFILE.jitter)
    # a minute for a machine that is busy
    assert shortest - 60_000 <= left <= 3600_000


# ── which ids ─────────────────────────────────────────────────────────────────────────────────────────────────────


def test_an_id_that_is_missing_is_remembered_as_missing_until_it_is_there(
    watched: Database, wire: Proxy, home: Inhabited
) -> None:
    absent = new_id()
    assert [watched.cache.products.get(home.id, absent) for _ in range(3)] == [None] * 3
    assert len(questions(wire)) == 1
    assert watched.cache.stats()["product"].negative == 2
    with watched.tenant(home.id) as session:
        session.add(Product(id=absent, slug="cup", name="Cup", price=Decimal("2.50"), currency="GBP"))
    found = watched.cache.products.get(home.id, absent)
    assert found is not None
    assert found.name == "Cup"


def test_the_id_of_another_tenant_is_missing(cached: Database, home: Inhabited) -> None:
    abroad = inhabit(cached, "abroad")
    assert cached.cache.profiles.get(abroad.id, abroad.user_id) is not None
    assert cached.cache.profiles.get(home.id, abroad.user_id) is None
    both = cached.cache.profiles.get_many(home.id, [abroad.user_id, home.user_id])
    assert [one and one.full_name for one in both] == [None, "Ada Lovelace"]


def test_ids_may_be_text_and_what_is_no_id_is_refused(cached: Database, home: Inhabited) -> None:
    profiles = cached.cache.profiles
    assert profiles.get(str(home.id), str(home.user_id).upper()) == profiles.get(home.id, home.user_id)
    assert len(profiles.get_many(str(home.id), [str(home.user_id), home.user_id])) == 2
    for wrong in ("", "x", "{}", None, 5):
        with pytest.raises(InvalidValue, match="is no id"):
            profiles.get(home.id, wrong)  # type: ignore[arg-type]  # that is what is tested
        with pytest.raises(InvalidValue, match="is no id"):
            profiles.get_many(home.id, [wrong])  # type: ignore[list-item]  # that is what is tested
    with pytest.raises(TenantNotSet):
        profiles.get("nobody", home.user_id)


# ── many ──────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_many_are_found_in_the_order_asked_for_with_duplicates_and_gaps(
    watched: Database, wire: Proxy, home: Inhabited
) -> None:
    one, two, three = add_products(watched, home, 3)
    absent = new_id()
    watched.cache.products.get(home.id, two)
    watched.cache.products.get(home.id, absent)
    before = len(questions(wire))
    asked = [three, two, absent, one, three, home.product_id, absent]
    for _ in range(2):
        found = watched.cache.products.get_many(home.id, asked)
        assert [view.id if view else None for view in found] == [three, two, None, one, three, home.product_id, None]
    assert len(questions(wire)) == before + 1
    assert watched.cache.products.get_many(home.id, []) == []
    assert watched.cache.products.get_many(home.id, iter([two]))[0] is not None


def test_thousands_are_read_by_one_statement_and_found_in_one_trip(
    cached: Database, wire: Proxy, between: Relay, home: Inhabited
) -> None:
    ids = [*add_products(cached, home, 4000), *(new_id() for _ in range(1000))]
    # a relay in the same process is slow
    with through(cached, database_url=wire.url(), redis_url=between.url, cache_timeout=30.0) as db:
        first = db.cache.products.get_many(home.id, ids)
        assert len(questions(wire)) == 1
        assert [view.name for view in first[:4000] if view] == [f"Product {number}" for number in range(1, 4001)]
        assert first[4000:] == [None] * 1000
        assert db.cache.stats()["product"].set == 5000
        trips = between.commands(b"MGET")
        assert db.cache.products.get_many(home.id, ids) == first
        assert between.commands(b"MGET") == trips + 1
        assert len(questions(wire)) == 1
        assert db.cache.stats()["product"].hit == 5000


def test_many_may_be_asked_for_by_several_at_once_and_each_is_read_once(
    watched: Database, wire: Proxy, home: Inhabited
) -> None:
    ids = add_products(watched, home, 60)
    windows = [ids[start : start + 30] for start in range(0, 31, 2)]
    ready = threading.Barrier(len(windows))

    def get(window: list[UUID]) -> list[UUID | None]:
        ready.wait()
        return [view.id if view else None for view in watched.cache.products.get_many(home.id, window)]

    with ThreadPoolExecutor(len(windows)) as pool:
        assert list(pool.map(get, windows)) == windows
    assert watched.cache.stats()["product"].set == 60


# ── one query ─────────────────────────────────────────────────────────────────────────────────────────────────────


def test_two_hundred_callers_who_miss_one_profile_send_one_query(
    watched: Database, wire: Proxy, home: Inhabited
) -> None:
    ready = threading.Barrier(CALLERS)

    def get(_: int) -> str | None:
        ready.wait()
        return name_of(watched, home)

    with ThreadPoolExecutor(CALLERS) as pool:
        assert list(pool.map(get, range(CALLERS))) == ["Ada Lovelace"] * CALLERS
    assert len(questions(wire)) == 1


PROCESS = """
import sys
from concurrent.futures import ThreadPoolExecutor
from uuid import UUID
from dataarch.caching.database import Database

with Database() as db:
    while db.cache.fencing.readable() is None:
        pass
    print("ready", flush=True)
    sys.stdin.readline()
    tenant, user = map(UUID, sys.argv[1:])
    with ThreadPoolExecutor(8) as pool:
        names = {one.full_name for one in pool.map(lambda _: db.cache.profiles.get(tenant, user), range(8))}
    print(*names, flush=True)
"""


def test_processes_that_miss_one_profile_at_once_send_one_query(
    watched: Database, wire: Proxy, home: Inhabited
) -> None:
    urls = {"DATAARCH_DATABASE_URL": wire.url(), "DATAARCH_REDIS_URL": watched.settings.redis_url}
    environment = {**os.environ, **{name: url for name, url in urls.items() if url}}
    command = [sys.executable, "-c", PROCESS, str(home.id), str(home.user_id)]
    with ExitStack() as stack:
        processes = [
            stack.enter_context(
                subprocess.Popen(command, env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
            )
            for _ in range(4)
        ]
        for process in processes:
            assert process.stdout is not None
            assert process.stdout.readline() == "ready\n"
        for process in processes:
            assert process.stdin is not None
            process.stdin.write("go\n")
            process.stdin.flush()
        said = [process.communicate(timeout=60)[0] for process in processes]
    assert said == ["Ada Lovelace\n"] * 4
    assert len(questions(wire)) == 1
