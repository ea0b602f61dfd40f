"""A server is believed as long as it is the one that has the fences: not after a restart, not with another's data."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest

from dataarch.caching.redis_store import RedisStore
from dataarch.caching.store import StoreFailed
from fixtures.cache_servers import CacheServer
from fixtures.caches import until

pytestmark = pytest.mark.cache

Known = tuple[CacheServer, RedisStore, str]


@pytest.fixture
def known(new_cache_server: Callable[[], CacheServer]) -> Iterator[Known]:
    """A server that is believed, with an open connection."""
    server = new_cache_server()
    store = RedisStore(server.url, timeout=5.0)
    name = store.contact()
    store.trust(name)
    server.ask("SET", "kept", "old")
    assert store.read(["kept"]) == [b"old"]
    yield server, store, name
    store.close()


def test_m18_a_server_that_was_started_anew_is_not_believed(known: Known) -> None:
    server, store, name = known
    server.save()
    server.kill()
    server.start()
    for _ in range(3):
        with pytest.raises(StoreFailed):
            store.read(["kept"])
    assert store.contact() != name


def test_m18_a_server_that_has_become_a_replica_is_not_believed(
    known: Known, new_cache_server: Callable[[], CacheServer]
) -> None:
    """Its connections stay open, and it would answer with what the other server has, or had."""
    server, store, _ = known
    other = new_cache_server()
    server.ask("REPLICAOF", "127.0.0.1", other.port)
    with pytest.raises(StoreFailed):
        store.contact()
    for _ in range(3):
        with pytest.raises(StoreFailed):
            store.read(["kept"])


def test_m18_a_server_that_has_taken_over_the_data_of_another_is_another(
    known: Known, new_cache_server: Callable[[], CacheServer]
) -> None:
    server, store, name = known
    other = new_cache_server()
    other.ask("SET", "kept", "older")
    server.ask("REPLICAOF", "127.0.0.1", other.port)
    until(lambda: server.ask("GET", "kept") == b"older")
    server.ask("REPLICAOF", "NO", "ONE")
    assert store.contact() != name


def test_a_server_that_did_not_answer_for_a_while_is_believed_again(known: Known) -> None:
    server, _, name = known
    store = RedisStore(server.url, timeout=0.1)
    assert store.contact() == name
    store.trust(name)
    server.stand_still()
    with pytest.raises(StoreFailed):
        store.contact()
    server.go_on()
    until(lambda: server.ask("PING"))
    assert store.read(["kept"]) == [b"old"]
    assert store.contact() == name
    store.close()
