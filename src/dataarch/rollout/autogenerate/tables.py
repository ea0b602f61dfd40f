"""Compare how tables are partitioned: made and dropped whole, and a change seen that cannot be made in place."""

from __future__ import annotations

from collections import Counter
from datetime import datetime

from alembic.operations import MigrateOperation
from alembic.operations.ops import CreateTableOp, DropTableOp
from sqlalchemy import Connection, Table, text

from dataarch.clock import Grain, Period
from dataarch.errors import InvalidPeriod
from dataarch.models.partitioning import partitioning_of
from dataarch.partitions.catalog import Partition, partitions_of
from dataarch.rollout.autogenerate.catalog import Relation
from dataarch.rollout.autogenerate.partitioning_changed import PartitioningChangedOp
from dataarch.rollout.autogenerate.run import Run, table_key
from dataarch.rollout.autogenerate.scratch import asked
from dataarch.rollout.operations import CreatePartitionedTableOp, DropPartitionedTableOp
from dataarch.rollout.operations.statements import verbatim

__all__ = ["compare_partitioning"]

KEY = text("SELECT pg_get_partkeydef('pg_temp.dataarch_key'::regclass)")


def compare_partitioning(run: Run) -> None:
    """Propose partitioned tables where Alembic proposes plain ones, and name each change of how one is partitioned."""
    run.operations.ops[:] = [_translated(run, one) for one in run.operations.ops]
    changes = [change for table, relation in run.tables() if (change := _change(run, table, relation)) is not None]
    # before everything else: what cannot be done must not be found out half way
    run.first(*changes)


def _translated(run: Run, operation: MigrateOperation) -> MigrateOperation:
    if isinstance(operation, CreateTableOp):
        return _made(run, operation)
    if isinstance(operation, DropTableOp):
        return _dropped(run, operation)
    return operation


def _made(run: Run, operation: CreateTableOp) -> MigrateOperation:
    table = run.context.table_key_to_table[table_key(operation)]
    declared = partitioning_of(table)
    if declared is None:
        return operation
    return CreatePartitionedTableOp(
        operation, by=declared.column, grain=declared.grain, premake=declared.policy.premake
    )


def _dropped(run: Run, operation: DropTableOp) -> MigrateOperation:
    relation = run.catalog.find(operation.table_name, operation.schema)
    if relation is None or relation.key is None:
        return operation
    if relation.by is None:
        # the downgrade makes it again, and must partition it again
        operation.table_kw["postgresql_partition_by"] = relation.key
        return operation
    grain = grain_of(partitions_of(run.connection, relation.sql)) or Grain.MONTH
    made_again = CreatePartitionedTableOp(operation.reverse(), by=relation.by, grain=grain)
    return DropPartitionedTableOp(operation.table_name, schema=operation.schema, reversed_by=made_again)


def _change(run: Run, table: Table, relation: Relation) -> PartitioningChangedOp | None:
    declared = partitioning_of(table)
    wanted: str | None = table.dialect_options["postgresql"]["partition_by"]
    if wanted is not None and wanted != relation.key:
        wanted = _as_stored(run.connection, relation, wanted) or wanted
    if wanted != relation.key:
        return PartitioningChangedOp(table.name, was=relation.key, becomes=wanted, schema=table.schema)
    if declared is None:
        return None
    partitions = partitions_of(run.connection, relation.sql)
    found = grain_of(partitions)
    if found is None or declared.grain in grains_of(partitions):
        return None
    return PartitioningChangedOp(
        table.name,
        was=f"{relation.key} by {found}",
        becomes=f"{wanted} by {declared.grain}",
        schema=table.schema,
    )


def _as_stored(connection: Connection, relation: Relation, key: str) -> str | None:
    """Return a partition key in the server's own words; None if the table lacks what it names."""

    def question() -> str | None:
        connection.execute(verbatim(f"CREATE TEMPORARY TABLE dataarch_key (LIKE {relation.sql}) PARTITION BY {key}"))
        stored: str | None = connection.scalar(KEY)
        return stored

    return asked(connection, question)


def grains_of(partitions: list[Partition]) -> Counter[Grain]:
    """Return how many partitions are whole periods of each grain; catch-alls and odd ranges count for none."""
    grains = (_grain(one.lower, one.upper) for one in partitions)
    return Counter(grain for grain in grains if grain is not None)


def grain_of(partitions: list[Partition]) -> Grain | None:
    """Return the grain that most partitions have; None if no partition tells."""
    most = grains_of(partitions).most_common(1)
    return most[0][0] if most else None


def _grain(lower: datetime | None, upper: datetime | None) -> Grain | None:
    if lower is None or upper is None:
        return None
    for grain in Grain:
        period = Period.of(lower, grain)
        try:
            if (period.start, period.end) == (lower, upper):
                return grain
        except InvalidPeriod:
            # the calendar ends in it
            continue
    return None
