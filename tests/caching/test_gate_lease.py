"""What a process knows of the gate holds for a lease, and nobody relies on it while others may know something else."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

import pytest
from sqlalchemy import select, update

from dataarch.caching.database import Database
from dataarch.caching.gate import DatabaseGate
from dataarch.caching.kinds import Kind
from dataarch.caching.redis_store import RedisStore
from dataarch.caching.region import Region
from dataarch.database.engine import gate_engine
from dataarch.models import User
from fixtures.caches import opened, until
from fixtures.catalogs import owner_connection
from fixtures.tenants import Inhabited, inhabit

pytestmark = pytest.mark.cache

NAME = Kind("name", ttl=60, rows=(User,))
LONG_MS = 1500
"""A lease so long that it is not over before the test is, however busy the machine."""


def name_of(db: Database, home: Inhabited) -> str | None:
    region: Region = db.cache.define(NAME)

    def read() -> str | None:
        with db.tenant(home.id) as session:
            return session.scalar(select(User.full_name).where(User.id == home.user_id))

    found: str | None = region.get_or_create(region.key(home.user_id, tenant=home.id), read)
    return found


def rename(db: Database, home: Inhabited, name: str) -> None:
    with db.tenant(home.id) as session:
        session.execute(update(User).where(User.id == home.user_id).values(full_name=name))


@pytest.fixture
def remembering(cached: Database) -> tuple[Database, Inhabited]:
    """A database whose gate is open for a long lease, and which remembers a name."""
    home = inhabit(cached, "home")
    cached.cache.define(NAME)
    opened(cached)
    with owner_connection(cached.settings) as connection:
        connection.execute("UPDATE dataarch_cache.gate SET lease_ms = %s", [LONG_MS])
    cached.cache.fencing.gate.suspect()
    opened(cached)
    assert name_of(cached, home) == name_of(cached, home) == "Ada Lovelace"
    assert cached.cache.stats()["name"].hit >= 1
    return cached, home


def close_by_somebody(db: Database) -> None:
    """Close the gate, as a process does that cannot reach the cache; it waits for the lease by itself."""
    with owner_connection(db.settings) as connection:
        connection.execute("SELECT public.close_cache_gate(NULL)")


def test_m18_a_writer_that_finds_the_gate_closed_waits_for_those_who_know_it_open(
    remembering: tuple[Database, Inhabited],
) -> None:
    reader, home = remembering
    with Database(reader.settings) as writer:
        close_by_somebody(reader)
        rename(writer, home, "Ada King")
    assert name_of(reader, home) == "Ada King"


@pytest.mark.parametrize("how", ["invalidate_tenant", "invalidate_all", "delete"])
def test_invalidation_by_hand_waits_for_those_who_know_the_gate_open(
    remembering: tuple[Database, Inhabited], how: str
) -> None:
    reader, home = remembering
    with owner_connection(reader.settings) as outside:
        outside.execute("UPDATE users SET full_name = 'Ada King'")
    with Database(reader.settings) as other:
        close_by_somebody(reader)
        if how == "invalidate_tenant":
            other.cache.invalidate_tenant(home.id)
        elif how == "invalidate_all":
            other.cache.invalidate_all()
        else:
            region = other.cache.define(NAME)
            region.delete(region.key(home.user_id, tenant=home.id))
    assert name_of(reader, home) == "Ada King"


def test_m18_a_key_is_deleted_although_the_process_does_not_know_the_gate_yet(
    remembering: tuple[Database, Inhabited],
) -> None:
    reader, home = remembering
    with owner_connection(reader.settings) as outside:
        outside.execute("UPDATE users SET full_name = 'Ada King'")
    with opened(Database(reader.settings)) as other:
        region = other.cache.define(NAME)
        with unanswered(reader):
            until(lambda: other.cache.fencing.gate.view().state == "unknown")
            done = threading.Thread(target=region.delete, args=(region.key(home.user_id, tenant=home.id),))
            done.start()
            time.sleep(0.3)
        done.join()
    assert name_of(reader, home) == "Ada King"


@contextmanager
def unanswered(db: Database) -> Iterator[None]:
    """Let the gate's function fail, as a server does that is just going down."""
    with owner_connection(db.settings) as connection:
        connection.execute("ALTER FUNCTION public.cache_gate(text, text[]) RENAME TO cache_gate_gone")
        try:
            yield
        finally:
            connection.execute("ALTER FUNCTION public.cache_gate_gone(text, text[]) RENAME TO cache_gate")


def test_m18_the_lease_is_reckoned_from_when_the_closing_can_be_seen(cached: Database) -> None:
    """The commit of the closing may take a while; who looks meanwhile still finds the gate open."""
    with owner_connection(cached.settings) as closer, owner_connection(cached.settings) as looker:
        looker.execute("UPDATE dataarch_cache.gate SET lease_ms = %s", [LONG_MS])
        closer.execute("BEGIN")
        closer.execute("SELECT public.close_cache_gate(NULL)")
        time.sleep(0.05)
        assert looker.execute("SELECT state FROM public.cache_gate(NULL)").fetchone() == ("open",)
        closer.execute("COMMIT")
        found = looker.execute("SELECT state, age_ms FROM public.cache_gate(NULL)").fetchone()
    assert found == ("closed", 0.0)


class HeldUp(DatabaseGate):
    """A gate whose caller is held up between reading what is known and reading until when."""

    meanwhile: Callable[[], object] | None = None

    @property
    def _look_at(self) -> float:
        meanwhile, self.meanwhile = self.meanwhile, None
        if meanwhile is not None:
            meanwhile()
        when: float = self.__dict__["when"]
        return when

    @_look_at.setter
    def _look_at(self, when: float) -> None:
        self.__dict__["when"] = when


def test_m18_a_caller_who_is_held_up_never_gets_what_was_known_long_ago(cached: Database) -> None:
    store = cached.cache.fencing.store
    gate = HeldUp(gate_engine(cached.settings), store)
    until(lambda: gate.view().readable)
    known = gate.view()
    close_by_somebody(cached)
    until(lambda: time.monotonic() > known.until)

    def another_thread_looks() -> None:
        looking = threading.Thread(target=gate.view)
        looking.start()
        looking.join()

    gate.meanwhile = another_thread_looks
    assert gate.view() != known
    gate.end()


class Slow(RedisStore):
    """A store whose answer to a read comes when something else has happened."""

    meanwhile: Callable[[], object] = staticmethod(lambda: None)

    def read(self, names: Sequence[str]) -> Sequence[bytes | None]:
        found = super().read(names)
        self.meanwhile()
        return found


def test_m18_an_answer_that_comes_when_the_lease_is_over_is_not_believed(cached: Database, home: Inhabited) -> None:
    assert name_of(cached, home) == "Ada Lovelace"
    assert cached.settings.redis_url is not None
    store = Slow(cached.settings.redis_url, timeout=1.0)
    cached.cache.fencing.store, before = store, cached.cache.fencing.store
    store.trust(store.contact())
    view = opened(cached).cache.fencing.readable()
    assert view is not None
    assert cached.cache.fencing.read(("a",), view) == [None]
    store.meanwhile = lambda: until(lambda: time.monotonic() > view.until)
    assert cached.cache.fencing.read(("a",), view) is None
    cached.cache.fencing.store = before
    store.close()
