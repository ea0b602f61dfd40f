"""M21: what is counted is what happened, and what Prometheus is given is what was counted."""

from __future__ import annotations

import sys
from typing import Any

import pytest
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.parser import text_string_to_metric_families

from dataarch.caching.counters import KindStats
from dataarch.caching.database import Database
from dataarch.caching.kinds import Kind
from dataarch.database.settings import Settings
from dataarch.errors import DependencyMissing
from fixtures.caches import until

pytestmark = pytest.mark.cache

RATES = Kind("rates", ttl=60, negative_ttl=60)


@pytest.fixture
def settings(settings: Settings) -> Settings:
    """The settings of a cache that a busy machine does not make fail."""
    return settings.model_copy(update={"cache_timeout": 5.0})


def scraped(db: Database) -> dict[tuple[str, str, str], float]:
    """Return what a scrape gives, by metric, kind and event."""
    registry = CollectorRegistry(auto_describe=True)
    registry.register(db.cache.collector())
    families = text_string_to_metric_families(generate_latest(registry).decode())
    return {
        (sample.name, sample.labels["kind"], sample.labels.get("event", "")): sample.value
        for family in families
        for sample in family.samples
    }


def events_of(db: Database, kind: str) -> dict[str, float]:
    return {
        event: value
        for (name, of, event), value in scraped(db).items()
        if of == kind and name == "dataarch_cache_events_total"
    }


def test_m21_counting_and_exposition_agree_on_each_event(cached: Database) -> None:
    region = cached.cache.define(RATES)
    key, nothing = region.key("EUR"), region.key("nothing")
    for _ in range(4):
        region.get_or_create(key, lambda: 1.08)
    for _ in range(3):
        region.get_or_create(nothing, lambda: None)
    region.set(key, 1.09)
    counted = cached.cache.stats()["rates"]
    assert (counted.hit, counted.negative, counted.set, counted.refused) == (5, 2, 2, 1)
    assert counted.miss == 2
    assert events_of(cached, "rates") == counted.as_dict()


def test_m21_each_read_is_a_hit_a_miss_or_a_bypass(cached: Database) -> None:
    region = cached.cache.define(RATES)
    for number in range(10):
        region.get_or_create(region.key(number % 4), lambda: "a rate")
    ticket = cached.cache.fencing.announce(lambda _: ("!all",))
    assert ticket is not None
    region.get_or_create(region.key(1), lambda: "a rate")
    cached.cache.fencing.over(ticket)
    stats = cached.cache.stats()["rates"]
    given = scraped(cached)
    assert given["dataarch_cache_reads_total", "rates", ""] == stats.reads == stats.hit + stats.miss + stats.bypass
    assert stats.hit_rate == stats.hit / stats.reads
    assert 0 < stats.hit < stats.reads


def test_m21_there_is_no_hit_rate_without_reads() -> None:
    assert KindStats().hit_rate is None
    assert KindStats(set=3, refused=1, error=2).hit_rate is None
    assert KindStats(hit=3, miss=1, stale=1, negative=1).hit_rate == 0.75
    assert KindStats(hit=1, miss=1, bypass=2).hit_rate == 0.25
    assert KindStats(miss=1).hit_rate == 0.0


def test_m21_counts_of_all_processes_are_the_sum_of_what_each_has_counted(cached: Database, another: Any) -> None:
    doors = [cached, another()]
    kind = Kind("summed", ttl=60)
    before = cached.cache.fencing.store
    assert before is not None
    start = {what: count for what, count in before.counts().items() if what[0] == "summed"}
    for door in doors:
        region = door.cache.define(kind)
        region.get_or_create(region.key(1), lambda: 1)
        door.cache.fencing.tally()
    total = {what: count - start.get(what, 0) for what, count in before.counts().items() if what[0] == "summed"}
    expected = {
        ("summed", event): sum(door.cache.stats()["summed"].as_dict()[event] for door in doors)
        for event in KindStats().as_dict()
    }
    assert {what: count for what, count in total.items() if count} == {
        what: count for what, count in expected.items() if count
    }


def test_a_scrape_asks_neither_the_cache_nor_the_database(cached: Database) -> None:
    region = cached.cache.define(RATES)
    region.get_or_create(region.key("EUR"), lambda: 1.08)
    collector = cached.cache.collector()
    cached.close()
    stats = cached.settings.model_copy(
        update={"redis_url": "redis://127.0.0.1:1/0", "database_url": "postgresql://127.0.0.1:1/none"}
    )
    with Database(stats) as away:
        away.cache.define(RATES)
        assert events_of(away, "rates")["hit"] == 0
    assert [family.name for family in collector.collect()] == ["dataarch_cache_events", "dataarch_cache_reads"]


def test_a_kind_that_is_defined_later_is_scraped_too(cached: Database) -> None:
    registry = CollectorRegistry(auto_describe=True)
    registry.register(cached.cache.collector())
    assert b'kind="later"' not in generate_latest(registry)
    cached.cache.define(Kind("later", ttl=60))
    assert b'dataarch_cache_events_total{event="hit",kind="later"} 0.0' in generate_latest(registry)


def test_without_prometheus_client_the_collector_says_how_to_get_it(
    cached: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in [name for name in sys.modules if name.split(".")[0] == "prometheus_client"]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "prometheus_client", None)
    with pytest.raises(DependencyMissing, match=r"dataarch\[metrics\]"):
        cached.cache.collector()
    until(cached.cache.fencing.readable, "the cache's going on without it")
