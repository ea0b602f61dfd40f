"""The near cache: values that this process serves without asking anybody, until it hears that they are over.

A value is kept here with the names of its entry and of its tags, all of which were read through one connection
(:mod:`dataarch.caching.near_link`). Whoever changes one of them makes the server say so on it, and a writer does that
before it commits. Before each hit this process hears what has been said.

A connection can die without a word. So its last sign of life may be no older than a second, and with it the value.
"""

from __future__ import annotations

import os
import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import date, datetime, timedelta
from datetime import time as time_of_day
from decimal import Decimal
from typing import Any
from uuid import UUID

import msgspec

from dataarch.caching.codec import Entry
from dataarch.caching.near_link import Busy, Link, LinkBroken
from dataarch.caching.redis_store import RedisStore
from dataarch.caching.store import StoreFailed
from dataarch.errors import InvalidValue

__all__ = ["BOUND", "MOST", "Near", "NearCache", "immutable"]

BOUND = 1.0
"""Seconds for which a value is served after the connection's last sign of life."""

MOST = 10_000
"""Values that are kept, of all kinds together."""

PATIENCE = 0.005
"""Seconds that a hit waits for another thread that is hearing what was said."""

COOLDOWN = 1.0
"""Seconds until a connection that broke is made anew."""

IMMUTABLE = frozenset({
    type(None), bool, int, float, str, bytes, UUID, Decimal, datetime, date, time_of_day, timedelta,
})  # fmt: skip


def immutable(value: Any) -> bool:
    """Return whether nothing in a value can be changed, so that all may be given the same one."""
    if type(value) in IMMUTABLE:
        return True
    if isinstance(value, msgspec.Struct):
        return value.__struct_config__.frozen and all(
            immutable(getattr(value, name)) for name in value.__struct_fields__
        )
    return isinstance(value, tuple | frozenset) and all(map(immutable, value))


@dataclass(slots=True)
class Near:
    """A value that is kept here.

    Attributes:
        again: makes the entry anew from its bytes; None where its value cannot be changed, and all get the same one.
        until: when it ends, in seconds since 1970.
        names: what its entry and its tags are called in the store.
    """

    kept: Entry
    again: Callable[[], Entry] | None
    until: float
    names: tuple[bytes, ...]

    def entry(self) -> Entry:
        """Return the entry, with a value of the caller's own if it could be changed."""
        return self.kept if self.again is None else self.again()


@dataclass(slots=True)
class _Shelf:
    """All that was read through one link, and is gone with it."""

    epoch: str
    link: Link = field(init=False)
    values: OrderedDict[str, Near] = field(default_factory=OrderedDict)
    keys: dict[bytes, set[str]] = field(default_factory=dict)


class NearCache:
    """What is kept in this process; safe to share between threads. It does nothing where the store is not one Redis."""

    def __init__(self, store: object, *, timeout: float) -> None:
        """Take the store, and the seconds that its answers may take; nothing connects before the first read."""
        self.most = MOST
        self.bound = BOUND
        self.hits = 0
        self._store = store if isinstance(store, RedisStore) else None
        self._timeout = timeout
        self._shelf: _Shelf | None = None
        self._lock = threading.RLock()
        self._connecting = threading.Lock()
        self._changes = 0
        self._retry_at = 0.0

    def limit(self, most: int, bound: float) -> None:
        """Say how much is kept, and for how long it is relied on.

        Args:
            most: values; of more, those go that were not asked for the longest.
            bound: seconds for which values are served after the connection's last sign of life.

        Raises:
            InvalidValue: a number is not above 0.
        """
        if most < 1 or not bound > 0:
            raise InvalidValue(
                f"A near cache of {most} values and {bound} seconds keeps nothing.",
                hint="Give numbers above 0, or do not ask for one.",
                value=most,
            )
        self.most, self.bound = most, bound

    def __len__(self) -> int:
        """Return how many values are kept."""
        shelf = self._shelf
        return 0 if shelf is None else len(shelf.values)

    # ── hits ──────────────────────────────────────────────────────────────────────────────────────────────────────

    def get(self, key: str, epoch: str) -> Near | None:
        """Return what is kept under a key and may be served now; asks nobody.

        The caller must have seen just now that the gate is open, under this epoch.
        """
        shelf = self._shelf
        if shelf is None or shelf.epoch != epoch or shelf.link.pid != os.getpid():
            return None
        if not self._heard(shelf):
            return None
        found = shelf.values.get(key)
        if found is None or time.time() > found.until:
            return None
        try:
            shelf.values.move_to_end(key)
        except KeyError:
            # another thread has heard that it is over
            return None
        self.hits += 1
        return found

    def _heard(self, shelf: _Shelf) -> bool:
        """Hear what was said; False where nobody can know whether that is all."""
        link = shelf.link
        age = time.monotonic() - link.proven
        if age > self.bound:
            return False
        try:
            if age > self.bound / 2:
                link.ping()
            if not link.quiet():
                link.listen(PATIENCE)
        except LinkBroken:
            self._lose(shelf)
            return False
        except Busy:
            return False
        return True

    # ── reads ─────────────────────────────────────────────────────────────────────────────────────────────────────

    def read(self, names: Sequence[str], epoch: str, judge: Callable[[Sequence[bytes | None], Put], Any]) -> Any:
        """Return what ``judge`` makes of what names hold, and keep what it puts; None where that cannot be had here."""
        shelf = self._ready(epoch)
        if shelf is None:
            return None

        changes = self._changes

        def put(key: str, near: Near) -> None:
            # what this process has changed meanwhile may not have been changed yet when the server was asked
            if changes == self._changes:
                self._put(shelf, key, near)

        try:
            return shelf.link.ask(("MGET", *names), lambda values: judge(values, put))
        except LinkBroken:
            self._lose(shelf)
        except Busy:
            pass
        return None

    def _ready(self, epoch: str) -> _Shelf | None:
        """Return the shelf of an epoch, with a link to the server that is trusted now."""
        shelf = self._shelf
        if shelf is not None and shelf.epoch == epoch and shelf.link.pid == os.getpid() and not shelf.link.broken:
            return shelf
        if self._store is None or time.monotonic() < self._retry_at or not self._connecting.acquire(blocking=False):
            return None
        try:
            if shelf is not None:
                self._lose(shelf)
            return self._connected(self._store, epoch)
        except (StoreFailed, LinkBroken, Busy):
            self._retry_at = time.monotonic() + COOLDOWN
            return None
        finally:
            self._connecting.release()

    def _connected(self, store: RedisStore, epoch: str) -> _Shelf:
        shelf = _Shelf(epoch)
        connection = store.dedicated()
        try:
            shelf.link = Link(connection, timeout=self._timeout, hear=lambda names: self._drop(shelf, names))
        except BaseException:
            connection.disconnect()
            raise
        self._shelf = shelf
        return shelf

    def _put(self, shelf: _Shelf, key: str, near: Near) -> None:
        with self._lock:
            self._remove(shelf, key)
            shelf.values[key] = near
            for name in near.names:
                shelf.keys.setdefault(name, set()).add(key)
            while len(shelf.values) > self.most:
                self._remove(shelf, next(iter(shelf.values)))

    def _remove(self, shelf: _Shelf, key: str) -> None:
        near = shelf.values.pop(key, None)
        for name in () if near is None else near.names:
            keys = shelf.keys.get(name, set())
            keys.discard(key)
            if not keys:
                shelf.keys.pop(name, None)

    # ── what is over ──────────────────────────────────────────────────────────────────────────────────────────────

    def forget(self, names: Sequence[str]) -> None:
        """Keep nothing any more that has one of these names: this process itself has just changed it."""
        self._changes += 1
        shelf = self._shelf
        if shelf is not None:
            self._drop(shelf, [name.encode() for name in names])

    def _drop(self, shelf: _Shelf, names: Sequence[bytes] | None) -> None:
        with self._lock:
            if names is None:
                shelf.values.clear()
                shelf.keys.clear()
            for name in names or ():
                for key in shelf.keys.get(name, set()).copy():
                    self._remove(shelf, key)

    def _lose(self, shelf: _Shelf) -> None:
        """Keep nothing of a link that broke."""
        if self._shelf is shelf:
            self._shelf = None
        self._drop(shelf, None)
        shelf.link.close()

    def close(self) -> None:
        """Close the connection and keep nothing; a later read connects anew."""
        shelf = self._shelf
        if shelf is not None:
            self._lose(shelf)


Put = Callable[[str, Near], None]
"""Keeps a value under a key."""
