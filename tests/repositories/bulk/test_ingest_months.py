"""The months that rows need are there before the rows; where none can be made, the rows are loaded all the same."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import pytest
from sqlalchemy import event, func, select, text
from sqlalchemy.orm import Session

from dataarch.clock import utcnow
from dataarch.database.unit_of_work import Database
from dataarch.models import UserActivity
from dataarch.repositories.bulk.ingest import ingest
from fixtures.tenants import Inhabited

pytestmark = pytest.mark.pipeline

Door = Callable[[Database, Inhabited], AbstractContextManager[Session]]
both = pytest.mark.parametrize(
    "door", [lambda db, acme: db.tenant(acme.id), lambda db, _: db.owner()], ids=["tenant", "owner"]
)


def row(acme: Inhabited, at: datetime) -> dict[str, Any]:
    return {"tenant_id": acme.id, "user_id": acme.user_id, "activity_type": "dated", "created_at": at}


def partitions(db: Database) -> list[str]:
    """Return where the rows lie, row by row in the order of time."""
    with db.owner() as session:
        return list(
            session.scalars(
                text(
                    "SELECT tableoid::regclass::text FROM user_activity_log WHERE activity_type = 'dated'"
                    " ORDER BY created_at"
                )
            )
        )


def day(year: int, month: int) -> datetime:
    return datetime(year, month, 7, tzinfo=UTC)


@both
def test_m13_ingest_makes_the_months_of_all_its_batches_before_it_writes_the_first(
    db: Database, acme: Inhabited, door: Door
) -> None:
    rows = [row(acme, day(2019, month)) for month in (1, 3, 4)]
    # two hours east of UTC it is the first of June
    rows.append(row(acme, datetime(2019, 6, 1, 1, tzinfo=timezone(timedelta(hours=2)))))
    with door(db, acme) as session:
        assert ingest(session, rows, batch=1).inserted == 4
    assert partitions(db) == [f"user_activity_log_2019_{month:02d}" for month in (1, 3, 4, 5)]


@both
def test_an_iterators_first_batch_gets_its_months_and_later_ones_are_loaded_in_any_case(
    db: Database, acme: Inhabited, door: Door
) -> None:
    with door(db, acme) as session:
        assert ingest(session, iter([row(acme, day(2019, 1)), row(acme, day(2019, 3))]), batch=1).inserted == 2
    first, second = partitions(db)
    assert first == "user_activity_log_2019_01"
    assert second.startswith("user_activity_log_rest")


@both
def test_months_that_get_no_partition_are_loaded_into_catch_alls(db: Database, acme: Inhabited, door: Door) -> None:
    later = utcnow().year + 30
    with door(db, acme) as session:
        assert ingest(session, [row(acme, day(1901, 1)), row(acme, day(later, 1))]).inserted == 2
    assert all(name.startswith("user_activity_log_rest") for name in partitions(db))


@both
def test_a_transaction_that_has_read_the_log_itself_does_not_wait_for_itself(
    db: Database, acme: Inhabited, door: Door
) -> None:
    sent: list[str] = []
    for engine in (db.engine, db._owner_engine):
        event.listen(engine, "before_cursor_execute", lambda *told: sent.append(told[2]))
    with door(db, acme) as session:
        session.scalar(select(func.count()).select_from(UserActivity))
        assert ingest(session, [row(acme, day(2019, 1))]).inserted == 1
    assert not any("create_activity_partition" in statement for statement in sent)
    assert partitions(db)[0].startswith("user_activity_log_rest")


@both
def test_an_iterator_of_many_months_within_one_batch_gets_them_all(db: Database, acme: Inhabited, door: Door) -> None:
    def rows() -> Iterator[dict[str, Any]]:
        for month in range(1, 13):
            yield row(acme, day(2018, month))

    with door(db, acme) as session:
        assert ingest(session, rows()).inserted == 12
    assert partitions(db) == [f"user_activity_log_2018_{month:02d}" for month in range(1, 13)]
