"""M16: what 10,000 activities cost the library is a handful of round trips; the rest is the server's work."""

from __future__ import annotations

import pytest

from dataarch.clock import utcnow
from dataarch.database.unit_of_work import Database
from dataarch.models.base import new_id
from dataarch.repositories import ActivityRepository
from database.opening import tuned
from database.wire import proxy
from fixtures.tenants import inhabit

pytestmark = pytest.mark.pipeline


def test_m16_ten_thousand_activities_take_a_handful_of_round_trips(shared_db: Database) -> None:
    home = inhabit(shared_db)
    rows = [
        {"id": new_id(), "user_id": home.user_id, "activity_type": "view", "metadata": {"n": n}, "created_at": utcnow()}
        for n in range(10_000)
    ]
    with (
        proxy(shared_db.settings.application) as wire,
        Database(tuned(shared_db.settings, database_url=wire.url(), role="dataarch_app")) as db,
    ):
        with db.tenant(home.id) as session:
            assert ActivityRepository(session).ingest(rows[:1]).inserted == 1
        before = wire.trips
        with db.tenant(home.id) as session:
            done = ActivityRepository(session).ingest(rows)
        assert (done.inserted, done.duplicate) == (9_999, 1)
        assert wire.trips - before <= 30
