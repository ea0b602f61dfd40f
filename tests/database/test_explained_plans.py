"""Plans as objects: what a session would send, its tenant's criteria included, and nothing left behind."""

from __future__ import annotations

import re
from collections.abc import Iterator
from uuid import uuid4

import pytest
from sqlalchemy import Executable, bindparam, delete, event, func, insert, select, text, update

from dataarch.database.explain import explain, explain_each
from dataarch.database.unit_of_work import AsyncDatabase
from dataarch.errors import (
    AlreadyExists,
    InvalidValue,
    PlanNotRun,
    SchemaNotMigrated,
    TenantNotSet,
    TenantSwitchRefused,
)
from dataarch.models import Base, Product, Tenant, User, UserActivity
from fixtures.busy_log import USERS, BusyLog

USER_TABLE = Base.metadata.tables["users"]
LOG = UserActivity.__tablename__
IN_ORDER = "idx_tenant_user_created"


def latest_of(log: BusyLog, limit: int = 20) -> Executable:
    mine = select(UserActivity).where(UserActivity.user_id == log.user)
    return mine.order_by(UserActivity.created_at.desc()).limit(limit)


# ── what it says ──────────────────────────────────────────────────────────────────────────────────────────────────


def test_an_index_of_partitions_is_named_as_the_schema_has_it_and_by_their_own_names_too(busy_log: BusyLog) -> None:
    plan = busy_log.db.explain(latest_of(busy_log), tenant_id=busy_log.tenant, analyze=True)
    assert plan.indexes == (IN_ORDER,)
    assert IN_ORDER not in plan.index_names
    assert all(name.startswith(f"{LOG}_") for name in plan.index_names)
    assert plan.tables == (LOG,)


def test_partitions_are_told_apart_that_were_touched_and_that_nobody_needed(busy_log: BusyLog) -> None:
    plan = busy_log.db.explain(latest_of(busy_log), tenant_id=busy_log.tenant, analyze=True)
    assert plan.partitions_touched
    assert plan.partitions_never_executed
    assert set(plan.partitions) == {*plan.partitions_touched, *plan.partitions_never_executed}
    assert plan.rows == 20


def test_partitions_that_the_planner_left_out_are_counted(busy_log: BusyLog) -> None:
    instant = busy_log.month_start
    month = select(UserActivity.id).where(UserActivity.created_at == instant)
    every = busy_log.db.explain(select(UserActivity.id), tenant_id=busy_log.tenant)
    plan = busy_log.db.explain(month, tenant_id=busy_log.tenant)
    assert len(plan.partitions) == 1
    assert plan.pruned_when_planned == len(every.partitions) - 1
    assert every.pruned_when_planned == plan.pruned_at_start == 0


def test_a_generic_plan_prunes_only_when_it_begins_to_run(busy_log: BusyLog) -> None:
    instant = busy_log.month_start
    month = select(UserActivity.id).where(UserActivity.created_at == instant)
    plan = busy_log.db.explain(month, tenant_id=busy_log.tenant, analyze=True, generic=True)
    assert plan.pruned_at_start >= 13
    assert len(plan.partitions) == 1
    assert plan.pruned_when_planned == 0


def test_pages_rows_and_times_are_those_of_the_run(busy_log: BusyLog) -> None:
    plan = busy_log.db.explain(latest_of(busy_log, 50), tenant_id=busy_log.tenant, analyze=True)
    assert plan.ran
    assert plan.buffers.touched > 0
    assert plan.buffers.touched == plan.buffers.hit + plan.buffers.read
    assert plan.rows == 50 <= plan.rows_read
    assert plan.rows_expected == plan.root.rows_expected > 0
    assert plan.planning_ms > 0
    assert plan.execution_ms > 0


@pytest.mark.parametrize(
    "measured",
    ["buffers", "rows", "rows_read", "execution_ms", "partitions_touched", "triggers", "wal_bytes"],
)
def test_what_was_not_measured_is_not_shown_as_nothing(busy_log: BusyLog, measured: str) -> None:
    plan = busy_log.db.explain(latest_of(busy_log), tenant_id=busy_log.tenant)
    assert not plan.ran
    assert plan.planning_ms > 0
    assert plan.rows_expected == 20
    with pytest.raises(PlanNotRun, match="analyze=True"):
        getattr(plan, measured)
    with pytest.raises(PlanNotRun):
        plan.filtered_out()


def test_a_filter_that_throws_many_rows_away_is_found(busy_log: BusyLog) -> None:
    rare = select(UserActivity.id).where(UserActivity.metadata_["order"].as_integer() == 7)
    plan = busy_log.db.explain(rare, tenant_id=busy_log.tenant, analyze=True)
    removed = sum(node.removed for node in plan.filtered_out())
    assert removed > 1000
    assert any("order" in condition for node in plan.filtered_out() for condition in node.filters)
    assert plan.filtered_out(at_least=1_000_000) == ()


def test_a_sequential_scan_is_told_by_the_tables_name(busy_log: BusyLog) -> None:
    assert LOG in busy_log.db.explain(f"SELECT metadata FROM {LOG}", owner=True).sequential_scans
    assert busy_log.db.explain(latest_of(busy_log), tenant_id=busy_log.tenant, analyze=True).sequential_scans == ()


def test_it_reads_as_a_tree_in_which_idle_partitions_share_a_line(busy_log: BusyLog) -> None:
    said = str(busy_log.db.explain(latest_of(busy_log), tenant_id=busy_log.tenant, analyze=True)).splitlines()
    assert said[0].startswith("Limit  (20 rows, 20 expected")
    assert any(f"using {IN_ORDER}" in line and "pages" in line for line in said)
    assert sum("never executed)" in line for line in said) <= 2
    assert any(
        re.search(r"on \d+ partitions of user_activity_log using idx_\w+  \(never executed\)", line) for line in said
    )
    assert f"indexes: {IN_ORDER}" in said
    assert any(line.startswith("partitions: ") for line in said)
    assert any(line.startswith("buffers: ") for line in said)


def test_a_plan_that_was_not_run_reads_as_a_tree_too(busy_log: BusyLog) -> None:
    said = str(busy_log.db.explain(latest_of(busy_log), tenant_id=busy_log.tenant))
    assert "20 rows expected, cost" in said
    assert "buffers:" not in said


def test_planner_settings_that_are_not_the_servers_are_told(busy_log: BusyLog) -> None:
    with busy_log.db.tenant(busy_log.tenant) as session:
        session.execute(text("SET LOCAL enable_seqscan = off"))
        assert explain(session, select(User)).settings["enable_seqscan"] == "off"


# ── what is explained is what would be sent ───────────────────────────────────────────────────────────────────────


def test_an_orm_statement_carries_the_tenant_as_when_it_is_executed(busy_log: BusyLog) -> None:
    query = select(User).where(User.full_name == "User 3")
    sent: list[str] = []

    def note(_connection: object, _cursor: object, statement: str, *_rest: object) -> None:
        sent.append(statement)

    with busy_log.db.tenant(busy_log.tenant) as session:
        plan = explain(session, query, analyze=True)
        event.listen(session.connection().engine, "before_cursor_execute", note)
        assert len(session.scalars(query).all()) == 1
    assert [plan.statement] == sent
    assert "users.tenant_id =" in plan.statement
    assert plan.rows == 1


STATEMENTS: dict[str, tuple[Executable | str, dict[str, object] | None, int]] = {
    "ORM": (select(User.id), None, USERS),
    "Core": (select(USER_TABLE.c.id), None, USERS),
    "text": (text("SELECT id FROM users WHERE full_name LIKE :name"), {"name": "User%"}, USERS),
    "SQL": ("SELECT id FROM users WHERE full_name LIKE 'User %' AND id <> :id", {"id": uuid4()}, USERS),
    "parameter": (select(User.id).where(User.full_name == bindparam("name")), {"name": "User 3"}, 1),
    "IN": (select(User.id).where(User.full_name.in_(["User 3", "User 4"])), None, 2),
    "WITH": (select(select(User.id).cte("mine")), None, USERS),
    "from statement": (select(User).from_statement(text("SELECT * FROM users")), None, USERS),
}


@pytest.mark.parametrize("generic", [False, True], ids=["custom", "generic"])
@pytest.mark.parametrize("form", STATEMENTS)
def test_statements_of_every_form_are_explained_for_their_tenant(
    busy_log: BusyLog, form: str, *, generic: bool
) -> None:
    statement, parameters, rows = STATEMENTS[form]
    plan = busy_log.db.explain(statement, parameters, tenant_id=busy_log.tenant, analyze=True, generic=generic)
    assert plan.rows == rows
    assert "users" in plan.tables


def test_the_owner_sees_every_tenants_rows(busy_log: BusyLog) -> None:
    assert busy_log.db.explain(select(User.id), owner=True, analyze=True).rows > USERS
    with busy_log.db.owner() as session:
        assert explain(session, select(User.id), analyze=True).rows > USERS


async def test_it_is_the_same_under_asyncio(busy_log: BusyLog) -> None:
    async with AsyncDatabase(busy_log.settings) as db:
        plan = await db.explain(latest_of(busy_log), tenant_id=busy_log.tenant, analyze=True)
        assert (plan.indexes, plan.rows) == ((IN_ORDER,), 20)
        assert (await db.explain(select(User.id), owner=True, analyze=True, generic=True)).rows > USERS
        with pytest.raises(TenantNotSet):
            await db.explain(select(User.id))
        async with db.tenant(busy_log.tenant) as session:
            assert (await session.run_sync(explain, delete(User), analyze=True)).tables == ("users",)
            assert len((await session.scalars(select(User))).all()) == USERS


# ── nothing is left behind ────────────────────────────────────────────────────────────────────────────────────────


def person(name: str) -> dict[str, object]:
    return {"email": f"{uuid4().hex}@example.com", "full_name": name}


WRITES: dict[str, tuple[Executable, str]] = {
    "delete": (delete(UserActivity), "Delete"),
    "update": (update(User).values(full_name="Changed"), "Update"),
    "core update": (update(USER_TABLE).values(full_name="Changed"), "Update"),
    "text": (text("UPDATE users SET full_name = 'Changed'"), "Update"),
    "in a CTE": (select(delete(UserActivity).returning(UserActivity.id).cte("gone")), "Delete"),
}


@pytest.mark.parametrize("form", WRITES)
def test_what_a_writing_statement_writes_is_undone_and_no_cache_hears_of_it(busy_log: BusyLog, form: str) -> None:
    statement, kind = WRITES[form]
    count = select(func.count()).select_from(UserActivity)
    with busy_log.db.tenant(busy_log.tenant) as session:
        session.unit.listener = Deaf()
        before = session.scalar(count)
        user = session.scalars(select(User).where(User.id == busy_log.user)).one()
        plan = explain(session, statement, analyze=True)
        assert kind in plan.kinds
        assert plan.wal_bytes > 0
        assert session.scalar(count) == before
        session.refresh(user)
        assert user.full_name == "User 3"
        assert session.unit.changes == ()
        assert not session.unit.dirty


class Deaf:
    """A listener that nobody may call."""

    def before_commit(self, unit: object, connection: object, /) -> object:
        raise AssertionError(unit, connection)

    def after_end(self, ticket: object, ending: object, /) -> None:
        raise AssertionError(ticket, ending)


def test_an_insert_gets_its_defaults_and_leaves_no_row(busy_log: BusyLog) -> None:
    with busy_log.db.tenant(busy_log.tenant) as session:
        row = {"tenant_id": busy_log.tenant, **person("New")}
        plan = explain(session, insert(User), row, analyze=True)
        assert "Insert" in plan.kinds
        assert "fk_users_tenants" in [trigger.name for trigger in plan.triggers]
        many = explain(session, insert(User), [{**row, **person(f"New {n}")} for n in range(3)], analyze=True)
        assert "Insert" in many.kinds
        assert session.scalars(select(User).where(User.full_name.like("New%"))).all() == []


def test_an_error_leaves_the_transaction_and_its_objects_as_they_were(busy_log: BusyLog) -> None:
    with busy_log.db.tenant(busy_log.tenant) as session:
        user = session.get_one(User, (busy_log.tenant, busy_log.user))
        twice = {"id": user.id, "tenant_id": user.tenant_id, **person("Twice")}
        for generic in (False, True):
            with pytest.raises(AlreadyExists):
                explain(session, insert(User), twice, analyze=True, generic=generic)
            with pytest.raises(SchemaNotMigrated):
                explain(session, text("SELECT * FROM nowhere"), generic=generic)
        assert session.scalar(text("SELECT count(*) FROM pg_prepared_statements WHERE name LIKE 'dataarch%'")) == 0
        assert session.scalar(select(func.count()).select_from(User)) == USERS


def test_what_the_session_has_not_flushed_is_there_when_it_is_explained(busy_log: BusyLog) -> None:
    with busy_log.db.tenant(busy_log.tenant) as session:
        added = Product(slug="explained", external_id="E", name="Explained", price=1, currency="EUR")
        session.add(added)
        assert explain(session, select(Product.id), analyze=True).rows == 1
        assert session.scalars(select(Product)).all() == [added]
        session.rollback()


# ── the border ────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("statement", [select(User), "SELECT 1", delete(UserActivity)], ids=["ORM", "text", "delete"])
def test_without_a_tenant_nothing_is_explained(busy_log: BusyLog, statement: Executable | str) -> None:
    with pytest.raises(TenantNotSet):
        busy_log.db.explain(statement, analyze=True)


def test_a_statement_on_no_tenants_table_needs_none(busy_log: BusyLog) -> None:
    assert busy_log.db.explain(select(func.generate_series(1, 3)), analyze=True).rows == 3


def test_a_tenant_and_the_owner_are_not_both_named(busy_log: BusyLog) -> None:
    with pytest.raises(InvalidValue, match="outside the tenants"):
        busy_log.db.explain(select(Tenant), tenant_id=busy_log.tenant, owner=True)


@pytest.mark.parametrize("statement", ["SELECT set_config('role', 'postgres', true)", "SELECT 1; COMMIT"])
def test_a_statement_that_would_switch_the_tenant_is_refused_here_too(busy_log: BusyLog, statement: str) -> None:
    with pytest.raises(TenantSwitchRefused):
        busy_log.db.explain(statement, tenant_id=busy_log.tenant, analyze=True)


@pytest.mark.parametrize(
    ("statement", "why"),
    [
        ("VACUUM users", "has no plan"),
        ("EXPLAIN SELECT 1", "has no plan"),
        ("", "has no plan"),
        ("SELECT 1; DELETE FROM users", "several"),
    ],
)
def test_what_has_no_plan_is_refused_before_it_is_sent(busy_log: BusyLog, statement: str, why: str) -> None:
    with pytest.raises(InvalidValue, match=why):
        busy_log.db.explain(statement, owner=True, analyze=True)


def test_a_semicolon_at_the_end_or_in_a_text_is_no_second_statement(busy_log: BusyLog) -> None:
    assert busy_log.db.explain("SELECT '; SELECT 2' ; -- the end", owner=True, analyze=True).rows == 1


# ── every statement of a piece of code ────────────────────────────────────────────────────────────────────────────


def test_each_statement_that_a_piece_of_code_sends_is_explained_before_it_is_sent(busy_log: BusyLog) -> None:
    with busy_log.db.tenant(busy_log.tenant) as session:

        def work() -> None:
            with session.begin_nested():
                session.add(User(**person("Worked")))
            assert len(session.scalars(select(User).where(User.full_name == "Worked")).all()) == 1

        insertion, reading = explain_each(session, work, analyze=True)
        session.rollback()
    assert "Insert" in insertion.kinds
    assert (reading.tables, reading.rows) == (("users",), 1)


@pytest.fixture(autouse=True)
def _nothing_changes(busy_log: BusyLog) -> Iterator[None]:
    """Whatever a test explains, the rows are those that were there."""
    yield
    with busy_log.db.tenant(busy_log.tenant) as session:
        assert session.scalar(select(func.count()).select_from(User)) == USERS
