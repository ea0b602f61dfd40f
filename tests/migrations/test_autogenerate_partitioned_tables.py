"""Autogenerate sees partitioning that a model gains, loses or changes, and indexes of partitioned tables."""

from __future__ import annotations

from typing import Any

import pytest
from sqlalchemy import Column, DateTime, Index, Integer, MetaData, Table, Text, Uuid, func, text

from dataarch.clock import Grain
from dataarch.database.settings import Settings
from dataarch.errors import InvalidPartitioning
from dataarch.models import partitioned
from dataarch.models.partitioning import Policy
from fixtures.catalogs import described
from migrations.autogenerate_support import execute, models, proposed, run_code

pytestmark = pytest.mark.migration


def readings(metadata: MetaData, *more: Any, schema: str | None = None, **keywords: Any) -> Table:
    return Table(
        "readings",
        metadata,
        Column("id", Uuid, primary_key=True),
        Column("at", DateTime(timezone=True), primary_key=True),
        Column("place", Text, nullable=False),
        Column("value", Integer),
        *more,
        schema=schema,
        **keywords,
    )


def plain() -> MetaData:
    metadata = MetaData()
    readings(metadata)
    return metadata


def by_period(grain: Grain = Grain.MONTH, column: str = "at", **keywords: Any) -> MetaData:
    metadata = MetaData()
    readings(metadata, **partitioned(column, grain=grain, policy=Policy(premake=2)), **keywords)
    return metadata


def parents_index(settings: Settings, name: str) -> list[str]:
    return [line for line in described(settings) if line.startswith(f"index CREATE INDEX {name} ON ONLY ")]


def make(settings: Settings, metadata: MetaData, **options: Any) -> None:
    run_code(settings, proposed(settings, metadata, **options).upgrade)


def test_a_model_that_is_partitioned_makes_a_partitioned_table_with_its_indexes(empty_database: Settings) -> None:
    metadata = by_period()
    Index("readings_by_place", metadata.tables["readings"].c.place, func.lower(text("place")))
    found = proposed(empty_database, metadata)
    assert found.kinds == ["CreatePartitionedTableOp", "CreateIndexOp"]
    before = described(empty_database)
    run_code(empty_database, found.upgrade)
    after = described(empty_database)
    assert len([line for line in after if "RANGE (at)" in line]) == 1
    assert len([line for line in after if line.startswith("table public.readings_")]) == 5
    assert proposed(empty_database, metadata).kinds == []
    run_code(empty_database, found.downgrade)
    assert described(empty_database) == before
    run_code(empty_database, found.upgrade)
    assert described(empty_database) == after


def test_a_partitioned_table_whose_model_is_gone_is_dropped_and_made_again_as_it_was(empty_database: Settings) -> None:
    metadata = by_period(Grain.DAY)
    Index("readings_by_place", metadata.tables["readings"].c.place)
    make(empty_database, metadata)
    before = described(empty_database)
    found = proposed(empty_database, MetaData())
    assert found.kinds == ["DropIndexOp", "DropPartitionedTableOp"]
    assert "grain='day'" in found.downgrade
    run_code(empty_database, found.upgrade)
    assert not [line for line in described(empty_database) if "readings" in line]
    run_code(empty_database, found.downgrade)
    assert proposed(empty_database, metadata).kinds == []
    assert [line for line in described(empty_database) if "RANGE (at)" in line] == [
        line for line in before if "RANGE (at)" in line
    ]


def test_a_table_partitioned_by_a_list_is_dropped_and_made_again_as_it_was(empty_database: Settings) -> None:
    execute(empty_database, "CREATE TABLE readings (place text NOT NULL, value integer) PARTITION BY LIST (place)")
    before = described(empty_database)
    found = proposed(empty_database, MetaData())
    assert found.kinds == ["DropTableOp"]
    run_code(empty_database, found.upgrade)
    run_code(empty_database, found.downgrade)
    assert described(empty_database) == before


def test_a_partitioned_table_in_another_schema_is_made_and_compared_there(empty_database: Settings) -> None:
    execute(empty_database, "CREATE SCHEMA apart", "CREATE TABLE readings_2026_11 (id integer)")
    metadata = MetaData()
    readings(metadata, schema="apart", **partitioned("at"))
    Table("readings_2026_11", metadata, Column("id", Integer))
    make(empty_database, metadata, include_schemas=True)
    assert proposed(empty_database, metadata, include_schemas=True).kinds == []


CHANGES = {
    "a plain table whose model is now partitioned": (plain, by_period, None, "RANGE (at)"),
    "a partitioned table whose model no longer is": (by_period, plain, "RANGE (at)", None),
    "another key": (
        by_period,
        lambda: by_period(column="made_at"),
        "RANGE (at)",
        "RANGE (made_at)",
    ),
    "another grain": (
        by_period,
        lambda: by_period(Grain.DAY),
        "RANGE (at) by month",
        "RANGE (at) by day",
    ),
}


def with_second_time(metadata: MetaData) -> MetaData:
    metadata.tables["readings"].append_column(Column("made_at", DateTime(timezone=True), primary_key=True))
    return metadata


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES.keys())
def test_a_change_that_postgresql_cannot_make_is_seen_and_refuses_to_run(empty_database: Settings, change: Any) -> None:
    first, second, was, becomes = change
    make(empty_database, with_second_time(first()))
    found = proposed(empty_database, with_second_time(second()))
    assert found.kinds == ["PartitioningChangedOp"]
    assert f"op.partitioning_changed('readings', was={was!r}, becomes={becomes!r})" in found.upgrade
    assert f"op.partitioning_changed('readings', was={becomes!r}, becomes={was!r})" in found.downgrade
    before = described(empty_database)
    with pytest.raises(InvalidPartitioning, match="PostgreSQL cannot change that in place") as refused:
        run_code(empty_database, found.upgrade)
    assert refused.value.table == "readings"
    assert ("partition-table readings" if was is None else "make a new table") in refused.value.hint
    assert described(empty_database) == before


def test_a_change_of_partitioning_comes_before_all_that_could_be_committed(empty_database: Settings) -> None:
    make(empty_database, by_period())
    metadata = by_period(Grain.DAY)
    Index("readings_by_place", metadata.tables["readings"].c.place)
    Table("other", metadata, Column("id", Integer))
    assert proposed(empty_database, metadata).kinds[0] == "PartitioningChangedOp"


def test_partitions_of_another_grain_beside_those_of_the_models_are_no_change(empty_database: Settings) -> None:
    make(empty_database, by_period())
    execute(
        empty_database,
        "ALTER TABLE readings DETACH PARTITION readings_rest_min",
        "DROP TABLE readings_rest_min",
        *(
            f"CREATE TABLE day_{day} PARTITION OF readings"
            f" FOR VALUES FROM ('2016-02-{day} UTC') TO ('2016-02-{day + 1} UTC')"
            for day in range(10, 20)
        ),
    )
    assert proposed(empty_database, by_period()).kinds == []


def test_a_table_without_periods_may_have_any_grain(empty_database: Settings) -> None:
    execute(
        empty_database,
        "CREATE TABLE readings (id uuid NOT NULL, at timestamptz NOT NULL, place text NOT NULL, value integer,"
        " CONSTRAINT readings_pkey PRIMARY KEY (id, at)) PARTITION BY RANGE (at)",
        "CREATE TABLE readings_rest PARTITION OF readings FOR VALUES FROM (MINVALUE) TO (MAXVALUE)",
    )
    assert proposed(empty_database, by_period(Grain.WEEK)).kinds == []


def test_a_key_written_otherwise_is_the_same_key(empty_database: Settings) -> None:
    execute(empty_database, "CREATE TABLE t (a integer, b text) PARTITION BY LIST (lower(b))")
    metadata = MetaData()
    columns = (Column("a", Integer), Column("b", Text))
    Table("t", metadata, *columns, postgresql_partition_by="list ( LOWER( b ) )")
    assert proposed(empty_database, metadata).kinds == []


NEW_INDEXES = {
    "gin": lambda table: Index(
        "new_index", table.c.metadata, postgresql_using="gin", postgresql_ops={"metadata": "jsonb_path_ops"}
    ),
    "partial": lambda table: Index("new_index", table.c.user_id, postgresql_where=text("activity_type <> 'deleted'")),
    "expression": lambda table: Index("new_index", table.c.tenant_id, func.lower(table.c.activity_type)),
    "descending": lambda table: Index("new_index", table.c.tenant_id, table.c.created_at.desc()),
    "unique": lambda table: Index("new_index", table.c.tenant_id, table.c.id, table.c.created_at, unique=True),
}


@pytest.mark.parametrize("index", NEW_INDEXES.values(), ids=NEW_INDEXES.keys())
def test_a_new_index_of_a_partitioned_table_is_made_partition_by_partition(settings: Settings, index: Any) -> None:
    before = described(settings)
    metadata = models()
    index(metadata.tables["user_activity_log"])
    found = proposed(settings, metadata)
    assert found.kinds == ["CreatePartitionedIndexOp"]
    assert "op.create_index(" not in found.upgrade
    run_code(settings, found.upgrade)
    made = described(settings)
    assert proposed(settings, metadata).kinds == []
    assert not [line for line in made if line.startswith("index ") and "valid false" in line]
    run_code(settings, found.downgrade)
    assert described(settings) == before


@pytest.mark.parametrize("name", ["idx_metadata_gin", "idx_active_users", "idx_tenant_user_created"])
def test_a_removed_index_of_a_partitioned_table_is_dropped_and_comes_back_as_it_was(
    settings: Settings, name: str
) -> None:
    before = parents_index(settings, name)
    metadata = models()
    log = metadata.tables["user_activity_log"]
    log.indexes.remove(next(index for index in log.indexes if index.name == name))
    found = proposed(settings, metadata)
    assert found.kinds == ["DropPartitionedIndexOp"]
    run_code(settings, found.upgrade)
    assert proposed(settings, metadata).kinds == []
    run_code(settings, found.downgrade)
    assert parents_index(settings, name) == before
    assert proposed(settings).kinds == []


def test_an_index_of_a_plain_table_is_made_as_ever(settings: Settings) -> None:
    metadata = models()
    Index("new_index", metadata.tables["users"].c.full_name)
    assert proposed(settings, metadata).kinds == ["CreateIndexOp"]
