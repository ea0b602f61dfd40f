"""What a pipeline loads is seen at once by everybody who had remembered what was there before."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import pytest

from dataarch.caching.database import Database
from dataarch.database.unit_of_work import TenantSession
from dataarch.models import Product, User
from dataarch.pipelines.loaders.replace import Replace
from dataarch.pipelines.loaders.upsert import Upsert
from dataarch.pipelines.outcome import Counts
from dataarch.pipelines.pipeline import Loaded, Pipeline
from dataarch.pipelines.records import Row
from dataarch.pipelines.replay import replay
from dataarch.pipelines.runner import run
from fixtures.tenants import Inhabited
from pipelines.listed import CUT_OFF, Listed, pipeline, product

pytestmark = pytest.mark.cache

PRODUCTS = pipeline()
POUNDS = pipeline("pounds", load=Replace(Product, {"currency": "GBP"}))
USERS = Pipeline("users", Listed(), (), Upsert(User, key="external_id"))


def green(**changed: Any) -> dict[str, Any]:
    """Return the record of the product that every home has, under another name."""
    return product(1, **{"slug": "tea-pot", "name": "Green tea pot", **changed})


def product_name(db: Database, home: Inhabited) -> str | None:
    found = db.cache.products.get(home.id, home.product_id)
    return None if found is None else found.name


def user_name(db: Database, home: Inhabited) -> str | None:
    found = db.cache.profiles.get(home.id, home.user_id)
    return None if found is None else found.full_name


def remembered(db: Database, kind: str) -> int:
    """Return how many reads the cache has answered."""
    return db.cache.stats()[kind].hit


def sell_out(db: Database) -> None:
    """Remove what refers to products, and would keep them."""
    with db.owner() as owner:
        for table in ("inventory_movements", "inventory_reservations", "inventory"):
            owner.connection().exec_driver_sql(f"DELETE FROM {table}")


def warm(doors: Sequence[Database], home: Inhabited) -> None:
    """Let every door remember, and see that it answers from memory."""
    for db in doors:
        before = remembered(db, "product"), remembered(db, "user_profile")
        assert [product_name(db, home) for _ in range(2)] == ["Tea pot"] * 2
        assert [user_name(db, home) for _ in range(2)] == ["Ada Lovelace"] * 2
        assert remembered(db, "product") > before[0]
        assert remembered(db, "user_profile") > before[1]


def test_m18_what_a_pipeline_has_loaded_is_read_by_every_process_that_remembered_the_old(
    cached: Database, another: Callable[[], Database], home: Inhabited
) -> None:
    doors = (cached, another())
    warm(doors, home)
    products = run(cached, PRODUCTS, {"a": [green()]}, tenant_id=home.id)
    users = run(cached, USERS, {"a": [{"external_id": "1", "full_name": "Ada King"}]}, tenant_id=home.id)
    assert products.counts == users.counts == Counts(read=1, updated=1)
    assert [product_name(db, home) for db in doors] == ["Green tea pot"] * 2
    assert [user_name(db, home) for db in doors] == ["Ada King"] * 2


def test_m18_what_a_replay_has_loaded_is_read_by_every_process_too(
    cached: Database, another: Callable[[], Database], home: Inhabited
) -> None:
    doors = (cached, another())
    first = run(cached, PRODUCTS, {"a": [green(slug="No Slug")]}, tenant_id=home.id)
    warm(doors, home)
    again = replay(cached, replace(PRODUCTS, steps=(mended,)), first.run_id, tenant_id=home.id)
    assert again.counts == Counts(read=1, updated=1)
    assert [product_name(db, home) for db in doors] == ["Green tea pot"] * 2


def mended(batch: Any) -> Any:
    """Give every record a slug that is one."""
    return replace(batch, rows=[{**row, "slug": "tea-pot"} for row in batch.rows])


def test_m18_a_slice_that_was_replaced_is_forgotten_by_every_process(
    cached: Database, another: Callable[[], Database], home: Inhabited
) -> None:
    doors = (cached, another())
    sell_out(cached)
    warm(doors, home)
    outcome = run(cached, POUNDS, {"a": [product(9)]}, tenant_id=home.id)
    assert outcome.counts == Counts(read=1, loaded=1, removed=1)
    assert [product_name(db, home) for db in doors] == [None] * 2


def test_m18_a_batch_that_is_rolled_back_changes_nothing_of_what_is_remembered(
    cached: Database, another: Callable[[], Database], home: Inhabited
) -> None:
    doors = (cached, another())
    sell_out(cached)
    warm(doors, home)
    cut_off = run(cached, POUNDS, {"a": [green(), CUT_OFF]}, tenant_id=home.id)
    assert (cut_off.counts, len(cut_off.failed)) == (Counts(), 1)
    with pytest.raises(ZeroDivisionError):
        run(cached, replace(PRODUCTS, load=Broken(Product, key="external_id")), {"b": [green()]}, tenant_id=home.id)
    assert [product_name(db, home) for db in doors] == ["Tea pot"] * 2
    hits = remembered(doors[1], "product")
    assert (product_name(doors[1], home), remembered(doors[1], "product")) == ("Tea pot", hits + 1)


class Broken(Upsert):
    """Writes all rows, and fails before they are committed."""

    def load(self, session: TenantSession, rows: Sequence[Row]) -> Loaded:
        loaded = super().load(session, rows)
        assert loaded.result.updated == 1
        raise ZeroDivisionError
