"""Whose unit of work a connection belongs to is told it however the session first comes by it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from sqlalchemy import func, insert, select, text, union_all
from sqlalchemy.orm import Session

from dataarch.database.commit_hooks import UNIT
from dataarch.database.tenancy import TENANT
from dataarch.database.unit_of_work import AsyncDatabase, Database, TenantSession
from dataarch.errors import TenantNotSet
from dataarch.models import Product, User
from dataarch.models.base import new_id
from fixtures.tenants import Inhabited


def person(tenant: Inhabited) -> dict[str, Any]:
    given = new_id()
    return {"tenant_id": tenant.id, "id": given, "external_id": given.hex, "full_name": "Grace", "version": 1}


def added(session: Session, _tenant: Inhabited) -> None:
    session.add(User(external_id=new_id().hex, full_name="Grace"))
    session.flush()


def in_savepoint(session: Session, _tenant: Inhabited) -> None:
    with session.begin_nested():
        session.scalars(select(User.id)).all()


FIRST: dict[str, Callable[[Session, Inhabited], object]] = {
    "a statement of the ORM": lambda session, _: session.scalars(select(User)).all(),
    "a statement of Core": lambda session, _: session.execute(select(User.__table__.c.id)).all(),
    "text": lambda session, _: session.execute(text("SELECT 1")).all(),
    "a union": lambda session, _: session.execute(union_all(select(User.id), select(Product.id))).all(),
    "a scalar": lambda session, _: session.scalar(select(func.count()).select_from(User)),
    "an object by its key": lambda session, tenant: session.get(User, (tenant.id, tenant.user_id)),
    "a flush": added,
    "many rows": lambda session, tenant: session.execute(insert(User), [person(tenant), person(tenant)]),
    "many rows as mappings": lambda session, tenant: session.bulk_insert_mappings(User.__mapper__, [person(tenant)]),
    "many objects": lambda session, tenant: session.bulk_save_objects([User(**person(tenant))]),
    "a query of old": lambda session, _: session.query(User).all(),
    "a savepoint": in_savepoint,
    "its connection": lambda session, _: session.connection(),
    "its engine by name": lambda session, _: session.connection({"bind": session.bind}),
    "a mapper": lambda session, _: session.connection({"mapper": User.__mapper__}),
    "the question where it is bound": lambda session, _: session.get_bind(),
}


@pytest.mark.parametrize("first", FIRST)
def test_the_connection_of_a_tenants_unit_is_its_own_whatever_comes_first(
    first: str, shared_db: Database, home: Inhabited
) -> None:
    with shared_db.tenant(home.id) as session:
        FIRST[first](session, home)
        options = session.connection().get_execution_options()
        assert options[TENANT] == home.id
        assert options[UNIT] is session.unit
        assert session.scalars(text("SELECT id FROM tenants")).all() == [home.id]
    assert TENANT not in shared_db.engine.get_execution_options()


def test_a_unit_of_no_tenant_has_its_connection_too(shared_db: Database) -> None:
    for opens in (shared_db.session, shared_db.owner):
        with opens() as session:
            options = session.connection().get_execution_options()
            assert options[UNIT] is session.unit  # type: ignore[attr-defined]  # its class is nobody's business
            assert TENANT not in options


def test_a_session_that_begins_anew_is_still_the_tenants(shared_db: Database, home: Inhabited) -> None:
    with TenantSession(shared_db.engine, tenant_id=home.id, options={TENANT: home.id}) as session:
        for ends in (session.commit, session.rollback, session.commit):
            with session.begin_nested():
                assert session.scalars(select(User.id).where(User.id == home.user_id)).one() == home.user_id
            assert session.connection().get_execution_options()[TENANT] == home.id
            ends()


def test_a_session_without_options_is_nobodys(shared_db: Database, home: Inhabited) -> None:
    with TenantSession(shared_db.engine, tenant_id=home.id) as session, pytest.raises(TenantNotSet):
        session.scalars(select(User.id)).all()


def test_m01_options_that_are_given_do_not_make_it_anothers(
    shared_db: Database, home: Inhabited, abroad: Inhabited
) -> None:
    with shared_db.tenant(home.id) as session:
        connection = session.connection(execution_options={TENANT: abroad.id, "said": "by hand"})
        assert connection.get_execution_options()[TENANT] == home.id
        assert connection.get_execution_options()["said"] == "by hand"
        assert session.scalars(text("SELECT id FROM tenants")).all() == [home.id]


async def test_under_asyncio_the_question_where_it_is_bound_needs_no_connection(
    shared_db: Database, home: Inhabited
) -> None:
    async with AsyncDatabase(shared_db.settings) as db, db.tenant(home.id) as session:
        assert session.get_bind() is db.engine.sync_engine
        assert (await session.connection()).sync_connection.get_execution_options()[TENANT] == home.id  # type: ignore[union-attr]  # it is open
