"""A Redis Cluster as a store.

All names of a tenant lie in one slot, by the hash tag that their keys have, and are leased and kept there in one step.
The tags of nobody (of everything, of a kind, of tables without tenants) lie in a slot of their own, and every value has
some of them: their stamps are learned first, and an entry is alive only while they stand, too. A value of nobody lies
wherever its own name says.

The masters are known by one name, which is another when one of them is replaced or started anew, or when a slot moves.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from itertools import groupby
from typing import Any

import redis
from redis.crc import key_slot
from redis.exceptions import NoScriptError

from dataarch.caching import scripts
from dataarch.caching.cluster_nodes import Address, Map, Master, Nodes, map_of, seeds_of
from dataarch.caching.codec import prefix
from dataarch.caching.protocol import Grant, Lease, Leased
from dataarch.caching.redis_store import COUNTS, answered
from dataarch.caching.scripts import Script
from dataarch.caching.store import STAMP_MS, Facts, OneByOne, StoreFailed, facts_of

__all__ = ["SCHEMES", "ClusterStore", "placed"]

SCHEMES = ("redis+cluster:", "rediss+cluster:", "valkey+cluster:", "valkeys+cluster:")
"""How a URL begins that stands for a cluster."""

NOBODY = "{!}"
"""The hash tag of the tags that are no tenant's."""

UNKNOWN = Map(())

PATIENCE = 4
"""How many time-outs may pass until somebody has told who is master of what."""


def placed(name: str) -> str:
    """Return what a name is called here, so that what belongs together lies in one slot."""
    if "{" in name:
        return name
    _, _, own = name.split(":", 2)
    if own.startswith("!"):
        return f"{NOBODY}{name}"
    entry = name.removesuffix("!")
    return f"{{{entry}}}{name[len(entry) :]}"


@dataclass(frozen=True, slots=True)
class _Step:
    """A command for the names of one slot."""

    slot: int
    command: tuple[object, ...]
    script: Script | None = None

    @property
    def in_full(self) -> _Step:
        """The same with the script's text instead of its name, for a server that does not know it yet."""
        if self.script is None:
            return self
        return _Step(self.slot, ("EVAL", self.script.text, *self.command[2:]))


class ClusterStore(OneByOne):
    """A store on the masters of a cluster."""

    def __init__(self, url: str, *, timeout: float, most: int = 64) -> None:
        """Take the URL, which names one or several servers of the cluster; nothing connects before the first call.

        Args:
            url: ``redis+cluster://one:6379,two:6379``; also ``rediss+``, ``valkey+`` and ``valkeys+cluster``.
            timeout: seconds that connecting, sending or waiting for an answer may take.
            most: connections to one server at a time; a call that finds none free fails.

        Raises:
            InvalidUrl: it cannot be read.
        """
        self._nodes = Nodes(seeds_of(url), timeout=timeout, most=most)
        self._timeout = timeout
        self._map = UNKNOWN
        self._trusted = ""
        self._told_by: Address | None = None

    # ── the cluster ───────────────────────────────────────────────────────────────────────────────────────────────

    def contact(self) -> str:
        """Return the name of the cluster's masters as they are now, having heard from each of them."""
        masters = self._masters()
        lives = [self._nodes.at(one.address).life() for one in masters]
        if not all(lives):
            raise StoreFailed("a server that is said to be a master is none")
        self._map = Map(tuple(replace(one, life=life) for one, life in zip(masters, lives, strict=True)))
        return self._map.name

    def _masters(self) -> tuple[Master, ...]:
        """Ask who is master of what: first who told it last, then the others, until somebody knows."""
        told_by = () if self._told_by is None else (self._told_by,)
        known = (one.address for one in self._map.masters)
        deadline = time.monotonic() + PATIENCE * self._timeout
        last = StoreFailed("no server of the cluster answers")
        for address in dict.fromkeys((*told_by, *known, *self._nodes.seeds.addresses)):
            try:
                said = self._nodes.at(address).ask("CLUSTER", "NODES")
                found = map_of(said.decode(), address, tls=self._nodes.tls)
            except StoreFailed as fault:
                last = fault
            except (ValueError, AttributeError) as unreadable:
                last = StoreFailed(f"no answer to CLUSTER NODES: {unreadable}")
            else:
                self._told_by = address
                return found
            if time.monotonic() > deadline:
                break
        raise last

    def trust(self, server: str) -> None:
        """Say which masters have to answer from now on."""
        self._trusted = server

    def _carry_out(self, steps: Sequence[_Step]) -> list[Any]:
        """Carry out steps, each server's in one trip, and all trips at a time; the first error is raised."""
        where = self._map
        if where.name != self._trusted:
            raise StoreFailed("another cluster answers, or one of its masters was replaced")
        answers = self._trip(where, steps)
        unknown = [at for at, answer in enumerate(answers) if isinstance(answer, NoScriptError)]
        if unknown:
            for at, answer in zip(unknown, self._trip(where, [steps[at].in_full for at in unknown]), strict=True):
                answers[at] = answer
        return [answered(answer) for answer in answers]

    def _trip(self, where: Map, steps: Sequence[_Step]) -> list[Any]:
        answers: list[Any] = [None] * len(steps)
        order = sorted(range(len(steps)), key=lambda at: where.at(steps[at].slot).address)
        with ExitStack() as stack:
            sent = []
            for master, group in groupby(order, key=lambda at: where.at(steps[at].slot)):
                connection = stack.enter_context(self._nodes.at(master.address).connected(master.life))
                mine = list(group)
                packed = connection.pack_commands([steps[at].command for at in mine])
                connection.send_packed_command(packed, check_health=False)
                sent.append((connection, mine))
            for connection, mine in sent:
                for at in mine:
                    answers[at] = _answer(connection)
        return answers

    def _run(self, script: Script, names: Sequence[str], arguments: Sequence[object]) -> list[Any]:
        """Run a script for the names of each slot."""
        steps = [
            _Step(slot, ("EVALSHA", script.sha, len(mine), *mine, *arguments), script) for slot, mine in _by_slot(names)
        ]
        return self._carry_out(steps)

    # ── the store ─────────────────────────────────────────────────────────────────────────────────────────────────

    def read(self, names: Sequence[str]) -> Sequence[bytes | None]:
        """Return what names hold."""
        here = [placed(name) for name in names]
        groups = list(_by_slot(here))
        answers = self._carry_out([_Step(slot, ("MGET", *mine)) for slot, mine in groups])
        held: dict[str, bytes | None] = {}
        for (_, mine), answer in zip(groups, answers, strict=True):
            if not isinstance(answer, list) or len(answer) != len(mine):
                raise StoreFailed("the answer to MGET has another number of values")
            held.update(zip(mine, answer, strict=True))
        return [held[name] for name in here]

    def lease(self, asked: Lease, milliseconds: int, *, refresh: bool) -> tuple[Leased, Lease]:
        """Ask for a lease: learn the stamps of nobody's tags, then ask where the value lies."""
        entry, tags = placed(asked.entry), [placed(tag) for tag in asked.tags]
        home = key_slot(entry.encode())
        here = tuple(tag for tag in tags if key_slot(tag.encode()) == home)
        elsewhere = [tag for tag in tags if key_slot(tag.encode()) != home]
        known = list(asked.known)
        for stamps in self._run(scripts.STAMPS, elsewhere, (asked.token, STAMP_MS)):
            if stamps is None:
                return Leased(Grant.FENCED), asked
            known += stamps
        lease = Lease(entry, placed(asked.lease), here, asked.token, tuple(known))
        before = prefix(known)[:-1] + (b"," if known and here else b"")
        arguments = (asked.token, milliseconds, STAMP_MS, "refresh" if refresh else "", before)
        ((grant, *stamps),) = self._run(scripts.LEASE, (lease.entry, lease.lease, *here), arguments)
        return Leased(Grant(grant.decode()), tuple(stamps)), lease

    def keep(self, held: Lease, stamps: Sequence[bytes], value: bytes, milliseconds: int) -> bool:
        """Keep a value that was read under a lease of :meth:`lease`."""
        entry = prefix([*held.known, *stamps]) + value
        arguments = (held.token, entry, milliseconds, *stamps)
        (kept,) = self._run(scripts.KEEP, (held.entry, held.lease, *held.tags), arguments)
        return bool(kept)

    def release(self, held: Lease) -> None:
        """Give a lease back."""
        self._run(scripts.RELEASE, (held.lease,), (held.token,))

    def fence(self, tags: Sequence[str], token: bytes, milliseconds: int) -> None:
        """Fence tags."""
        self._run(scripts.FENCE, [placed(tag) for tag in tags], (token, milliseconds))

    def clear(self, tags: Sequence[str], token: bytes) -> None:
        """Take the fences away."""
        self._run(scripts.CLEAR, [placed(tag) for tag in tags], (token,))

    def drop(self, tags: Sequence[str]) -> None:
        """Kill the entries of tags."""
        self._run(scripts.DROP, [placed(tag) for tag in tags], ())

    def forget(self, names: Sequence[str]) -> None:
        """Let names hold nothing."""
        groups = _by_slot([placed(name) for name in names])
        self._carry_out([_Step(slot, ("DEL", *mine)) for slot, mine in groups])

    def count(self, news: Mapping[tuple[str, str], int]) -> None:
        """Add what a process has counted to what all have."""
        slot = key_slot(COUNTS.encode())
        self._carry_out(
            [_Step(slot, ("HINCRBY", COUNTS, f"{kind}:{name}", count)) for (kind, name), count in news.items()]
        )

    def counts(self) -> dict[tuple[str, str], int]:
        """Return what all processes have counted since the hash's master lost it last."""
        (flat,) = self._carry_out([_Step(key_slot(COUNTS.encode()), ("HGETALL", COUNTS))])
        pairs = zip(flat[::2], flat[1::2], strict=True)
        split = ((name.decode().rpartition(":"), int(count)) for name, count in pairs)
        return {(kind, name): count for (kind, _, name), count in split}

    def about(self) -> list[Facts]:
        """Return what each master says of itself."""
        found = []
        for master in self._masters():
            node, address = self._nodes.at(master.address), f"{master.address.host}:{master.address.port}"
            found.append(facts_of(address, node.ask("INFO", "server") + node.ask("INFO", "memory")))
        return found

    def close(self) -> None:
        """Close every connection."""
        self._nodes.close()


def _by_slot(names: Sequence[str]) -> Iterator[tuple[int, tuple[str, ...]]]:
    """Give the slots of names with the names of each, in their order."""
    slots: dict[int, list[str]] = {}
    for name in names:
        slots.setdefault(key_slot(name.encode()), []).append(name)
    for slot, mine in slots.items():
        yield slot, tuple(mine)


def _answer(connection: Any) -> Any:
    """Return the next answer of a connection; an error is returned, not raised."""
    try:
        return connection.read_response()
    except redis.ResponseError as refused:
        return refused
