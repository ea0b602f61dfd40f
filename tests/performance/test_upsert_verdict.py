"""What the benchmark of upserts makes of its figures, and that its rows are what it says."""

from __future__ import annotations

import pytest

from benchmarks.partitions.verdict import Verdict
from benchmarks.repositories.upsert import BAD_WAYS, BY_HAND, LIMIT, OURS, by_hand, case, found, ours, prepared, verdict
from dataarch.database.unit_of_work import Database
from fixtures.catalogs import owner_connection
from fixtures.tenants import Inhabited

pytestmark = pytest.mark.performance


@pytest.mark.parametrize(
    ("speed", "expected"), [(LIMIT - 0.01, Verdict.BROKEN), (LIMIT, Verdict.HOLDS), (1.2, Verdict.HOLDS)]
)
def test_it_is_broken_below_the_limit(speed: float, expected: Verdict) -> None:
    times = {OURS: [(1.0, 0.1)] * 3, BY_HAND: [(speed, 0.1)] * 3}
    assert verdict(times) is expected


def test_both_ways_leave_the_same_table(db: Database, acme: Inhabited) -> None:
    rows = 100 * BAD_WAYS
    given = case(acme.id, rows)
    digests = set()
    with owner_connection(db.settings) as owner:
        for way in (ours, by_hand):
            prepared(owner, acme.id, rows)
            way(db, acme.id, given)
            digests.add(found(owner))
    assert len(digests) == 1
