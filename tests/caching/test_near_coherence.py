"""What is near is over as soon as somebody says so, and nobody relies on a connection that may be dead."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
import redis
from sqlalchemy import update

from caching.doors import behind_its_back, kept, name_of, near_door, on, rename, served_near, shelf_of
from caching.redis_relay import Relay, relay
from caching.redis_servers import OwnRedis, own_redis, programs
from dataarch.caching.database import Database
from dataarch.models import User, UserSettings
from fixtures.caches import until
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


@pytest.fixture(params=programs(), ids=os.path.basename)
def own(request: pytest.FixtureRequest) -> Iterator[OwnRedis]:
    """A server of the test's own."""
    with own_redis(request.param) as server:
        yield server


# ── coherence ─────────────────────────────────────────────────────────────────────────────────────────────────────


def test_m18_a_process_never_gets_near_what_it_has_changed_itself(near: Database, home: Inhabited) -> None:
    for number in range(30):
        served_near(near, home)
        rename(near, home, f"Ada {number}")
        assert name_of(near, home) == f"Ada {number}"


WRITER = """
import sys
from uuid import UUID
from sqlalchemy import update
from dataarch.caching.database import Database
from dataarch.models import User

tenant, user = map(UUID, sys.argv[1:])
with Database() as db:
    for line in sys.stdin:
        with db.tenant(tenant) as session:
            session.execute(update(User).where(User.id == user).values(full_name=line.strip()))
        print("committed", flush=True)
"""


def test_m18_what_another_process_has_committed_is_seen_near_and_the_old_value_never_again(
    near: Database, home: Inhabited
) -> None:
    settings = near.settings
    urls = {"DATAARCH_DATABASE_URL": settings.database_url, "DATAARCH_REDIS_URL": settings.redis_url}
    environment = {**os.environ, **{name: url for name, url in urls.items() if url}}
    command = [sys.executable, "-c", WRITER, str(home.id), str(home.user_id)]
    stopped: list[bool] = []

    def read() -> list[str]:
        seen = []
        while not stopped:
            seen.append(name_of(near, home) or "")
        return seen

    rename(near, home, "0000")
    with (
        ThreadPoolExecutor(4) as pool,
        subprocess.Popen(command, env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as writer,
    ):
        assert writer.stdin is not None
        assert writer.stdout is not None
        readers = [pool.submit(read) for _ in range(4)]
        try:
            for number in range(1, 61):
                writer.stdin.write(f"{number:04}\n")
                writer.stdin.flush()
                assert writer.stdout.readline() == "committed\n"
                until(lambda now=f"{number:04}": name_of(near, home) == now)  # type: ignore[misc]
                assert served_near(near, home) == f"{number:04}"
        finally:
            stopped.append(True)
            writer.stdin.close()
    for reader in readers:
        seen = reader.result()
        assert seen == sorted(seen)


def test_a_rollback_changes_nothing_near(near: Database, another: Callable[[], Database], home: Inhabited) -> None:
    served_near(near, home)
    with pytest.raises(ZeroDivisionError), another().tenant(home.id) as session:
        session.execute(update(User).values(full_name="Ada King"))
        raise ZeroDivisionError
    assert served_near(near, home) == "Ada Lovelace"


def test_a_unit_of_work_that_has_written_is_not_served_near(near: Database, home: Inhabited) -> None:
    served_near(near, home)
    with pytest.raises(ZeroDivisionError), near.tenant(home.id) as session:
        session.execute(update(User).values(full_name="Ada King"))
        assert name_of(near, home) == "Ada King"
        raise ZeroDivisionError
    assert served_near(near, home) == "Ada Lovelace"


BY_HAND: dict[str, Callable[[Database, Inhabited], None]] = {
    "all": lambda db, home: db.cache.invalidate_all(),
    "kind": lambda db, home: db.cache.invalidate_kind("user_profile"),
    "tenant": lambda db, home: db.cache.invalidate_tenant(home.id),
    "rows": lambda db, home: db.cache.invalidate_rows(UserSettings, home.id),
    "row": lambda db, home: db.cache.invalidate_rows(User, home.id, key=(home.user_id,)),
    "key": lambda db, home: db.cache.region("user_profile").delete(db.cache.profiles.key(home.id, home.user_id)),
}


@pytest.mark.parametrize("way", BY_HAND)
def test_what_is_invalidated_by_hand_is_gone_near(
    near: Database, another: Callable[[], Database], home: Inhabited, way: str
) -> None:
    elsewhere = another()
    for number, who in enumerate((near, elsewhere)):
        served_near(near, home)
        behind_its_back(near, home, f"Ada {number}")
        BY_HAND[way](who, home)
        until(lambda number=number: name_of(near, home) == f"Ada {number}")  # type: ignore[misc]


# ── what can go wrong ─────────────────────────────────────────────────────────────────────────────────────────────


def test_where_the_connection_has_died_without_a_word_a_value_is_served_no_longer_than_its_bound(
    cached: Database, between: Relay, another: Callable[[], Database], home: Inhabited
) -> None:
    elsewhere = another()
    with (
        near_door(cached, bound=3600.0, redis_url=between.url, cache_timeout=5.0) as unbound,
        near_door(cached, bound=1.0, redis_url=between.url, cache_timeout=5.0) as bound,
    ):
        assert served_near(unbound, home) == served_near(bound, home) == "Ada Lovelace"
        assert len(between.trackers()) == 2
        between.silence()
        rename(elsewhere, home, "Ada King")
        # it would be served for an hour
        assert name_of(unbound, home) == "Ada Lovelace"
        until(lambda: name_of(bound, home) == "Ada King")
        assert name_of(unbound, home) == "Ada Lovelace"


def test_a_connection_that_breaks_takes_all_with_it_and_another_one_is_made(near: Database, home: Inhabited) -> None:
    served_near(near, home)
    before = shelf_of(near)
    assert near.settings.redis_url is not None
    with redis.Redis.from_url(near.settings.redis_url) as client:
        mine = shelf_of(near).link
        port = mine.ask(("CLIENT", "ID"), lambda answer: answer)
        client.client_kill_filter(_id=str(port))
    behind_its_back(near, home, "Ada King")
    near.cache.region("user_profile").delete(near.cache.profiles.key(home.id, home.user_id))
    assert name_of(near, home) == "Ada King"
    assert served_near(near, home) == "Ada King"
    assert shelf_of(near) is not before


def test_nothing_is_served_near_while_the_gate_is_closed_nor_what_is_of_an_older_epoch(
    near: Database, another: Callable[[], Database], home: Inhabited
) -> None:
    served_near(near, home)
    gate = another().cache.fencing.gate
    epoch = gate.view().epoch
    behind_its_back(near, home, "Ada King")
    gate.close(epoch)
    assert name_of(near, home) == "Ada King"
    until(near.cache.fencing.readable)
    assert near.cache.fencing.gate.view().epoch != epoch
    assert served_near(near, home) == "Ada King"


def test_a_server_that_is_emptied_empties_what_is_near(own: OwnRedis, settings: Any) -> None:
    with on(own, settings) as db:
        home = inhabit(db)
        served_near(db, home)
        behind_its_back(db, home, "Ada King")
        with own.client() as client:
            client.flushall()
        until(lambda: name_of(db, home) == "Ada King")


def test_a_server_that_is_killed_takes_along_what_is_near_and_one_that_is_started_anew_is_used_again(
    own: OwnRedis, settings: Any
) -> None:
    with on(own, settings) as db, on(own, settings) as writer:
        home = inhabit(db)
        until(db.cache.fencing.readable)
        assert served_near(db, home) == "Ada Lovelace"
        own.kill()
        rename(writer, home, "Ada King")
        assert name_of(db, home) == "Ada King"
        own.start()
        rename(writer, home, "Ada Byron")
        assert name_of(db, home) == "Ada Byron"
        assert served_near(db, home) == "Ada Byron"


def test_a_server_that_refuses_to_tell_of_changes_is_read_in_the_ordinary_way(own: OwnRedis, settings: Any) -> None:
    with own.client() as client:
        client.execute_command("ACL", "SETUSER", "default", "-client|tracking")
    with on(own, settings) as db:
        home = inhabit(db)
        assert [name_of(db, home) for _ in range(3)] == ["Ada Lovelace"] * 3
        assert db.cache.stats()["user_profile"].hit == 2
        assert kept(db).hits == 0
