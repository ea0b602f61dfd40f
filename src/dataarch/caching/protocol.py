"""The protocol of the cache, alone: what a tag is, how a reader keeps a value, how a writer announces a change.

It runs on a space of named bytes in which each step is atomic: a dictionary here, a script on the server in
:mod:`dataarch.caching.scripts`, a model in the tests, which explore every order of these steps.

A **tag** stands for something that can change: a row, a table, a tenant. It holds a stamp that is never used twice, or
a fence, or nothing. An **entry** holds a value with the stamps of all its tags, as they were before the value was read.
It is alive while the tags hold these very stamps.

- A reader that misses takes a **lease**: it makes the stamps that are missing, and learns those that are there. Then it
  reads the database, and keeps the value under the stamps that it learned. One lease a key: others wait, so that a
  hundred misses cost one query.
- A writer puts a **fence** on the tags of what it changed, before it commits: from there on every entry with these tags
  is dead, and nobody gets a lease. After the commit it takes the fence away, and the tag with it. The next reader makes
  a new stamp, which no entry has. Entries that it knows by name are fenced themselves, and their leases too: so they
  need no tag of their own.
- A writer that dies leaves its fence. It ends at a deadline that lies beyond the longest time a transaction may take.

So no value read before a commit can be served after it: its stamps were gone before the commit began.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum
from typing import Protocol

from dataarch.caching.codec import prefix

__all__ = [
    "FENCE",
    "Grant",
    "Lease",
    "Leased",
    "Space",
    "clear",
    "drop",
    "fence",
    "fenced",
    "keep",
    "lease",
    "release",
]

FENCE = b"!"
"""What a tag begins with that is fenced; then come the writers, each with its deadline."""


class Space(Protocol):
    """Named bytes that end at a time."""

    def get(self, name: str) -> bytes | None:
        """Return what a name holds."""

    def put(self, name: str, value: bytes, milliseconds: int) -> None:
        """Let a name hold something for so long."""

    def remove(self, name: str) -> None:
        """Let a name hold nothing."""

    def now(self) -> int:
        """Return the milliseconds of a clock that all who use the space share."""


class Grant(Enum):
    """What a reader gets that asks for a lease."""

    GRANTED = "granted"
    PRESENT = "present"
    """Somebody has kept the value meanwhile."""
    BUSY = "busy"
    """Somebody else is reading it from the database."""
    FENCED = "fenced"
    """A writer is about to change what it is made from: read the database, and keep nothing."""


@dataclass(frozen=True, slots=True)
class Lease:
    """What a lease is about.

    Attributes:
        entry: name of the entry.
        lease: name of the lease.
        tags: names of the tags, in the order of their stamps.
        token: who asks; never used twice.
        known: stamps of tags that lie elsewhere, which go before those of ``tags``.
    """

    entry: str
    lease: str
    tags: tuple[str, ...]
    token: bytes
    known: tuple[bytes, ...] = ()


@dataclass(frozen=True, slots=True)
class Leased:
    """The answer; the stamps are those to keep the value under, where it was granted."""

    grant: Grant
    stamps: tuple[bytes, ...] = ()


# ── tags ──────────────────────────────────────────────────────────────────────────────────────────────────────────


def _writers(value: bytes | None, now: int) -> dict[bytes, int]:
    """Return the writers that have fenced a tag and whose deadlines lie ahead."""
    if value is None or not value.startswith(FENCE):
        return {}
    pairs = (one.split(b":") for one in value[len(FENCE) :].split(b","))
    return {token: int(deadline) for token, deadline in pairs if int(deadline) > now}


def _put_writers(space: Space, tag: str, writers: dict[bytes, int]) -> None:
    value = FENCE + b",".join(token + b":" + str(deadline).encode() for token, deadline in writers.items())
    space.put(tag, value, max(writers.values()) - space.now())


def fenced(value: bytes | None, now: int) -> bool:
    """Return whether a tag that holds this is fenced."""
    return bool(_writers(value, now))


def fence(space: Space, tags: Sequence[str], token: bytes, milliseconds: int) -> None:
    """Kill every entry that has one of the tags, and keep others from being made, until the fence is cleared."""
    for tag in tags:
        now = space.now()
        _put_writers(space, tag, {**_writers(space.get(tag), now), token: now + milliseconds})


def clear(space: Space, tags: Sequence[str], token: bytes) -> None:
    """Take a writer's fence away, and the tag with it where no other writer has fenced it.

    Where the fence is gone, because the server lost it or its deadline came, entries may have been made that are older
    than the commit: they go with the tag.
    """
    for tag in tags:
        others = _writers(space.get(tag), space.now())
        others.pop(token, None)
        if others:
            _put_writers(space, tag, others)
        else:
            space.remove(tag)


def drop(space: Space, tags: Sequence[str]) -> None:
    """Kill every entry that has one of the tags; fences stay."""
    for tag in tags:
        if not fenced(space.get(tag), space.now()):
            space.remove(tag)


# ── entries ───────────────────────────────────────────────────────────────────────────────────────────────────────


def lease(space: Space, asked: Lease, milliseconds: tuple[int, int], *, refresh: bool) -> Leased:
    """Ask for the right to read a value and keep it.

    Args:
        space: where.
        asked: what it is about; its token becomes the stamp of each tag that has none.
        milliseconds: how long the lease and the stamps last.
        refresh: whether it is wanted although the value is there.
    """
    held = [space.get(tag) for tag in asked.tags]
    now = space.now()
    if any(fenced(value, now) for value in (*held, space.get(asked.entry))):
        return Leased(Grant.FENCED)
    # a fence that is over is no stamp
    stamps = [None if value is None or value.startswith(FENCE) else value for value in held]
    if not refresh and None not in stamps:
        alive = prefix([*asked.known, *(stamp for stamp in stamps if stamp is not None)])
        if (space.get(asked.entry) or b"").startswith(alive):
            return Leased(Grant.PRESENT)
    if space.get(asked.lease) is not None:
        return Leased(Grant.BUSY)
    for_lease, for_tags = milliseconds
    made = tuple(asked.token if stamp is None else stamp for stamp in stamps)
    for tag, stamp in zip(asked.tags, made, strict=True):
        space.put(tag, stamp, for_tags)
    space.put(asked.lease, asked.token, for_lease)
    return Leased(Grant.GRANTED, made)


def keep(space: Space, held: Lease, stamps: Sequence[bytes], value: bytes, milliseconds: int) -> bool:
    """Keep a value that was read under a lease; False where the lease or one of the stamps stands no longer."""
    if space.get(held.lease) != held.token:
        return False
    space.remove(held.lease)
    if any(space.get(tag) != stamp for tag, stamp in zip(held.tags, stamps, strict=True)):
        return False
    space.put(held.entry, prefix([*held.known, *stamps]) + value, milliseconds)
    return True


def release(space: Space, held: Lease) -> None:
    """Give a lease back without keeping anything."""
    if space.get(held.lease) == held.token:
        space.remove(held.lease)
