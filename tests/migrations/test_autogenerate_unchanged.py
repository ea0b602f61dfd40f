"""Autogenerate proposes nothing where nothing changed, whatever partitions there are; and compares without locking."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest
from sqlalchemy import Column, Integer, MetaData, Table

from dataarch.clock import Grain, Month, Period, utcnow
from dataarch.database.settings import Settings
from dataarch.database.unit_of_work import Database
from dataarch.models import Base, Policy, UserActivity
from dataarch.partitions.maintenance import Maintenance
from fixtures.catalogs import owner_connection
from fixtures.killed_copy import kill_during_the_copy
from fixtures.months import add_writer, write
from migrations.autogenerate_support import execute, proposed

pytestmark = pytest.mark.migration

PARTITIONS = "SELECT inhrelid::regclass::text FROM pg_inherits WHERE inhparent = 'user_activity_log'::regclass"


@pytest.mark.parametrize("more", [0, 1, 60])
def test_autogenerate_proposes_nothing_however_many_months_are_added(settings: Settings, more: int) -> None:
    with owner_connection(settings) as connection:
        for ahead in range(more):
            connection.execute("SELECT create_activity_partition(%s)", [Month(2015, 1).plus(ahead).first_day])
    assert proposed(settings).kinds == []


@pytest.mark.parametrize(
    "kept",
    [[], ["user_activity_log_rest_min"], [f"user_activity_log_{Month.of(utcnow())}"]],
    ids=["none", "a catch-all", "a month"],
)
def test_autogenerate_proposes_nothing_where_the_log_has_one_partition_or_none(
    settings: Settings, kept: list[str]
) -> None:
    with owner_connection(settings) as connection:
        for (name,) in connection.execute(PARTITIONS).fetchall():
            if name not in kept:
                connection.execute(f"DROP TABLE {name}")
        assert [name for (name,) in connection.execute(PARTITIONS)] == kept
    assert proposed(settings).kinds == []


def test_autogenerate_leaves_alone_what_a_killed_maintenance_left(settings: Settings) -> None:
    with owner_connection(settings) as connection:
        write(connection, add_writer(connection), "2016-02-01", "2016-02-02")
    kill_during_the_copy(settings)
    assert proposed(settings).kinds == []
    # it is told by its marks: without them it would be seen
    left = ["user_activity_log_moving", "user_activity_log_staged"]
    execute(settings, *(f"COMMENT ON TABLE {name} IS NULL" for name in left))
    found = proposed(settings)
    assert [name for name in left if f"drop_table('{name}')" in found.upgrade.replace("partitioned_", "")] == left


def test_autogenerate_leaves_partitions_made_by_hand_alone(settings: Settings) -> None:
    rule = "tenant_id = nullif(current_setting('dataarch.tenant_id', true), '')::uuid"
    execute(
        settings,
        "SELECT create_activity_partition('2016-02-01')",
        "ALTER TABLE user_activity_log DETACH PARTITION user_activity_log_2016_02",
        "DROP TABLE user_activity_log_2016_02",
        "CREATE TABLE leap_days (LIKE user_activity_log INCLUDING ALL) PARTITION BY RANGE (created_at)",
        "CREATE TABLE leap_day PARTITION OF leap_days FOR VALUES FROM ('2016-02-29 UTC') TO ('2016-03-01 UTC')",
        "ALTER TABLE user_activity_log ATTACH PARTITION leap_days"
        " FOR VALUES FROM ('2016-02-01 UTC') TO ('2016-03-01 UTC')",
        *(f"ALTER TABLE {table} ENABLE ROW LEVEL SECURITY" for table in ("leap_days", "leap_day")),
        *(
            f"CREATE POLICY tenant_isolation ON {table} USING ({rule}) WITH CHECK ({rule})"
            for table in ("leap_days", "leap_day")
        ),
    )
    assert proposed(settings).kinds == []


def test_autogenerate_leaves_an_index_of_one_partition_alone(settings: Settings) -> None:
    execute(
        settings,
        "SELECT create_activity_partition('2016-02-01')",
        "CREATE INDEX by_hand ON user_activity_log_2016_02 (activity_type)",
    )
    assert proposed(settings).kinds == []


def test_a_detached_partition_is_a_table_as_any_other(settings: Settings) -> None:
    execute(
        settings,
        "SELECT create_activity_partition('2016-02-01')",
        "ALTER TABLE user_activity_log DETACH PARTITION user_activity_log_2016_02",
    )
    found = proposed(settings)
    assert found.kinds[-1] == "DropTableOp"
    assert "op.drop_table('user_activity_log_2016_02')" in found.upgrade


def test_a_retired_partition_that_was_kept_is_left_alone(settings: Settings) -> None:
    with Database(settings) as db:
        work = Maintenance(db, UserActivity, policy=Policy(archive=False, drop=False))
        work.ensure([Period.of(datetime(2016, 2, 1, tzinfo=UTC), Grain.MONTH)])
        work.retire(["user_activity_log_2016_02"])
    assert proposed(settings).kinds == []


def test_a_table_that_is_named_like_a_partition_of_another_schema_is_seen(settings: Settings) -> None:
    execute(
        settings,
        "SELECT create_activity_partition('2016-02-01')",
        "CREATE SCHEMA apart",
        "CREATE TABLE apart.user_activity_log_2016_02 (id integer)",
    )
    found = proposed(settings, include_schemas=True)
    assert found.kinds == ["DropTableOp"]
    assert "op.drop_table('user_activity_log_2016_02', schema='apart')" in found.upgrade


def test_partitions_in_another_schema_are_left_alone(settings: Settings) -> None:
    execute(
        settings,
        "CREATE SCHEMA apart",
        "CREATE TABLE apart.readings (id integer, at timestamptz NOT NULL) PARTITION BY RANGE (at)",
        "CREATE TABLE apart.readings_2026_11 PARTITION OF apart.readings"
        " FOR VALUES FROM ('2026-11-01 UTC') TO ('2026-12-01 UTC')",
        "CREATE TABLE readings_2026_11 (id integer)",
    )
    found = proposed(settings, include_schemas=True)
    assert sorted(found.kinds) == ["DropPartitionedTableOp", "DropTableOp"]
    assert "op.drop_partitioned_table('readings', schema='apart')" in found.upgrade
    assert "op.drop_table('readings_2026_11')" in found.upgrade


def test_tables_that_a_downgrade_set_aside_are_left_alone(settings: Settings) -> None:
    execute(settings, "CREATE SCHEMA dataarch_set_aside", "CREATE TABLE dataarch_set_aside.kept (id integer)")
    assert proposed(settings, include_schemas=True).kinds == []


def test_a_projects_own_filter_is_asked_too(settings: Settings) -> None:
    execute(settings, "CREATE TABLE theirs (id integer)", "CREATE TABLE ours (id integer)")

    def include(name: str | None, kind: str, parents: object) -> bool:
        return name != "theirs"

    found = proposed(settings, include_name=include)
    assert found.kinds == ["DropTableOp"]
    assert "op.drop_table('ours')" in found.upgrade


def test_tables_that_have_nothing_to_do_with_tenants_or_partitions_are_compared_as_ever(
    empty_database: Settings,
) -> None:
    metadata = MetaData()
    Table("plain", metadata, Column("id", Integer, primary_key=True))
    assert proposed(empty_database, metadata).kinds == ["CreateTableOp"]


def test_comparing_locks_no_table_more_than_a_reader_does(settings: Settings) -> None:
    tables = {table.name for table in Base.metadata.sorted_tables}
    found = proposed(settings)
    modes = {mode for name, mode in found.locks if name in tables or name.startswith("user_activity_log_")}
    assert modes <= {"AccessShareLock"}
    assert ("temporary users", "AccessExclusiveLock") in found.locks, "the policy was tried on a table of its own"


def test_comparing_asks_the_server_no_more_for_60_partitions_than_for_none(settings: Settings) -> None:
    before = len(proposed(settings).queries)
    with owner_connection(settings) as connection:
        for ahead in range(60):
            connection.execute("SELECT create_activity_partition(%s)", [Month(2015, 1).plus(ahead).first_day])
    assert len(proposed(settings).queries) == before
