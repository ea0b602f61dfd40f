"""A connection that breaks while COMMIT is under way: nobody knows how it ends, and nobody gets the older value."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator

import pytest
from sqlalchemy import URL, select, update

from dataarch.caching.database import Database
from dataarch.caching.fencing import Timing, named
from dataarch.caching.kinds import Kind
from dataarch.database.settings import Settings
from dataarch.errors import DataArchError
from dataarch.models import User
from fixtures.cache_servers import Address, Proxy, proxy
from fixtures.caches import opened, until
from fixtures.tenants import Inhabited

pytestmark = pytest.mark.cache

NAME = Kind("unknown_name", ttl=60, rows=(User,))

TIMING = Timing(fence_ms=2000)
"""A fence that ends within the test; transactions may idle for a second."""

COMMIT = b"COMMIT\0"
"""As it stands in what is sent: READ COMMITTED is sent, too."""


def address_of(url: URL) -> Address:
    host = url.query.get("host", url.host)
    assert isinstance(host, str)
    return f"{host}/.s.PGSQL.{url.port or 5432}" if host.startswith("/") else (host, url.port or 5432)


@pytest.fixture
def line(settings: Settings) -> Iterator[Proxy]:
    with proxy(address_of(settings.application)) as made:
        yield made


@pytest.fixture
def writer(cached: Database, line: Proxy) -> Iterator[Database]:
    """A door whose transactions go through the line."""
    url = cached.settings.application.set(host="127.0.0.1", port=line.port)
    url = url.difference_update_query(["host", "port"])
    changed = {"database_url": url.render_as_string(hide_password=False), "idle_in_transaction_timeout": 1.0}
    with Database(cached.settings.model_copy(update=changed)) as db:
        db.cache.fencing.timing = TIMING
        yield opened(db)


def lost(line: Proxy) -> None:
    """COMMIT never arrives."""
    line.toxic = lambda sent: None if COMMIT in sent else sent


def unanswered(line: Proxy) -> None:
    """It arrives, and the answer does not."""
    sent_it: list[bytes] = []

    def sent(data: bytes) -> bytes:
        if COMMIT in data:
            sent_it.append(data)
        return data

    line.toxic = sent
    line.answer = lambda data: None if sent_it else data


def late(line: Proxy) -> None:
    """It arrives when the client has been told for a while that the connection is broken."""

    def sent(data: bytes) -> bytes:
        if COMMIT in data:
            line.hang_up()
            time.sleep(0.5)
        return data

    line.toxic = sent


def name_in(db: Database, home: Inhabited) -> str | None:
    with db.tenant(home.id) as session:
        return session.scalar(select(User.full_name).where(User.id == home.user_id))


@pytest.mark.parametrize("broken", [lost, unanswered, late], ids=lambda broken: broken.__name__)
def test_m18_while_nobody_knows_whether_it_was_committed_the_fence_stays(
    cached: Database, writer: Database, home: Inhabited, line: Proxy, broken: Callable[[Proxy], None]
) -> None:
    region = cached.cache.define(NAME)
    opened(cached)
    key = region.key(home.user_id, tenant=home.id)
    assert region.get_or_create(key, lambda: name_in(cached, home)) == "Ada Lovelace"
    broken(line)
    with pytest.raises(DataArchError), writer.tenant(home.id) as session:
        session.execute(update(User).where(User.id == home.user_id).values(full_name="Ada King"))
    fencing = cached.cache.fencing
    entry = named(fencing.gate.view().epoch, key)

    def fenced() -> bool:
        assert fencing.store is not None
        (held,) = fencing.store.read([entry])
        return held is not None and held.startswith(b"!")

    assert fenced()
    before = cached.cache.stats()[NAME.name].hit

    def served_again() -> bool:
        known = name_in(cached, home)
        got = region.get_or_create(key, lambda: name_in(cached, home))
        assert got in (known, "Ada King")
        return cached.cache.stats()[NAME.name].hit > before

    until(served_again)
    assert not fenced()
    assert region.get(key) == name_in(cached, home) == ("Ada Lovelace" if broken is lost else "Ada King")
