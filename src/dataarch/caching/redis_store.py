"""Redis or Valkey as a store: few bytes, one round trip a step, and never a wait without end.

A server is known by the name that it has for one life and one history of its data (``run_id``, ``master_replid``).
Each connection asks for it when it is made, and one of them whenever the gate is looked at, so that a server that was
started anew, or has the data of another, is not taken for the one that had the fences.
"""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from functools import partial
from queue import Empty, SimpleQueue
from typing import Any

import redis
from redis.backoff import NoBackoff
from redis.exceptions import NoScriptError, RedisError
from redis.retry import Retry

from dataarch.caching import scripts
from dataarch.caching.codec import prefix
from dataarch.caching.protocol import Grant, Lease, Leased
from dataarch.caching.scripts import Script
from dataarch.caching.store import STAMP_MS, Facts, Kept, StoreFailed, facts_of
from dataarch.errors import InvalidUrl

__all__ = ["FAULTS", "RedisStore", "answered", "introduced"]

FAULTS = (RedisError, OSError, ValueError, TypeError, IndexError, KeyError, AttributeError)
"""What a server that is gone, slow, full, or no Redis at all makes the driver raise."""

COUNTS = "da:counts"
"""The hash that all processes count in."""

MOST_PACKED = 4096
"""Reads whose bytes are remembered, so that they are not put together each time."""

QUEUE_PATIENCE = 2.0
"""Seconds that a call waits for a connection that other threads use: the server is not the cause, and each of them
ends within its time-out."""

SCHEMES = {"valkey": "redis", "valkeys": "rediss"}


class _Line:
    """A connection, and the name of the server at its other end."""

    __slots__ = ("connection", "server")

    def __init__(self, connection: Any) -> None:
        self.connection = connection
        connection.connect()
        self.server = introduced(connection)


class RedisStore:
    """A store on one server.

    Its connections wait in a stack of its own: that of redis-py asks each of them for its health before it hands it
    out, which costs a quarter of a read.
    """

    def __init__(self, url: str, *, timeout: float, most: int = 64) -> None:
        """Take the server's URL; nothing connects before the first call.

        Args:
            url: ``redis://``, ``rediss://``, ``unix://``, ``valkey://`` or ``valkeys://``.
            timeout: seconds that connecting, sending or waiting for an answer may take.
            most: connections at a time; a call that finds none free waits for one.

        Raises:
            InvalidUrl: it cannot be read.
        """
        # a semaphore of Python's can be left locked by Ctrl-C, and then everybody waits for ever
        self._turns: SimpleQueue[None] = SimpleQueue()
        for _ in range(most):
            self._turns.put(None)
        self._idle: deque[_Line] = deque()
        self._process = os.getpid()
        self._trusted = ""
        self._packed: dict[tuple[str, ...], list[bytes]] = {}
        try:
            pool = redis.ConnectionPool.from_url(
                driver_url(url),
                socket_timeout=timeout,
                socket_connect_timeout=timeout,
                retry=Retry(NoBackoff(), 0),
                client_name="dataarch",
                protocol=2,
            )
            self._make = partial(pool.connection_class, **pool.connection_kwargs)
            self._make()
        except (ValueError, TypeError) as unreadable:
            raise InvalidUrl(
                "The URL of the cache cannot be read.", hint=f"{unreadable} It comes from DATAARCH_REDIS_URL."
            ) from None

    # ── the server ────────────────────────────────────────────────────────────────────────────────────────────────

    def contact(self) -> str:
        """Return the name of the server that answers."""
        for _ in range(2):
            line, waited = self._line()
            try:
                # it may have become a replica, or a replica of another, which keeps its connections
                line.server = introduced(line.connection)
            except FAULTS as fault:
                line.connection.disconnect()
                # each has to be asked anew
                self._drop_idle()
                if not waited:
                    raise StoreFailed(str(fault) or type(fault).__name__) from None
            else:
                if line.server != self._trusted:
                    self._drop_idle()
                self._give_back(line)
                return line.server
        raise StoreFailed("the connection broke twice")

    def dedicated(self) -> Any:
        """Return a connection to the trusted server that is the caller's own; he closes it."""
        line = self._made()
        if line.server != self._trusted:
            line.connection.disconnect()
            raise StoreFailed("another server answers, or this one was started anew")
        return line.connection

    def trust(self, server: str) -> None:
        """Say which server has to answer from now on."""
        self._trusted = server

    def _line(self) -> tuple[_Line, bool]:
        """Return a connection, and whether it has waited to be used: it may have broken meanwhile."""
        if self._process != os.getpid():
            # the sockets are the parent's
            self._idle, self._process = deque(), os.getpid()
        try:
            return self._idle.pop(), True
        except IndexError:
            pass
        return self._made(), False

    def _made(self) -> _Line:
        try:
            return _Line(self._make())
        except FAULTS as fault:
            raise StoreFailed(str(fault) or type(fault).__name__) from None

    def _give_back(self, line: _Line) -> None:
        self._idle.append(line)

    def _drop_idle(self) -> None:
        while self._idle:
            with suppress(IndexError):
                self._idle.pop().connection.disconnect()

    def _ask(self, packed: Callable[[Any], list[bytes]], answers: int) -> list[Any]:
        """Send commands in one trip and return their answers; an error among them is returned, not raised."""
        try:
            self._turns.get(timeout=QUEUE_PATIENCE)
        except Empty:
            raise StoreFailed("all connections have been in use for too long") from None
        try:
            return self._exchange(packed, answers)
        finally:
            self._turns.put(None)

    def _exchange(self, packed: Callable[[Any], list[bytes]], answers: int) -> list[Any]:
        line, waited = self._line()
        if line.server != self._trusted:
            line.connection.disconnect()
            self._drop_idle()
            if waited:
                return self._exchange(packed, answers)
            raise StoreFailed("another server answers, or this one was started anew")
        connection = line.connection
        try:
            connection.send_packed_command(packed(connection), check_health=False)
            found = [self._answer(connection) for _ in range(answers)]
        except BaseException as fault:
            # a late answer must not be taken for that to the next command
            connection.disconnect()
            if waited and isinstance(fault, redis.ConnectionError):
                # it broke while nobody used it, as each of the others may have
                self._drop_idle()
                return self._exchange(packed, answers)
            if isinstance(fault, FAULTS):
                raise StoreFailed(str(fault) or type(fault).__name__) from None
            raise
        self._give_back(line)
        return found

    def _commands(self, *commands: tuple[object, ...]) -> list[Any]:
        return self._ask(lambda connection: connection.pack_commands(commands), len(commands))

    def _answer(self, connection: Any) -> Any:
        try:
            return connection.read_response()
        except redis.ResponseError as refused:
            return refused

    def _run(self, script: Script, names: Sequence[str], arguments: Iterable[object]) -> Any:
        values = (len(names), *names, *arguments)
        answer = self._commands(("EVALSHA", script.sha, *values))[0]
        if isinstance(answer, NoScriptError):
            answer = self._commands(("EVAL", script.text, *values))[0]
        return answered(answer)

    def _run_many(self, script: Script, calls: Sequence[Call]) -> list[Any]:
        """Run a script with several names and arguments, each by itself, in one trip."""
        commands = [("EVALSHA", script.sha, len(names), *names, *arguments) for names, arguments in calls]
        answers = self._commands(*commands)
        unknown = [number for number, answer in enumerate(answers) if isinstance(answer, NoScriptError)]
        if unknown:
            # only those: what has run may not run twice under the same token
            again = self._commands(("SCRIPT", "LOAD", script.text), *(commands[number] for number in unknown))
            for number, answer in zip(unknown, again[1:], strict=True):
                answers[number] = answer
        return [answered(answer) for answer in answers]

    # ── the store ─────────────────────────────────────────────────────────────────────────────────────────────────

    def read(self, names: Sequence[str]) -> Sequence[bytes | None]:
        """Return what names hold."""
        names = tuple(names)
        found = answered(self._ask(lambda connection: self._mget(connection, names), 1)[0])
        if not isinstance(found, list) or len(found) != len(names):
            raise StoreFailed("the answer to MGET has another number of values")
        return found

    def _mget(self, connection: Any, names: tuple[str, ...]) -> list[bytes]:
        packed = self._packed.get(names)
        if packed is None:
            if len(self._packed) >= MOST_PACKED:
                self._packed = {}
            packed = self._packed[names] = connection.pack_command("MGET", *names)
        return packed

    def lease(self, asked: Lease, milliseconds: int, *, refresh: bool) -> tuple[Leased, Lease]:
        """Ask for a lease."""
        return self._lease(asked, milliseconds, "refresh" if refresh else ""), asked

    def _lease(self, asked: Lease, milliseconds: int, refresh: str) -> Leased:
        return leased(self._run(scripts.LEASE, *lease_call(asked, milliseconds, refresh)))

    def keep(self, held: Lease, stamps: Sequence[bytes], value: bytes, milliseconds: int) -> bool:
        """Keep a value that was read under a lease."""
        return bool(self._run(scripts.KEEP, *keep_call(Kept(held, tuple(stamps), value, milliseconds))))

    def release(self, held: Lease) -> None:
        """Give a lease back."""
        self._run(scripts.RELEASE, (held.lease,), (held.token,))

    def lease_many(self, asked: Sequence[Lease], milliseconds: int) -> list[tuple[Leased, Lease]]:
        """Ask for leases, each by itself, in one trip."""
        answers = self._run_many(scripts.LEASE, [lease_call(one, milliseconds, "") for one in asked])
        return [(leased(answer), one) for answer, one in zip(answers, asked, strict=True)]

    def keep_many(self, kept: Sequence[Kept]) -> list[bool]:
        """Keep values, each by itself, in one trip."""
        return [bool(answer) for answer in self._run_many(scripts.KEEP, [keep_call(one) for one in kept])]

    def release_many(self, held: Sequence[Lease]) -> None:
        """Give leases back in one trip."""
        self._run_many(scripts.RELEASE, [((one.lease,), (one.token,)) for one in held])

    def fence(self, tags: Sequence[str], token: bytes, milliseconds: int) -> None:
        """Fence tags."""
        self._run(scripts.FENCE, tags, (token, milliseconds))

    def clear(self, tags: Sequence[str], token: bytes) -> None:
        """Take the fences away."""
        self._run(scripts.CLEAR, tags, (token,))

    def drop(self, tags: Sequence[str]) -> None:
        """Kill the entries of tags."""
        self._run(scripts.DROP, tags, ())

    def forget(self, names: Sequence[str]) -> None:
        """Let names hold nothing."""
        answered(self._commands(("DEL", *names))[0])

    def count(self, news: Mapping[tuple[str, str], int]) -> None:
        """Add what a process has counted to what all have."""
        commands = [("HINCRBY", COUNTS, f"{kind}:{name}", count) for (kind, name), count in news.items()]
        for answer in self._commands(*commands):
            answered(answer)

    def counts(self) -> dict[tuple[str, str], int]:
        """Return what all processes have counted since the server was started."""
        flat = answered(self._commands(("HGETALL", COUNTS))[0])
        pairs = zip(flat[::2], flat[1::2], strict=True)
        split = ((name.decode().rpartition(":"), int(count)) for name, count in pairs)
        return {(kind, name): count for (kind, _, name), count in split}

    def about(self) -> list[Facts]:
        """Return what the server says of itself."""
        line = self._made()
        try:
            line.connection.send_packed_command(line.connection.pack_commands([("INFO", "server"), ("INFO", "memory")]))
            told = [answered(self._answer(line.connection)) for _ in range(2)]
        except FAULTS as fault:
            raise StoreFailed(str(fault) or type(fault).__name__) from None
        finally:
            line.connection.disconnect()
        given = self._make.keywords
        address = given.get("path") or f"{given.get('host', 'localhost')}:{given.get('port', 6379)}"
        return [facts_of(address, b"".join(told))]

    def close(self) -> None:
        """Close every connection."""
        self._drop_idle()


Call = tuple[Sequence[str], Sequence[object]]
"""The names and the arguments of a script."""


def lease_call(asked: Lease, milliseconds: int, refresh: str) -> Call:
    """Return what LEASE is given."""
    before = prefix(asked.known)[:-1] + (b"," if asked.known and asked.tags else b"")
    return (asked.entry, asked.lease, *asked.tags), (asked.token, milliseconds, STAMP_MS, refresh, before)


def keep_call(kept: Kept) -> Call:
    """Return what KEEP is given."""
    held = kept.lease
    entry = prefix([*held.known, *kept.stamps]) + kept.value
    return (held.entry, held.lease, *held.tags), (held.token, entry, kept.milliseconds, *kept.stamps)


def leased(answer: Any) -> Leased:
    """Return what LEASE has answered."""
    grant, *stamps = answer
    return Leased(Grant(grant.decode()), tuple(stamps))


def driver_url(url: str) -> str:
    """Return a URL as redis-py reads it: Valkey speaks the same protocol."""
    scheme, separator, rest = url.partition("://")
    return f"{SCHEMES.get(scheme, scheme)}{separator}{rest}"


def introduced(connection: Any) -> str:
    """Ask a new connection's server for its name; raises :class:`StoreFailed` for a replica."""
    connection.send_packed_command(connection.pack_commands([("INFO", "server"), ("INFO", "replication")]))
    about: dict[str, str] = {}
    for _ in range(2):
        answer = connection.read_response()
        text = answer.decode() if isinstance(answer, bytes) else str(answer)
        about.update(line.partition(":")[::2] for line in text.splitlines())
    if about.get("role") != "master":
        raise redis.ConnectionError("it is a replica, which takes no fences")
    # the second changes when it takes over the data of another server
    return f"{about['run_id'].strip()}:{about['master_replid'].strip()}"


def answered(answer: Any) -> Any:
    """Return a server's answer; raises :class:`StoreFailed` where it is an error: full, loading, read-only …"""
    if isinstance(answer, Exception):
        raise StoreFailed(str(answer))
    return answer
