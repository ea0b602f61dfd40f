"""Whatever rows are given, in whatever batches: the numbers add up, and the table holds the good ones."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any
from uuid import UUID

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sqlalchemy import select

from dataarch.database.unit_of_work import Database
from dataarch.models import UserActivity
from dataarch.models.base import new_id
from dataarch.repositories.bulk.ingest import ingest
from fixtures.tenants import inhabit

pytestmark = pytest.mark.pipeline

AT = datetime(2025, 1, 15, 10, 30, tzinfo=UTC)
STRANGER = UUID(int=1)

kinds = st.sampled_from(["good", "good", "good", "again", "unknown user", "bad text", "bad json", "typo", "no row"])


@settings(max_examples=40)
@given(given=st.lists(st.tuples(kinds, st.integers(0, 3)), max_size=30), batch=st.integers(1, 12), owner=st.booleans())
def test_the_numbers_add_up_and_the_table_holds_the_good_rows(
    shared_db: Database, given: list[tuple[str, int]], batch: int, owner: bool
) -> None:
    acme = inhabit(shared_db)
    keys = [new_id() for _ in range(4)]
    rows: list[Any] = []
    good: set[UUID] = set()
    duplicates = 0
    bad: list[int] = []
    for position, (kind, number) in enumerate(given):
        key = keys[number] if kind == "again" else new_id()
        row: dict[str, Any] = {
            "tenant_id": acme.id,
            "id": key,
            "user_id": acme.user_id,
            "activity_type": "view",
            "created_at": AT,
        }
        change: dict[str, dict[str, Any]] = {
            "unknown user": {"user_id": STRANGER},
            "bad text": {"activity_type": "\x00"},
            "bad json": {"metadata_": {"a": float("nan")}},
            "typo": {"activity": 1},
        }
        rows.append(None if kind == "no row" else row | change.get(kind, {}))
        if kind in {"good", "again"}:
            duplicates += key in good
            good.add(key)
        else:
            bad.append(position)
    with shared_db.owner() if owner else shared_db.tenant(acme.id) as session:
        result = ingest(session, rows, batch=batch)
    assert (result.read, result.inserted, result.duplicate) == (len(rows), len(good), duplicates)
    assert [one.position for one in result.refused] == bad
    assert all(one.row is rows[one.position] for one in result.refused)
    with shared_db.tenant(acme.id) as session:
        found = set(session.scalars(select(UserActivity.id).where(UserActivity.id != acme.activity_id)))
    assert found == good
