"""A connection on which the server tells what has changed of all that was read through it.

It is the server that remembers who has read what (CLIENT TRACKING). What it says comes in one stream with its answers,
so that a change is heard of after what was read before it, and never before. Nobody waits for it in the background:
whoever is about to rely on what he has read looks first whether anything was said meanwhile.
"""

from __future__ import annotations

import os
import select
import socket
import ssl
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from dataarch.caching.resp import Incomplete, Push, Refusal, parse

__all__ = ["Busy", "Hear", "Link", "LinkBroken"]

CHUNK = 65536

BUSY = (BlockingIOError, ssl.SSLWantReadError, ssl.SSLWantWriteError)
"""What a socket raises that has nothing to give, or takes no more, for now."""

Hear = Callable[[Sequence[bytes] | None], None]
"""Takes the names of what has changed; None stands for everything."""

Then = Callable[[Any], Any]


class LinkBroken(Exception):
    """The connection is gone or says nonsense: what was read through it can no longer be relied on."""


class Busy(Exception):
    """Others use the connection for longer than it is worth to wait."""


@dataclass(slots=True)
class _Request:
    asked_at: float
    then: Then
    answer: Any = None
    answered: bool = False


class Link:
    """One connection, safe to share between threads.

    Attributes:
        proven: when the newest question was asked that was answered, by ``time.monotonic()``: all that the server had
            said until then has been heard.
        broken: whether it can no longer be relied on.
        pid: of the process that made it; one that was forked from it must not read from it.
    """

    def __init__(self, connection: Any, *, timeout: float, hear: Hear) -> None:
        """Take a connection of redis-py that is open and that nobody else uses, and ask to be told of changes.

        Raises:
            LinkBroken: the server does not do that.
        """
        # redis-py has no public way to its socket, and its own reader takes longer than a hit may
        self._socket: socket.socket = connection._sock
        self._connection = connection
        self._timeout = timeout
        self._hear = hear
        self._lock = threading.Lock()
        self._buffer = bytearray()
        self._requests: deque[_Request] = deque()
        self._pinged = False
        self._taking = False
        self.pid = os.getpid()
        self.broken = False
        self.proven = 0.0
        self._socket.settimeout(0.0)
        for command in (("HELLO", "3"), ("CLIENT", "TRACKING", "ON")):
            self.ask(command, lambda _: None)

    # ── for who relies on it ──────────────────────────────────────────────────────────────────────────────────────

    def quiet(self) -> bool:
        """Return whether all that has come is heard. Costs about a microsecond."""
        # in this order: who has taken the bytes away had said so before
        return not self._readable(0.0) and not self._taking and not self.broken

    def listen(self, patience: float) -> None:
        """Hear all that has come.

        Raises:
            LinkBroken: the connection is gone.
            Busy: others use it for longer than so many seconds.
        """
        with self._mine(patience):
            self._take()

    def ping(self) -> None:
        """Ask for a sign of life without waiting for it, unless one is under way.

        Raises:
            LinkBroken: the connection is gone.
        """
        if self._pinged:
            return
        try:
            with self._mine(0.0):
                self._pinged = True
                self._ask(("PING",), lambda _: None)
        except Busy:
            # whoever uses it asks for one himself
            return

    def ask(self, command: Sequence[object], then: Then) -> Any:
        """Send a command and return what ``then`` makes of its answer, before anything is heard that came after it.

        Raises:
            LinkBroken: no answer in time, or a refusal.
            Busy: others use the connection all the time.
        """
        with self._mine(self._timeout):
            request = self._ask(command, then)
            while not request.answered:
                if not self._readable(self._timeout):
                    raise LinkBroken("no answer in time")
                self._take()
            return request.answer

    def close(self) -> None:
        """Close the connection; a process that was forked from the one that made it leaves it alone."""
        self.broken = True
        self._connection.disconnect()

    # ── one at a time ─────────────────────────────────────────────────────────────────────────────────────────────

    def _mine(self, patience: float) -> _Turn:
        return _Turn(self, self._lock, patience)

    def _ask(self, command: Sequence[object], then: Then) -> _Request:
        request = _Request(time.monotonic(), then)
        self._requests.append(request)
        rest = memoryview(b"".join(self._connection.pack_command(*command)))
        while rest:
            try:
                rest = rest[self._socket.send(rest) :]
            except BUSY:
                if not self._ready(select.POLLOUT, self._timeout):
                    raise LinkBroken("it takes no more") from None
        return request

    def _take(self) -> None:
        """Take all that has come, and hear it in its order."""
        self._taking = True
        try:
            with suppress(*BUSY):
                while part := self._socket.recv(CHUNK):
                    self._buffer += part
                raise LinkBroken("the server has closed it")
            self._hear_all()
        finally:
            self._taking = False

    def _hear_all(self) -> None:
        at = 0
        try:
            while at < len(self._buffer):
                said, at = parse(self._buffer, at)
                self._heard(said)
        except Incomplete:
            pass
        finally:
            del self._buffer[:at]

    def _heard(self, said: Any) -> None:
        if isinstance(said, Push):
            if said.parts[0] == b"invalidate":
                self._hear(said.parts[1])
            return
        request = self._requests.popleft()
        if isinstance(said, Refusal):
            raise LinkBroken(said.text)
        self._pinged = False
        self.proven = max(self.proven, request.asked_at)
        request.answer = request.then(said)
        request.answered = True

    def _readable(self, seconds: float) -> bool:
        return self._ready(select.POLLIN, seconds)

    def _ready(self, what: int, seconds: float) -> bool:
        # one of its own for each call: a poll object serves one thread at a time
        waiting = select.poll()
        try:
            waiting.register(self._socket, what)
        except ValueError:
            # closed by another thread: who reads it will see
            return True
        return bool(waiting.poll(seconds * 1000))


class _Turn:
    """A turn on a link; whatever goes wrong in it breaks the link."""

    def __init__(self, link: Link, lock: threading.Lock, patience: float) -> None:
        self._link = link
        self._lock = lock
        self._patience = patience

    def __enter__(self) -> None:
        if not self._lock.acquire(timeout=self._patience):
            raise Busy
        if self._link.broken:
            self._lock.release()
            raise LinkBroken("it was broken before")

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: object) -> None:
        if error is not None:
            self._link.broken = True
        self._lock.release()
        if error is not None and isinstance(error, OSError | ValueError | TypeError | IndexError):
            raise LinkBroken(str(error)) from None
