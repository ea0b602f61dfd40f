"""Regions in units of work and under asyncio, on a dictionary, and without any store."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any
from uuid import uuid4

import pytest
from dogpile.cache.api import NO_VALUE
from sqlalchemy import select, update

from dataarch.caching.database import AsyncDatabase, Database
from dataarch.caching.kinds import Kind
from dataarch.database.settings import Settings
from dataarch.database.tenancy import Isolation
from dataarch.errors import InvalidUrl, ServerUnreachable
from dataarch.models import User
from fixtures.tenants import Inhabited

pytestmark = pytest.mark.cache

PLAIN = Kind("plain", ttl=60, jitter=0)


# ── units of work ─────────────────────────────────────────────────────────────────────────────────────────────────


def test_a_unit_of_work_of_one_moment_neither_reads_the_cache_nor_keeps_anything(
    cached: Database, home: Inhabited, another: Callable[[], Database]
) -> None:
    region: Any = cached.cache.define(Kind("names", ttl=60, reads=(User,)))
    key = region.key(tenant=home.id)
    with cached.tenant(home.id, isolation=Isolation.REPEATABLE_READ) as session:

        def read() -> str | None:
            return session.scalar(select(User.full_name))

        assert read() == "Ada Lovelace"
        with another().tenant(home.id) as other:
            other.execute(update(User).values(full_name="Ada King"))
        assert region.get_or_create(key, read) == "Ada Lovelace"
    assert region.get(key) is NO_VALUE


async def test_under_asyncio_the_cache_works_in_run_sync_and_holds_no_task_up(
    cached: Database, home: Inhabited
) -> None:
    async_db = AsyncDatabase(cached.settings)
    try:
        region: Any = async_db.cache.define(Kind("names", ttl=60, reads=(User,)))
        await asyncio.to_thread(async_db.cache.wait_until_ready)
        key = region.key(tenant=home.id)
        asked: list[int] = []

        async def read_by_cache() -> str:
            async with async_db.tenant(home.id) as session:

                def read(sync: object) -> str:
                    def make() -> str | None:
                        asked.append(1)
                        return session.sync_session.scalar(select(User.full_name))

                    return str(region.get_or_create(key, make))

                return await session.run_sync(read)

        assert set(await asyncio.gather(*(read_by_cache() for _ in range(5)))) == {"Ada Lovelace"}
        assert len(asked) == 1
        async with async_db.tenant(home.id) as session:
            await session.execute(update(User).values(full_name="Ada King"))
        assert await read_by_cache() == "Ada King"
    finally:
        await async_db.close()


# ── stores ────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_a_dictionary_of_this_process_does_the_same(settings: Settings, home: Inhabited) -> None:
    with Database(settings.model_copy(update={"redis_url": "memory://"})) as db:
        names = db.cache.define(Kind("name_of", ttl=60, rows=(User,)))

        def read() -> str | None:
            with db.tenant(home.id) as session:
                return session.scalar(select(User.full_name))

        key = names.key(home.user_id, tenant=home.id)
        assert [names.get_or_create(key, read) for _ in range(2)] == ["Ada Lovelace"] * 2
        assert names.backend.stats.hit == 1
        with db.tenant(home.id) as session:
            session.get_one(User, (home.id, home.user_id)).full_name = "Ada King"
        assert names.get_or_create(key, read) == "Ada King"


def test_without_a_url_nothing_is_remembered_and_all_works(settings: Settings, home: Inhabited) -> None:
    with Database(settings.model_copy(update={"redis_url": None})) as db:
        region: Any = db.cache.define(PLAIN)
        assert [region.get_or_create(region.key("a"), lambda n=n: n) for n in range(3)] == [0, 1, 2]
        assert region.backend.stats.bypass == 3


@pytest.mark.parametrize("url", ["http://127.0.0.1", "redis://127.0.0.1:port", "nonsense"])
def test_a_url_that_cannot_be_read_is_refused_without_its_password(settings: Settings, url: str) -> None:
    with pytest.raises(InvalidUrl, match="DATAARCH_REDIS_URL"):
        Database(settings.model_copy(update={"redis_url": url}))


def test_making_a_cache_connects_to_nothing() -> None:
    nowhere = Settings(database_url="postgresql://nobody@127.0.0.1:1/none", redis_url="redis://127.0.0.1:1")
    with Database(nowhere) as db:
        db.cache.define(PLAIN)
        with pytest.raises(ServerUnreachable), db.tenant(uuid4()) as session:
            session.execute(select(User))
