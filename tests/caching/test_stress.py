"""Many processes, some of which are killed, on a cache that breaks in every way: no read is stale, and none fails."""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from caching.stress_workers import FAILED, READERS, STALE, WRITERS, Crew, crew
from dataarch.caching.fencing import Timing
from dataarch.database.settings import Settings
from fixtures.cache_servers import CacheServer, Proxy, garbage, proxy
from fixtures.caches import quicken

pytestmark = pytest.mark.cache

IDLE = 4.0
"""Seconds that a transaction may idle, and a statement run."""

TIMING = Timing(fence_ms=10_000, wait=2.0, cooldown=0.1)
KILLS = 4
DEATHS = 10


def reaching(settings: Settings, url: str) -> Settings:
    """Return the settings with another cache, and transactions that end before a fence does."""
    changed = {"redis_url": url, "idle_in_transaction_timeout": IDLE, "statement_timeout": IDLE, "cache_timeout": 0.2}
    return settings.model_copy(update=changed)


def nothing_was_stale(crew: Crew) -> None:
    crew.end()
    assert crew.job.count(STALE) == 0, crew.said()
    assert crew.job.count(FAILED) == 0, crew.said()


def test_m18_no_read_is_stale_whichever_processes_are_killed(settings: Settings, tmp_path: Path) -> None:
    quicken(settings)
    assert settings.redis_url is not None
    chosen = random.Random(18)
    with crew(reaching(settings, settings.redis_url), tmp_path / "notes", timing=TIMING) as working:
        working.hit(20)
        for _ in range(KILLS):
            time.sleep(chosen.random() * 0.3)
            slot = chosen.choice((*WRITERS, *WRITERS, *READERS))
            working.kill(slot)
            working.hire(slot)
            working.work(reads=20, writes=3)
        working.work(reads=100, writes=15)
        nothing_was_stale(working)


def test_m18_no_read_is_stale_when_writers_die_right_before_or_after_their_commit(
    settings: Settings, tmp_path: Path
) -> None:
    quicken(settings)
    assert settings.redis_url is not None
    deaths = 0
    with crew(reaching(settings, settings.redis_url), tmp_path / "notes", timing=TIMING) as working:
        working.hit(20)
        working.job.deadly[0] = 1
        while deaths < DEATHS:
            deaths += working.replace_the_dead()
            time.sleep(0.01)
        nothing_was_stale(working)


# ── a cache that breaks ───────────────────────────────────────────────────────────────────────────────────────────


@contextmanager
def killed_and_empty(server: CacheServer) -> Iterator[None]:
    server.kill()
    yield
    server.start()


@contextmanager
def killed_and_as_it_was(server: CacheServer) -> Iterator[None]:
    server.save()
    time.sleep(0.3)
    server.kill()
    server.start()
    yield


@contextmanager
def killed_and_as_it_was_later(server: CacheServer) -> Iterator[None]:
    server.save()
    time.sleep(0.3)
    server.kill()
    yield
    server.start()


@contextmanager
def slow(server: CacheServer) -> Iterator[None]:
    server.stand_still()
    yield
    server.go_on()


@contextmanager
def slow_now_and_then(server: CacheServer) -> Iterator[None]:
    for _ in range(4):
        server.stand_still()
        time.sleep(0.3)
        server.go_on()
        time.sleep(0.3)
    yield


@contextmanager
def full(server: CacheServer) -> Iterator[None]:
    server.ask("CONFIG", "SET", "maxmemory-policy", "noeviction")
    server.ask("CONFIG", "SET", "maxmemory", "1")
    yield
    server.ask("CONFIG", "SET", "maxmemory", "0")


@contextmanager
def emptied(server: CacheServer) -> Iterator[None]:
    for _ in range(10):
        server.ask("FLUSHALL")
        time.sleep(0.05)
    yield


@contextmanager
def talking_nonsense(server: CacheServer) -> Iterator[None]:
    server.kill()
    with garbage(server.port):
        yield
    server.start()


@contextmanager
def without_its_connections(server: CacheServer) -> Iterator[None]:
    for _ in range(20):
        server.ask("CLIENT", "KILL", "TYPE", "normal")
        time.sleep(0.03)
    yield


FAULTS = [
    killed_and_empty,
    killed_and_as_it_was,
    killed_and_as_it_was_later,
    slow,
    slow_now_and_then,
    full,
    emptied,
    talking_nonsense,
    without_its_connections,
]


@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: fault.__name__)
def test_m18_no_read_is_stale_and_nothing_fails_while_the_cache_is(
    settings: Settings,
    tmp_path: Path,
    new_cache_server: Callable[[], CacheServer],
    fault: Callable[..., Iterator[None]],
) -> None:
    quicken(settings)
    server = new_cache_server()
    # whoever takes the fences away makes a commit known only when it has returned
    tell = fault.__name__ != emptied.__name__
    with crew(reaching(settings, server.url), tmp_path / "notes", timing=TIMING, readers_tell=tell) as working:
        working.hit(20)
        with contextmanager(fault.__wrapped__)(server):  # type: ignore[attr-defined]
            working.work(reads=30, writes=10)
        working.hit(20)
        working.work(reads=30, writes=10)
        nothing_was_stale(working)


def test_m18_no_read_is_stale_after_a_replica_took_over_that_had_missed_the_last_writes(
    settings: Settings, tmp_path: Path, new_cache_server: Callable[[], CacheServer]
) -> None:
    quicken(settings)
    first, second = new_cache_server(), new_cache_server()
    with proxy(("127.0.0.1", first.port)) as line, proxy(("127.0.0.1", first.port)) as copying:
        second.ask("REPLICAOF", "127.0.0.1", copying.port)
        reached = reaching(settings, f"redis://127.0.0.1:{line.port}/0")
        with crew(reached, tmp_path / "notes", timing=TIMING) as working:
            working.hit(20)
            # from here on it misses everything
            copying.toxic = lambda sent: None
            copying.close()
            working.work(reads=30, writes=10)
            second.ask("REPLICAOF", "NO", "ONE")
            line.target = ("127.0.0.1", second.port)
            line.cut()
            working.work(reads=30, writes=10)
            first.kill()
            working.hit(20)
            nothing_was_stale(working)


# ── a line that breaks for some ───────────────────────────────────────────────────────────────────────────────────


def dropping(line: Proxy) -> None:
    line.toxic = lambda sent: b""


def delaying(line: Proxy) -> None:
    def late(sent: bytes) -> bytes:
        time.sleep(0.3)
        return sent

    line.toxic = late


def cutting(line: Proxy) -> None:
    """Cut each connection in the middle of what is sent, so that the server may have half a command."""
    budget = [500]

    def cut(sent: bytes) -> bytes | None:
        budget[0] -= len(sent)
        if budget[0] < 0:
            budget[0] = random.randrange(100, 3000)
            return None
        return sent

    line.toxic = cut


def refusing(line: Proxy) -> None:
    line.toxic = lambda sent: None
    line.cut()


LINES = [
    (dropping, WRITERS),
    (dropping, READERS),
    (delaying, WRITERS),
    (cutting, WRITERS),
    (cutting, READERS),
    (refusing, WRITERS),
    (refusing, (0, 2)),
]


@pytest.mark.parametrize(("spoil", "whom"), LINES, ids=lambda one: getattr(one, "__name__", str(one)))
def test_m18_no_read_is_stale_and_nothing_fails_when_the_line_is_bad_for(
    settings: Settings,
    tmp_path: Path,
    new_cache_server: Callable[[], CacheServer],
    whom: tuple[int, ...],
    spoil: Callable[[Proxy], None],
) -> None:
    quicken(settings)
    server = new_cache_server()
    with proxy(("127.0.0.1", server.port)) as line:
        bad, good = reaching(settings, f"redis://127.0.0.1:{line.port}/0"), reaching(settings, server.url)
        by_slot = lambda slot: bad if slot in whom else good  # noqa: E731
        with crew(good, tmp_path / "notes", timing=TIMING, by_slot=by_slot) as working:
            working.hit(20)
            spoil(line)
            working.work(reads=25, writes=8)
            line.toxic = lambda sent: sent
            working.hit(20)
            nothing_was_stale(working)
