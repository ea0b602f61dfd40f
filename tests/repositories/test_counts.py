"""Counts are exact, or say that they are not."""

from __future__ import annotations

from typing import Any

import pytest
from sqlalchemy import func, insert, select, text, union_all
from sqlalchemy.orm import joinedload

from dataarch.database.settings import Settings
from dataarch.database.unit_of_work import AsyncDatabase, Database
from dataarch.errors import InvalidValue, TenantNotSet
from dataarch.models import Product, User, UserActivity
from dataarch.models.base import new_id
from dataarch.repositories.counts import Count, count
from fixtures.tenants import Inhabited, inhabit


@pytest.fixture
def crowd(db: Database, acme: Inhabited) -> Inhabited:
    """A tenant of 400 users, one of 40 beside it."""
    for home, many in ((acme, 399), (inhabit(db, "rival"), 39)):
        with db.tenant(home.id) as session:
            session.execute(
                insert(User),
                [
                    {"tenant_id": home.id, "id": new_id(), "external_id": f"x{n}", "full_name": f"User {n % 4}"}
                    for n in range(many)
                ],
            )
    with db.owner() as session:
        session.execute(text("ANALYZE users"))
    return acme


def test_rows_of_the_tenant_are_counted_and_no_others(db: Database, crowd: Inhabited) -> None:
    with db.tenant(crowd.id) as session:
        assert count(session, select(User)) == Count(400, exact=True)
        assert count(session, select(User).where(User.full_name == "User 1")) == Count(100, exact=True)
        assert count(session, select(User.id, User.full_name).order_by(User.email)) == Count(400, exact=True)
        assert count(session, select(User.__table__)) == Count(400, exact=True)
        assert count(session, select(User).where(User.full_name == "nobody")) == Count(0, exact=True)
    with db.owner() as session:
        assert count(session, select(User)) == Count(440, exact=True)


def test_what_a_statement_has_of_its_own_counts(db: Database, crowd: Inhabited) -> None:
    with db.tenant(crowd.id) as session:
        for statement, expected in (
            (select(User).limit(7), 7),
            (select(User).order_by(User.id).limit(10).offset(395), 5),
            (select(User.full_name).distinct(), 5),
            (select(User.full_name, func.count()).group_by(User.full_name), 5),
            (union_all(select(User.id), select(Product.id)), 401),
            (select(User, UserActivity).join(UserActivity, UserActivity.user_id == User.id), 1),
            (select(User).options(joinedload(User.profile)), 400),
        ):
            assert count(session, statement) == Count(expected, exact=True)


def test_an_estimate_says_that_it_is_one_and_is_near(db: Database, crowd: Inhabited) -> None:
    with db.tenant(crowd.id) as session:
        all_of_them = count(session, select(User), exact=False)
        some = count(session, select(User).where(User.full_name == "User 1"), exact=False)
    assert not all_of_them.exact
    assert 300 <= all_of_them.value <= 440
    assert 50 <= some.value <= 150
    assert (str(all_of_them), str(Count(1200, exact=True))) == (f"about {all_of_them.value}", "1,200")


def test_an_estimate_of_a_whole_table_is_what_analyze_counted(db: Database, crowd: Inhabited) -> None:
    with db.owner() as session:
        counted = session.scalars(text("SELECT reltuples::int FROM pg_class WHERE oid = 'users'::regclass")).one()
        assert count(session, select(User), exact=False) == Count(counted, exact=False)
        assert counted == 440


def test_an_estimate_reads_no_row(db: Database, crowd: Inhabited) -> None:
    with db.tenant(crowd.id) as session:
        never = select(User).where(1 / func.length(User.full_name) < func.length(func.repeat("x", 0)))
        assert count(session, never, exact=False).value >= 1
        fails = select(User).where(func.length(User.full_name) / 0 == 1)
        assert count(session, fails, exact=False).value >= 1


def test_a_count_without_a_tenant_is_refused(db: Database, crowd: Inhabited) -> None:
    for exact in (True, False):
        with db.session() as session, pytest.raises(TenantNotSet):
            count(session, select(User), exact=exact)


@pytest.mark.parametrize("statement", [text("SELECT 1"), insert(User), "users", None, User])
def test_what_is_no_select_is_refused(db: Database, acme: Inhabited, statement: Any) -> None:
    with db.tenant(acme.id) as session, pytest.raises(InvalidValue, match="no rows to count"):
        count(session, statement)


async def test_counts_run_under_asyncio(settings: Settings, db: Database, crowd: Inhabited) -> None:
    async with AsyncDatabase(settings) as async_db, async_db.tenant(crowd.id) as session:
        assert await session.run_sync(count, select(User)) == Count(400, exact=True)
        assert not (await session.run_sync(lambda one: count(one, select(User), exact=False))).exact
