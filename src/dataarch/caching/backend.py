"""The protocol behind dogpile.cache: what a region reads, keeps, and locks while a value is made."""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import chain, islice
from typing import Any

from dogpile.cache.api import NO_VALUE, CacheBackend, CachedValue, CacheMutex
from dogpile.cache.region import value_version

from dataarch.caching.codec import FORMAT, CannotDecode, CannotEncode, Codec, Entry, prefix
from dataarch.caching.counters import KindStats
from dataarch.caching.fencing import Fencing, named, new_token
from dataarch.caching.gate import View
from dataarch.caching.keys import lease_of
from dataarch.caching.kinds import Kind
from dataarch.caching.near_cache import Near, NearCache, immutable
from dataarch.caching.near_cache import Put as PutNear
from dataarch.caching.politeness import acquire, offload, pause, who
from dataarch.caching.protocol import FENCE, Grant, Lease
from dataarch.database.commit_hooks import Unit, current_unit

__all__ = ["FIRST_PAUSE", "LONGEST_PAUSE", "Held", "KindBackend", "Names", "may_keep", "may_read"]

FIRST_PAUSE, LONGEST_PAUSE = 0.002, 0.025
"""Seconds between two looks at a value that somebody else is making."""

MOST_NAMES = 4096
"""Keys whose names are remembered, so that they are not put together at each read."""


def may_read() -> bool:
    """Return whether the open unit of work may be served from the cache.

    Not when it has written something, which it would not find there; nor when all of its reads are as of one moment.
    """
    unit = current_unit()
    return unit is None or not _alone(unit)


def _alone(unit: Unit) -> bool:
    """Return whether a unit of work may see something else than everybody."""
    return unit.one_moment or unit.dirty


def may_keep() -> bool:
    """Return whether what is read in the open unit of work may be kept for others.

    Not when it reads on a replica, nor when its session holds objects already: what is taken from them is as old as
    they are. The same goes for those that it was opened in, because they may be read through as well.
    """
    unit = current_unit()
    while unit is not None:
        if _alone(unit) or unit.stale or (unit.session is not None and len(unit.session.identity_map)):
            return False
        unit = unit.around
    return True


@dataclass(slots=True)
class Held:
    """The right to make a value, as one thread or task has it: with a lease to keep it under, or without."""

    maker: int
    lease: Lease | None = None
    stamps: tuple[bytes, ...] = ()
    epoch: str = ""


@dataclass(slots=True, eq=False)
class Names:
    """What an entry, its lease and its tags are called in the store; ``all`` is what is read of them."""

    entry: str
    lease: str
    tags: tuple[str, ...]
    all: tuple[str, ...] = field(init=False)

    def __post_init__(self) -> None:
        self.all = (self.entry, *self.tags)


class KindBackend(CacheBackend):
    """The backend of one kind's region. Never raises because the cache does not answer.

    Values are kept only between a miss and its creator's end, under the lease of that miss: what :meth:`set` is given
    otherwise may have been read before a commit, and is refused.
    """

    def __init__(self, arguments: Mapping[str, Any]) -> None:
        """Take ``kind``, ``fencing`` and ``stats``."""
        self.kind: Kind = arguments["kind"]
        self.fencing: Fencing = arguments["fencing"]
        self.stats: KindStats = arguments["stats"]
        self.near: NearCache | None = None
        self._codec = Codec(self.kind.type)
        self._declaration = self.kind.declaration
        self._names: dict[str, dict[str, Names]] = {}
        self._tags: dict[tuple[str, tuple[str, ...]], tuple[str, ...]] = {}
        self._held: dict[str, Held] = {}
        self.without: set[tuple[str, int]] = set()
        """Who makes which value without the right to keep it."""

    # ── reads ─────────────────────────────────────────────────────────────────────────────────────────────────────

    def get(self, key: str) -> Any:
        """Return what is kept under a key, or NO_VALUE."""
        view = self.readable() if may_read() else None
        if view is None:
            return self._bypassed((key,))[0]
        if self.near is not None:
            near = self.near.get(key, view.epoch)
            if near is not None:
                return self._served(near.entry())
            return self._looked((key,), view)[0]
        # what follows is the same for one key, and half as long
        names = self.names_of(view.epoch, key)
        values = self.fencing.read(names.all, view)
        if values is None:
            self._count("error", (key,))
            return self._bypassed((key,))[0]
        found = self._found(key, names, values[0], _alive(values[1:]), None)
        if found is NO_VALUE:
            self._count("miss", (key,))
        return found

    def get_multi(self, keys: Iterable[str]) -> Sequence[Any]:
        """Return what is kept under keys, in one trip."""
        return self.look(list(keys))

    def look(self, keys: Sequence[str], *, again: bool = False) -> Sequence[Any]:
        """Return what is kept under keys, in one trip; ``again``: what is not there has been counted before."""
        view = self.readable() if may_read() else None
        return self._bypassed(keys, again=again) if view is None else self._looked(keys, view, again=again)

    def _looked(self, keys: Sequence[str], view: View, *, again: bool = False) -> Sequence[Any]:
        found = self._read(view, keys)
        if found is None:
            self._count("error", keys)
            return self._bypassed(keys, again=again)
        if not again:
            self._count("miss", [key for key, value in zip(keys, found, strict=True) if value is NO_VALUE])
        return found

    def _bypassed(self, keys: Sequence[str], *, again: bool = False) -> Sequence[Any]:
        # a key that is no key is refused whether the cache can be read or not
        for key in keys:
            self.kind.tags(key)
        self._count("bypass", () if again else keys)
        return [NO_VALUE] * len(keys)

    def readable(self) -> View | None:
        """Return what is known of the gate, if values of this kind may be read now."""
        view = self.fencing.readable()
        known = view is None or self._declaration is None or self._declaration in view.usable
        return view if known else None

    def _read(self, view: View, keys: Sequence[str]) -> list[Any] | None:
        """Return what is kept under keys; None where the cache does not answer."""
        near = self.near
        if near is None:
            return self._read_far(view, keys)
        held = [near.get(key, view.epoch) for key in keys]
        found: list[Any] = [NO_VALUE if one is None else self._served(one.entry()) for one in held]
        left = [number for number, one in enumerate(held) if one is None]
        if left:
            read = self._read_far(view, [keys[number] for number in left])
            if read is None:
                return None
            for number, value in zip(left, read, strict=True):
                found[number] = value
        return found

    def _read_far(self, view: View, keys: Sequence[str]) -> list[Any] | None:
        wanted = self._all_names(view.epoch, keys)
        # those of a tenant have the same tags
        tags = {id(one.tags): one.tags for one in wanted}
        names = (*[one.entry for one in wanted], *chain.from_iterable(tags.values()))

        def judge(values: Sequence[bytes | None], put: PutNear | None = None) -> list[Any]:
            stamps = iter(values[len(keys) :])
            alive = {which: _alive(list(islice(stamps, len(these)))) for which, these in tags.items()}
            return [
                self._found(key, one, raw, alive[id(one.tags)], put)
                for key, one, raw in zip(keys, wanted, values, strict=False)
            ]

        near = self.near
        if near is not None:
            found: list[Any] | None = offload(lambda: near.read(names, view.epoch, judge))
            if found is not None:
                return found
        values = self.fencing.read(names, view)
        if values is None:
            return None
        return judge(values) if len(tags) > 1 else self._all_found(values[: len(keys)], _alive(values[len(keys) :]))

    def _all_found(self, raws: Sequence[bytes | None], alive: bytes | None) -> list[Any]:
        """Return what :meth:`_found` does for values of the same tags; a hundred calls less for a hundred values."""
        if alive is None or self.kind.soft_ttl is not None:
            return [self._judged(raw, alive) for raw in raws]
        decode, start, found = self._codec.decode, len(alive), []
        for raw in raws:
            if raw is None or not raw.startswith(alive):
                found.append(NO_VALUE if raw is None else self._judged(raw, alive))
                continue
            try:
                value, made_at, negative = decode(raw, start)
            except CannotDecode:
                self.stats.error += 1
                found.append(NO_VALUE)
            else:
                self.stats.hit += 1
                self.stats.negative += negative
                found.append(CachedValue(value, {"ct": made_at, "v": value_version}))
        return found

    def _judged(self, raw: bytes | None, alive: bytes | None) -> Any:
        entry = None if raw is None else self._entry(raw, alive)
        return NO_VALUE if entry is None else self._served(entry)

    def names_of(self, epoch: str, key: str) -> Names:
        """Return what the parts of a key's value are called in the store."""
        return self._all_names(epoch, (key,))[0]

    def _all_names(self, epoch: str, keys: Sequence[str]) -> list[Names]:
        known = self._names.get(epoch)
        if known is None or len(known) > MOST_NAMES:
            # another epoch's are of no use any more
            self._names = {epoch: {}}
            known = self._names[epoch]
        found = [known.get(key) for key in keys]
        if None in found:
            for key in keys:
                if key not in known:
                    entry = named(epoch, key)
                    known[key] = Names(entry, lease_of(entry), self._tags_of(epoch, self.kind.tags(key)))
            return [known[key] for key in keys]
        return found  # type: ignore[return-value]  # none of them is None

    def _tags_of(self, epoch: str, tags: tuple[str, ...]) -> tuple[str, ...]:
        """Return what tags are called, as one and the same tuple for the same tags."""
        found = self._tags.get((epoch, tags))
        if found is None:
            if len(self._tags) >= MOST_NAMES:
                self._tags = {}
            found = self._tags[epoch, tags] = tuple(named(epoch, tag) for tag in tags)
        return found

    def _count(self, name: str, keys: Sequence[str]) -> None:
        # whoever may make the value has been counted when he missed it
        me = who()
        more = sum(
            (key, me) not in self.without and (key not in self._held or self._held[key].maker != me) for key in keys
        )
        setattr(self.stats, name, getattr(self.stats, name) + more)

    def _found(self, key: str, names: Names, raw: bytes | None, alive: bytes | None, put: PutNear | None) -> Any:
        entry = None if raw is None else self._entry(raw, alive)
        if raw is None or alive is None or entry is None:
            return NO_VALUE
        if put is not None:
            put(key, self._near(entry, names, lambda: self._codec.decode(raw, len(alive))))
        return self._served(entry)

    def _near(self, entry: Entry, names: Names, again: Callable[[], Entry]) -> Near:
        """Return an entry as it is kept near: for no longer than until somebody should read it anew."""
        lasts = self.kind.negative_ttl if entry.negative else self.kind.soft_ttl or self.kind.ttl
        encoded = tuple(name.encode() for name in names.all)
        return Near(entry, None if immutable(entry.value) else again, entry.made_at + lasts, encoded)

    def _served(self, entry: Entry) -> CachedValue:
        stats, kind = self.stats, self.kind
        stats.hit += 1
        if entry.negative:
            stats.negative += 1
        if kind.soft_ttl is not None and time.time() - entry.made_at > kind.soft_ttl:
            stats.stale += 1
        return CachedValue(entry.value, {"ct": entry.made_at, "v": value_version})

    def _entry(self, raw: bytes, alive: bytes | None) -> Entry | None:
        if alive is None or not raw.startswith(alive):
            # one that is dead and a writer's fence are no fault
            self.stats.error += not raw.startswith((FORMAT, FENCE))
            return None
        try:
            return self._codec.decode(raw, len(alive))
        except CannotDecode:
            self.stats.error += 1
            return None

    # ── writes ────────────────────────────────────────────────────────────────────────────────────────────────────

    def set(self, key: str, value: Any) -> None:
        """Keep a value under the lease that this thread or task holds; refused without one."""
        held = self._held.get(key)
        if held is None or held.maker != who() or held.lease is None or not may_keep():
            self.stats.refused += 1
            return
        self.keep(held, value.payload)

    def set_multi(self, mapping: Mapping[str, Any]) -> None:
        """Keep values, each under its own lease."""
        for key, value in mapping.items():
            self.set(key, value)

    def keep(self, held: Held, value: Any) -> None:
        """Keep a value under a lease."""
        lease = held.lease
        form = None if lease is None else self.form(value)
        if lease is None or form is None:
            self.stats.refused += 1
            return
        kept = self.fencing.keep(lease, held.stamps, *form)
        held.lease = None
        if kept is None:
            self.stats.error += 1
        if kept:
            self.stats.set += 1
        else:
            self.stats.refused += 1

    def form(self, value: Any) -> tuple[bytes, int] | None:
        """Return a value as it is kept, and for how many milliseconds; None where it is not to be kept."""
        kind = self.kind
        lasts = kind.negative_ttl if value is None else kind.ttl
        if not lasts:
            return None
        made_at = time.time()
        if kind.soft_ttl is not None:
            made_at -= kind.soft_ttl * kind.jitter * random.random()  # noqa: S311  # spreads, and hides nothing
        try:
            encoded = self._codec.encode(value, made_at, negative=value is None)
        except CannotEncode:
            return None
        lasts *= 1 - kind.jitter * random.random()  # noqa: S311
        return encoded, max(1, round(lasts * 1000))

    def delete(self, key: str) -> None:
        """Make the value of a key invisible at once."""
        self.delete_multi((key,))

    def delete_multi(self, keys: Iterable[str]) -> None:
        """Make the values of keys invisible at once."""
        keys = list(keys)
        if keys:
            self.fencing.forget(lambda epoch: self._to_forget(epoch, keys))

    def _to_forget(self, epoch: str, keys: Sequence[str]) -> list[str]:
        names = [self.names_of(epoch, key) for key in keys]
        return [name for one in names for name in (one.entry, one.lease)]

    # ── one maker a value ─────────────────────────────────────────────────────────────────────────────────────────

    def get_mutex(self, key: str) -> Maker:
        """Return the lock of those who would make a value: one of this process, and a lease for all processes."""
        return Maker(self, key)

    def ask_lease(self, key: str, *, wait: bool) -> Held | None:
        """Get the right to make a value.

        Args:
            key: the key.
            wait: wait while somebody else makes it; without it the value is there, and only wanted anew.

        Returns:
            None where somebody else makes it, and nobody waits. Without a lease in it nothing is kept: the value is
            there meanwhile, a writer is at work, or the cache does not answer.
        """
        held = Held(who())
        deadline, between = time.monotonic() + self.fencing.timing.wait, FIRST_PAUSE
        while (view := self.readable() if may_keep() else None) is not None:
            names = self.names_of(view.epoch, key)
            asked = Lease(names.entry, names.lease, names.tags, new_token())
            answer = self.fencing.lease(asked, refresh=not wait)
            if answer is None:
                self.stats.error += 1
                return held
            leased, lease = answer
            if leased.grant is Grant.GRANTED:
                return Held(held.maker, lease, leased.stamps, view.epoch)
            if leased.grant is Grant.FENCED:
                self.stats.bypass += 1
            if leased.grant is not Grant.BUSY:
                return held
            if not wait:
                return None
            if time.monotonic() > deadline:
                return held
            pause(between)
            between = min(between * 1.5, LONGEST_PAUSE)
        return held

    def hold(self, key: str, held: Held) -> None:
        """Note who may make a value."""
        self._held[key] = held

    def let_go(self, key: str) -> None:
        """Give the right back; nothing was kept if its lease is still there."""
        held = self._held.pop(key, None)
        if held is not None and held.lease is not None:
            self.fencing.release(held.lease)


def _alive(stamps: Sequence[bytes | None]) -> bytes | None:
    """Return how an entry begins that is alive under these stamps; None where none can be."""
    return None if None in stamps else prefix(stamps)  # type: ignore[arg-type]  # none of them is None


class Maker(CacheMutex):
    """The lock that dogpile.cache takes around a creator."""

    def __init__(self, backend: KindBackend, key: str) -> None:
        self._backend = backend
        self._key = key
        self._lock = threading.Lock()

    def acquire(self, wait: bool = True) -> bool:  # noqa: FBT001, FBT002  # dogpile's own form
        """Get the right to make the value; False where somebody else has it and nobody waits."""
        if self._backend.readable() is None or not may_keep():
            # nothing would be kept, so nobody has to wait for anybody
            return wait and self._without()
        patience = self._backend.fencing.timing.wait if wait else 0.0
        if not acquire(self._lock, patience):
            # too long: make it without the right to keep it
            return wait and self._without()
        try:
            held = self._backend.ask_lease(self._key, wait=wait)
        except BaseException:
            self._lock.release()
            raise
        if held is None:
            self._lock.release()
            return False
        self._backend.hold(self._key, held)
        return True

    def _without(self) -> bool:
        self._backend.without.add((self._key, who()))
        return True

    def release(self) -> None:
        """Give the right back."""
        if (self._key, who()) in self._backend.without:
            self._backend.without.discard((self._key, who()))
            return
        try:
            self._backend.let_go(self._key)
        finally:
            self._lock.release()

    def locked(self) -> bool:
        """Return whether somebody in this process makes the value."""
        return self._lock.locked()
