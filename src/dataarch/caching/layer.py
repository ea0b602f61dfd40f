"""What the layers share whose values are made from other tables each time: kinds that come into being as needed."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any, TypeVar
from uuid import UUID

from dataarch.caching.backend import may_read
from dataarch.caching.counters import KindStats
from dataarch.caching.fencing import Fencing
from dataarch.caching.kinds import Kind
from dataarch.caching.region import Region, make_region
from dataarch.errors import TenantNotSet

__all__ = ["LAYERS", "QUERY", "RESPONSE", "Layer"]

Value = TypeVar("Value")

QUERY, RESPONSE = "query", "response"
LAYERS = frozenset({QUERY, RESPONSE})
"""Names that no other kind may have."""

MOST_REGIONS = 512
"""Kinds of one layer that are kept, and keys of which is known that they are not to be remembered."""

PASS_FOR = 10.0
"""Seconds for which nobody waits for somebody else's value that was not to be remembered the last time."""


class Layer:
    """A name under which values are remembered, counted and made invisible, whatever each of them was made from."""

    def __init__(self, name: str, fencing: Fencing, stats: KindStats, type_: Any = None) -> None:
        """Take the name, what keeps it right, and the type of the values, if they are of one (see :class:`Kind`)."""
        self.name = name
        self.fencing = fencing
        self._stats = stats
        self._type = type_
        self._regions: dict[tuple[object, ...], Region] = {}
        self._passing: dict[str, float] = {}

    def region(self, ttl: float, soft_ttl: float | None, reads: tuple[Any, ...]) -> Region:
        """Return the region of what is made from these tables, and lasts so long.

        Raises:
            InvalidValue: the times do not fit together, or a table is given that is none.
        """
        asked = (ttl, soft_ttl, reads)
        region = self._regions.get(asked)
        if region is None:
            kind = Kind(self.name, ttl, soft_ttl, negative_ttl=0.0, reads=reads, type=self._type)
            if len(self._regions) >= MOST_REGIONS:
                self._regions = {}
            # of two threads that come at once, both go on with the same: its locks are what they wait at
            region = self._regions.setdefault(asked, make_region(kind, self.fencing, self._stats))
        return region

    def key(self, region: Region, asked: str, tenant: UUID | str | None) -> str:
        """Return the key of a value.

        Raises:
            TenantNotSet: it is made from tenants' tables, and nobody said whose.
        """
        if tenant is None and region.kind.owned:
            tables = ", ".join(table.name for table in region.kind.reads)
            raise TenantNotSet(f"What is read from {tables} is a tenant's.", value=None)
        return region.kind.key(asked, tenant=tenant)

    def remembered(
        self, region: Region, key: str, make: Callable[[], Value], keep: Callable[[Value], bool] | None = None
    ) -> Value:
        """Return the value of a key, made if nobody has made it before.

        Args:
            region: where it is remembered.
            key: its key.
            make: makes it; what it raises is raised.
            keep: whether a value that was made is to be remembered.

        Those who ask at once wait for one of them, but nobody waits where nothing would be remembered: then the
        cache would make a crowd stand in line for nothing.
        """
        if not may_read() or self.fencing.readable() is None or self._passes(key):
            self._stats.bypass += 1
            value = make()
            if keep is not None and keep(value):
                self._passing.pop(key, None)
            return value

        def noted(value: Value) -> bool:
            kept = keep is None or keep(value)
            if not kept:
                self._pass(key)
            return kept

        found: Value = region.get_or_create(key, make, should_cache_fn=noted)
        return found

    def _passes(self, key: str) -> bool:
        until = self._passing.get(key)
        return until is not None and time.monotonic() < until

    def _pass(self, key: str) -> None:
        self._stats.refused += 1
        if len(self._passing) >= MOST_REGIONS:
            self._passing = {}
        self._passing[key] = time.monotonic() + PASS_FOR
