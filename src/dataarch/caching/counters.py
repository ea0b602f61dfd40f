"""How often things were found, and how often not; for each kind of value."""

from __future__ import annotations

import threading
from collections.abc import Mapping
from dataclasses import dataclass, field, fields

__all__ = ["Counters", "KindStats"]


@dataclass(slots=True)
class KindStats:
    """What has happened with values of a kind.

    Attributes:
        hit: served from the cache, those counted under ``stale`` and ``negative`` included.
        miss: not there, dead, or not readable.
        stale: served although it was time for a new one, while somebody else reads it.
        negative: the cache knew that there is nothing.
        error: the cache did not answer, or held bytes that are no entry of this form.
        bypass: the database was asked because the cache must not be: a writer is at work, the gate is not open, the
            unit of work has written something itself.
        set: kept.
        refused: not kept, because the lease or a stamp stood no longer, there was none, or the value has no form here.
    """

    hit: int = 0
    miss: int = 0
    stale: int = 0
    negative: int = 0
    error: int = 0
    bypass: int = 0
    set: int = 0
    refused: int = 0

    @property
    def reads(self) -> int:
        """How often a value was asked for."""
        return self.hit + self.miss + self.bypass

    @property
    def hit_rate(self) -> float | None:
        """Hits among all reads; None where there was none."""
        return self.hit / self.reads if self.reads else None

    def as_dict(self) -> dict[str, int]:
        """Return the counts by their names."""
        return {one.name: getattr(self, one.name) for one in fields(self)}


@dataclass(slots=True)
class Counters:
    """The counts of this process."""

    kinds: dict[str, KindStats] = field(default_factory=dict)
    _told: dict[tuple[str, str], int] = field(default_factory=dict)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def of(self, kind: str) -> KindStats:
        """Return the counts of a kind, which its regions add to."""
        with self._lock:
            return self.kinds.setdefault(kind, KindStats())

    def news(self) -> dict[tuple[str, str], int]:
        """Return what has been counted since the last call, by kind and name."""
        with self._lock:
            found = {}
            for kind, stats in self.kinds.items():
                for name, count in stats.as_dict().items():
                    if more := count - self._told.get((kind, name), 0):
                        found[kind, name] = more
                        self._told[kind, name] = count
            return found

    def take_back(self, news: Mapping[tuple[str, str], int]) -> None:
        """Undo a call of :meth:`news`: it could not be told."""
        with self._lock:
            for what, count in news.items():
                self._told[what] = self._told.get(what, 0) - count
