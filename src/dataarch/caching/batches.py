"""Values of one kind that are missing, made together: a lease each, and one question to the database for all.

Whoever finds a value missing that somebody else is making waits for it, and then looks again. It is never handed over
directly: the value may have been read before a commit that the one who waits has already seen.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from dogpile.cache.api import NO_VALUE

from dataarch.caching.backend import FIRST_PAUSE, LONGEST_PAUSE, KindBackend, may_read
from dataarch.caching.fencing import new_token
from dataarch.caching.politeness import await_event, pause
from dataarch.caching.protocol import Grant, Lease
from dataarch.caching.store import Kept

__all__ = ["Batches", "Read"]

Read = Callable[[Sequence[str]], dict[str, Any]]
"""Reads the values of keys from the database, None for nothing. It must ask the database for each of them, and build
nothing from objects that a session had loaded before."""

Granted = dict[str, tuple[Lease, tuple[bytes, ...]]]


class Batches:
    """Makes values of one kind; safe to share between threads."""

    def __init__(self, backend: KindBackend) -> None:
        self._backend = backend
        self._fencing = backend.fencing
        self._lock = threading.Lock()
        self._under_way: dict[str, threading.Event] = {}

    def make(self, keys: Sequence[str], read: Read) -> dict[str, Any]:
        """Return the values of keys that were not found, and keep them where that is allowed.

        Each is read once, however many ask: in this process they wait for each other, and processes wait for leases.
        """
        if not may_read():
            return read(keys)
        found: dict[str, Any] = {}
        deadline = time.monotonic() + self._fencing.timing.wait
        missing = keys
        while missing:
            mine, others = self._divide(missing)
            try:
                found |= self._make(list(mine), read, deadline)
            finally:
                self._give_back(mine)
            for event in others.values():
                # nothing is held meanwhile: two who wait for each other would wait for ever
                await_event(event, deadline - time.monotonic())
            missing = self._look(list(others), found)
            if missing and time.monotonic() > deadline:
                return found | read(missing)
        return found

    def _look(self, keys: list[str], found: dict[str, Any]) -> list[str]:
        """Add what is there by now to what was found, and return the keys of the rest."""
        values = self._backend.look(keys, again=True) if keys else ()
        found |= {key: value.payload for key, value in zip(keys, values, strict=True) if value is not NO_VALUE}
        return [key for key in keys if key not in found]

    # ── one maker in this process ─────────────────────────────────────────────────────────────────────────────────

    def _divide(self, keys: Sequence[str]) -> tuple[dict[str, threading.Event], dict[str, threading.Event]]:
        """Return the keys that nobody in this process works on, which are the caller's from now on, and the others."""
        mine, others = {}, {}
        with self._lock:
            for key in keys:
                event = self._under_way.get(key)
                if event is None:
                    mine[key] = self._under_way[key] = threading.Event()
                else:
                    others[key] = event
        return mine, others

    def _give_back(self, mine: Mapping[str, threading.Event]) -> None:
        with self._lock:
            for key, event in mine.items():
                if self._under_way.get(key) is event:
                    del self._under_way[key]
                event.set()

    # ── one maker in all processes ────────────────────────────────────────────────────────────────────────────────

    def _make(self, keys: list[str], read: Read, deadline: float) -> dict[str, Any]:
        found: dict[str, Any] = {}
        between = FIRST_PAUSE
        while keys:
            leases = None if time.monotonic() > deadline else self._lease(keys)
            if leases is None:
                return found | read(keys)
            granted, fenced = leases
            with self._lock:
                mine = {key: self._under_way[key] for key in fenced}
            # a value that is not kept is no reason to wait for it
            self._give_back(mine)
            found |= self._read_and_keep(granted, fenced, read)
            keys = self._look([key for key in keys if key not in found], found)
            if keys:
                pause(between)
                between = min(between * 1.5, LONGEST_PAUSE)
        return found

    def _lease(self, keys: Sequence[str]) -> tuple[Granted, list[str]] | None:
        """Return the leases that were granted, and the keys that are fenced; None where the cache cannot be used."""
        view = self._backend.readable()
        if view is None:
            return None
        asked = []
        for key in keys:
            names = self._backend.names_of(view.epoch, key)
            # a token of its own for each: it becomes the stamp of tags, and none may get the same one twice
            asked.append(Lease(names.entry, names.lease, names.tags, new_token()))
        answers = self._fencing.lease_many(asked)
        if answers is None:
            self._backend.stats.error += len(keys)
            return None
        granted, fenced = {}, []
        for key, (leased, lease) in zip(keys, answers, strict=True):
            if leased.grant is Grant.GRANTED:
                granted[key] = (lease, leased.stamps)
            elif leased.grant is Grant.FENCED:
                fenced.append(key)
        self._backend.stats.bypass += len(fenced)
        return granted, fenced

    def _read_and_keep(self, granted: Granted, fenced: Sequence[str], read: Read) -> Mapping[str, Any]:
        if not granted and not fenced:
            return {}
        try:
            values = read([*granted, *fenced])
        except BaseException:
            self._fencing.release_many([lease for lease, _ in granted.values()])
            raise
        self._keep(granted, values)
        return values

    def _keep(self, granted: Granted, values: Mapping[str, Any]) -> None:
        """Keep what was read; a lease of what cannot be kept is given back."""
        stats = self._backend.stats
        kept, refused = [], []
        for key, (lease, stamps) in granted.items():
            form = self._backend.form(values[key])
            if form is None:
                refused.append(lease)
            else:
                kept.append(Kept(lease, stamps, *form))
        answers = self._fencing.keep_many(kept) if kept else []
        if refused:
            self._fencing.release_many(refused)
        if answers is None:
            stats.error += len(kept)
        done = sum(answers or ())
        stats.set += done
        stats.refused += len(granted) - done
