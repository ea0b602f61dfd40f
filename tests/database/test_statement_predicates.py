"""Every statement on a tenant's table carries its predicate, whatever form the ORM gives it."""

from __future__ import annotations

import re
from collections.abc import Callable

import pytest
from sqlalchemy import delete, exists, func, select, union_all, update
from sqlalchemy.orm import aliased, contains_eager, joinedload, lazyload, selectinload, subqueryload, undefer

from dataarch.database.unit_of_work import Database, TenantSession
from dataarch.models import Product, Tenant, User, UserActivity, UserProfile, UserSettings
from fixtures.tenants import Inhabited

Use = Callable[[TenantSession, Inhabited], object]

Other = aliased(User, name="other")

FORMS: dict[str, Use] = {
    "entity": lambda session, home: session.scalars(select(User)).all(),
    "column": lambda session, home: session.scalars(select(User.id)).all(),
    "alias": lambda session, home: session.scalars(select(Other)).all(),
    "legacy query": lambda session, home: session.query(User).all(),
    "legacy count": lambda session, home: session.query(User).count(),
    "count": lambda session, home: session.scalar(select(func.count()).select_from(User)),
    "get": lambda session, home: session.get(User, (home.id, home.user_id)),
    "refresh": lambda session, home: session.refresh(session.get_one(User, (home.id, home.user_id))),
    "deferred column": lambda session, home: session.scalars(select(User).options(undefer(User.full_name))).all(),
    "for update": lambda session, home: session.scalars(select(User).with_for_update()).all(),
    "tenant": lambda session, home: session.scalars(select(Tenant)).all(),
    "activity": lambda session, home: session.scalars(select(UserActivity)).all(),
    "join": lambda session, home: session.execute(select(User, UserProfile).join(User.profile)).all(),
    "outer join": lambda session, home: session.execute(select(User, UserProfile).outerjoin(User.profile)).all(),
    "join of an alias": lambda session, home: session.execute(
        select(User, Other).join(Other, Other.id == User.id)
    ).all(),
    "sub-select": lambda session, home: session.scalars(
        select(User).where(User.id.in_(select(UserActivity.user_id)))
    ).all(),
    "exists": lambda session, home: session.scalars(
        select(Product).where(select(UserActivity.id).where(UserActivity.activity_type == "login").exists())
    ).all(),
    "common table expression": lambda session, home: session.scalars(select(select(User.id).cte("mine").c.id)).all(),
    "union": lambda session, home: session.execute(union_all(select(User.id), select(Product.id))).all(),
    "lazy": lambda session, home: (
        session.scalars(select(User).where(User.id == home.user_id).options(lazyload(User.profile))).one().profile
    ),
    "joined": lambda session, home: session.scalars(select(User).options(joinedload(User.profile))).all(),
    "selectin": lambda session, home: session.scalars(select(User).options(selectinload(User.settings))).all(),
    "subquery": lambda session, home: session.scalars(select(User).options(subqueryload(User.settings))).all(),
    "contained": lambda session, home: session.scalars(
        select(User).join(User.profile).options(contains_eager(User.profile))
    ).all(),
    "parent": lambda session, home: session.scalars(select(UserSettings)).one().user,
    "update": lambda session, home: session.execute(update(User).values(full_name="Ada Lovelace")),
    "update from a sub-select": lambda session, home: session.execute(
        update(User).where(User.id.in_(select(UserProfile.user_id))).values(full_name="Ada Lovelace")
    ),
    "update that returns": lambda session, home: session.scalars(
        update(User).values(full_name="Ada Lovelace").returning(User.id)
    ).all(),
    "delete": lambda session, home: session.execute(delete(UserActivity)),
    "legacy update": lambda session, home: session.query(User).update({"full_name": "Ada Lovelace"}),
    "legacy delete": lambda session, home: session.query(UserActivity).delete(),
    "flushed update": lambda session, home: setattr(
        session.get_one(User, (home.id, home.user_id)), "full_name", "Changed"
    ),
    "flushed delete": lambda session, home: session.delete(session.get_one(User, (home.id, home.user_id))),
}

TABLES = "tenants|users|user_profiles|user_settings|user_activity_log|products"
SOURCE = re.compile(rf"\b(?:FROM|JOIN|UPDATE|,)\s+(?P<table>{TABLES})(?:\s+AS\s+(?P<alias>\w+))?(?![\w.])")


def without_predicate(statement: str) -> list[str]:
    """Return the tables, by alias, that a statement reads or changes without a condition on their tenant."""
    lacking = []
    for source in SOURCE.finditer(statement):
        name = source["alias"] or source["table"]
        column = "id" if source["table"] == "tenants" else "tenant_id"
        if not re.search(rf"\b{name}\.{column}(?:\s*=\s*%\(|, {name}\.\w+\) IN)", statement):
            lacking.append(name)
    return lacking


@pytest.mark.parametrize("form", FORMS)
def test_every_statement_names_the_tenant(form: str, shared_db: Database, home: Inhabited, executed: list[str]) -> None:
    with pytest.raises(ZeroDivisionError), shared_db.tenant(home.id) as session:
        FORMS[form](session, home)
        session.flush()
        raise ZeroDivisionError
    statements = [sent for sent in executed if SOURCE.search(sent)]
    assert statements
    assert [(sent, lacking) for sent in statements if (lacking := without_predicate(sent))] == []


def test_a_statement_without_the_predicate_would_be_found() -> None:
    assert without_predicate("SELECT users.id FROM users") == ["users"]
    assert without_predicate("SELECT a.id FROM users AS a JOIN products ON true WHERE a.tenant_id = %(x)s") == [
        "products"
    ]
    assert without_predicate("UPDATE users SET full_name=%(n)s WHERE users.id = %(i)s") == ["users"]


def test_a_cached_statement_takes_the_tenant_of_each_session(
    shared_db: Database, home: Inhabited, abroad: Inhabited
) -> None:
    statement = select(User).options(selectinload(User.profile), joinedload(User.settings))
    for tenant in (home, abroad, home):
        with shared_db.tenant(tenant.id) as session:
            user = session.scalars(statement).one()
            assert user.profile is not None
            assert user.settings is not None
            assert {user.tenant_id, user.profile.tenant_id, user.settings.tenant_id} == {tenant.id}


def test_a_lazy_relationship_takes_the_tenant_of_its_own_session(
    shared_db: Database, home: Inhabited, abroad: Inhabited
) -> None:
    with shared_db.tenant(home.id) as one, shared_db.tenant(abroad.id) as two:
        for session, tenant in ((one, home), (two, abroad)):
            user = session.scalars(select(User)).one()
            assert user.profile is not None
            assert user.profile.tenant_id == tenant.id


def test_a_bare_exists_finds_no_row_of_another_tenant(shared_db: Database, home: Inhabited, abroad: Inhabited) -> None:
    """SQLAlchemy 2.0 gives it no predicate, so here it is the policy alone that counts."""
    statement = select(Product).where(exists().where(UserActivity.user_id == abroad.user_id))
    with shared_db.tenant(home.id) as session:
        assert session.scalars(statement).all() == []
    with shared_db.tenant(abroad.id) as session:
        assert len(session.scalars(statement).all()) == 1
