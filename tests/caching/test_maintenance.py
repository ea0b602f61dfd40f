"""What a maintenance takes out of a table, or brings back, is not remembered otherwise."""

from __future__ import annotations

from pathlib import Path

import pytest
from sqlalchemy import func, select

from dataarch.caching.database import Database
from dataarch.clock import Month, utcnow
from dataarch.models import UserActivity
from dataarch.partitions.maintenance import Maintenance
from fixtures.months import owner
from fixtures.tenants import Inhabited

pytestmark = pytest.mark.cache


def test_m18_rows_that_are_retired_or_restored_are_seen_as_they_are(
    cached: Database, home: Inhabited, tmp_path: Path
) -> None:
    old = Month.of(utcnow()).plus(-30)
    with cached.tenant(home.id) as session:
        session.add(UserActivity(user_id=home.user_id, activity_type="old", created_at=old.start))
    maintenance = Maintenance(cached, UserActivity, archive_dir=tmp_path)
    maintenance.maintain()

    def count() -> int:
        found: int = cached.cache.queries.scalar(home.id, select(func.count(UserActivity.id)))
        return found

    def with_and_without_the_cache() -> set[int]:
        return {count(), count()}

    assert with_and_without_the_cache() == {2}
    retired = maintenance.retire([f"user_activity_log_{old}"])
    assert with_and_without_the_cache() == {1}
    maintenance.restore(retired.archives[0])
    assert with_and_without_the_cache() == {2}
    with owner(cached.settings) as connection:
        assert connection.execute("SELECT count(*) FROM user_activity_log").fetchone() == (2,)
