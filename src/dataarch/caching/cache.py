"""The cache of a database: its kinds with their regions and entities, invalidation by hand, and what was counted."""

from __future__ import annotations

import threading
import time
from typing import Any
from uuid import UUID

from sqlalchemy import Table

from dataarch.caching.api_cache import Responses
from dataarch.caching.counters import Counters, KindStats
from dataarch.caching.entity_cache import Entities
from dataarch.caching.entity_views import PRODUCT, PROFILE, ProductView, ProfileView
from dataarch.caching.fencing import Fencing, Timing
from dataarch.caching.gate import AlwaysOpen, DatabaseGate, Gate
from dataarch.caching.invalidation import Invalidation, names_of
from dataarch.caching.keys import ALL, kind_tag, tenant_tag
from dataarch.caching.kinds import SESSION, Kind
from dataarch.caching.layer import LAYERS, QUERY, RESPONSE
from dataarch.caching.metrics import StatsCollector
from dataarch.caching.near_cache import BOUND, MOST, NearCache
from dataarch.caching.politeness import pause
from dataarch.caching.query_cache import Queries
from dataarch.caching.region import Region, make_region
from dataarch.caching.session_cache import Limits, Sessions
from dataarch.caching.store import Store
from dataarch.caching.stores import store_of
from dataarch.caching.units import Units
from dataarch.database.changes import Change
from dataarch.database.engine import gate_engine
from dataarch.database.row_keys import row_key
from dataarch.database.settings import Settings
from dataarch.errors import InvalidValue
from dataarch.models.tenancy import tenant_column

__all__ = ["Cache"]

MARGIN = 30.0
"""Seconds that a fence lasts longer than a transaction can."""


BETWEEN_LOOKS = 0.02
"""Seconds between two looks of somebody who waits for the cache."""


class Cache:
    """What is remembered of a database. Nothing connects before the first use; safe to share between threads.

    Attributes:
        sessions: who is signed in.
        profiles: users with profile and settings, by id.
        products: products, by id.
        queries: results of selects, under the tables that they read.
        responses: rendered responses, with their entity tags.
    """

    def __init__(self, settings: Settings, units: Units, *, timing: Timing | None = None) -> None:
        """Take the settings and the units of work: the store is that of ``redis_url``; without one nothing is kept.

        Args:
            settings: of the database.
            units: its units of work.
            timing: how long things last.

        Raises:
            InvalidUrl: the URL of the cache cannot be read.
            ConfigurationError: the limits of sessions do not fit together.
        """
        self._counters = Counters()
        self._lock = threading.Lock()
        self._regions: dict[str, Region] = {}
        store = store_of(settings)
        longest = settings.idle_in_transaction_timeout + settings.statement_timeout + MARGIN
        self.fencing = Fencing(
            store, _gate(settings, store), timing or Timing(fence_ms=round(longest * 1000)), self._counters
        )
        self.listener = Invalidation(self.fencing)
        self._units = units
        self._timeout = settings.cache_timeout
        self._entities: dict[str, Entities[Any]] = {}
        self.sessions = Sessions(self.define(SESSION), units, Limits.of(settings))
        self.profiles: Entities[ProfileView] = self.entities(PROFILE)
        self.products: Entities[ProductView] = self.entities(PRODUCT)
        self.queries = Queries(self.fencing, self._counters.of(QUERY), units)
        self.responses = Responses(self.fencing, self._counters.of(RESPONSE))

    # ── kinds ─────────────────────────────────────────────────────────────────────────────────────────────────────

    def define(self, kind: Kind) -> Region:
        """Return the region of a kind; defining the same one again returns the same region.

        Raises:
            InvalidValue: another kind has this name, or a layer of the cache.
        """
        if kind.name in LAYERS:
            raise InvalidValue(
                f"{kind.name} is a layer of the cache.", hint="Give the kind another name.", value=kind.name
            )
        with self._lock:
            region = self._regions.get(kind.name)
            if region is None:
                if kind.declaration is not None:
                    self.fencing.gate.declare(kind.declaration)
                region = self._regions[kind.name] = make_region(kind, self.fencing, self._counters.of(kind.name))
            elif region.kind != kind:
                raise InvalidValue(
                    f"There is another kind {kind.name} already.",
                    hint="Give one of them another name.",
                    value=kind.name,
                )
            return region

    def region(self, name: str) -> Region:
        """Return the region of a kind that was defined.

        Raises:
            InvalidValue: none has this name.
        """
        region = self._regions.get(name)
        if region is None:
            known = ", ".join(sorted(self._regions))
            raise InvalidValue(f"No kind {name!r} is defined.", hint=f"Defined are: {known}.", value=name)
        return region

    def ready(self) -> bool:
        """Return whether the cache may be read, and every kind that was defined is in use.

        Some seconds pass after the first use of a cache, after one of its servers was replaced, and after a kind was
        defined for the first time anywhere: until then the database is asked.
        """
        view = self.fencing.readable()
        declared = {region.kind.declaration for region in self._regions.values()} - {None}
        return view is not None and view.usable >= declared

    def wait_until_ready(self, seconds: float = 30.0) -> bool:
        """Wait until it is :meth:`ready`; False where it is not by then."""
        deadline = time.monotonic() + seconds
        while not self.ready():
            if time.monotonic() > deadline:
                return False
            pause(BETWEEN_LOOKS)
        return True

    def entities(self, kind: Kind) -> Entities[Any]:
        """Return the entities of a kind whose keys are one id.

        Raises:
            InvalidValue: the kind is none of entities, or another one has its name.
        """
        backend = self.define(kind).kind_backend
        with self._lock:
            found = self._entities.get(kind.name)
            if found is None:
                found = self._entities[kind.name] = Entities(backend, self._units)
            return found

    def keep_near(self, *kinds: str, most: int = MOST, bound: float = BOUND) -> None:
        """Keep values of kinds in this process too; each process keeps its own.

        Args:
            kinds: their names; those that were named before stay.
            most: values that are kept, of all these kinds together; the last call counts.
            bound: seconds for which a value may be served that has changed, where the connection on which the server
                would say so has died without a word.

        Raises:
            InvalidValue: a kind is not defined, or a number is not above 0.
        """
        backends = [self.region(name).kind_backend for name in kinds]
        near = self.fencing.near or NearCache(self.fencing.store, timeout=self._timeout)
        near.limit(most, bound)
        self.fencing.near = near
        for backend in backends:
            backend.near = near

    # ── invalidation by hand ──────────────────────────────────────────────────────────────────────────────────────

    def invalidate_all(self) -> None:
        """Make everything invisible at once; raises :class:`CacheUnreachable` where that cannot be done."""
        self.fencing.drop(lambda _: (ALL,))

    def invalidate_kind(self, name: str) -> None:
        """Make all values of a kind invisible at once, whoever's they are."""
        self.fencing.drop(lambda _: (kind_tag(name),))

    def invalidate_tenant(self, tenant_id: UUID) -> None:
        """Make everything invisible at once that was made from a tenant's rows."""
        self.fencing.drop(lambda _: (tenant_tag(tenant_id),))

    def invalidate_rows(
        self, model: Any, tenant_id: UUID | None = None, *, key: tuple[object, ...] | None = None
    ) -> None:
        """Make invisible at once what depends on a table, or on one row of it.

        Args:
            model: the model or table.
            tenant_id: whose rows; None for a table that belongs to nobody.
            key: the row's primary key without the tenant; None for all rows.
        """
        table: Table = getattr(model, "__table__", model)
        if tenant_id is None and tenant_column(table) is not None:
            raise InvalidValue(f"The rows of {table.name} are tenants'.", hint="Give tenant_id.", value=table.name)
        row = None if key is None else row_key(table, key)
        change = Change(table.fullname, tenant_id, row, of_nobody=tenant_column(table) is None)
        self.fencing.drop(lambda view: names_of((change,), view.makers))

    # ── counts ────────────────────────────────────────────────────────────────────────────────────────────────────

    def stats(self) -> dict[str, KindStats]:
        """Return what this process has counted, by kind; each has its ``hit_rate``."""
        return dict(self._counters.kinds)

    def collector(self) -> StatsCollector:
        """Return what gives the same to prometheus_client; raises :class:`DependencyMissing` where it is missing."""
        return StatsCollector(self.stats)

    def close(self) -> None:
        """Close every connection. Idempotent; a later use connects anew."""
        self.fencing.close()


def _gate(settings: Settings, store: Store | None) -> Gate:
    if settings.redis_url is not None and settings.redis_url.startswith("memory:"):
        return AlwaysOpen()
    return DatabaseGate(gate_engine(settings), store)
