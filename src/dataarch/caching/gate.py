"""The gate: how all processes agree, by one row of the database, on whether the cache may be read.

The cache is read only by who knows that the gate is open, and that knowledge lasts for a lease of two seconds. So a
writer that cannot reach the cache need not reach the readers: it closes the gate, waits until what they know has run
out, and commits. It waits once an outage; while the gate is closed nobody reads the cache, and no writer waits.

A kind of value that is made from single rows is declared at the gate, and used when every writer must know of it: it
then fences the values of the rows that it writes, one by one.

The gate opens again under a new epoch, which is part of every name in the cache, when each writer must know of the
epoch and the transactions of those that did not have ended.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any, Protocol

from sqlalchemy import Engine
from sqlalchemy.exc import SQLAlchemyError

from dataarch.caching.politeness import acquire, offload
from dataarch.caching.store import Store, StoreFailed
from dataarch.database.tenancy import INTERNAL
from dataarch.errors import CacheUnreachable, DataArchError

__all__ = ["AlwaysOpen", "DatabaseGate", "Gate", "View"]

PATIENCE = 10.0
"""Seconds for which a writer tries to close the gate, unless it is said otherwise."""


RETRY = 0.1
"""Seconds until a database that did not answer is asked again."""


@dataclass(frozen=True, slots=True)
class View:
    """What a process knows of the gate.

    Attributes:
        state: ``closed``, ``opening``, ``open``; ``closing``, where it is closed and others may not know it yet; or
            ``unknown``, where the database cannot be asked.
        epoch: names what is remembered now.
        until: when this knowledge ends, by ``time.monotonic()``.
        makers: for each table, the kinds of value that are made from single rows of it, with their versions.
        usable: declarations of kinds of which every writer knows.
    """

    state: str
    epoch: str
    until: float
    makers: Mapping[str, tuple[tuple[str, int], ...]] = field(default_factory=dict)
    usable: frozenset[str] = frozenset()

    @property
    def readable(self) -> bool:
        """Whether the cache may be read."""
        return self.state == "open"

    @property
    def announced(self) -> bool:
        """Whether a writer has to announce its changes."""
        return self.state in {"opening", "open"}


class Gate(Protocol):
    """Who is asked whether the cache may be read."""

    def declare(self, declaration: str) -> None:
        """Let every writer know of a kind of value that is made from single rows."""

    def view(self) -> View:
        """Return what is known now; never raises."""

    def close(self, epoch: str) -> None:
        """Close the gate of an epoch and return when nobody reads the cache any more."""

    def suspect(self) -> None:
        """Look at the gate before it is next relied on: the cache has failed, or another server answers."""

    def end(self) -> None:
        """Close every connection."""


class AlwaysOpen:
    """The gate of a cache that one process has for itself."""

    def __init__(self) -> None:
        self._declared: set[str] = set()
        self._view = View("open", "", float("inf"))

    def declare(self, declaration: str) -> None:
        """Know of a kind of value."""
        self._declared.add(declaration)
        declared = sorted(self._declared)
        self._view = View("open", "", float("inf"), makers_of(declared), frozenset(declared))

    def view(self) -> View:
        """Return an open gate."""
        return self._view

    def close(self, epoch: str) -> None:
        """Do nothing: the dictionary of a process cannot be out of its reach."""

    def suspect(self) -> None:
        """Do nothing."""

    def end(self) -> None:
        """Do nothing."""


UNKNOWN = View("unknown", "", 0.0)


class DatabaseGate:
    """The gate in the database, asked about twice a lease while the cache is in use."""

    def __init__(self, engine: Engine, store: Store | None, *, patience: float = PATIENCE) -> None:
        """Take what it needs.

        Args:
            engine: a pool of its own, so that it is never waited for by those who wait for it.
            store: what the gate is of; None where this process has no cache, and others may.
            patience: seconds for which a writer tries to close the gate, beside the lease that it then waits for.
        """
        self._patience = patience
        self._engine = engine
        self._store = store
        self._lock = threading.Lock()
        self._view = UNKNOWN
        self._look_at = 0.0
        self._declared: tuple[str, ...] = ()

    def declare(self, declaration: str) -> None:
        """Let every writer know of a kind of value that is made from single rows."""
        if declaration not in self._declared:
            self._declared = (*self._declared, declaration)
            self.suspect()

    def view(self) -> View:
        """Return what is known now; one caller asks the database when half of the lease is over."""
        view, now = self._view, time.monotonic()
        # who comes here while another one looks may hold a view of long ago, and the time of the next
        if now < min(self._look_at, view.until):
            return view
        # who comes meanwhile goes on with what is known as long as it holds
        if acquire(self._lock, self._patience if now >= view.until else 0.0):
            try:
                if time.monotonic() >= self._look_at:
                    offload(self._look)
            finally:
                self._lock.release()
        view = self._view
        return view if time.monotonic() < view.until else UNKNOWN

    def suspect(self) -> None:
        """Look at the gate before it is next relied on."""
        self._look_at = 0.0

    def end(self) -> None:
        """Close every connection."""
        self._engine.dispose()

    def close(self, epoch: str) -> None:
        """Close the gate of an epoch and return when nobody reads the cache any more.

        Args:
            epoch: the one that is known; an empty one stands for whichever there is.

        Raises:
            CacheUnreachable: the database does not take it; the caller must not commit.
        """
        deadline = time.monotonic() + self._patience
        closing = epoch
        while True:
            try:
                self._call("SELECT public.close_cache_gate(%s)", closing or None)
                found = self._ask(None)
            except (DataArchError, SQLAlchemyError) as fault:
                if time.monotonic() > deadline:
                    raise CacheUnreachable(
                        "A change cannot be announced: neither the cache nor the gate in the database answers.",
                        hint="Nothing was committed. Look at both servers, then try the whole unit of work again.",
                    ) from fault
                time.sleep(RETRY)
                continue
            closing = closing or found.epoch
            # another epoch comes after the lease of this one, and opens when the caller's transaction has ended
            if found.epoch != closing or (found.state == "closed" and found.age_ms >= found.lease_ms):
                self.suspect()
                return
            time.sleep(max(found.lease_ms - found.age_ms, 1.0) / 1000)

    def _look(self) -> None:
        asked_at = time.monotonic()
        server = None
        with suppress(StoreFailed):
            server = None if self._store is None else self._store.contact()
        try:
            found = self._ask(server)
        except (DataArchError, SQLAlchemyError):
            self._view = UNKNOWN
            self._look_at = time.monotonic() + RETRY
            return
        if self._store is not None:
            self._store.trust(found.server)
        usable = frozenset(found.usable)
        state = "closing" if found.state == "closed" and found.age_ms < found.lease_ms else found.state
        self._view = View(
            state, found.epoch, asked_at + found.lease_ms / 1000, makers_of(tuple(found.declared)), usable
        )
        # what is about to open is looked at more often
        settled = server is None or (found.state == "open" and usable.issuperset(self._declared))
        self._look_at = asked_at + found.lease_ms / (2000 if settled else 8000)

    def _ask(self, server: str | None) -> Any:
        return self._call("SELECT * FROM public.cache_gate(%s, %s)", server, list(self._declared))

    def _call(self, statement: str, *values: object) -> Any:
        with self._engine.connect() as connection:
            found = connection.exec_driver_sql(statement, values, execution_options={INTERNAL: True}).one()
            connection.commit()
            return found


def makers_of(declared: Sequence[str]) -> Mapping[str, tuple[tuple[str, int], ...]]:
    """Return, for each table, the kinds of value that are made from single rows of it: names and versions."""
    found: dict[str, list[tuple[str, int]]] = {}
    for declaration in declared:
        kind, version, tables = declaration.split(":", 2)
        for table in tables.split(","):
            found.setdefault(table, []).append((kind, int(version)))
    return {table: tuple(kinds) for table, kinds in found.items()}
