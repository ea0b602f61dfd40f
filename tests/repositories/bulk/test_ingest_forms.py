"""Rows under asyncio, and rows of Arrow, are the same rows."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import pyarrow as pa
import pytest
from sqlalchemy import select, text
from sqlalchemy.orm import Session

from dataarch.database.unit_of_work import AsyncDatabase, Database
from dataarch.errors import InvalidValue, NaiveDatetime, UnknownUser
from dataarch.models import UserActivity
from dataarch.models.base import new_id
from dataarch.repositories.bulk.ingest import ingest
from fixtures.tenants import Inhabited

pytestmark = pytest.mark.pipeline

AT = datetime(2025, 1, 15, 10, 30, 0, 123456, tzinfo=UTC)
Door = Callable[[Database, Inhabited], AbstractContextManager[Session]]


def rows_of(acme: Inhabited, count: int) -> list[dict[str, Any]]:
    return [
        {
            "tenant_id": acme.id,
            "id": new_id(),
            "user_id": acme.user_id,
            "activity_type": f"type {n % 7}",
            "metadata": {"n": n, "tags": ["a"]},
            "created_at": AT + timedelta(seconds=n),
        }
        for n in range(count)
    ]


def written(db: Database, acme: Inhabited) -> dict[UUID, UserActivity]:
    with db.tenant(acme.id) as session:
        found = session.scalars(select(UserActivity).where(UserActivity.id != acme.activity_id))
        return {one.id: one for one in found}


@pytest.mark.parametrize("owner", [False, True])
async def test_ingest_runs_under_asyncio_as_it_is(db: Database, acme: Inhabited, owner: bool) -> None:
    rows = rows_of(acme, 900)
    stranger = {**rows[0], "id": new_id(), "user_id": UUID(int=3)}
    old = {**rows[0], "id": new_id(), "created_at": datetime(2019, 3, 1, tzinfo=UTC)}
    async with AsyncDatabase(db.settings) as asynchronous:
        async with asynchronous.owner() if owner else asynchronous.tenant(acme.id) as session:
            result = await session.run_sync(ingest, [*rows, rows[0], stranger, old], batch=400)
        assert (result.inserted, result.duplicate) == (901, 1)
        assert [type(one.error) for one in result.refused] == [UnknownUser]

        def broken() -> Any:
            yield from rows_of(acme, 5)
            raise LookupError

        async with asynchronous.owner() if owner else asynchronous.tenant(acme.id) as session:
            with pytest.raises(LookupError):
                await session.run_sync(ingest, broken(), batch=2)
    assert len(written(db, acme)) == 901


@pytest.mark.parametrize("owner", [False, True])
async def test_expired_instances_are_read_again_before_the_connection_is_taken(
    db: Database, acme: Inhabited, owner: bool
) -> None:
    def again(session: Session) -> int:
        found = list(session.scalars(select(UserActivity)))
        session.expire_all()
        return ingest(session, found, batch=1).duplicate

    async with (
        AsyncDatabase(db.settings) as asynchronous,
        asynchronous.owner() if owner else asynchronous.tenant(acme.id) as session,
    ):
        assert await session.run_sync(again) == 1
    with db.owner() if owner else db.tenant(acme.id) as plain:
        assert again(plain) == 1


def arrow(rows: list[dict[str, Any]], **changed: Any) -> pa.Table:
    columns = {name: [row[name] for row in rows] for name in rows[0]}
    made = {
        "tenant_id": pa.array([one.bytes for one in columns["tenant_id"]], pa.binary(16)),
        "id": pa.array([one.bytes for one in columns["id"]], pa.binary(16)),
        "user_id": pa.array([str(one) for one in columns["user_id"]]),
        "activity_type": pa.array(columns["activity_type"]),
        "metadata": pa.array(columns["metadata"]),
        "created_at": pa.array(columns["created_at"], pa.timestamp("us", "UTC")),
    }
    return pa.table({**made, **changed})


@pytest.mark.parametrize("form", ["table", "batch", "reader"])
@pytest.mark.parametrize("owner", [False, True])
def test_arrow_tables_batches_and_readers_are_rows(db: Database, acme: Inhabited, form: str, owner: bool) -> None:
    rows = rows_of(acme, 700)
    table = arrow(rows)
    given = {"table": table, "batch": table.combine_chunks().to_batches()[0], "reader": table.to_reader(100)}[form]
    with db.owner() if owner else db.tenant(acme.id) as session:
        assert ingest(session, given, batch=300).inserted == 700
    found = written(db, acme)
    for row in rows:
        mine = found[row["id"]]
        assert (mine.user_id, mine.activity_type, mine.created_at) == (
            row["user_id"],
            row["activity_type"],
            row["created_at"],
        )
        assert mine.metadata_ == row["metadata"]


def test_an_arrow_tables_months_are_made(db: Database, acme: Inhabited) -> None:
    rows = rows_of(acme, 3)
    for month, row in enumerate(rows, 1):
        row["created_at"] = datetime(2017, month, 3, tzinfo=UTC)
    with db.tenant(acme.id) as session:
        assert ingest(session, arrow(rows), batch=1).inserted == 3
    with db.owner() as session:
        names = set(session.scalars(text("SELECT tableoid::regclass::text FROM user_activity_log")))
    assert {f"user_activity_log_2017_0{month}" for month in (1, 2, 3)} <= names


def test_what_arrow_leaves_out_is_made_and_its_bad_rows_are_refused(db: Database, acme: Inhabited) -> None:
    naive = pa.table({"user_id": [str(acme.user_id)], "activity_type": ["a"], "created_at": [datetime(2025, 1, 1)]})  # noqa: DTZ001
    sparse = pa.table({"user_id": [str(acme.user_id), None], "activity_type": ["a", "b"], "metadata": [None, None]})
    with db.tenant(acme.id) as session:
        (refused,) = ingest(session, naive).refused
        assert isinstance(refused.error, NaiveDatetime)
        result = ingest(session, sparse)
        assert (result.inserted, [one.column for one in result.refused]) == (1, ["user_id"])
        with pytest.raises(InvalidValue, match="colour"):
            ingest(session, pa.table({"colour": ["red"]}))
    assert [one.metadata_ for one in written(db, acme).values()] == [{}]
