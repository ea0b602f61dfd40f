"""Look at a partitioned table: its partitions, the rows that lie outside a period, and work that was begun."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from sqlalchemy import Connection, Row, Table, text

from dataarch.errors import PartitionRefused, SchemaNotMigrated
from dataarch.models.partitioning import Partitioning, partitioning_of
from dataarch.partitions.catalog import Partition, marks_of, partitions_of, readable_times
from dataarch.partitions.clocks import EARLIEST
from dataarch.partitions.plan import is_catch_all
from dataarch.partitions.quoting import ident, lock_name, qualified
from dataarch.partitions.steps import Detached, Stray, Survey

__all__ = ["declared", "row_counts", "survey"]

PARENT = text(
    """
    SELECT relname, nspname, pg_get_partkeydef(pg_class.oid) AS key
    FROM pg_class JOIN pg_namespace ON pg_namespace.oid = relnamespace
    WHERE pg_class.oid = to_regclass(:table)
    """
)


OTHERS = """
SELECT EXISTS (
    SELECT FROM pg_locks
    WHERE locktype = 'advisory' AND granted AND objsubid = 1 AND pid <> pg_backend_pid()
      AND database = (SELECT oid FROM pg_database WHERE datname = current_database())
      AND (classid::int8 << 32 | objid::int8) = {key}
)
"""
"""A key of 64 bits is shown as two halves."""


def declared(table: Table) -> Partitioning:
    """Return what a table declares; raises :class:`PartitionRefused` for one that declares no partitions."""
    partitioning = partitioning_of(table)
    if partitioning is None:
        raise PartitionRefused(
            f"The table {table.name} does not say how it is partitioned.",
            hint='Let its model do so: __table_args__ = (…, partitioned("created_at")).',
            table=table.name,
        )
    return partitioning


def survey(connection: Connection, table: Table) -> Survey:
    """Return what there is of a partitioned table.

    Args:
        connection: of the owner of the table.
        table: one that declares its partitions.

    Raises:
        SchemaNotMigrated: it is not in the database.
        PartitionRefused: it is not partitioned there, or not by the range of the column that the model declares.

    Guarantee: changes nothing; reads the catch-alls once.
    """
    partitioning = declared(table)
    where = qualified(table)
    found = connection.execute(PARENT, {"table": where}).one_or_none()
    if found is None:
        raise SchemaNotMigrated(f"There is no table {table.fullname} in this database.", table=table.name)
    if (found.key or "").replace('"', "") != partitioning.partition_by.replace('"', ""):
        raise PartitionRefused(
            f"The table {table.fullname} is partitioned by {found.key or 'nothing'} in this database, and by "
            f"{partitioning.partition_by} in its model.",
            hint="Bring the database and the model in step: alembic upgrade head.",
            table=table.name,
        )
    partitions = partitions_of(connection, where)
    loose = [one for one in partitions if one.is_default or is_catch_all(found.relname, one, partitioning.grain)]
    marks = [
        (name, mark)
        for schema, name, mark in marks_of(connection)
        if schema == found.nspname and mark.get("of") == found.relname
    ]
    rows = row_counts(connection, loose)
    staged = tuple(name for name, mark in marks if mark.get("state") == "staged")
    return Survey(
        table=found.relname,
        now=connection.exec_driver_sql("SELECT clock_timestamp()").scalar_one(),
        partitions=tuple(partitions),
        strays=tuple(_strays(connection, [one for one in loose if rows[one.name]], partitioning)),
        rows=rows,
        lively=_lively(connection, partitions),
        detached=tuple(Detached(name, mark) for name, mark in marks if mark.get("state") == "retiring"),
        leftovers=() if _under_way(connection, found) else staged,
        kept=frozenset(name for name, mark in marks if mark.get("state") == "retired"),
    )


def _under_way(connection: Connection, found: Row[Any]) -> bool:
    """Return whether another maintenance is at work: what it has made so far is nobody's to remove."""
    key = lock_name(found.nspname, found.relname)
    answer: bool = connection.exec_driver_sql(OTHERS.format(key=key)).scalar_one()
    return answer


def row_counts(connection: Connection, partitions: Iterable[Partition]) -> dict[str, int]:
    """Count the rows of partitions, by their names."""
    return {
        one.name: connection.exec_driver_sql(f"SELECT count(*) FROM {qualified(one)}").scalar_one()
        for one in partitions
    }


def _strays(connection: Connection, partitions: Iterable[Partition], partitioning: Partitioning) -> list[Stray]:
    """Count the rows of each period; those of times that get no period are left out."""
    column = ident(partitioning.column)
    day = f"date_trunc('{partitioning.grain}', {column}::timestamptz AT TIME ZONE 'UTC')::date"
    found: list[Stray] = []
    with readable_times(connection):
        for one in partitions:
            counted = connection.exec_driver_sql(
                f"SELECT {day} AS first_day, count(*) FROM {qualified(one)}"
                f" WHERE {column} >= '{EARLIEST}' AND {column} < now() + interval '11 years' GROUP BY 1 ORDER BY 1"
            )
            found += [Stray(one.name, first_day, rows) for first_day, rows in counted]
    return found


def _lively(connection: Connection, partitions: Sequence[Partition]) -> frozenset[str]:
    if not partitions:
        return frozenset()
    asked = ", ".join(f"EXISTS (SELECT FROM {qualified(one)})" for one in partitions)
    answers = connection.exec_driver_sql(f"SELECT ARRAY[{asked}]").scalar_one()
    return frozenset(one.name for one, lively in zip(partitions, answers, strict=True) if lively)
