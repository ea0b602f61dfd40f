"""Fences for writers, leases for readers: the protocol at work on a store and a gate, whatever becomes of either.

Nothing here fails because the cache does: a reader is sent to the database, and a writer that cannot announce what it
changes closes the gate first.
"""

from __future__ import annotations

import secrets
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TypeVar

from dataarch.caching.counters import Counters
from dataarch.caching.gate import Gate, View
from dataarch.caching.near_cache import NearCache
from dataarch.caching.politeness import offload
from dataarch.caching.protocol import Lease, Leased
from dataarch.caching.store import Kept, Store, StoreFailed

__all__ = ["Fencing", "Ticket", "Timing", "named", "new_token"]

Result = TypeVar("Result")

TALLY_EVERY = 5.0
"""Seconds between two times that what was counted is added to what all processes have counted."""


@dataclass(frozen=True, slots=True)
class Timing:
    """How long things last.

    Attributes:
        fence_ms: how long a writer may take from its announcement to the end of its transaction. It must be longer than
            the server lets a transaction idle and a statement run: a writer that died is over by then.
        lease_ms: how long a reader may take to read a value; after it another one may.
        wait: seconds that others wait for that reader before they read themselves.
        cooldown: seconds for which a cache that failed is left alone.
    """

    fence_ms: int = 120_000
    lease_ms: int = 10_000
    wait: float = 5.0
    cooldown: float = 1.0


@dataclass(frozen=True, slots=True)
class Ticket:
    """A change that was announced."""

    names: tuple[str, ...]
    token: bytes


def new_token() -> bytes:
    """Return a name that nobody has had before."""
    return secrets.token_urlsafe(9).encode()


def named(epoch: str, name: str) -> str:
    """Return what a key or a tag is called in the store: nothing of an epoch is found in the next."""
    return f"da:{epoch}:{name}"


class Fencing:
    """The protocol at work; safe to share between threads, and used as it is under asyncio."""

    def __init__(self, store: Store | None, gate: Gate, timing: Timing, counters: Counters) -> None:
        self.store = store
        self.gate = gate
        self.timing = timing
        self.near: NearCache | None = None
        self._counters = counters
        self._usable_at = 0.0
        self._tally_at = time.monotonic() + TALLY_EVERY

    # ── readers ───────────────────────────────────────────────────────────────────────────────────────────────────

    def readable(self) -> View | None:
        """Return what is known of the gate, if the cache may be read now."""
        if self.store is None or time.monotonic() < self._usable_at:
            return None
        view = self.gate.view()
        if not view.readable:
            return None
        if time.monotonic() > self._tally_at:
            self.tally()
        return view

    def read(self, names: Sequence[str], view: View) -> Sequence[bytes | None] | None:
        """Return what names hold; None where the cache does not answer while it may be read."""
        found = self._asked(lambda store: store.read(names))
        # later another server may be trusted, which still holds the names of an epoch that is over
        return found if time.monotonic() < view.until else None

    def lease(self, asked: Lease, *, refresh: bool) -> tuple[Leased, Lease] | None:
        """Ask for a lease; None where the cache does not answer."""
        return self._asked(lambda store: store.lease(asked, self.timing.lease_ms, refresh=refresh))

    def keep(self, held: Lease, stamps: Sequence[bytes], value: bytes, milliseconds: int) -> bool | None:
        """Keep a value; None where the cache does not answer."""
        return self._asked(lambda store: store.keep(held, stamps, value, milliseconds))

    def release(self, held: Lease) -> None:
        """Give a lease back; one that cannot be given back ends by itself."""
        self._done(lambda store: store.release(held))

    def lease_many(self, asked: Sequence[Lease]) -> list[tuple[Leased, Lease]] | None:
        """Ask for leases in one trip; None where the cache does not answer."""
        return self._asked(lambda store: store.lease_many(asked, self.timing.lease_ms))

    def keep_many(self, kept: Sequence[Kept]) -> list[bool] | None:
        """Keep values in one trip; None where the cache does not answer."""
        return self._asked(lambda store: store.keep_many(kept))

    def release_many(self, held: Sequence[Lease]) -> None:
        """Give leases back in one trip; those that cannot be given back end by themselves."""
        self._done(lambda store: store.release_many(held))

    def forget(self, named_in: Callable[[str], Sequence[str]]) -> None:
        """Remove entries with their leases; where the cache does not answer, the gate is closed.

        Args:
            named_in: gives their names in an epoch.

        Raises:
            CacheUnreachable: neither the cache nor the gate answers.
        """
        view = self.gate.view()
        if view.state == "closed":
            return
        names = named_in(view.epoch)
        if not (view.announced and self._done(lambda store: store.forget(names))):
            offload(lambda: self.gate.close(view.epoch))
        self._forget_near(names)

    def _asked(self, question: Callable[[Store], Result]) -> Result | None:
        """Return the store's answer; None where there is none."""
        store = self.store
        if store is None:
            return None
        try:
            return offload(lambda: question(store))
        except StoreFailed:
            self._failed()
            return None

    def _done(self, work: Callable[[Store], None]) -> bool:
        """Let the store do something; False where it does not answer."""

        def done(store: Store) -> bool:
            work(store)
            return True

        return self._asked(done) is not None

    def _failed(self) -> None:
        self._usable_at = time.monotonic() + self.timing.cooldown
        self.gate.suspect()

    # ── writers ───────────────────────────────────────────────────────────────────────────────────────────────────

    def announce(self, names_of: Callable[[View], Sequence[str]]) -> Ticket | None:
        """Announce that something is about to change; None where nobody reads the cache.

        Args:
            names_of: tells, by what is known of the gate, the names of what depends on it.

        Raises:
            CacheUnreachable: neither the cache nor the gate answers; the change must not be committed.
        """
        view = self.gate.view()
        if view.state == "closed":
            return None
        ticket = Ticket(tuple(named(view.epoch, name) for name in names_of(view)), new_token())
        if view.announced and self._fenced(ticket):
            return ticket
        offload(lambda: self.gate.close(view.epoch))
        return None

    def _fenced(self, ticket: Ticket) -> bool:
        store = self.store
        if store is None:
            return False
        for last in (False, True):
            try:
                offload(lambda: store.fence(ticket.names, ticket.token, self.timing.fence_ms))
            except StoreFailed:
                # a connection that had been broken for a while is made anew
                if last:
                    self._failed()
            else:
                self._forget_near(ticket.names)
                return True
        return False

    def _forget_near(self, names: Sequence[str]) -> None:
        """Keep nothing in this process that it has changed: the server may say so a moment later."""
        if self.near is not None:
            self.near.forget(names)

    def over(self, ticket: Ticket) -> None:
        """Take the fences away: the change is committed or rolled back. What cannot be taken away ends by itself."""
        for _ in range(2):
            # twice: most of what goes wrong is a connection that had been broken before
            if self._done(lambda store: store.clear(ticket.names, ticket.token)):
                return

    def drop(self, names_of: Callable[[View], Sequence[str]]) -> None:
        """Make entries, and all that has one of some tags, invisible at once.

        Raises:
            CacheUnreachable: neither the cache nor the gate answers.
        """
        view = self.gate.view()
        if view.state == "closed":
            return
        names = [named(view.epoch, name) for name in names_of(view)]
        if not (view.announced and self._done(lambda store: store.drop(names))):
            offload(lambda: self.gate.close(view.epoch))
        self._forget_near(names)

    # ── counts ────────────────────────────────────────────────────────────────────────────────────────────────────

    def tally(self) -> None:
        """Add what this process has counted to what all have."""
        self._tally_at = time.monotonic() + TALLY_EVERY
        news = self._counters.news()
        if news and not self._done(lambda store: store.count(news)):
            self._counters.take_back(news)

    def close(self) -> None:
        """Tell what was counted, and close every connection."""
        if self.store is not None:
            if time.monotonic() >= self._usable_at:
                self.tally()
            self.store.close()
        if self.near is not None:
            self.near.close()
        self.gate.end()
