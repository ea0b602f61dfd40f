"""Regions behave as dogpile.cache says of them, with all that is promised on top."""

from __future__ import annotations

import json
import pickle
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any
from uuid import UUID, uuid4

import pytest
import redis
from dogpile.cache.api import NO_VALUE
from sqlalchemy import Column, Integer, MetaData, Table, Text, text

from dataarch.caching.database import Database
from dataarch.caching.entity_views import PROFILE
from dataarch.caching.fencing import named
from dataarch.caching.kinds import SESSION, Kind
from dataarch.database.settings import Settings
from dataarch.errors import InvalidValue
from dataarch.models import Product, User
from fixtures.caches import opened, until
from fixtures.shared_data import shared_file
from fixtures.tenants import Inhabited

pytestmark = pytest.mark.cache

PLAIN = Kind("plain", ttl=60, jitter=0)


@pytest.fixture
def region(cached: Database) -> Any:
    return cached.cache.define(PLAIN)


def raw(db: Database) -> redis.Redis:
    assert db.settings.redis_url is not None
    return redis.Redis.from_url(db.settings.redis_url)


def stored(db: Database, key: str) -> str:
    """What an entry is called in the store."""
    return named(db.cache.fencing.gate.view().epoch, key)


# ── dogpile's own ways ────────────────────────────────────────────────────────────────────────────────────────────


def test_get_gives_what_get_or_create_has_kept(region: Any) -> None:
    key = region.key("a")
    assert region.get(key) is NO_VALUE
    assert region.get_or_create(key, lambda: [1, "zwei"]) == [1, "zwei"]
    assert region.get(key) == [1, "zwei"]
    region.delete(key)
    assert region.get(key) is NO_VALUE


def test_several_keys_are_made_by_one_call_for_those_that_are_missing(region: Any) -> None:
    keys = [region.key(n) for n in range(4)]
    region.get_or_create(keys[1], lambda: "one")
    asked: list[tuple[str, ...]] = []

    def make(*missing: str) -> list[str]:
        asked.append(missing)
        return [f"made {key}" for key in missing]

    expected = [f"made {key}" for key in keys]
    expected[1] = "one"
    assert region.get_or_create_multi(keys, make) == expected
    assert region.get_or_create_multi(keys, make) == expected
    assert [set(one) for one in asked] == [{keys[0], keys[2], keys[3]}]
    assert region.get_multi(keys) == expected
    region.delete_multi(keys)
    assert region.get_multi(keys) == [NO_VALUE] * 4


def test_a_decorated_function_is_called_once_for_the_same_arguments(region: Any) -> None:
    calls: list[tuple[object, ...]] = []

    def called(one: object, two: object = None) -> str:
        calls.append((one, two))
        return f"{one!r} {two!r}"

    work = region.cache_on_arguments()(called)
    for one, two in [
        (1, None),
        ("1", None),
        (1.0, None),
        (None, "None"),
        (True, None),
        ("None", None),
        (UUID(int=1), 2),
    ]:
        assert work(one, two) == work(one, two) == f"{one!r} {two!r}"
    assert work(1) == work(one=1) == "1 None"
    assert len(calls) == 7
    work.invalidate(1)
    work(1)
    assert len(calls) == 8


def test_a_decorated_method_does_not_depend_on_its_object(region: Any) -> None:
    class Reader:
        calls = 0

        def really(self, which: int) -> int:
            Reader.calls += 1
            return which * 2

        read = region.cache_on_arguments()(really)

    assert (Reader().read(2), Reader().read(2), Reader.calls) == (4, 4, 1)


def test_a_function_cannot_be_remembered_by_an_argument_without_a_text(region: Any) -> None:
    work = region.cache_on_arguments()(lambda one: one)
    with pytest.raises(InvalidValue, match="cannot be remembered by an argument"):
        work([1])


def test_a_value_that_is_set_without_a_lease_is_refused_and_counted(region: Any) -> None:
    region.set(region.key("a"), 1)
    region.set_multi({region.key("b"): 2})
    assert region.get_multi([region.key("a"), region.key("b")]) == [NO_VALUE, NO_VALUE]
    assert region.backend.stats.refused == 2


def test_what_should_not_be_cached_is_not(region: Any) -> None:
    key = region.key("a")
    assert region.get_or_create(key, lambda: 1, should_cache_fn=lambda _: False) == 1
    assert region.get(key) is NO_VALUE
    assert region.get_or_create(key, lambda: 2) == 2


def test_an_error_of_the_creator_is_the_callers_and_holds_nobody_up(region: Any) -> None:
    key = region.key("a")
    with pytest.raises(ZeroDivisionError):
        region.get_or_create(key, lambda: 1 / 0)
    assert region.get_or_create(key, lambda: 2) == 2
    assert region.get(key) == 2


# ── time ──────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_m20_the_time_to_live_is_set_per_kind_and_can_be_read_back(cached: Database) -> None:
    assert (cached.cache.region("session").ttl, cached.cache.region("user_profile").ttl) == (300, 3600)
    assert (SESSION.ttl, PROFILE.ttl) == (300, 3600)
    for ttl, jitter in ((300.0, 0.0), (3600.0, 0.0), (100.0, 0.5)):
        region: Any = cached.cache.define(Kind(f"lasts_{ttl:.0f}", ttl=ttl, jitter=jitter))
        lasts = []
        for n in range(12):
            region.get_or_create(region.key(n), lambda: 1)
            lasts.append(raw(cached).pttl(stored(cached, region.key(n))) / 1000)
        assert ttl * (1 - jitter) - 5 <= min(lasts) <= max(lasts) <= ttl
        assert jitter == 0 or len(set(lasts)) > 6


def test_an_entry_ends_when_its_time_is_over(cached: Database) -> None:
    region: Any = cached.cache.define(Kind("short", ttl=0.05, negative_ttl=0))
    key = region.key("a")
    region.get_or_create(key, lambda: 1)
    until(lambda: region.get(key) is NO_VALUE)
    assert region.get_or_create(key, lambda: 2) == 2


def test_an_old_value_is_served_while_one_caller_reads_a_new_one(cached: Database) -> None:
    region: Any = cached.cache.define(Kind("soft", ttl=600, soft_ttl=0.05, jitter=0))
    key = region.key("a")
    region.get_or_create(key, lambda: "old")
    time.sleep(0.06)
    entered, go_on = threading.Event(), threading.Event()

    def slowly() -> str:
        entered.set()
        assert go_on.wait(20)
        return "new"

    with ThreadPoolExecutor(1) as pool:
        refreshing = pool.submit(region.get_or_create, key, slowly)
        assert entered.wait(20)
        assert [region.get_or_create(key, lambda: "never") for _ in range(5)] == ["old"] * 5
        go_on.set()
        assert refreshing.result() == "new"
    assert region.get_or_create(key, lambda: "never", expiration_time=60) == "new"
    assert region.backend.stats.stale >= 5


def test_that_there_is_nothing_is_remembered_for_a_time_of_its_own(cached: Database) -> None:
    region: Any = cached.cache.define(Kind("negative", ttl=600, negative_ttl=50, jitter=0))
    calls: list[int] = []
    for _ in range(3):
        assert region.get_or_create(region.key("a"), lambda: calls.append(1)) is None
    assert len(calls) == 1
    assert 0 < raw(cached).pttl(stored(cached, region.key("a"))) <= 50_000
    assert region.backend.stats.negative == 2
    never = cached.cache.define(Kind("never_negative", ttl=600, negative_ttl=0))
    for _ in range(3):
        never.get_or_create(never.key("a"), lambda: calls.append(1))
    assert len(calls) == 4


@pytest.mark.parametrize(
    "given",
    [
        {"ttl": 0},
        {"ttl": -1},
        {"ttl": float("nan")},
        {"ttl": 8 * 24 * 3600},
        {"ttl": 10, "soft_ttl": 10},
        {"ttl": 10, "soft_ttl": 0},
        {"ttl": 10, "negative_ttl": 11},
        {"ttl": 10, "jitter": 0.6},
        {"ttl": 10, "version": -1},
        {"ttl": 10, "reads": (object,)},
    ],
)
def test_a_kind_that_cannot_be_is_refused(given: dict[str, object]) -> None:
    with pytest.raises(InvalidValue):
        Kind("odd", **{"negative_ttl": 0, **given})  # type: ignore[arg-type]  # that is the point


def test_two_kinds_of_one_name_are_refused_and_the_same_one_twice_is_one(cached: Database) -> None:
    assert cached.cache.define(PLAIN) is cached.cache.define(Kind("plain", ttl=60, jitter=0))
    with pytest.raises(InvalidValue, match="another kind plain"):
        cached.cache.define(Kind("plain", ttl=61))
    with pytest.raises(InvalidValue, match=r"Defined are: .*plain"):
        cached.cache.region("unknown")


def test_m19_a_new_version_makes_old_entries_invisible_at_once(
    cached: Database, another: Callable[[], Database]
) -> None:
    old = cached.cache.define(Kind("form", ttl=60, version=1))
    new = another().cache.define(Kind("form", ttl=60, version=2))
    assert old.get_or_create(old.key("a"), lambda: "one") == "one"
    assert new.get_or_create(new.key("a"), lambda: "two") == "two"
    assert old.get(old.key("a")) == "one"


# ── keys that are none ────────────────────────────────────────────────────────────────────────────────────────────


def test_a_key_of_another_kind_or_of_no_tenant_is_refused_whether_the_cache_can_be_read_or_not(
    cached: Database, settings: Settings, home: Inhabited
) -> None:
    kind = Kind("user_name", ttl=60, reads=(User,))
    with Database(settings.model_copy(update={"redis_url": None})) as without:
        for db in (cached, without):
            region: Any = db.cache.define(kind)
            for key in ("anything", "plain:a:v1", f"{{{home.id}}}:user_name:a:v2", "user_name:a:v1"):
                with pytest.raises(InvalidValue):
                    region.get(key)
                with pytest.raises(InvalidValue):
                    region.get_multi([key])


def test_in_a_unit_of_work_a_key_is_its_tenants(cached: Database, home: Inhabited) -> None:
    region: Any = cached.cache.define(Kind("user_name", ttl=60, reads=(User,)))
    with cached.tenant(home.id):
        assert region.key("a") == region.key("a", tenant=home.id)


def test_two_tenants_share_nothing(cached: Database, home: Inhabited, make_tenant: Callable[[str], Inhabited]) -> None:
    abroad = make_tenant("abroad")
    region: Any = cached.cache.define(Kind("user_name", ttl=60, reads=(User,)))
    for tenant in (home, abroad):
        assert region.get_or_create(region.key("a", tenant=tenant.id), lambda t=tenant: t.slug) == tenant.slug
    assert region.get(region.key("a", tenant=home.id)) == home.slug
    cached.cache.invalidate_tenant(home.id)
    assert region.get(region.key("a", tenant=home.id)) is NO_VALUE
    assert region.get(region.key("a", tenant=abroad.id)) == abroad.slug


# ── by hand ───────────────────────────────────────────────────────────────────────────────────────────────────────


def test_a_tenant_a_table_a_row_a_kind_or_all_is_made_invisible_by_one_call(cached: Database, home: Inhabited) -> None:
    cache = cached.cache
    regions = [
        cache.define(Kind("names", ttl=60, reads=(User,))),
        cache.define(Kind("name_of", ttl=60, rows=(User,))),
        cache.define(PLAIN),
    ]
    opened(cached)
    keys = [
        regions[0].key(tenant=home.id),
        regions[1].key(home.user_id, tenant=home.id),
        regions[2].key("a"),
    ]
    row = (home.user_id,)
    calls: list[tuple[Callable[[], None], list[bool]]] = [
        (lambda: cache.invalidate_tenant(home.id), [False, False, True]),
        (lambda: cache.invalidate_rows(User, home.id), [False, False, True]),
        (lambda: cache.invalidate_rows(User, home.id, key=row), [False, False, True]),
        (lambda: cache.invalidate_rows(User, home.id, key=(uuid4(),)), [False, True, True]),
        (lambda: cache.invalidate_rows(User, uuid4()), [True, True, True]),
        (lambda: cache.invalidate_kind("plain"), [True, True, False]),
        (cache.invalidate_all, [False, False, False]),
    ]
    for invalidate, stay in calls:
        for region, key in zip(regions, keys, strict=True):
            region.get_or_create(key, lambda: 1)
        invalidate()
        assert [region.get(key) == 1 for region, key in zip(regions, keys, strict=True)] == stay
    with pytest.raises(InvalidValue, match="are tenants'"):
        cache.invalidate_rows(User)


# ── what is not an entry ──────────────────────────────────────────────────────────────────────────────────────────


def test_poisoned_bytes_and_foreign_forms_are_misses_that_are_counted(cached: Database, region: Any) -> None:
    key = region.key("a")
    region.get_or_create(key, lambda: 1)
    name, store = stored(cached, key), raw(cached)
    good = store.get(name)
    assert isinstance(good, bytes)
    alive = good[: good.index(b"|") + 1]
    poisons = [b"", b"\x80\x04", pickle.dumps([1]), b"d0" + good[2:], b"d2" + good[2:], alive, alive + b"\xff" * 30]
    for poison in poisons:
        store.set(name, poison)
        before = region.backend.stats.error
        assert region.get(key) is NO_VALUE
        assert region.backend.stats.error == before + 1, poison
    store.delete(name)
    store.rpush(name, "a list")
    assert region.get_or_create(key, lambda: 2) == 2


def test_naughty_strings_come_back_under_keys_of_their_own(region: Any) -> None:
    strings = json.loads(shared_file("naughty-strings", "blns.json").read_text())
    for naughty in strings:
        assert region.get_or_create(region.key(naughty), lambda it=naughty: [it]) == [naughty]
    assert region.get_multi([region.key(one) for one in strings]) == [[one] for one in strings]
    assert (region.backend.stats.error, region.backend.stats.refused) == (0, 0)


def test_a_value_that_cannot_be_remembered_is_given_and_counted(region: Any) -> None:
    value = object()
    assert region.get_or_create(region.key("a"), lambda: value) is value
    assert region.get(region.key("a")) is NO_VALUE
    assert region.backend.stats.refused == 1


def test_m21_hits_misses_and_what_was_kept_are_counted(region: Any) -> None:
    key = region.key("a")
    assert region.backend.stats.hit_rate is None
    for _ in range(4):
        region.get_or_create(key, lambda: 1)
    stats = region.backend.stats
    assert (stats.hit, stats.miss, stats.set, stats.error, stats.bypass) == (3, 1, 1, 0, 0)
    assert stats.hit_rate == 0.75


# ── one maker ─────────────────────────────────────────────────────────────────────────────────────────────────────


def test_two_hundred_callers_of_one_key_ask_once(region: Any) -> None:
    calls: list[int] = []
    together = threading.Barrier(200)

    def make() -> int:
        calls.append(1)
        time.sleep(0.05)
        return len(calls)

    def call(_: int) -> int:
        together.wait(30)
        return int(region.get_or_create(region.key("a"), make))

    with ThreadPoolExecutor(200) as pool:
        assert set(pool.map(call, range(200))) == {1}
    assert len(calls) == 1


def test_callers_at_several_doors_ask_once(cached: Database, another: Callable[[], Database]) -> None:
    regions = [cached.cache.define(PLAIN), *(another().cache.define(PLAIN) for _ in range(3))]
    calls: list[int] = []
    together = threading.Barrier(40)

    def make() -> int:
        calls.append(1)
        time.sleep(0.1)
        return 7

    def call(n: int) -> int:
        together.wait(30)
        region = regions[n % 4]
        return int(region.get_or_create(region.key("a"), make))

    with ThreadPoolExecutor(40) as pool:
        assert set(pool.map(call, range(40))) == {7}
    assert len(calls) == 1


def test_nobody_waits_for_a_value_that_cannot_be_kept(settings: Settings) -> None:
    with Database(settings.model_copy(update={"redis_url": None})) as db:
        region: Any = db.cache.define(PLAIN)
        together = threading.Barrier(20)

        def make() -> int:
            # all of them are here at once
            together.wait(30)
            return 7

        with ThreadPoolExecutor(20) as pool:
            assert set(pool.map(lambda _: region.get_or_create(region.key("a"), make), range(20))) == {7}


def test_what_was_made_from_rows_of_nobody_is_invisible_after_a_write_to_them(
    cached: Database, home: Inhabited
) -> None:
    rates = Table("exchange_rates", MetaData(), Column("code", Text(), primary_key=True), Column("rate", Integer()))
    mixed: Any = cached.cache.define(Kind("prices", ttl=60, rows=(rates,), reads=(Product,)))
    plain: Any = cached.cache.define(Kind("rates", ttl=60, rows=(rates,)))
    opened(cached)
    keys = [(mixed, mixed.key("EUR", tenant=home.id)), (plain, plain.key("EUR"))]
    writes: list[Callable[[], None]] = [
        lambda: cached.cache.invalidate_rows(rates, key=("EUR",)),
        lambda: cached.cache.invalidate_rows(rates),
    ]
    for write in writes:
        for region, key in keys:
            assert region.get_or_create(key, lambda: 1) == 1
            assert region.get(key) == 1
        write()
        assert [region.get(key) for region, key in keys] == [NO_VALUE, NO_VALUE]
    mixed.get_or_create(keys[0][1], lambda: 1)
    with cached.tenant(home.id) as session:
        session.execute(text("DO $$ BEGIN PERFORM 1; END $$"))
    assert mixed.get(keys[0][1]) is NO_VALUE
