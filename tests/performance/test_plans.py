"""M06, M07, M08, M14, M15: the planner uses the indexes, as the application role, on enough rows to care."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from uuid import UUID

import psycopg
import pytest
from sqlalchemy import select, text
from sqlalchemy.orm import Session

from dataarch.database.settings import APP_ROLE, Settings
from dataarch.database.unit_of_work import Database
from dataarch.models import UserActivity
from dataarch.partitions.catalog import partitions_of
from fixtures.databases import new_database
from fixtures.servers import Servers, libpq

pytestmark = pytest.mark.performance

TENANTS = 20
USERS = 10
ROWS = 120_000

FILL = f"""
INSERT INTO tenants (id, slug, name)
    SELECT md5('t' || t)::uuid, 't-' || t, 'Tenant ' || t FROM generate_series(1, {TENANTS}) AS t;
INSERT INTO users (tenant_id, id, external_id, full_name)
    SELECT md5('t' || t)::uuid, md5('u' || t || '-' || u)::uuid, u, 'User ' || u
    FROM generate_series(1, {TENANTS}) AS t, generate_series(1, {USERS}) AS u;
INSERT INTO user_activity_log (tenant_id, user_id, activity_type, metadata, created_at)
    SELECT md5('t' || n % {TENANTS} + 1)::uuid,
           md5('u' || n % {TENANTS} + 1 || '-' || n / {TENANTS} % {USERS} + 1)::uuid,
           CASE WHEN n % 50 = 0 THEN 'view' ELSE 'deleted' END,
           jsonb_build_object('page', n % 1000, 'order', n, 'nested', jsonb_build_object('tag', 'x' || n % 500)),
           date_trunc('month', now()) + (n % 60) * interval '1 day'
    FROM generate_series(1, {ROWS}) AS n;
"""


@dataclass(frozen=True)
class Filled:
    """A database with rows enough that the planner cares."""

    db: Database
    settings: Settings
    tenant: UUID
    user: UUID


@pytest.fixture(scope="module")
def filled(servers: Servers, template: str) -> Iterator[Filled]:
    with new_database(servers, template) as settings, Database(settings) as db:
        with psycopg.connect(libpq(settings.owner), autocommit=True) as connection:
            connection.execute(FILL)
            connection.execute("VACUUM (ANALYZE)")
            row = connection.execute("SELECT md5('t7')::uuid, md5('u7-3')::uuid").fetchone()
        assert row is not None
        yield Filled(db, settings, *row)


def plan(session: Session, query: str, **parameters: object) -> str:
    """Return the plan that runs, with what each node did."""
    return "\n".join(
        session.scalars(text(f"EXPLAIN (ANALYZE, COSTS OFF, TIMING OFF, SUMMARY OFF) {query}"), parameters)
    )


def index_names(filled: Filled, parent: str) -> list[str]:
    """Return the names that an index of the log has on the partitions."""
    with filled.db.owner() as session:
        children = text("SELECT inhrelid::regclass::text FROM pg_inherits WHERE inhparent = to_regclass(:parent)")
        return list(session.scalars(children, {"parent": parent}))


def scans(explained: str, indexes: list[str]) -> list[str]:
    """Return the lines of a plan that use one of these indexes."""
    return [line for line in explained.splitlines() if any(name in line for name in indexes)]


@pytest.mark.parametrize("index", ["idx_tenant_user_created", "idx_metadata_gin", "idx_active_users"])
def test_m06_m07_m08_every_partition_has_the_index(filled: Filled, index: str) -> None:
    with filled.db.owner() as session:
        partitions = partitions_of(session.connection(), UserActivity.__tablename__)
    assert len(partitions) >= 13
    assert len(index_names(filled, index)) == len(partitions)


def test_m06_m14_the_latest_of_a_user_are_read_from_the_tenant_index_in_order(filled: Filled) -> None:
    query = (
        select(UserActivity)
        .where(UserActivity.user_id == filled.user)
        .order_by(UserActivity.created_at.desc())
        .limit(20)
    )
    with filled.db.tenant(filled.tenant) as session:
        assert len(session.scalars(query).all()) == 20
        explained = plan(
            session,
            "SELECT * FROM user_activity_log WHERE tenant_id = :tenant AND user_id = :user"
            " ORDER BY created_at DESC LIMIT 20",
            tenant=filled.tenant,
            user=filled.user,
        )
    assert scans(explained, index_names(filled, "idx_tenant_user_created"))
    assert "Sort" not in explained
    assert "Seq Scan" not in explained
    assert "never executed" in explained, "partitions of other months are left alone once there are 20 rows"


def test_m14_a_tenants_query_uses_the_tenant_index_by_its_policy_alone(filled: Filled) -> None:
    with filled.db.tenant(filled.tenant) as session:
        explained = plan(session, "SELECT * FROM user_activity_log WHERE user_id = :user", user=filled.user)
    assert scans(explained, index_names(filled, "idx_tenant_user_created"))
    assert "Rows Removed by Filter" not in explained


def test_m08_active_users_are_counted_from_the_partial_index(filled: Filled) -> None:
    with filled.db.tenant(filled.tenant) as session:
        explained = plan(
            session,
            "SELECT count(DISTINCT user_id) FROM user_activity_log"
            " WHERE tenant_id = :tenant AND activity_type <> 'deleted'",
            tenant=filled.tenant,
        )
    assert scans(explained, index_names(filled, "idx_active_users"))


def nested_plan(servers: Servers, filled: Filled, query: str) -> str:
    """Return the plan of the statement inside a function, from auto_explain, while the application's role calls it."""
    notices: list[str] = []
    admin = servers.login(str(servers.admin.username), str(filled.settings.owner.database))
    with psycopg.connect(libpq(admin)) as connection:
        connection.add_notice_handler(lambda notice: notices.append(notice.message_primary or ""))
        connection.execute("LOAD 'auto_explain'")
        connection.execute("SET auto_explain.log_min_duration = 0")
        connection.execute("SET auto_explain.log_nested_statements = on")
        connection.execute("SET client_min_messages = log")
        connection.execute(f"SET LOCAL ROLE {APP_ROLE}")
        connection.execute(f"SELECT set_tenant('{filled.tenant}')")
        notices.clear()
        connection.execute(query)
    return "\n".join(notices)


SEARCH = '{"page": 426}'


def test_m07_m15_a_search_of_metadata_uses_the_gin_index_under_row_level_security(
    servers: Servers, filled: Filled
) -> None:
    with filled.db.tenant(filled.tenant) as session:
        found = session.scalar(text("SELECT count(*) FROM find_activity(CAST(:filter AS jsonb))"), {"filter": SEARCH})
    assert found == 120
    explained = nested_plan(servers, filled, f"SELECT * FROM find_activity('{SEARCH}')")
    assert scans(explained, index_names(filled, "idx_metadata_gin"))
    assert "Filter: (tenant_id" in explained or "tenant_id = " in explained


def test_m07_without_the_function_the_policy_keeps_the_gin_index_from_being_used(filled: Filled) -> None:
    with filled.db.tenant(filled.tenant) as session:
        query = "SELECT * FROM user_activity_log WHERE metadata @> CAST(:filter AS jsonb)"
        explained = plan(session, query, filter=SEARCH)
    assert not scans(explained, index_names(filled, "idx_metadata_gin"))


def test_m07_a_search_sees_its_own_tenant_only(filled: Filled) -> None:
    with filled.db.tenant(filled.tenant) as session:
        owners = session.scalars(text("SELECT DISTINCT tenant_id FROM find_activity('{}', max_rows => 100000)")).all()
    assert owners == [filled.tenant]
