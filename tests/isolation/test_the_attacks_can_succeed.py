"""Proof that the attack suite sees a hole where there is one: each is opened on purpose, and an attempt must then fail."""

# ruff: noqa: E501  # a statement reads best on one line

from __future__ import annotations

from collections.abc import Callable

import pytest
from sqlalchemy import event, select, text

from dataarch.clock import utcnow
from dataarch.database import unit_of_work
from dataarch.database.unit_of_work import Database, TenantSession
from dataarch.errors import PrivilegeMissing, TenantMismatch, TenantSwitchRefused, UnknownUser
from dataarch.models import User
from fixtures.tenants import Inhabited
from isolation.attack import OWN, Attempt, Target, by_driver, judge, picture, sql
from isolation.conftest import mark

pytestmark = pytest.mark.isolation

MONTH = f"user_activity_log_{utcnow():%Y_%m}"

HOLES = {
    "a policy is gone": (
        "ALTER TABLE users DISABLE ROW LEVEL SECURITY",
        sql("read", "SELECT * FROM users", OWN),
    ),
    "a policy lets all be seen": (
        "CREATE POLICY all_of_it ON products FOR SELECT USING (true)",
        sql("read", "SELECT * FROM products WHERE tenant_id = '<rival>'", []),
    ),
    "a policy lets all be written": (
        "ALTER POLICY tenant_isolation ON user_profiles WITH CHECK (true)",
        sql("write", "INSERT INTO user_profiles (tenant_id, user_id) VALUES ('<rival>', uuid_v7())", TenantMismatch),
    ),
    "a month is granted without its policy": (
        f"GRANT SELECT ON {MONTH} TO dataarch_app; ALTER TABLE {MONTH} DISABLE ROW LEVEL SECURITY",
        sql("read", f"SELECT * FROM {MONTH}", PrivilegeMissing),
    ),
    "a month is granted": (
        f"GRANT SELECT ON {MONTH} TO dataarch_app",
        sql("read", f"SELECT * FROM {MONTH}", PrivilegeMissing),
    ),
    "find_activity searches every tenant": (
        ("CREATE OR REPLACE FUNCTION find_activity(filter jsonb, since timestamptz DEFAULT '-infinity',"
        " until timestamptz DEFAULT 'infinity', max_rows bigint DEFAULT 1000) RETURNS SETOF user_activity_log"
        " LANGUAGE sql SECURITY DEFINER AS 'SELECT * FROM user_activity_log'"),
        by_driver("search", "SELECT * FROM find_activity('{}')", OWN),
    ),
    "set_tenant switches": (
        ("CREATE OR REPLACE FUNCTION set_tenant(tenant uuid) RETURNS void LANGUAGE sql"
        " AS $$ SELECT set_config('dataarch.tenant_id', tenant::text, true) $$"),
        by_driver("switch", "SELECT set_tenant('<rival>'); SELECT * FROM users", TenantSwitchRefused),
    ),
    "a table may be emptied": (
        "GRANT TRUNCATE ON user_profiles TO dataarch_app",
        sql("truncate", "TRUNCATE user_profiles", PrivilegeMissing),
    ),
    "a foreign key has no tenant": (
        "ALTER TABLE user_profiles DROP CONSTRAINT fk_user_profiles_users",
        sql("refer", "INSERT INTO user_profiles (tenant_id, user_id) VALUES ('<acme>', '<rival_user>')", UnknownUser),
    ),
}  # fmt: skip


@pytest.mark.parametrize(("hole", "attempt"), HOLES.values(), ids=HOLES)
def test_an_attempt_through_an_open_hole_fails_the_suite(
    db: Database, acme: Inhabited, rival: Inhabited, hole: str, attempt: Attempt
) -> None:
    target = Target(db, acme, rival, mark(db, rival))
    judge(attempt, target, picture(db, rival))
    with db.owner() as session:
        session.execute(text(hole))
    with pytest.raises(AssertionError):
        judge(attempt, target, picture(db, rival))


def test_a_changed_defence_fails_the_suite_even_where_no_row_came_back(
    db: Database, acme: Inhabited, rival: Inhabited
) -> None:
    target = Target(db, acme, rival, mark(db, rival))
    before = picture(db, rival)
    attempt = sql("nothing", "SELECT 1", [(1,)])
    judge(attempt, target, before)
    with db.owner() as session:
        session.execute(text("GRANT TRIGGER ON users TO dataarch_app"))
    with pytest.raises(AssertionError):
        judge(attempt, target, before)


@pytest.mark.parametrize("expect", [OWN, [()], 0, None, PrivilegeMissing], ids=repr)
def test_an_outcome_other_than_the_one_it_names_fails_the_suite(
    db: Database, acme: Inhabited, rival: Inhabited, expect: object
) -> None:
    target = Target(db, acme, rival, "unknown")
    attempt = sql("read", "SELECT * FROM users WHERE tenant_id = '<rival>'", expect)
    with pytest.raises(AssertionError):
        judge(attempt, target, picture(db, rival))


def emitted(session: TenantSession, target: Target) -> object:
    """Give the SQL of a statement that names no tenant."""
    seen: list[str] = []

    def note(connection: object, cursor: object, statement: str, *rest: object) -> None:
        seen.append(statement)

    event.listen(target.db.engine, "before_cursor_execute", note)
    session.scalars(select(User)).all()
    event.remove(target.db.engine, "before_cursor_execute", note)
    return "users.tenant_id = " in seen[-1]


def test_the_session_adds_the_tenant_to_a_statement_and_its_absence_is_seen(
    db: Database, acme: Inhabited, rival: Inhabited
) -> None:
    target = Target(db, acme, rival, "")
    with db.tenant(acme.id) as session:
        assert emitted(session, target)
    listener: Callable[..., None] = unit_of_work._add_tenant
    event.remove(TenantSession, "do_orm_execute", listener)
    try:
        with db.tenant(acme.id) as session:
            assert not emitted(session, target)
            # the policies alone still hold
            assert session.scalars(select(User.tenant_id)).all() == [acme.id]
    finally:
        event.listen(TenantSession, "do_orm_execute", listener)
