"""Threads share the connections to the cache: each has its turn, or an error, and none is left waiting."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from threading import Thread

import pytest

from dataarch.caching import redis_store
from dataarch.caching.redis_store import RedisStore
from dataarch.caching.store import StoreFailed
from fixtures.caches import PATIENCE
from fixtures.interrupts import CtrlC
from fixtures.servers import Servers

pytestmark = pytest.mark.cache


@pytest.fixture
def store(servers: Servers) -> Iterator[RedisStore]:
    """A store with one connection."""
    found = RedisStore(servers.redis_url, timeout=5.0, most=1)
    found.trust(found.contact())
    yield found
    found.close()


def meanwhile(store: RedisStore) -> list[object]:
    """Return what another thread has read by the end of its wait: nothing, if it still waits."""
    found: list[object] = []

    def read() -> None:
        try:
            found.append(store.read(["nobody"]))
        except StoreFailed as failed:
            found.append(str(failed))

    reader = Thread(target=read, daemon=True)
    reader.start()
    reader.join(PATIENCE)
    return found


def test_who_finds_no_connection_free_for_too_long_gets_an_error_and_the_next_one_a_connection(
    store: RedisStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(redis_store, "QUEUE_PATIENCE", 0.05)
    answer = store._answer
    found: list[object] = []

    def while_it_is_in_use(connection: object) -> object:
        found.extend(meanwhile(store))
        return answer(connection)

    monkeypatch.setattr(store, "_answer", while_it_is_in_use)
    assert store.read(["nobody"]) == [None]
    assert found == ["all connections have been in use for too long"]
    monkeypatch.undo()
    assert meanwhile(store) == [[None]]


def test_ctrl_c_leaves_a_connection_to_others(
    store: RedisStore, ctrl_c_in_a_lock: CtrlC, monkeypatch: pytest.MonkeyPatch
) -> None:
    ctrl_c_in_a_lock(1)
    with suppress(KeyboardInterrupt):
        store.read(["nobody"])
    monkeypatch.undo()
    assert meanwhile(store) == [[None]]
