"""Which store a URL stands for."""

from __future__ import annotations

from dataarch.caching.cluster_store import SCHEMES, ClusterStore
from dataarch.caching.redis_store import RedisStore
from dataarch.caching.store import MemoryStore, Store
from dataarch.database.settings import Settings

__all__ = ["store_of"]


def store_of(settings: Settings) -> Store | None:
    """Return the store of the settings' ``redis_url``; None where there is none.

    ``memory://`` is a dictionary of this process: for tests, and for a program that is alone with its database.

    Raises:
        InvalidUrl: it cannot be read.
    """
    url = settings.redis_url
    if url is None:
        return None
    if url.startswith("memory:"):
        return MemoryStore()
    if url.startswith(SCHEMES):
        return ClusterStore(url, timeout=settings.cache_timeout)
    return RedisStore(url, timeout=settings.cache_timeout)
