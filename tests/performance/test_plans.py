"""M06, M07, M08, M14, M15: the planner uses the indexes, as the application role, on enough rows to care."""

from __future__ import annotations

import json

import psycopg
import pytest
from sqlalchemy import select, text

from dataarch.database.plans import Plan, plan_of
from dataarch.database.settings import APP_ROLE
from dataarch.models import UserActivity
from dataarch.partitions.catalog import partitions_of
from fixtures.busy_log import BusyLog
from fixtures.servers import Servers, libpq

pytestmark = pytest.mark.performance


def index_names(busy_log: BusyLog, parent: str) -> set[str]:
    """Return the names that an index of the log has on the partitions."""
    with busy_log.db.owner() as session:
        children = text("SELECT inhrelid::regclass::text FROM pg_inherits WHERE inhparent = to_regclass(:parent)")
        return set(session.scalars(children, {"parent": parent}))


@pytest.mark.parametrize("index", ["idx_tenant_user_created", "idx_metadata_gin", "idx_active_users"])
def test_m06_m07_m08_every_partition_has_the_index(busy_log: BusyLog, index: str) -> None:
    with busy_log.db.owner() as session:
        partitions = partitions_of(session.connection(), UserActivity.__tablename__)
    assert len(partitions) >= 13
    assert len(index_names(busy_log, index)) == len(partitions)


def test_m06_m14_the_latest_of_a_user_are_read_from_the_tenant_index_in_order(busy_log: BusyLog) -> None:
    latest = (
        select(UserActivity)
        .where(UserActivity.user_id == busy_log.user)
        .order_by(UserActivity.created_at.desc())
        .limit(20)
    )
    plan = busy_log.db.explain(latest, tenant_id=busy_log.tenant, analyze=True)
    assert plan.rows == 20
    assert plan.indexes == ("idx_tenant_user_created",)
    assert "Sort" not in plan.kinds
    assert plan.sequential_scans == ()
    assert plan.partitions_never_executed, "partitions of other months are left alone once there are 20 rows"


def test_m14_a_tenants_query_uses_the_tenant_index_by_its_policy_alone(busy_log: BusyLog) -> None:
    query = "SELECT * FROM user_activity_log WHERE user_id = :user"
    plan = busy_log.db.explain(query, {"user": busy_log.user}, tenant_id=busy_log.tenant, analyze=True)
    assert plan.indexes == ("idx_tenant_user_created",)
    assert plan.sequential_scans == ()
    assert all(not node.removed for node in plan.nodes)


def test_m08_active_users_are_counted_from_the_partial_index(busy_log: BusyLog) -> None:
    query = (
        "SELECT count(DISTINCT user_id) FROM user_activity_log WHERE tenant_id = :tenant AND activity_type <> 'deleted'"
    )
    plan = busy_log.db.explain(query, {"tenant": busy_log.tenant}, tenant_id=busy_log.tenant, analyze=True)
    assert plan.indexes == ("idx_active_users",)


def nested_plans(servers: Servers, busy_log: BusyLog, query: str) -> list[Plan]:
    """Return the plans of statements inside a function, from auto_explain, while the application's role calls it."""
    notices: list[str] = []
    admin = servers.login(str(servers.admin.username), str(busy_log.settings.owner.database))
    with psycopg.connect(libpq(admin)) as connection:
        connection.add_notice_handler(lambda notice: notices.append(notice.message_primary or ""))
        connection.execute("LOAD 'auto_explain'")
        connection.execute("SET auto_explain.log_min_duration = 0")
        connection.execute("SET auto_explain.log_nested_statements = on")
        connection.execute("SET auto_explain.log_format = json")
        connection.execute("SET client_min_messages = log")
        connection.execute(f"SET LOCAL ROLE {APP_ROLE}")
        connection.execute(f"SELECT set_tenant('{busy_log.tenant}')")
        notices.clear()
        connection.execute(query)
    documents = [json.loads(notice.partition("plan:")[2]) for notice in notices]
    return [plan_of(document["Query Text"], document) for document in documents]


SEARCH = '{"page": 426}'


def test_m07_m15_a_search_of_metadata_uses_the_gin_index_under_row_level_security(
    servers: Servers, busy_log: BusyLog
) -> None:
    with busy_log.db.tenant(busy_log.tenant) as session:
        found = session.scalar(text("SELECT count(*) FROM find_activity(CAST(:filter AS jsonb))"), {"filter": SEARCH})
    assert found == 120
    plans = nested_plans(servers, busy_log, f"SELECT * FROM find_activity('{SEARCH}')")
    (search,) = [plan for plan in plans if index_names(busy_log, "idx_metadata_gin") & set(plan.index_names)]
    assert any("tenant_id = " in condition for node in search.nodes for condition in node.filters)


def test_m07_without_the_function_the_policy_keeps_the_gin_index_from_being_used(busy_log: BusyLog) -> None:
    query = "SELECT * FROM user_activity_log WHERE metadata @> CAST(:filter AS jsonb)"
    plan = busy_log.db.explain(query, {"filter": SEARCH}, tenant_id=busy_log.tenant, analyze=True)
    assert "idx_metadata_gin" not in plan.indexes
    assert "idx_metadata_gin is there, and cannot be used" in plan.hints[0].message


def test_m07_a_search_sees_its_own_tenant_only(busy_log: BusyLog) -> None:
    with busy_log.db.tenant(busy_log.tenant) as session:
        owners = session.scalars(text("SELECT DISTINCT tenant_id FROM find_activity('{}', max_rows => 100000)")).all()
    assert owners == [busy_log.tenant]
