"""The servers of a Redis Cluster: who is master of which slots, and connections that know whom they reach.

Nothing is redirected. A slot that has moved, a master that was replaced or started anew make another map of the
cluster, and with it another name: who still goes by the old map is answered with an error, and asks for a new one.
"""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import unquote, urlsplit
from weakref import WeakKeyDictionary

import redis
from redis.backoff import NoBackoff
from redis.connection import parse_url
from redis.crc import key_slot
from redis.retry import Retry

from dataarch.caching.redis_store import FAULTS, driver_url
from dataarch.caching.store import StoreFailed
from dataarch.errors import InvalidUrl

__all__ = ["SLOTS", "Address", "Map", "Master", "Node", "Nodes", "Seeds", "map_of", "seeds_of"]

SLOTS = 16384
"""Slots of a cluster."""

DEFAULT_PORT = 6379

GONE = {"fail", "noaddr", "handshake"}
"""Flags of a node that serves nobody."""


@dataclass(frozen=True, slots=True, order=True)
class Address:
    """Where a server listens."""

    host: str
    port: int


@dataclass(frozen=True, slots=True)
class Seeds:
    """What a URL says of a cluster: servers that are asked first, and how each of its servers is spoken to."""

    addresses: tuple[Address, ...]
    options: Mapping[str, Any]


def seeds_of(url: str) -> Seeds:
    """Read ``redis+cluster://user:password@one:6379,two:6379``; also ``rediss+``, ``valkey+`` and ``valkeys+cluster``.

    Raises:
        InvalidUrl: it cannot be read, or names a database: a cluster has but one.
    """
    read_options: Any = parse_url
    scheme, _, rest = url.partition("+cluster://")
    try:
        # a host with a port stands for all of them, so that the driver reads login and options
        parts = urlsplit(f"redis://{rest}")
        login, _, hosts = parts.netloc.rpartition("@")
        options = read_options(driver_url(f"{scheme}://{login}{'@' if login else ''}host:1?{parts.query}"))
        addresses = tuple(_address(one) for one in hosts.split(","))
        if parts.path.strip("/") not in {"", "0"} or options.pop("db", 0):
            raise ValueError("A cluster has one database alone: 0.")  # noqa: TRY301  # one message for all of them
    except (ValueError, TypeError) as unreadable:
        raise InvalidUrl(
            "The URL of the cache cannot be read.", hint=f"{unreadable} It comes from DATAARCH_REDIS_URL."
        ) from None
    return Seeds(addresses, {name: value for name, value in options.items() if name not in {"host", "port"}})


def _address(written: str) -> Address:
    parts = urlsplit(f"redis://{written}")
    if not parts.hostname:
        raise ValueError(f"{written!r} names no host.")
    return Address(unquote(parts.hostname), parts.port or DEFAULT_PORT)


# ── the map ───────────────────────────────────────────────────────────────────────────────────────────────────────


@dataclass(frozen=True, slots=True)
class Master:
    """A server that has slots.

    Attributes:
        address: where it listens.
        id: its name in the cluster, which it keeps when it is started anew.
        epoch: of its configuration: a greater one after each change of who has its slots.
        slots: first and last of each range that it has.
        life: the name that it has for one life (``run_id``); empty until it was asked.
    """

    address: Address
    id: str
    epoch: int
    slots: tuple[tuple[int, int], ...]
    life: str = ""


@dataclass(frozen=True, slots=True)
class Map:
    """Who has which slots; each master alive and asked."""

    masters: tuple[Master, ...]
    name: str = field(init=False)
    _by_slot: tuple[Master, ...] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        said = sorted(repr((one.id, one.life, one.epoch, one.slots)) for one in self.masters)
        object.__setattr__(self, "name", f"cluster-{hashlib.sha256(';'.join(said).encode()).hexdigest()[:40]}")
        ordered = sorted((low, high, one) for one in self.masters for low, high in one.slots) if said else []
        by_slot = tuple(one for low, high, one in ordered for _ in range(low, high + 1))
        object.__setattr__(self, "_by_slot", by_slot)

    def at(self, slot: int) -> Master:
        """Return the master of a slot."""
        return self._by_slot[slot]

    def of(self, name: str) -> Master:
        """Return the master that has a name's slot."""
        return self.at(key_slot(name.encode()))


def map_of(said: str, asked: Address, *, tls: bool) -> tuple[Master, ...]:
    """Read what ``CLUSTER NODES`` says.

    Args:
        said: the answer.
        asked: who gave it; a server that does not know its own address means this one.
        tls: whether certificates are compared with names, so that a name goes before an address.

    Raises:
        StoreFailed: a slot is nobody's, or its master is gone.
    """
    found = [master for line in said.splitlines() for master in _master(line.split(" "), asked, tls=tls)]
    covered = sorted(pair for one in found for pair in one.slots)
    following = [0, *(high + 1 for _, high in covered)]
    if [low for low, _ in covered] != following[:-1] or following[-1] != SLOTS:
        raise StoreFailed("the cluster has slots that no living master answers for")
    return tuple(sorted(found, key=lambda one: one.slots))


def _master(words: Sequence[str], asked: Address, *, tls: bool) -> Iterator[Master]:
    name, where, flags, _, _, _, epoch, _, *slots = words
    # [slot->-node]: it is about to move, and still here
    ranges = tuple(_range(one) for one in slots if not one.startswith("["))
    if "master" not in flags.split(",") or not ranges or GONE & set(flags.split(",")):
        return
    address, _, host = where.partition(",")
    ip, _, port = address.partition("@")[0].rpartition(":")
    named = host.partition(",")[0] if tls else ""
    yield Master(Address(named or ip or asked.host, int(port)), name, int(epoch), ranges)


def _range(written: str) -> tuple[int, int]:
    low, _, high = written.partition("-")
    return int(low), int(high or low)


# ── connections ───────────────────────────────────────────────────────────────────────────────────────────────────


class Node:
    """Connections to one server, each of which has asked in its beginning who answers."""

    def __init__(self, address: Address, options: Mapping[str, Any]) -> None:
        self.address = address
        self._lives: WeakKeyDictionary[Any, str] = WeakKeyDictionary()
        self._pool = redis.ConnectionPool(
            **options, host=address.host, port=address.port, redis_connect_func=self._greet
        )

    def _greet(self, connection: Any) -> None:
        connection.on_connect()
        connection.send_packed_command(connection.pack_commands([("INFO", "server"), ("ROLE",)]))
        about, role = connection.read_response(), connection.read_response()
        lines = dict(line.partition(b":")[::2] for line in about.split(b"\r\n"))
        # a replica may be asked for the map; it is believed nothing else
        self._lives[connection] = lines[b"run_id"].decode() if role[0] == b"master" else ""

    @contextmanager
    def connected(self, life: str | None = None) -> Iterator[Any]:
        """Give a connection.

        Args:
            life: who has to answer; without it, anybody.

        Raises:
            StoreFailed: nobody answers, somebody else does, or whatever goes wrong inside the block.
        """
        connection: Any = None
        try:
            connection = self._pool.get_connection()
            self._recognise(connection, life)
            yield connection
        except BaseException as fault:
            # a late answer must not be taken for that to the next command
            if connection is not None:
                connection.disconnect()
            if isinstance(fault, FAULTS):
                raise StoreFailed(str(fault) or type(fault).__name__) from None
            raise
        finally:
            if connection is not None:
                self._pool.release(connection)

    def _recognise(self, connection: Any, life: str | None) -> None:
        if life is not None and self._lives.get(connection) != life:
            raise StoreFailed("another server answers, or this one was started anew")

    def life(self) -> str:
        """Return the name that the server has for one life, having heard from it now; empty for a replica."""
        with self.connected() as connection:
            connection.send_command("PING")
            if connection.read_response() != b"PONG":
                raise StoreFailed("no answer to a PING")
            return self._lives.get(connection, "")

    def ask(self, *command: object) -> Any:
        """Return the answer to one command, whoever gives it."""
        with self.connected() as connection:
            connection.send_command(*command)
            return connection.read_response()

    def close(self) -> None:
        """Close every connection."""
        self._pool.disconnect()


class Nodes:
    """All servers of a cluster that were ever spoken to."""

    def __init__(self, seeds: Seeds, *, timeout: float, most: int) -> None:
        self.seeds = seeds
        self._options = {
            "max_connections": most,
            "socket_timeout": timeout,
            "socket_connect_timeout": timeout,
            "retry": Retry(NoBackoff(), 0),
            "client_name": "dataarch",
            "protocol": 2,
            **seeds.options,
        }
        self._lock = threading.Lock()
        self._nodes: dict[Address, Node] = {}

    @property
    def tls(self) -> bool:
        """Whether connections are encrypted."""
        return self._options.get("connection_class") is redis.SSLConnection

    def at(self, address: Address) -> Node:
        """Return the server that listens there."""
        with self._lock:
            if address not in self._nodes:
                self._nodes[address] = Node(address, self._options)
            return self._nodes[address]

    def close(self) -> None:
        """Close every connection."""
        with self._lock:
            for node in self._nodes.values():
                node.close()
