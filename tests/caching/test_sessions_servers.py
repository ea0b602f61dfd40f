"""Sessions live in the database: Redis may be restarted or away, and asyncio may be at work."""

from __future__ import annotations

import asyncio
import os
import shutil
import subprocess
import tempfile
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from uuid import UUID

import pytest
import redis
from sqlalchemy import text
from sqlalchemy.orm import Session

from caching.session_support import NOWHERE, Clock, Desk
from dataarch.caching.database import AsyncDatabase, Database
from dataarch.caching.views import SessionView
from dataarch.database.embedded.account import Account
from dataarch.database.embedded.binaries import find_valkey
from dataarch.database.settings import Settings
from dataarch.errors import TenantNotSet, UnknownUser
from dataarch.models.base import new_id
from fixtures.caches import opened, quicken, until
from fixtures.tenants import Inhabited, inhabit

pytestmark = pytest.mark.cache


# ── Redis comes and goes ──────────────────────────────────────────────────────────────────────────────────────────


class OwnRedis:
    """A server of this test's own, which it may kill."""

    def __init__(self, folder: Path) -> None:
        self.socket = folder / "s"
        self.url = f"unix://{self.socket}?db=0"
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        self.socket.unlink(missing_ok=True)
        options = ["--port", "0", "--unixsocket", str(self.socket), "--save", "", "--appendonly", "no"]
        ourselves = Account(os.geteuid(), os.getegid(), demoted=False)
        self._process = subprocess.Popen(
            [find_valkey(ourselves), *options], cwd=self.socket.parent, stdout=subprocess.DEVNULL
        )
        until(self.answers, "Redis")

    def answers(self) -> bool:
        try:
            with redis.Redis.from_url(self.url) as client:
                return bool(client.ping())
        except redis.ConnectionError:
            return False

    def kill(self) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None


@pytest.fixture
def own_redis() -> Iterator[OwnRedis]:
    """A server that runs."""
    folder = Path(tempfile.mkdtemp())
    server = OwnRedis(folder)
    try:
        server.start()
        yield server
    finally:
        server.kill()
        shutil.rmtree(folder)


def test_sessions_survive_a_restart_of_redis_and_its_absence(settings: Settings, own_redis: OwnRedis) -> None:
    quicken(settings)
    with Database(settings.model_copy(update={"redis_url": own_redis.url})) as db:
        opened(db)
        desk = Desk(db, inhabit(db), Clock())
        kept, revoked = desk.create({"n": 1}), desk.create()
        before = desk.sessions.get(desk.home.id, kept)
        assert desk.remembers(kept)
        assert desk.remembers(revoked)
        own_redis.kill()
        assert desk.sessions.get(desk.home.id, kept) == before
        assert desk.sessions.revoke(desk.home.id, revoked) is True
        assert desk.sessions.get(desk.home.id, revoked) is None
        meanwhile, made = desk.sessions.create(desk.home.id, desk.home.user_id)
        own_redis.start()
        opened(db)
        assert desk.sessions.get(desk.home.id, kept) == before
        assert desk.sessions.get(desk.home.id, meanwhile) == made
        assert desk.sessions.get(desk.home.id, revoked) is None
        until(lambda: desk.remembers(kept), "a hit")


def test_m20_a_session_is_remembered_for_300_seconds_at_the_most(cached: Database, home: Inhabited) -> None:
    desk = Desk(cached, home, Clock())
    desk.create()
    region = cached.cache.region("session")
    assert region.ttl == 300
    assert cached.settings.redis_url is not None
    epoch = cached.cache.fencing.gate.view().epoch
    with redis.Redis.from_url(cached.settings.redis_url) as client:
        lasts = [client.pttl(key) for key in client.scan_iter(match=f"da:{epoch}:*:session:*:v1", count=1000)]
    assert len(lasts) == 1
    assert 200_000 < lasts[0] <= 300_000


# ── asyncio ───────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.fixture(params=[True, False], ids=["with a cache", "without"])
async def waiting(cached: Database, request: pytest.FixtureRequest) -> AsyncIterator[AsyncDatabase]:
    """The same database under asyncio."""
    url = cached.settings.redis_url if request.param else NOWHERE
    async with AsyncDatabase(cached.settings.model_copy(update={"redis_url": url})) as database:
        yield database


async def test_it_works_in_run_sync_as_a_part_of_the_unit_of_work(
    waiting: AsyncDatabase, cached: Database, home: Inhabited
) -> None:
    sessions = waiting.cache.sessions
    async with waiting.tenant(home.id) as session:
        token, made = await session.run_sync(lambda _: sessions.create(home.id, home.user_id, {"a": 1}))
        assert await session.run_sync(lambda _: sessions.get(home.id, token)) == made
        assert cached.cache.sessions.get(home.id, token) is None
    assert cached.cache.sessions.get(home.id, token) == made
    async with waiting.tenant(home.id) as session:
        assert await session.run_sync(lambda _: sessions.touch(home.id, token)) == made
    async with waiting.tenant(home.id) as session:
        assert await session.run_sync(lambda _: sessions.revoke(home.id, token)) is True
    assert cached.cache.sessions.get(home.id, token) is None
    async with waiting.tenant(home.id) as session:
        assert await session.run_sync(lambda _: sessions.get(home.id, token)) is None
        assert await session.run_sync(lambda _: sessions.revoke_all(home.id, home.user_id)) == 1
        assert await session.run_sync(lambda _: sessions.remove_expired(home.id)) == 0


async def test_it_opens_a_unit_of_work_of_its_own_where_no_other_is_of_the_tenant(
    waiting: AsyncDatabase, cached: Database, home: Inhabited
) -> None:
    sessions = waiting.cache.sessions
    rival = await asyncio.to_thread(inhabit, cached, "rival")

    def signed_in(outer: Session) -> str:
        token, made = sessions.create(home.id, home.user_id)
        assert sessions.get(home.id, token) == made
        assert sessions.get(rival.id, token) is None
        with pytest.raises(UnknownUser):
            sessions.create(home.id, new_id())
        assert outer.scalar(text("SELECT count(*) FROM user_sessions")) == 1
        return token

    with pytest.raises(ZeroDivisionError):
        async with waiting.tenant(rival.id) as session:
            token = await session.run_sync(signed_in)
            raise ZeroDivisionError
    assert cached.cache.sessions.get(home.id, token) is not None


async def test_many_tasks_find_a_session_at_once(waiting: AsyncDatabase, home: Inhabited) -> None:
    sessions = waiting.cache.sessions

    async def found(token: str) -> SessionView | None:
        async with waiting.tenant(home.id) as session:
            return await session.run_sync(lambda _: sessions.touch(home.id, token))

    async with waiting.tenant(home.id) as session:
        token, made = await session.run_sync(lambda _: sessions.create(home.id, home.user_id))
    assert await asyncio.gather(*(found(token) for _ in range(20))) == [made] * 20


OUTSIDE: dict[str, Callable[[AsyncDatabase, UUID, str], object]] = {
    "create": lambda db, tenant, _: db.cache.sessions.create(tenant, tenant),
    "get": lambda db, tenant, token: db.cache.sessions.get(tenant, token),
    "touch": lambda db, tenant, token: db.cache.sessions.touch(tenant, token),
    "revoke": lambda db, tenant, token: db.cache.sessions.revoke(tenant, token),
    "revoke_all": lambda db, tenant, _: db.cache.sessions.revoke_all(tenant, tenant),
    "remove_expired": lambda db, tenant, _: db.cache.sessions.remove_expired(tenant),
}


@pytest.mark.parametrize("what", OUTSIDE)
async def test_outside_of_run_sync_it_is_refused_whether_it_is_remembered_or_not(
    cached: Database, home: Inhabited, what: str
) -> None:
    token, _ = cached.cache.sessions.create(home.id, home.user_id)
    cached.cache.sessions.get(home.id, token)
    async with AsyncDatabase(cached.settings) as db, db.tenant(home.id):
        with pytest.raises(TenantNotSet, match="run_sync"):
            OUTSIDE[what](db, home.id, token)
