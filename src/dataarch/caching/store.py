"""Where things are remembered: what every store can do, and the one that is a dictionary of this process."""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from dataarch.caching import protocol
from dataarch.caching.protocol import Lease, Leased

__all__ = ["STAMP_MS", "Facts", "Kept", "MemoryStore", "Store", "StoreFailed", "facts_of"]

STAMP_MS = 7 * 24 * 3600 * 1000
"""Milliseconds for which a stamp lasts after it was last learned; nothing is kept for longer."""


SWEEP = 4096
"""How many things are put into memory between two looks for those whose time is over."""


class StoreFailed(Exception):
    """The store did not answer in time, answered nonsense, or is another one than it should be."""


@dataclass(frozen=True, slots=True)
class Kept:
    """A value to keep: under which lease and stamps, and for how many milliseconds."""

    lease: Lease
    stamps: tuple[bytes, ...]
    value: bytes
    milliseconds: int


@dataclass(frozen=True, slots=True)
class Facts:
    """What a server says of itself.

    Attributes:
        address: where it is, without a password.
        version: its name and version.
        used: bytes that it has in use.
        most: bytes that it may use; 0 for as many as there are.
        policy: what it does when it has used them.
    """

    address: str
    version: str
    used: int
    most: int
    policy: str


def facts_of(address: str, told: bytes) -> Facts:
    """Return what a server's answers to INFO say."""
    lines = dict(line.partition(":")[::2] for line in told.decode(errors="replace").splitlines())
    name, version = lines.get("server_name") or "redis", lines.get("valkey_version") or lines.get("redis_version", "?")
    return Facts(
        address,
        f"{name.capitalize()} {version}",
        int(lines.get("used_memory", 0)),
        int(lines.get("maxmemory", 0)),
        lines.get("maxmemory_policy", "?"),
    )


class Store(Protocol):
    """A store; every method raises :class:`StoreFailed`, and none waits for longer than its time-out."""

    def contact(self) -> str:
        """Return the name of the server that answers, which it has for one life."""

    def trust(self, server: str) -> None:
        """Say which server has to answer from now on: what another one says is not believed."""

    def read(self, names: Sequence[str]) -> Sequence[bytes | None]:
        """Return what names hold."""

    def lease(self, asked: Lease, milliseconds: int, *, refresh: bool) -> tuple[Leased, Lease]:
        """Ask for a lease; returns the answer and the lease as it was asked in the end."""

    def keep(self, held: Lease, stamps: Sequence[bytes], value: bytes, milliseconds: int) -> bool:
        """Keep a value that was read under a lease."""

    def release(self, held: Lease) -> None:
        """Give a lease back."""

    def lease_many(self, asked: Sequence[Lease], milliseconds: int) -> list[tuple[Leased, Lease]]:
        """Ask for leases, each by itself, in one trip."""

    def keep_many(self, kept: Sequence[Kept]) -> list[bool]:
        """Keep values, each by itself, in one trip."""

    def release_many(self, held: Sequence[Lease]) -> None:
        """Give leases back in one trip."""

    def fence(self, tags: Sequence[str], token: bytes, milliseconds: int) -> None:
        """Fence tags."""

    def clear(self, tags: Sequence[str], token: bytes) -> None:
        """Take the fences away."""

    def drop(self, tags: Sequence[str]) -> None:
        """Kill the entries of tags."""

    def forget(self, names: Sequence[str]) -> None:
        """Let names hold nothing."""

    def count(self, news: Mapping[tuple[str, str], int]) -> None:
        """Add what a process has counted, by kind and name, to what all have."""

    def counts(self) -> dict[tuple[str, str], int]:
        """Return what all processes have counted."""

    def about(self) -> list[Facts]:
        """Return what each server says of itself, whether it is believed or not."""

    def close(self) -> None:
        """Close every connection; a later call connects anew."""


class OneByOne(Store, Protocol):
    """A store that has nothing to gain from being asked for many at once: each may concern another server, or none."""

    def lease_many(self, asked: Sequence[Lease], milliseconds: int) -> list[tuple[Leased, Lease]]:
        """Ask for leases, each by itself."""
        return [self.lease(one, milliseconds, refresh=False) for one in asked]

    def keep_many(self, kept: Sequence[Kept]) -> list[bool]:
        """Keep values, each by itself."""
        return [self.keep(one.lease, one.stamps, one.value, one.milliseconds) for one in kept]

    def release_many(self, held: Sequence[Lease]) -> None:
        """Give leases back."""
        for one in held:
            self.release(one)


class MemoryStore(OneByOne):
    """A dictionary: for one process that is alone with its database. Another process's writes are not seen here."""

    def __init__(self) -> None:
        self._held: dict[str, tuple[bytes, int]] = {}
        self._counts: Counter[tuple[str, str]] = Counter()
        self._puts = 0
        self._lock = threading.Lock()

    # ── the space of the protocol ─────────────────────────────────────────────────────────────────────────────────

    def get(self, name: str) -> bytes | None:
        """Return what a name holds."""
        value, until = self._held.get(name, (None, 0))
        return value if until > self.now() else None

    def put(self, name: str, value: bytes, milliseconds: int) -> None:
        """Let a name hold something for so long."""
        self._held[name] = (value, self.now() + milliseconds)
        self._puts += 1
        if self._puts % SWEEP == 0:
            now = self.now()
            self._held = {name: (value, until) for name, (value, until) in self._held.items() if until > now}

    def remove(self, name: str) -> None:
        """Let a name hold nothing."""
        self._held.pop(name, None)

    def now(self) -> int:
        """Return milliseconds of a clock that only goes forward."""
        return time.monotonic_ns() // 1_000_000

    # ── the store ─────────────────────────────────────────────────────────────────────────────────────────────────

    def contact(self) -> str:
        """Return its name."""
        return "memory"

    def trust(self, server: str) -> None:
        """Do nothing: there is no other."""

    def read(self, names: Sequence[str]) -> Sequence[bytes | None]:
        """Return what names hold."""
        with self._lock:
            return [self.get(name) for name in names]

    def lease(self, asked: Lease, milliseconds: int, *, refresh: bool) -> tuple[Leased, Lease]:
        """Ask for a lease."""
        with self._lock:
            return protocol.lease(self, asked, (milliseconds, STAMP_MS), refresh=refresh), asked

    def keep(self, held: Lease, stamps: Sequence[bytes], value: bytes, milliseconds: int) -> bool:
        """Keep a value that was read under a lease."""
        with self._lock:
            return protocol.keep(self, held, stamps, value, milliseconds)

    def release(self, held: Lease) -> None:
        """Give a lease back."""
        with self._lock:
            protocol.release(self, held)

    def fence(self, tags: Sequence[str], token: bytes, milliseconds: int) -> None:
        """Fence tags."""
        with self._lock:
            protocol.fence(self, tags, token, milliseconds)

    def clear(self, tags: Sequence[str], token: bytes) -> None:
        """Take the fences away."""
        with self._lock:
            protocol.clear(self, tags, token)

    def drop(self, tags: Sequence[str]) -> None:
        """Kill the entries of tags."""
        with self._lock:
            protocol.drop(self, tags)

    def forget(self, names: Sequence[str]) -> None:
        """Let names hold nothing."""
        with self._lock:
            for name in names:
                self.remove(name)

    def count(self, news: Mapping[tuple[str, str], int]) -> None:
        """Add what was counted to what there is."""
        with self._lock:
            self._counts.update(news)

    def counts(self) -> dict[tuple[str, str], int]:
        """Return what was counted."""
        with self._lock:
            return dict(self._counts)

    def about(self) -> list[Facts]:
        """Return nothing: there is no server."""
        return []

    def close(self) -> None:
        """Forget everything."""
        with self._lock:
            self._held.clear()
