"""Attacks with what SQLAlchemy offers: mapped classes, Core tables, and the session itself."""

# a statement reads best on one line

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from sqlalchemy import CursorResult, delete, exists, func, insert, literal, select, text, union_all, update
from sqlalchemy.dialects import postgresql
from sqlalchemy.exc import InvalidRequestError, NoResultFound
from sqlalchemy.orm import Bundle, aliased, joinedload, make_transient_to_detached, selectinload, undefer
from sqlalchemy.orm.exc import ObjectDeletedError, StaleDataError

from dataarch.database.tenancy import INTERNAL, TENANT
from dataarch.database.unit_of_work import TenantSession
from dataarch.errors import (
    SlugTaken,
    TenantMismatch,
    TenantSwitchRefused,
    UnknownProduct,
    UnknownUser,
)
from dataarch.models import Base, Inventory, Product, Tenant, User, UserActivity, UserProfile, UserSettings
from dataarch.models.base import new_id
from isolation.attack import OWN, Attempt, Target, params

pytestmark = pytest.mark.isolation

USERS = Base.metadata.tables["users"]
ACTIVITY = Base.metadata.tables["user_activity_log"]
TENANTS = Base.metadata.tables["tenants"]


def rows(session: TenantSession, statement: Any) -> list[Any]:
    """Return what a statement gives."""
    return list(session.execute(statement).unique().all())


def touched(session: TenantSession, statement: Any) -> int:
    """Return how many rows a statement touched."""
    result = session.execute(statement)
    assert isinstance(result, CursorResult)
    return result.rowcount


def detached(target: Target) -> User:
    """Return the rival's user as an object that claims to have been loaded."""
    user = User(tenant_id=target.rival.id, id=target.rival.user_id)
    make_transient_to_detached(user)
    return user


def added(session: TenantSession, user: User) -> User:
    """Return an object after it was added."""
    session.add(user)
    return user


def refreshed(session: TenantSession, target: Target) -> object:
    user = added(session, detached(target))
    session.refresh(user)
    return user


def changed(session: TenantSession, target: Target) -> object:
    added(session, detached(target)).full_name = "owned"
    session.flush()
    return None


def removed(session: TenantSession, target: Target) -> object:
    session.delete(added(session, detached(target)))
    session.flush()
    return None


def taken_over(session: TenantSession, target: Target) -> object:
    """Claim that the rival's row was the attacker's own all along."""
    user = User(tenant_id=target.acme.id, id=target.rival.user_id)
    make_transient_to_detached(user)
    added(session, user).full_name = "owned"
    session.flush()
    return None


def moved(session: TenantSession, target: Target) -> object:
    session.get_one(Product, (target.acme.id, target.acme.product_id)).tenant_id = target.rival.id
    session.flush()
    return None


def renamed_session(session: TenantSession, target: Target, statement: Any) -> object:
    """Tell the session, in Python, that it is the rival's."""
    session.tenant_id = target.rival.id
    return rows(session, statement)


def written_by_renamed_session(session: TenantSession, target: Target) -> object:
    session.tenant_id = target.rival.id
    session.add(User(email="eve@example.com", full_name="Eve"))
    session.flush()
    return None


def streamed(session: TenantSession, target: Target) -> object:
    return [user for part in session.scalars(select(User).execution_options(yield_per=1)).partitions() for user in part]


def bulk_inserted(session: TenantSession, target: Target) -> object:
    rows = [{"tenant_id": target.rival.id, "email": f"eve{n}@example.com", "full_name": "Eve"} for n in range(3)]
    return touched(session, insert(User).values(rows))


def bulk_updated(session: TenantSession, target: Target) -> object:
    row = {"tenant_id": target.rival.id, "id": target.rival.user_id, "full_name": "owned", "version": 1}
    session.execute(update(User), [row])
    return None


def added_own(session: TenantSession, row: object) -> object:
    session.add(row)
    session.flush()
    return None


def merged(session: TenantSession, target: Target) -> object:
    session.merge(User(tenant_id=target.rival.id, id=target.rival.user_id, full_name="owned"))
    session.flush()
    return None


def mine(attribute: str) -> Callable[[TenantSession, Target], object]:
    """Load one's own user and walk along a relationship."""
    return lambda session, target: getattr(session.get_one(User, (target.acme.id, target.acme.user_id)), attribute)


def relationship_of_theirs(session: TenantSession, target: Target) -> object:
    return added(session, detached(target)).profile


def internal(statement: str) -> Callable[[TenantSession, Target], object]:
    """Call a statement one of the library's own, so that the client does not look at it."""
    return lambda session, target: rows(session, text(target.fill(statement)).execution_options(**{INTERNAL: True}))


def other_options(session: TenantSession, target: Target) -> object:
    connection = session.connection().execution_options(**{TENANT: target.rival.id})
    return connection.execute(select(USERS).where(USERS.c.tenant_id == target.rival.id)).all()


OTHER = aliased(User)
PAIR: Bundle[Any] = Bundle("pair", User.email, User.full_name)

READS = [
    Attempt("select every user", lambda s, _: rows(s, select(User)), OWN),
    Attempt(
        "select another tenant's users", lambda s, t: rows(s, select(User).where(User.tenant_id == t.rival.id)), []
    ),
    Attempt("select columns", lambda s, _: rows(s, select(User.email, User.full_name)), OWN),
    Attempt("select a bundle", lambda s, t: rows(s, select(PAIR).where(User.id == t.rival.user_id)), []),
    Attempt("get by primary key", lambda s, t: s.get(User, (t.rival.id, t.rival.user_id)), None),
    Attempt("get one by primary key", lambda s, t: s.get_one(User, (t.rival.id, t.rival.user_id)), NoResultFound),
    Attempt("get for update", lambda s, t: s.get(User, (t.rival.id, t.rival.user_id), with_for_update=True), None),
    Attempt("get a tenant", lambda s, t: s.get(Tenant, t.rival.id), None),
    Attempt("query in the old style", lambda s, t: s.query(User).filter_by(id=t.rival.user_id).all(), []),
    Attempt("count in the old style", lambda s, _: s.query(User).count(), 1),
    Attempt("refresh a claimed row", refreshed, InvalidRequestError),
    Attempt("load an attribute of a claimed row", lambda s, t: added(s, detached(t)).full_name, ObjectDeletedError),
    Attempt("walk a relationship of a claimed row", relationship_of_theirs, None),
    Attempt("walk a relationship of one's own", mine("profile"), OWN),
    Attempt("join", lambda s, _: rows(s, select(User, UserProfile).join(User.profile)), OWN),
    Attempt("join to anybody", lambda s, _: rows(s, select(User, Product).join(Product, literal(value=True))), OWN),
    Attempt(
        "join to an alias of another tenant", lambda s, _: rows(s, select(OTHER).join(User, OTHER.id != User.id)), []
    ),
    Attempt(
        "join outwards to another tenant",
        lambda s, t: rows(s, select(OTHER.full_name).select_from(User).outerjoin(OTHER, OTHER.tenant_id == t.rival.id)),
        [(None,)],
    ),
    Attempt(
        "load joined",
        lambda s, _: rows(s, select(User).options(joinedload(User.profile), joinedload(User.settings))),
        OWN,
    ),
    Attempt(
        "load by select-in", lambda s, _: rows(s, select(UserProfile).options(selectinload(UserProfile.user))), OWN
    ),
    Attempt(
        "load undeferred",
        lambda s, t: rows(s, select(Tenant).options(undefer(Tenant.name)).where(Tenant.slug == t.rival.slug)),
        [],
    ),
    Attempt(
        "select from a sub-query",
        lambda s, t: rows(s, select(select(User).where(User.tenant_id == t.rival.id).subquery())),
        [],
    ),
    Attempt(
        "select from a common table expression", lambda s, _: rows(s, select(select(User).cte("all_of_them"))), OWN
    ),
    Attempt("select a union", lambda s, _: rows(s, union_all(select(User.full_name), select(Product.name))), OWN),
    Attempt(
        "ask whether a row exists", lambda s, t: s.scalar(select(exists().where(User.id == t.rival.user_id))), False
    ),
    Attempt(
        "select a scalar sub-query",
        lambda s, t: s.scalar(select(select(User.full_name).where(User.id == t.rival.user_id).scalar_subquery())),
        None,
    ),
    Attempt(
        "correlate to another tenant",
        lambda s, _: rows(s, select(User).where(select(OTHER.id).where(OTHER.tenant_id != User.tenant_id).exists())),
        [],
    ),
    Attempt("aggregate", lambda s, _: rows(s, select(func.string_agg(User.full_name, ","), func.max(User.email))), OWN),
    Attempt(
        "select whole rows by from_statement",
        lambda s, _: list(s.scalars(select(User).from_statement(text("SELECT * FROM users")))),
        OWN,
    ),
    Attempt("lock every row", lambda s, _: rows(s, select(User).with_for_update(nowait=True)), OWN),
    Attempt(
        "lock another tenant's rows",
        lambda s, t: rows(
            s, select(Inventory).where(Inventory.tenant_id == t.rival.id).with_for_update(key_share=True)
        ),
        [],
    ),
    Attempt("stream", streamed, OWN),
    Attempt("call find_activity", lambda s, _: rows(s, select(func.find_activity(text("'{}'::jsonb")))), OWN),
    Attempt("select from the Core table", lambda s, _: rows(s, select(USERS)), OWN),
    Attempt(
        "select another tenant's from the Core table",
        lambda s, t: rows(s, select(ACTIVITY).where(ACTIVITY.c.tenant_id == t.rival.id)),
        [],
    ),
    Attempt("select on the connection", lambda s, _: s.connection().execute(select(USERS)).all(), OWN),
    Attempt(
        "select another tenant's on the connection",
        lambda s, t: s.connection().execute(select(TENANTS).where(TENANTS.c.id == t.rival.id)).all(),
        [],
    ),
    Attempt(
        "select by exec_driver_sql",
        lambda s, t: s.connection().exec_driver_sql("SELECT * FROM users WHERE id = %s", (t.rival.user_id,)).all(),
        [],
    ),
    Attempt("rename the session and read its own", lambda s, t: renamed_session(s, t, select(User)), OWN),
    Attempt("rename the session and read by Core", lambda s, t: renamed_session(s, t, select(USERS)), OWN),
    Attempt("claim another tenant by execution options", other_options, []),
]

WRITES = [
    Attempt(
        "add a row of another tenant",
        lambda s, t: added_own(s, User(tenant_id=t.rival.id, email="eve@example.com", full_name="Eve")),
        TenantMismatch,
    ),
    Attempt(
        "add another tenant", lambda s, _: added_own(s, Tenant(id=new_id(), slug="eve", name="Eve")), TenantMismatch
    ),
    Attempt(
        "add over another tenant",
        lambda s, t: added_own(s, Tenant(id=t.rival.id, slug="eve", name="Eve")),
        TenantMismatch,
    ),
    Attempt("merge a row of another tenant", merged, TenantMismatch),
    Attempt("merge without loading", lambda s, t: s.merge(detached(t), load=False), OWN, echoes=True),
    Attempt("change a claimed row", changed, TenantMismatch),
    Attempt("delete a claimed row", removed, TenantMismatch),
    Attempt("change a row claimed as one's own", taken_over, ObjectDeletedError),
    Attempt("move one's own row", moved, TenantMismatch),
    Attempt("write in a renamed session", written_by_renamed_session, TenantMismatch),
    Attempt("update every row", lambda s, _: touched(s, update(User).values(full_name="owned")), 1),
    Attempt(
        "update another tenant's rows",
        lambda s, t: touched(s, update(User).where(User.tenant_id == t.rival.id).values(full_name="owned")),
        0,
    ),
    Attempt(
        "update every row to another tenant",
        lambda s, t: touched(s, update(Product).values(tenant_id=t.rival.id)),
        TenantMismatch,
    ),
    Attempt(
        "update and give back",
        lambda s, t: rows(s, update(User).where(User.id == t.rival.user_id).values(full_name="owned").returning(User)),
        [],
    ),
    Attempt("update in bulk by primary key", bulk_updated, StaleDataError),
    Attempt("delete every row", lambda s, _: touched(s, delete(UserActivity)), 1),
    Attempt(
        "delete another tenant's rows", lambda s, t: touched(s, delete(User).where(User.tenant_id == t.rival.id)), 0
    ),
    Attempt("delete another tenant", lambda s, t: touched(s, delete(Tenant).where(Tenant.id == t.rival.id)), 0),
    Attempt("insert in bulk", bulk_inserted, TenantMismatch),
    Attempt(
        "insert from a select",
        lambda s, t: touched(
            s, insert(UserProfile).from_select(["tenant_id", "user_id"], select(literal(t.rival.id), User.id))
        ),
        TenantMismatch,
    ),
    Attempt(
        "insert by the old bulk call",
        lambda s, t: s.bulk_insert_mappings(
            User.__mapper__, [{"tenant_id": t.rival.id, "email": "eve@example.com", "full_name": "Eve"}]
        ),
        TenantMismatch,
    ),
    Attempt(
        "save by the old bulk call",
        lambda s, t: s.bulk_save_objects([User(tenant_id=t.rival.id, email="eve@example.com", full_name="Eve")]),
        TenantMismatch,
    ),
    Attempt(
        "upsert over another tenant's user",
        lambda s, t: touched(
            s,
            postgresql.insert(User)
            .values(tenant_id=t.rival.id, id=t.rival.user_id, email="eve@example.com", full_name="Eve")
            .on_conflict_do_update(index_elements=["tenant_id", "id"], set_={"full_name": "owned"}),
        ),
        TenantMismatch,
    ),
    Attempt("take another tenant's slug", lambda s, t: touched(s, update(Tenant).values(slug=t.rival.slug)), SlugTaken),
    Attempt(
        "give another tenant's user a profile",
        lambda s, t: added_own(s, UserProfile(user_id=t.rival.user_id)),
        UnknownUser,
    ),
    Attempt(
        "give another tenant's user settings",
        lambda s, t: added_own(s, UserSettings(user_id=t.rival.user_id)),
        UnknownUser,
    ),
    Attempt(
        "log another tenant's user",
        lambda s, t: added_own(s, UserActivity(user_id=t.rival.user_id, activity_type="login")),
        UnknownUser,
    ),
    Attempt(
        "stock another tenant's product",
        lambda s, t: added_own(s, Inventory(product_id=t.rival.product_id, quantity=1, last_sequence=1)),
        UnknownProduct,
    ),
    Attempt(
        "update by the Core table",
        lambda s, t: touched(s, USERS.update().where(USERS.c.tenant_id == t.rival.id).values(full_name="owned")),
        0,
    ),
    Attempt(
        "delete by the Core table", lambda s, t: touched(s, USERS.delete().where(USERS.c.tenant_id == t.rival.id)), 0
    ),
    Attempt(
        "insert by the Core table",
        lambda s, t: touched(s, USERS.insert().values(tenant_id=t.rival.id, email="eve@example.com", full_name="Eve")),
        TenantMismatch,
    ),
]

SWITCHES = [
    Attempt("call set_tenant by func", lambda s, t: s.scalar(func.set_tenant(t.rival.id)), TenantSwitchRefused),
    Attempt(
        "call set_config by func",
        lambda s, t: s.scalar(func.set_config("dataarch.tenant_id", str(t.rival.id), True)),
        TenantSwitchRefused,
    ),
    Attempt(
        "call set_tenant as a statement of the library's own",
        internal("SELECT set_tenant('<rival>')"),
        TenantSwitchRefused,
    ),
]


@pytest.mark.parametrize("attempt", params(READS))
def test_m01_the_orm_reads_nothing_of_another_tenant(attempt: Attempt, defended: Callable[[Attempt], None]) -> None:
    defended(attempt)


@pytest.mark.parametrize("attempt", params(WRITES))
def test_m01_the_orm_changes_nothing_of_another_tenant(attempt: Attempt, defended: Callable[[Attempt], None]) -> None:
    defended(attempt)


@pytest.mark.parametrize("attempt", params(SWITCHES))
def test_m01_sqlalchemy_cannot_switch_the_tenant(attempt: Attempt, defended: Callable[[Attempt], None]) -> None:
    defended(attempt)
