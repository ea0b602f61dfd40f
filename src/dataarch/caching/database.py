"""The database with its cache: every unit of work tells the cache what it changes."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

from dataarch.caching.units import Units, async_units
from dataarch.database import unit_of_work
from dataarch.database.settings import Settings

if TYPE_CHECKING:
    from dataarch.caching.cache import Cache

__all__ = ["AsyncDatabase", "Database"]


def _cache_of(settings: Settings, units: Units) -> Cache:
    """Return the cache; dogpile.cache and redis-py are imported by programs that open a database, and by no other."""
    cache: Cache = import_module("dataarch.caching.cache").Cache(settings, units)
    return cache


class Database(unit_of_work.Database):
    """A PostgreSQL database and its cache, from its settings: the door to every unit of work.

    Nothing connects before the first statement. Safe to share between threads; a session is not.

    Attributes:
        cache: what is remembered; never wrong after a commit of a unit of work.
    """

    def __init__(self, settings: Settings | None = None) -> None:
        super().__init__(settings)
        self.cache = _cache_of(self.settings, Units(self.tenant, lambda unit: unit.listener is self.listener))
        self.listener = self.cache.listener

    def close(self) -> None:
        """Close every pooled connection. Idempotent; a later unit of work connects anew."""
        super().close()
        self.cache.close()


class AsyncDatabase(unit_of_work.AsyncDatabase):
    """The same for asyncio; ``await session.run_sync(function)`` runs any synchronous code on the session."""

    def __init__(self, settings: Settings | None = None) -> None:
        super().__init__(settings)
        self.cache = _cache_of(self.settings, async_units(self.tenant, lambda unit: unit.listener is self.listener))
        self.listener = self.cache.listener

    async def close(self) -> None:
        """Close every pooled connection. Idempotent; a later unit of work connects anew."""
        await super().close()
        self.cache.close()
