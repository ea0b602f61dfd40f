"""See who stands in the way of a statement, from a second connection, while it waits."""

from __future__ import annotations

import logging
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection
from sqlalchemy.pool import PoolProxiedConnection

from dataarch.database.interrupts import interrupts_held

__all__ = ["Blocker", "Watcher"]

logger = logging.getLogger(__name__)

FIRST_LOOK = 0.02
"""Seconds that a statement may take before anybody looks what it waits for."""

LONGEST_INTERVAL = 0.5

SHOWN_QUERY = 200
"""Characters of a query in a message."""

QUESTION = """
SELECT blocking.pid, blocker.usename, blocker.application_name, blocker.backend_type, blocker.state, blocker.query,
       extract(epoch FROM clock_timestamp() - blocker.xact_start)::float8
FROM pg_stat_activity AS waiting CROSS JOIN LATERAL unnest(pg_blocking_pids(waiting.pid)) AS blocking (pid)
LEFT JOIN pg_stat_activity AS blocker ON blocker.pid = blocking.pid
WHERE waiting.pid = {pid} AND waiting.wait_event_type = 'Lock'
"""


@dataclass(frozen=True, slots=True)
class Blocker:
    """A session that somebody waits for.

    Attributes:
        pid: its process on the server; 0 for a prepared transaction, which has none.
        user: its role.
        application: its application_name; None if it has none.
        kind: ``client backend``, ``autovacuum worker`` …; None where the role may not see it.
        state: ``active``, ``idle in transaction`` …; None where the role may not see it.
        query: what it runs, or has run last.
        age: seconds since its transaction began; None where the role may not see it.
    """

    pid: int
    user: str | None
    application: str | None
    kind: str | None
    state: str | None
    query: str | None
    age: float | None

    def __str__(self) -> str:
        """Return it as a message names it."""
        if self.pid == 0:
            return "a prepared transaction (SELECT * FROM pg_prepared_xacts)"
        kind = None if self.kind == "client backend" else self.kind
        since = None if self.age is None else f"{self.state}, its transaction begun {self.age:.0f} s ago"
        about = ", ".join(part for part in (self.user, self.application, kind, since) if part)
        query = " ".join((self.query or "").split())
        cut = query if len(query) <= SHOWN_QUERY else f"{query[:SHOWN_QUERY]}…"
        return f"process {self.pid} ({about}): {cut or 'no query'}"


class Watcher:
    """Looks on while statements of one connection wait; it connects only when one has not ended at once.

    A second connection that cannot be had is no error: then nobody is named.
    """

    def __init__(self, connection: Connection, pid: int) -> None:
        """Watch the connection, whose process on the server is ``pid``; nothing is sent on it."""
        # as the pool connects, but beside it: one of a single connection would lend the very one that waits
        self._pool = connection.engine.pool.recreate()
        self._question = QUESTION.format(pid=pid)
        self._begun, self._ended = threading.Event(), threading.Event()
        self._closed = self._fresh = False
        self._seen: dict[int, Blocker] = {}
        self._thread: threading.Thread | None = None

    @property
    def seen(self) -> tuple[Blocker, ...]:
        """Who stood in the way of the last statement that had to wait."""
        return tuple(self._seen[pid] for pid in sorted(self._seen))

    def forget(self) -> None:
        """Forget who was seen."""
        self._seen = {}

    @contextmanager
    def watching(self) -> Iterator[None]:
        """Look on while a statement runs."""
        with interrupts_held():
            if self._thread is None:
                self._thread = threading.Thread(target=self._look_on, name="dataarch lock watcher", daemon=True)
                self._thread.start()
            self._fresh = True
            self._ended.clear()
            self._begun.set()
        try:
            yield
        finally:
            with interrupts_held():
                self._begun.clear()
                self._ended.set()

    def close(self) -> None:
        """Stop looking, and give the connection back."""
        with interrupts_held():
            self._closed = True
            self._begun.set()
            self._ended.set()
            if self._thread is not None:
                self._thread.join()
            self._pool.dispose()

    def _look_on(self) -> None:
        lent: PoolProxiedConnection | None = None
        try:
            while self._begun.wait() and not self._closed:
                interval = FIRST_LOOK
                while not self._ended.wait(interval):
                    lent = lent or self._connected()
                    self._look(lent)
                    interval = min(interval * 1.5, LONGEST_INTERVAL)
        except Exception as blind:  # noqa: BLE001  # it must never be what an upgrade fails of
            logger.info("nobody can be seen who is in the way of the upgrade: %s", blind)
        if lent is not None:
            lent.close()

    def _connected(self) -> PoolProxiedConnection:
        lent = self._pool.connect()
        # each look is a transaction of its own: an open one would hold up concurrent builds
        driver: Any = lent.dbapi_connection
        driver.autocommit = True
        return lent

    def _look(self, lent: PoolProxiedConnection) -> None:
        cursor = lent.cursor()
        cursor.execute(self._question)
        rows = cursor.fetchall()
        cursor.close()
        if rows and self._fresh:
            self._seen, self._fresh = {}, False
        self._seen.update({row[0]: Blocker(*row) for row in rows})
