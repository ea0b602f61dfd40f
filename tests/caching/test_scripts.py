"""Every script does on the server what the function of its name does in the protocol, step by step."""

from __future__ import annotations

import secrets
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

import pytest
import redis
from hypothesis import example, given, settings
from hypothesis import strategies as st

from dataarch.caching import protocol, scripts
from dataarch.caching.protocol import FENCE, Grant, Lease, Leased
from dataarch.caching.redis_store import RedisStore, driver_url
from dataarch.caching.store import STAMP_MS
from fixtures.servers import Servers

pytestmark = pytest.mark.cache

ENTRIES, TAGS, TOKENS = ("a", "b"), ("t", "u", "v"), (b"one", b"two", b"three-_")
LONG, SHORT = 600_000, 60
"""Milliseconds: what does not end during a test, and what ends when the test waits for it."""


class Cells(dict[str, bytes]):
    """The space of the protocol; what ends does so when it is told to."""

    def __init__(self, clock: Callable[[], int]) -> None:
        super().__init__()
        self.clock = clock
        self.until: dict[str, int] = {}

    def put(self, name: str, value: bytes, milliseconds: int) -> None:
        self[name] = value
        self.until[name] = self.now() + milliseconds

    def remove(self, name: str) -> None:
        self.pop(name, None)

    def now(self) -> int:
        return self.clock()

    def end(self) -> None:
        """Let go what has ended."""
        for name in [name for name in self if self.until[name] <= self.now()]:
            del self[name]


@dataclass
class Pair:
    """The same names in a dictionary and on a server, with one clock: the server's."""

    store: RedisStore
    server: redis.Redis
    prefix: str = field(default_factory=lambda: f"test:{secrets.token_hex(6)}:")
    granted: dict[tuple[str, bytes], tuple[Lease, tuple[bytes, ...]]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.cells = Cells(self.now)

    def now(self) -> int:
        seconds, microseconds = self.server.time()
        return int(seconds) * 1000 + int(microseconds) // 1000

    def names(self, tags: list[str]) -> tuple[str, ...]:
        return tuple(f"{self.prefix}{tag}" for tag in tags)

    def lease_of(self, entry: str, tags: list[str], token: bytes, known: tuple[bytes, ...]) -> Lease:
        name = f"{self.prefix}{entry}"
        return Lease(name, f"{name}!", self.names(tags), token, known)

    # ── steps: each on both ───────────────────────────────────────────────────────────────────────────────────────

    def fence(self, tags: list[str], token: bytes, *, short: bool) -> None:
        milliseconds = SHORT if short else LONG
        protocol.fence(self.cells, self.names(tags), token, milliseconds)
        self.store.fence(self.names(tags), token, milliseconds)

    def clear(self, tags: list[str], token: bytes) -> None:
        protocol.clear(self.cells, self.names(tags), token)
        self.store.clear(self.names(tags), token)

    def drop(self, tags: list[str]) -> None:
        protocol.drop(self.cells, self.names(tags))
        self.store.drop(self.names(tags))

    def lease(self, asked: Lease, *, refresh: bool) -> None:
        here = protocol.lease(self.cells, asked, (LONG, STAMP_MS), refresh=refresh)
        there, held = self.store.lease(asked, LONG, refresh=refresh)
        assert (there, held) == (here, asked)
        if here.grant is Grant.GRANTED:
            self.granted[asked.entry, asked.token] = (asked, here.stamps)

    def keep(self, value: bytes, which: int) -> None:
        if self.granted:
            held, stamps = list(self.granted.values())[which % len(self.granted)]
            here = protocol.keep(self.cells, held, stamps, value, LONG)
            assert self.store.keep(held, stamps, value, LONG) is here

    def release(self, which: int) -> None:
        if self.granted:
            held, _ = list(self.granted.values())[which % len(self.granted)]
            protocol.release(self.cells, held)
            self.store.release(held)

    def wait(self) -> None:
        """Let pass what is short; nothing is compared while it may be about to end."""
        until = self.now() + SHORT + 2
        while self.now() < until:
            pass
        self.cells.end()

    # ── the state ─────────────────────────────────────────────────────────────────────────────────────────────────

    def same(self) -> None:
        names = [f"{self.prefix}{name}" for name in (*TAGS, *ENTRIES, *(f"{one}!" for one in ENTRIES))]
        there = self.store.read(names)
        for name, value in zip(names, there, strict=True):
            assert writers(value) == writers(self.cells.get(name)), name


def writers(value: bytes | None) -> object:
    """Return what a name holds; of fences whose they are, because two clocks' readings differ."""
    if value is None or not value.startswith(FENCE):
        return value
    return {one.split(b":")[0] for one in value[1:].split(b",")}


tags = st.lists(st.sampled_from(TAGS), min_size=1, max_size=3, unique=True)
tokens = st.sampled_from(TOKENS)
knowns = st.sampled_from([(), (b"k1",), (b"k1", b"k2")])
steps = st.one_of(
    st.tuples(st.just("fence"), tags, tokens, st.booleans()),
    st.tuples(st.just("clear"), tags, tokens),
    st.tuples(st.just("drop"), tags),
    st.tuples(st.just("lease"), st.sampled_from(ENTRIES), tags, knowns, st.booleans()),
    st.tuples(st.just("lease"), st.sampled_from(ENTRIES), tags, knowns, st.booleans()),
    st.tuples(st.just("keep"), st.binary(max_size=5), st.integers(0, 5)),
    st.tuples(st.just("keep"), st.binary(max_size=5), st.integers(0, 5)),
    st.tuples(st.just("release"), st.integers(0, 5)),
)


@pytest.fixture
def store(servers: Servers) -> Iterator[RedisStore]:
    found = RedisStore(servers.redis_url, timeout=5.0)
    found.trust(found.contact())
    yield found
    found.close()


@pytest.fixture
def server(servers: Servers) -> Iterator[redis.Redis]:
    with redis.Redis.from_url(driver_url(servers.redis_url)) as found:
        yield found


def carry_out(pair: Pair, step: tuple[object, ...], number: int) -> None:
    match step:
        case ("fence", list(which), bytes(token), bool(short)):
            pair.fence(which, token, short=short)
            if short:
                pair.wait()
        case ("clear", list(which), bytes(token)):
            pair.clear(which, token)
        case ("drop", list(which)):
            pair.drop(which)
        case ("lease", str(entry), list(which), tuple(known), bool(refresh)):
            pair.lease(pair.lease_of(entry, which, b"token%d" % number, known), refresh=refresh)
        case ("keep", bytes(value), int(which)):
            pair.keep(value, which)
        case ("release", int(which)):
            pair.release(which)
    pair.same()


FEWER_TAGS = [
    ("lease", "a", ["t", "u"], (), False),
    ("keep", b"v", 0),
    ("lease", "a", ["t"], (), False),
    ("lease", "a", ["t", "u"], (), False),
]
ONE_FENCE_IS_OVER = [
    ("fence", ["t"], b"one", False),
    ("fence", ["t"], b"two", True),
    ("clear", ["t"], b"one"),
    ("lease", "a", ["t"], (), False),
]


@given(taken=st.lists(steps, max_size=25))
@example(taken=FEWER_TAGS)
@example(taken=ONE_FENCE_IS_OVER)
def test_the_scripts_do_what_the_protocol_does(
    store: RedisStore, server: redis.Redis, taken: list[tuple[object, ...]]
) -> None:
    pair = Pair(store, server)
    for number, step in enumerate(taken):
        carry_out(pair, step, number)


@given(held=st.lists(st.sampled_from([None, b"stamp", FENCE]), min_size=1, max_size=3), short=st.booleans())
@settings(max_examples=20)
def test_stamps_alone_are_made_as_with_a_lease(
    store: RedisStore, server: redis.Redis, held: list[bytes | None], short: bool
) -> None:
    pair = Pair(store, server)
    which = list(TAGS[: len(held)])
    names = pair.names(which)
    for tag, name, value in zip(which, names, held, strict=True):
        if value == FENCE:
            pair.fence([tag], b"w", short=short)
        elif value is not None:
            server.set(name, value)
            pair.cells.put(name, value, LONG)
    pair.wait()
    made = store._run(scripts.STAMPS, names, (b"new", STAMP_MS))
    asked = pair.lease_of("a", which, b"new", ())
    leased = protocol.lease(pair.cells, asked, (LONG, STAMP_MS), refresh=False)
    assert Leased(Grant.FENCED if made is None else Grant.GRANTED, tuple(made or ())) == leased
    pair.cells.remove(asked.lease)
    pair.same()
