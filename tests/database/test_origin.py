"""A unit of work knows the database that opened it, and code that has its session alone can open another one."""

from __future__ import annotations

from datetime import date

import pytest
from sqlalchemy import func, select
from sqlalchemy.orm import Session

from dataarch.database.commit_hooks import UnitSession
from dataarch.database.unit_of_work import AsyncDatabase, Database
from dataarch.errors import TenantNotSet
from dataarch.models import Product
from fixtures.tenants import inhabit

MONTH = func.create_activity_partition(date(2031, 2, 1))
IS_THERE = select(func.to_regclass("user_activity_log_2031_02"))


def make_a_month_and_fail(session: Session) -> None:
    assert isinstance(session, UnitSession)
    assert session.unit.origin is not None
    with session.unit.origin.session() as beside:
        assert beside.scalar(select(MONTH)) == "user_activity_log_2031_02"
        assert beside is not session
    raise LookupError


def test_what_is_done_beside_a_unit_of_work_stays_when_that_is_rolled_back(db: Database) -> None:
    home = inhabit(db)
    with pytest.raises(LookupError), db.tenant(home.id) as session:
        make_a_month_and_fail(session)
    with db.session() as session:
        assert session.scalar(IS_THERE) is not None


async def test_what_is_done_beside_one_under_asyncio_stays_too(db: Database) -> None:
    home = inhabit(db)
    async with AsyncDatabase(db.settings) as other:
        with pytest.raises(LookupError):
            async with other.tenant(home.id) as session:
                await session.run_sync(make_a_month_and_fail)
        async with other.session() as session:
            assert await session.scalar(IS_THERE) is not None


async def test_an_error_beside_a_unit_of_work_under_asyncio_rolls_that_work_back(db: Database) -> None:
    home = inhabit(db)

    def fail_beside(session: Session) -> None:
        assert isinstance(session, UnitSession)
        assert session.unit.origin is not None
        with session.unit.origin.session() as beside:
            beside.scalar(select(MONTH))
            raise LookupError

    async with AsyncDatabase(db.settings) as other:
        async with other.tenant(home.id) as session:
            with pytest.raises(LookupError):
                await session.run_sync(fail_beside)
            assert await session.scalar(select(Product.id)) == home.product_id
        async with other.session() as session:
            assert await session.scalar(IS_THERE) is None


def test_what_is_opened_beside_has_no_tenant_and_is_of_the_same_role(db: Database) -> None:
    home = inhabit(db)
    with db.tenant(home.id) as session:
        origin = session.unit.origin
        assert origin is not None
        assert (origin.owner, origin.settings) == (False, db.settings)
        with origin.session() as beside, pytest.raises(TenantNotSet):
            beside.scalars(select(Product.id))
    with db.owner() as session:
        assert isinstance(session, UnitSession)
        origin = session.unit.origin
        assert origin is not None
        assert origin.owner
        with origin.session() as beside:
            assert list(beside.scalars(select(Product.id))) == [home.product_id]
