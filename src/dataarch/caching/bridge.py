"""The bridge for what others write: it listens to what the triggers of :mod:`dataarch.caching.bridge_triggers` tell.

Whoever writes outside this library fences nothing. The commit is told to the bridge a moment later, and what depends on
it is forgotten then: until then others may be served what was before. A bridge that begins, or begins anew, cannot know
what it has missed, and forgets everything first.
"""

from __future__ import annotations

import json
import os
import selectors
import socket
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any
from uuid import UUID

import psycopg
from sqlalchemy import Connection, MetaData, Table
from sqlalchemy.exc import SQLAlchemyError

from dataarch.caching.bridge_triggers import CHANNEL
from dataarch.caching.database import Database
from dataarch.caching.invalidation import names_of
from dataarch.database.changes import Change
from dataarch.database.row_keys import row_key
from dataarch.errors import ConfigurationError, DataArchError, ServerUnreachable
from dataarch.models.tenancy import tenant_column

__all__ = ["Bridge", "change_of"]

BREATH = 0.5
"""Seconds between two looks at whether the bridge shall end."""

BEAT = 5.0
"""Seconds of silence after which the server is asked whether it is still there."""

GONE_MS = 10_000
"""Milliseconds after which a server that acknowledges nothing counts as gone."""

FIRST_PAUSE, LONGEST_PAUSE = 0.1, 5.0
"""Seconds until a server that is gone is tried again; twice as long each time."""

EVERYTHING = Change(None, None)


def change_of(told: str, metadata: MetaData) -> Change:
    """Return what a notification says was written; of one that nobody can read, that anything may have been."""
    try:
        said = json.loads(told)
        name, tenant, key = said["table"], said.get("tenant"), said.get("key")
        table = metadata.tables.get(name)
        if table is not None and tenant_column(table) is None:
            return Change(name, None, _key(table, key), of_nobody=True)
        if tenant is None:
            return EVERYTHING
        return Change(name, UUID(tenant), _key(table, key))
    except (ValueError, TypeError, KeyError, AttributeError):
        return EVERYTHING


def _key(table: Table | None, key: Any) -> tuple[str, ...] | None:
    return row_key(table, key) if key and table is not None else None


@dataclass
class Bridge:
    """Listens, and forgets what it is told of.

    Attributes:
        db: the database and its cache; it is listened to as the owner.
        metadata: the tables that the cache knows.
        say: is told in a sentence when the bridge begins to listen, and when it has lost the server.
        heard: is given the number of things that were told, each time when they are forgotten.
    """

    db: Database
    metadata: MetaData
    say: Callable[[str], None] = lambda _: None
    heard: Callable[[int], None] = lambda _: None
    _over: threading.Event = field(default_factory=threading.Event)
    _told: list[str] = field(default_factory=list)

    def stop(self) -> None:
        """Let :meth:`run` end soon; for another thread."""
        self._over.set()

    def run(self) -> None:
        """Listen until :meth:`stop`; a server that is lost is tried again for ever.

        Raises:
            ConfigurationError: a setting cannot work.
        """
        pause = FIRST_PAUSE
        while not self._over.is_set():
            try:
                with self.db.maintenance() as connection:
                    self._begin(connection)
                    pause = FIRST_PAUSE
                    self._listen(connection)
            except ConfigurationError:
                raise
            except (DataArchError, SQLAlchemyError, psycopg.Error, OSError) as fault:
                self.say(f"Not listening: {_sentence(fault)} It is tried again.")
                self._over.wait(pause)
                pause = min(2 * pause, LONGEST_PAUSE)

    def _begin(self, connection: Connection) -> None:
        raw = _raw(connection)
        told: list[str] = []
        self._told = told
        raw.add_notify_handler(lambda notification: told.append(notification.payload))
        _notice_a_silent_server(raw)
        connection.exec_driver_sql(f"LISTEN {CHANNEL}")
        # only now: what is committed from here on is told
        self.db.cache.invalidate_all()
        self.say("Listening. What was remembered before is forgotten: nobody told what was written meanwhile.")

    def _listen(self, connection: Connection) -> None:
        raw, silent_since = _raw(connection), time.monotonic()
        with selectors.DefaultSelector() as readable:
            readable.register(raw.fileno(), selectors.EVENT_READ)
            while not self._over.is_set():
                if readable.select(BREATH):
                    raw.pgconn.consume_input()
                elif time.monotonic() > silent_since + BEAT:
                    # what comes beside the answer is given to the handler
                    connection.exec_driver_sql("SELECT 1")
                    silent_since = time.monotonic()
                while (notification := raw.pgconn.notifies()) is not None:
                    self._told.append(notification.extra.decode(errors="replace"))
                if self._told:
                    self._forget()

    def _forget(self) -> None:
        told = self._told[:]
        changes = dict.fromkeys(change_of(one, self.metadata) for one in told)
        # everything goes at once, and says all that the others could
        which = (EVERYTHING,) if EVERYTHING in changes else tuple(changes)
        self.db.cache.fencing.drop(lambda view: names_of(which, view.makers))
        del self._told[: len(told)]
        self.heard(len(told))


def _raw(connection: Connection) -> psycopg.Connection[Any]:
    raw = connection.connection.driver_connection
    if not isinstance(raw, psycopg.Connection):
        raise ServerUnreachable("The connection to the database was lost.")
    return raw


def _notice_a_silent_server(raw: psycopg.Connection[Any]) -> None:
    """Let the connection break when the server is gone without a word; on systems that can, and over TCP."""
    option = getattr(socket, "TCP_USER_TIMEOUT", None)
    with suppress(OSError), socket.socket(fileno=os.dup(raw.fileno())) as same:
        if option is not None:
            same.setsockopt(socket.IPPROTO_TCP, option, GONE_MS)


def _sentence(fault: BaseException) -> str:
    said = " ".join(str(getattr(fault, "message", "") or fault).split())
    return said if said.endswith(".") else f"{said}."
