"""Six ways in which caches of databases are known to fail, each shown not to happen here."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from uuid import uuid4

import pytest
import redis
from dogpile.cache.api import NO_VALUE
from sqlalchemy import select, update

from dataarch.caching.database import Database
from dataarch.caching.kinds import Kind
from dataarch.database.settings import Settings
from dataarch.models import User
from fixtures.caches import opened
from fixtures.tenants import Inhabited

pytestmark = pytest.mark.cache

NAMES = select(User.full_name).order_by(User.full_name)
ONE = Kind("name_of_one", ttl=60, rows=(User,))


def test_m18_a_list_is_not_stale_in_another_process(
    cached: Database, another: Callable[[], Database], home: Inhabited
) -> None:
    elsewhere = another()
    for db in (cached, elsewhere, cached):
        assert db.cache.queries.all(home.id, NAMES) == ["Ada Lovelace"]
    with cached.tenant(home.id) as session:
        session.add(User(email="bob@example.com", full_name="Bob"))
    assert elsewhere.cache.queries.all(home.id, NAMES) == ["Ada Lovelace", "Bob"]


def test_m18_a_bulk_statement_invalidates_what_it_changed(cached: Database, home: Inhabited) -> None:
    assert cached.cache.profiles.get(home.id, home.user_id) is not None
    with cached.tenant(home.id) as session:
        session.execute(update(User).where(User.email.is_not(None)).values(full_name="Ada King"))
    found = cached.cache.profiles.get(home.id, home.user_id)
    assert found is not None
    assert found.full_name == "Ada King"


def test_m18_what_is_not_committed_is_not_remembered_and_does_not_survive_a_rollback(
    cached: Database, another: Callable[[], Database], home: Inhabited
) -> None:
    elsewhere = another()
    with pytest.raises(ZeroDivisionError), cached.tenant(home.id) as session:
        session.get_one(User, (home.id, home.user_id)).full_name = "Nobody"
        session.flush()
        own = cached.cache.profiles.get(home.id, home.user_id)
        assert own is not None
        assert own.full_name == "Nobody"
        theirs = elsewhere.cache.profiles.get(home.id, home.user_id)
        assert theirs is not None
        assert theirs.full_name == "Ada Lovelace"
        raise ZeroDivisionError
    for db in (cached, elsewhere):
        found = db.cache.profiles.get(home.id, home.user_id)
        assert found is not None
        assert found.full_name == "Ada Lovelace"


def test_m18_a_value_that_was_read_before_an_invalidation_is_not_stored_after_it(
    cached: Database, another: Callable[[], Database], home: Inhabited
) -> None:
    region = cached.cache.define(ONE)
    opened(cached)
    writer = another()
    key = region.key(home.user_id, tenant=home.id)
    has_read, go_on = threading.Event(), threading.Event()

    def slowly() -> str | None:
        with cached.tenant(home.id) as session:
            found = session.scalar(select(User.full_name))
        has_read.set()
        assert go_on.wait(30)
        return found

    with ThreadPoolExecutor(1) as pool:
        reading = pool.submit(region.get_or_create, key, slowly)
        assert has_read.wait(30)
        with writer.tenant(home.id) as session:
            session.execute(update(User).values(full_name="Ada King"))
        go_on.set()
        # it began before the commit, and may get what was then; nobody else may
        assert reading.result() == "Ada Lovelace"
    assert region.get(key) is NO_VALUE


def test_without_the_cache_reads_and_writes_go_on(settings: Settings, cached: Database, home: Inhabited) -> None:
    with Database(settings.model_copy(update={"redis_url": "redis://127.0.0.1:1/0"})) as db:
        assert db.cache.profiles.get(home.id, home.user_id) is not None
        with db.tenant(home.id) as session:
            session.execute(update(User).values(full_name="Ada King"))
        found = db.cache.profiles.get(home.id, home.user_id)
        assert found is not None
        assert found.full_name == "Ada King"


def test_what_is_stored_is_no_pickle_and_ends(cached: Database, home: Inhabited) -> None:
    marker = uuid4().hex
    region = cached.cache.define(Kind("ends", ttl=60))
    region.get_or_create(region.key("a"), lambda: {"marker": marker})
    cached.cache.profiles.get(home.id, home.user_id)
    epoch = cached.cache.fencing.gate.view().epoch
    assert cached.settings.redis_url is not None
    with redis.Redis.from_url(cached.settings.redis_url) as client:
        names = list(client.scan_iter(f"da:{epoch}:*"))
        assert len(names) > 5
        assert [name for name in names if client.ttl(name) < 0] == []
        entries = [client.get(name) for name in names if name.endswith(b":v1")]
    assert len(entries) == 2
    assert all(isinstance(entry, bytes) and entry.startswith(b"d1") and b"\x80\x04" not in entry for entry in entries)
    assert any(marker.encode() in entry for entry in entries if isinstance(entry, bytes))
