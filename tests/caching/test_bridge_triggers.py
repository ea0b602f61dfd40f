"""What the triggers tell of writers outside the library: rows while they are few, tenants, else the table."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from typing import Any
from uuid import UUID, uuid4

import psycopg
import pytest
from sqlalchemy import BigInteger, Column, DateTime, MetaData, Table, Text, Uuid

from dataarch.caching.bridge import change_of
from dataarch.caching.bridge_triggers import CHANNEL, bridge_functions, bridge_triggers, partitions_in
from dataarch.caching.database import Database
from dataarch.database.changes import Change
from dataarch.database.settings import Settings
from dataarch.models import Base
from fixtures.bridges import install
from fixtures.catalogs import described, owner_connection
from fixtures.months import add_writer
from fixtures.tenants import inhabit

pytestmark = pytest.mark.cache

Connection = psycopg.Connection[Any]
OWN = MetaData()
NOTES = Table("notes", OWN, Column("tenant_id", Uuid, primary_key=True), Column("name", Text, primary_key=True))
RATES = Table("rates", OWN, Column("id", BigInteger, primary_key=True), Column("rate", BigInteger))
EVENTS = Table("events", OWN, Column("tenant_id", Uuid, primary_key=True), Column("at", DateTime, primary_key=True))


@pytest.fixture
def outside(settings: Settings) -> Iterator[Connection]:
    """A connection that knows nothing of the library, to a database with triggers on every table."""
    with Database(settings) as db:
        OWN.create_all(db._owner_engine)
        install(db, *Base.metadata.tables.values(), *OWN.tables.values())
    with owner_connection(settings) as connection:
        yield connection


@pytest.fixture
def told(outside: Connection, settings: Settings) -> Iterator[Callable[[], list[dict[str, Any]]]]:
    """Return what was told since the last call."""
    with owner_connection(settings) as listener:
        listener.execute(f"LISTEN {CHANNEL}")

        def since() -> list[dict[str, Any]]:
            outside.execute(f"NOTIFY {CHANNEL}, 'end'")
            found: list[dict[str, Any]] = []
            for notification in listener.notifies(timeout=30):
                if notification.payload == "end":
                    return found
                assert len(notification.payload.encode()) < 8000
                found.append(json.loads(notification.payload))
            raise AssertionError("Nothing was told.")

        yield since


Told = Callable[[], list[dict[str, Any]]]


def by_key(told: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return sorted(told, key=lambda one: json.dumps(one, sort_keys=True))


def test_few_rows_are_told_one_by_one(outside: Connection, told: Told) -> None:
    tenant = uuid4()
    outside.execute("INSERT INTO notes SELECT %s, 'n' || g FROM generate_series(1, 3) AS g", [tenant])
    expected = [{"table": "notes", "tenant": str(tenant), "key": [f"n{number}"]} for number in (1, 2, 3)]
    assert by_key(told()) == expected
    outside.execute("DELETE FROM notes WHERE name <> 'n2'")
    assert by_key(told()) == [expected[0], expected[2]]


def test_a_row_whose_key_changes_is_told_by_both(outside: Connection, told: Told) -> None:
    tenant = uuid4()
    outside.execute("INSERT INTO notes VALUES (%s, 'old')", [tenant])
    told()
    outside.execute("UPDATE notes SET name = 'new'")
    assert [one["key"] for one in by_key(told())] == [["new"], ["old"]]


def test_many_rows_are_told_by_their_tenants_and_rows_of_many_tenants_by_the_table(
    outside: Connection, told: Told
) -> None:
    tenants = [uuid4() for _ in range(3)]
    for tenant in tenants:
        outside.execute("INSERT INTO notes SELECT %s, 'n' || g FROM generate_series(1, 50) AS g", [tenant])
        assert told() == [{"table": "notes", "tenant": str(tenant)}]
    outside.execute("UPDATE notes SET name = name || '!'")
    assert by_key(told()) == by_key([{"table": "notes", "tenant": str(tenant)} for tenant in tenants])
    outside.execute("INSERT INTO notes SELECT gen_random_uuid(), 'n' FROM generate_series(1, 100)")
    assert told() == [{"table": "notes"}]


def test_a_key_that_is_too_long_to_be_told_is_told_by_its_tenant(outside: Connection, told: Told) -> None:
    tenant = uuid4()
    long = "".join(str(uuid4()) for _ in range(300))  # of no pattern: an index would refuse what it cannot compress
    outside.execute("ALTER TABLE notes DROP CONSTRAINT notes_pkey")
    outside.execute("INSERT INTO notes VALUES (%s, %s), (%s, 'short')", [tenant, long, tenant])
    assert told() == [{"table": "notes", "tenant": str(tenant)}]


def test_rows_of_nobody_are_told_without_a_tenant(outside: Connection, told: Told) -> None:
    outside.execute("INSERT INTO rates VALUES (7, 1)")
    assert told() == [{"table": "rates", "key": ["7"]}]
    outside.execute("INSERT INTO rates SELECT g FROM generate_series(100, 200) AS g")
    assert told() == [{"table": "rates"}]


def test_a_key_with_two_texts_is_not_told(outside: Connection, told: Told) -> None:
    tenant = uuid4()
    outside.execute("INSERT INTO events VALUES (%s, now())", [tenant])
    assert told() == [{"table": "events", "tenant": str(tenant)}]


def test_a_statement_that_writes_no_row_tells_nothing(outside: Connection, told: Told) -> None:
    outside.execute("DELETE FROM notes; UPDATE users SET full_name = 'x'; DELETE FROM user_activity_log")
    assert told() == []


def test_what_is_rolled_back_is_not_told(outside: Connection, told: Told) -> None:
    outside.execute("BEGIN; INSERT INTO rates VALUES (1, 1); ROLLBACK")
    assert told() == []


def test_truncation_is_told_by_the_table(outside: Connection, told: Told) -> None:
    outside.execute("TRUNCATE rates, notes")
    assert by_key(told()) == [{"table": "notes"}, {"table": "rates"}]


def test_rows_of_a_partition_are_told_of_their_table_even_when_it_was_made_later(
    outside: Connection, told: Told, settings: Settings
) -> None:
    writer = add_writer(outside)
    outside.execute("SELECT create_activity_partition('2020-02-01')")
    told()
    for place in ("user_activity_log", "user_activity_log_2020_02"):
        outside.execute(
            f"INSERT INTO {place} (tenant_id, user_id, activity_type, created_at) VALUES (%s, %s, 'x', '2020-02-03')",
            [writer.tenant_id, writer.user_id],
        )
        assert told() == [{"table": "user_activity_log", "tenant": str(writer.tenant_id)}]
    for statement in (
        "UPDATE user_activity_log_2020_02 SET activity_type = 'y'",
        "UPDATE user_activity_log SET created_at = now()",
        "DELETE FROM user_activity_log",
    ):
        outside.execute(statement)
        assert told() == [{"table": "user_activity_log", "tenant": str(writer.tenant_id)}]


def test_the_truncation_of_a_partition_is_told(outside: Connection, told: Told) -> None:
    outside.execute("TRUNCATE user_activity_log_rest_min")
    assert told() == [{"table": "user_activity_log"}]


def test_what_the_application_writes_is_told_too(outside: Connection, told: Told, settings: Settings) -> None:
    with Database(settings) as db:
        inhabit(db)
    assert {one["table"] for one in told()} == set(Base.metadata.tables)


def test_triggers_can_be_made_again_and_leave_nothing_when_they_are_taken_away(settings: Settings) -> None:
    before = described(settings)
    tables = list(Base.metadata.tables.values())
    with Database(settings) as db:
        install(db, *tables)
        once = described(settings)
        install(db, *tables)
        assert described(settings) == once != before
        with db.owner() as session:
            for table in tables:
                for statement in bridge_triggers(table, partitions_in(session.connection(), table), drop=True):
                    session.connection().exec_driver_sql(statement)
    left = [line for line in described(settings) if line not in before]
    assert all(line.startswith("function ") for line in left)
    assert len(left) == 2


def test_nobody_but_the_owner_may_call_the_functions(settings: Settings) -> None:
    assert [sql for sql in bridge_functions() if sql.startswith("REVOKE")]
    with Database(settings) as db:
        install(db)
    with owner_connection(settings) as connection:
        (granted,) = connection.execute(
            "SELECT bool_or(has_function_privilege('dataarch_app', p.oid, 'EXECUTE')) FROM pg_proc AS p"
            " WHERE pronamespace = 'dataarch_cache'::regnamespace"
        ).fetchone() or (None,)
    assert granted is False


TENANT = UUID(int=7)


@pytest.mark.parametrize(
    ("payload", "change"),
    [
        ({"table": "notes", "tenant": str(TENANT), "key": ["n"]}, Change("notes", TENANT, ("n",))),
        ({"table": "notes", "tenant": str(TENANT)}, Change("notes", TENANT)),
        ({"table": "notes"}, Change(None, None)),
        ({"table": "rates", "key": ["7"]}, Change("rates", None, ("7",), of_nobody=True)),
        ({"table": "rates"}, Change("rates", None, of_nobody=True)),
        ({"table": "unknown", "tenant": str(TENANT), "key": ["1"]}, Change("unknown", TENANT, None)),
        ({"table": "unknown", "key": ["1"]}, Change(None, None)),
        ({"table": ["notes"], "tenant": 1}, Change(None, None)),
        ({"table": "notes", "tenant": "nobody"}, Change(None, None)),
        ({"table": "notes", "tenant": str(TENANT), "key": 5}, Change(None, None)),
        ([], Change(None, None)),
        ("", Change(None, None)),
    ],
    ids=str,
)
def test_what_was_told_says_what_changed_or_that_anything_may_have(payload: object, change: Change) -> None:
    assert change_of(json.dumps(payload), OWN) == change


def test_what_is_no_json_says_that_anything_may_have_changed() -> None:
    assert {change_of(junk, OWN) for junk in ("", "{", "users", "\x00", '{"table":')} == {Change(None, None)}
