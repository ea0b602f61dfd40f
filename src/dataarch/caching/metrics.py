"""What was counted, for Prometheus: read when it is scraped, and at no other time.

The rate of hits is left to the query, which knows the time that it is about::

    sum by (kind) (rate(dataarch_cache_events_total{event="hit"}[5m]))
      / sum by (kind) (rate(dataarch_cache_reads_total[5m]))
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from importlib import import_module
from typing import Any

from dataarch.caching.counters import KindStats
from dataarch.errors import DependencyMissing

__all__ = ["StatsCollector", "metrics_library"]


def metrics_library() -> Any:
    """Return the module ``prometheus_client.core``.

    Raises:
        DependencyMissing: it is not installed, or cannot be loaded.
    """
    try:
        return import_module("prometheus_client.core")
    except ImportError as missing:
        raise DependencyMissing(
            f"Metrics are given to prometheus_client, which cannot be loaded: {missing}.",
            hint="Install it with `pip install 'dataarch[metrics]'`.",
        ) from missing


class StatsCollector:
    """A collector for ``prometheus_client``'s registries: ``REGISTRY.register(db.cache.collector())``."""

    def __init__(self, stats: Callable[[], Mapping[str, KindStats]]) -> None:
        """Take what returns the counts of this process.

        Raises:
            DependencyMissing: prometheus_client is not installed.
        """
        self._stats = stats
        self._library = metrics_library()

    def describe(self) -> Iterator[Any]:
        """Give the metrics without values: a registry compares their names when the collector is registered."""
        yield from self._families()

    def collect(self) -> Iterator[Any]:
        """Give the counts as they are now; asks neither the cache nor the database."""
        events, reads = self._families()
        for kind, stats in sorted(self._stats().items()):
            for event, count in stats.as_dict().items():
                events.add_metric([kind, event], count)
            reads.add_metric([kind], stats.reads)
        yield from (events, reads)

    def _families(self) -> tuple[Any, Any]:
        family = self._library.CounterMetricFamily
        return (
            family("dataarch_cache_events", "What has happened with values of a kind.", labels=["kind", "event"]),
            family("dataarch_cache_reads", "Reads of values of a kind, served or not.", labels=["kind"]),
        )
