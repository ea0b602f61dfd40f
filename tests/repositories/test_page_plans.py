"""What a page deep in a long list touches, from EXPLAIN (ANALYZE, BUFFERS), as the application role."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from typing import Any
from uuid import UUID

import psycopg
import pytest
from psycopg import sql
from sqlalchemy import Engine, event, select, text
from sqlalchemy.orm import Session

from benchmarks.partitions.history import Person, connected, fill, people
from dataarch.database.settings import APP_ROLE, database_url
from dataarch.database.unit_of_work import Database
from dataarch.models import UserActivity
from dataarch.models.base import new_id
from dataarch.repositories.pages import read_page
from fixtures.databases import new_database
from fixtures.servers import Servers, libpq
from repositories.things import Thing, furnish

pytestmark = pytest.mark.performance

ROWS = 100_000
TENANT = new_id()
SIZE = 50

FILL = f"""
INSERT INTO things (tenant_id, id, colour, size, number, status)
    SELECT CASE WHEN n % 2 = 0 THEN '{TENANT}'::uuid ELSE md5('t' || n % 10)::uuid END, n, 'colour ' || n % 7,
           n * 7919 % 100000, nullif(n * 7919 % 100000 / 2, 0), n % 3 > 0
    FROM generate_series(1, {2 * ROWS}) AS n;
"""

PLACEHOLDER = re.compile(r"%\((\w+)\)s")

EVERY_PLAN = pytest.mark.parametrize("before", [0, 12], ids=["planned for the row", "as the server keeps it"])
"""How often a prepared statement runs before it is looked at: from the sixth time on, PostgreSQL may keep a plan."""


@pytest.fixture(scope="module")
def long_list(servers: Servers, template: str) -> Iterator[Database]:
    """A tenant with 100,000 things, and others with as many."""
    with new_database(servers, template) as settings, Database(settings) as db:
        furnish(db)
        with psycopg.connect(libpq(settings.owner), autocommit=True) as connection:
            connection.execute(FILL)
            connection.execute("VACUUM (ANALYZE) things")
        yield db


@pytest.fixture(scope="module")
def ten_years(servers: Servers, template: str) -> Iterator[tuple[Database, Person]]:
    """A log of 120 months, and one who wrote a tenth of it."""
    with new_database(servers, template) as settings, Database(settings) as db:
        admin = servers.login(str(servers.admin.username), str(settings.owner.database))
        with connected(database_url(admin)) as connection:
            fill(connection, 120, 120_000, every=10)
            found = people(connection)
        yield db, found[0]


def plans(session: Session, table: str, before: int, read: Callable[[], Any]) -> list[dict[str, Any]]:
    """Run a read, and return the plans of the statements that it sends, prepared as the driver prepares them."""
    assert session.connection().exec_driver_sql("SELECT current_user").scalar_one() == APP_ROLE
    sent: list[tuple[str, dict[str, Any]]] = []

    def note(_connection: object, _cursor: object, statement: str, parameters: Any, *_rest: object) -> None:
        if f"FROM {table}" in statement:
            sent.append((statement, dict(parameters)))

    event.listen(Engine, "before_cursor_execute", note)
    read()
    event.remove(Engine, "before_cursor_execute", note)
    return [explained(session, *one, before) for one in sent]


def explained(session: Session, statement: str, parameters: dict[str, Any], before: int) -> dict[str, Any]:
    """Return the plan that ran."""
    run = session.connection().exec_driver_sql
    names = PLACEHOLDER.findall(statement)
    numbers = iter(range(1, len(names) + 1))
    values = ", ".join(sql.Literal(parameters[name]).as_string() for name in names)
    run(f"PREPARE looked_at AS {PLACEHOLDER.sub(lambda _: f'${next(numbers)}', statement)}")
    for _ in range(before):
        run(f"EXECUTE looked_at ({values})").all()
    plan: dict[str, Any] = run(
        f"EXPLAIN (ANALYZE, BUFFERS, TIMING OFF, FORMAT JSON) EXECUTE looked_at ({values})"
    ).scalar_one()[0]["Plan"]
    run("DEALLOCATE looked_at")
    return plan


def nodes_of(plan: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """Give the nodes of a plan."""
    yield plan
    for child in plan.get("Plans", []):
        yield from nodes_of(child)


def buffers(found: list[dict[str, Any]]) -> int:
    return sum(int(plan["Shared Hit Blocks"] + plan["Shared Read Blocks"]) for plan in found)


def deep(session: Session, statement: Any, order: list[Any], *, skip: int) -> str:
    """Return the cursor of the page behind so many rows."""
    cursor = None
    for _ in range(skip // 10_000):
        cursor = read_page(session, statement, order=order, size=10_000, cursor=cursor).next
    assert cursor is not None
    return cursor


ORDERS: dict[str, list[Any]] = {
    "one direction": [Thing.size],
    "descending": [Thing.size.desc(), Thing.id.desc()],
    "the key": [],
    "two directions": [Thing.size, Thing.id.desc()],
    "NULLs behind values": [Thing.number],
    "NULLs before values": [Thing.number.desc()],
    "many ties in front": [Thing.status, Thing.size],
    "many ties in front, two directions": [Thing.status.desc(), Thing.size.desc(), Thing.id.desc()],
}


@EVERY_PLAN
@pytest.mark.parametrize("name", ORDERS)
@pytest.mark.parametrize("depth", [10_000, 90_000])
def test_a_page_deep_in_the_list_reads_its_own_rows_from_the_index(
    long_list: Database, name: str, depth: int, before: int
) -> None:
    statement, order = select(Thing.id, Thing.colour), ORDERS[name]
    with long_list.tenant(TENANT) as session:
        cursor = deep(session, statement, order, skip=depth)
        back = read_page(session, statement, order=order, size=SIZE, cursor=cursor).previous
        for one in (cursor, back):
            read = lambda at=one: read_page(session, statement, order=order, size=SIZE, cursor=at)  # noqa: E731
            found = plans(session, "things", before, read)
            nodes = [node for plan in found for node in nodes_of(plan)]
            kinds = {node["Node Type"] for node in nodes}
            assert kinds <= {"Limit", "Index Scan", "Incremental Sort", "Result"}, kinds
            # a page of the heap for each row, the way down the index, and the index's own pages
            assert buffers(found) <= SIZE + 25


def test_a_page_costs_the_same_at_any_depth_and_offset_does_not(long_list: Database) -> None:
    statement, order = select(Thing.id, Thing.colour), [Thing.size]
    with long_list.tenant(TENANT) as session:
        costs = []
        for depth in (10_000, 50_000, 90_000):
            cursor = deep(session, statement, order, skip=depth)
            costs.append(
                buffers(
                    plans(
                        session,
                        "things",
                        0,
                        lambda at=cursor: read_page(session, statement, order=order, size=SIZE, cursor=at),  # type: ignore[misc]
                    )
                )
            )
        by_offset = plans(
            session,
            "things",
            0,
            lambda: session.scalars(statement.order_by(Thing.size, Thing.id).offset(90_000).limit(SIZE)).all(),
        )
    assert max(costs) <= min(costs) + 10
    assert buffers(by_offset) > 50 * max(costs)


@EVERY_PLAN
@pytest.mark.parametrize("descending", [True, False])
@pytest.mark.parametrize("size", [SIZE, 1000])
def test_a_page_of_the_log_looks_into_the_months_of_its_rows(
    ten_years: tuple[Database, Person], before: int, size: int, *, descending: bool
) -> None:
    db, busy = ten_years
    statement = select(UserActivity).where(UserActivity.user_id == busy.user_id)
    when = UserActivity.created_at
    with db.tenant(busy.tenant_id) as session:
        order = [when.desc() if descending else when]
        page = read_page(session, statement, order=order, size=6000)
        read = lambda: read_page(session, statement, order=order, size=size, cursor=page.next)  # noqa: E731
        (found,) = plans(session, "user_activity_log", before, read)
        scans = [node for node in nodes_of(found) if "Relation Name" in node]
        touched = [node for node in scans if node["Actual Loops"]]
    assert len(scans) < 100, "the months on the other side of the cursor are pruned"
    assert len(touched) <= 4 + size / 80, "and those beyond the page are left alone"
    assert buffers([found]) <= size + 4 * len(touched) + 25


def test_a_tenant_of_the_list_sees_no_rows_of_others(long_list: Database) -> None:
    with long_list.tenant(UUID(int=5)) as session:
        assert read_page(session, select(Thing), order=[Thing.size]).items == ()
    with long_list.tenant(TENANT) as session:
        assert session.scalars(text("SELECT count(*) FROM things")).one() == ROWS
