"""``op.create_partitioned_table`` and ``op.drop_partitioned_table``."""

from __future__ import annotations

from copy import copy
from datetime import date
from typing import Any

from alembic import op
from alembic.autogenerate import render_op_text, renderers
from alembic.autogenerate.api import AutogenContext
from alembic.operations import MigrateOperation, Operations
from alembic.operations.ops import CreateTableOp, DropTableOp
from sqlalchemy import Dialect, Table
from sqlalchemy.schema import SchemaItem

from dataarch.clock import Grain
from dataarch.errors import InvalidValue
from dataarch.models.partitioning import Partitioning, Policy, partitioned, partitioning_of
from dataarch.partitions.naming import catch_all_name, name_stem
from dataarch.partitions.quoting import ident, literal
from dataarch.rollout.operations.statements import bounded, lock_with_partitions, run

__all__ = [
    "CreatePartitionedTableOp",
    "DropPartitionedTableOp",
    "create_partitioned_table",
    "drop_partitioned_table",
]


@Operations.register_operation("create_partitioned_table")
class CreatePartitionedTableOp(MigrateOperation):
    """Make a table partitioned by time, with its catch-alls and the partitions from the present period on."""

    def __init__(
        self,
        creation: CreateTableOp,
        *,
        by: str = "created_at",
        grain: str = "month",
        premake: int = 12,
    ) -> None:
        """Wrap the creation of the parent, as Alembic has it, without ``PARTITION BY`` and its declaration."""
        self.creation = creation
        self.partitioning = Partitioning(by, Grain(grain), Policy(premake=premake))
        creation.kw.pop("postgresql_partition_by", None)
        creation.info = {key: value for key, value in creation.info.items() if not isinstance(value, Partitioning)}

    @property
    def table_name(self) -> str:
        """Name of the table."""
        return self.creation.table_name

    @property
    def schema(self) -> str | None:
        """Its schema; None for the one that is first in the search path."""
        return self.creation.schema

    def parent(self, dialect: Dialect) -> CreateTableOp:
        """Return the creation of the parent alone, with what makes it a partitioned table."""
        parent = copy(self.creation)
        column = dialect.identifier_preparer.quote(self.partitioning.column)
        parent.kw = {**parent.kw, "postgresql_partition_by": f"RANGE ({column})"}
        declared = partitioned(self.partitioning.column, grain=self.partitioning.grain, policy=self.partitioning.policy)
        parent.info = {**parent.info, **declared["info"]}
        return parent

    @classmethod
    def from_table(cls, table: Table) -> CreatePartitionedTableOp:
        """Return the operation that makes a table of the models, which declares its partitions."""
        declared = partitioning_of(table)
        if declared is None:
            raise InvalidValue(f"The table {table.name} does not say how it is partitioned.", table=table.name)
        return cls(
            CreateTableOp.from_table(table),
            by=declared.column,
            grain=declared.grain,
            premake=declared.policy.premake,
        )

    @classmethod
    def create_partitioned_table(
        cls,
        operations: Operations,
        table_name: str,
        *columns: SchemaItem,
        by: str = "created_at",
        grain: str = "month",
        premake: int = 12,
        schema: str | None = None,
        **kw: Any,
    ) -> Table:
        """Make a partitioned table, as :func:`create_partitioned_table` says."""
        creation = CreateTableOp(table_name, columns, schema=schema, **kw)
        made: Table = operations.invoke(cls(creation, by=by, grain=grain, premake=premake))
        return made

    def reverse(self) -> DropPartitionedTableOp:
        """Return the operation that drops the table again."""
        return DropPartitionedTableOp(self.table_name, schema=self.schema, reversed_by=self)

    def to_diff_tuple(self) -> tuple[Any, ...]:
        """Return the difference as Alembic's comparison shows it."""
        return ("add_partitioned_table", self.creation.to_table())


@Operations.register_operation("drop_partitioned_table")
class DropPartitionedTableOp(MigrateOperation):
    """Drop a partitioned table with its partitions and their rows."""

    def __init__(
        self, table_name: str, *, schema: str | None = None, reversed_by: CreatePartitionedTableOp | None = None
    ) -> None:
        self.table_name = table_name
        self.schema = schema
        self.reversed_by = reversed_by

    @classmethod
    def from_table(cls, table: Table) -> DropPartitionedTableOp:
        """Return the operation that drops a table of the models, and can be reversed."""
        return CreatePartitionedTableOp.from_table(table).reverse()

    @classmethod
    def drop_partitioned_table(cls, operations: Operations, table_name: str, *, schema: str | None = None) -> None:
        """Drop a partitioned table, as :func:`drop_partitioned_table` says."""
        operations.invoke(cls(table_name, schema=schema))

    def reverse(self) -> CreatePartitionedTableOp:
        """Return the operation that makes the table again, empty; raises InvalidValue if its columns are not known."""
        if self.reversed_by is None:
            raise InvalidValue(f"Nobody said which columns {self.table_name} has.", table=self.table_name)
        return self.reversed_by

    def to_diff_tuple(self) -> tuple[Any, ...]:
        """Return the difference as Alembic's comparison shows it."""
        table = self.reversed_by.creation.to_table() if self.reversed_by else DropTableOp(self.table_name).to_table()
        return ("remove_partitioned_table", table)


@renderers.dispatch_for(CreatePartitionedTableOp)
def _render_create(context: AutogenContext, operation: CreatePartitionedTableOp) -> str:
    partitioning = operation.partitioning
    plain = render_op_text(context, operation.creation)
    asked = f"by={partitioning.column!r},\ngrain={str(partitioning.grain)!r},\npremake={partitioning.policy.premake!r}"
    return plain.replace("create_table(", "create_partitioned_table(", 1).removesuffix("\n)") + f",\n{asked}\n)"


@renderers.dispatch_for(DropPartitionedTableOp)
def _render_drop(context: AutogenContext, operation: DropPartitionedTableOp) -> str:
    plain = render_op_text(context, DropTableOp(operation.table_name, schema=operation.schema))
    return plain.replace("drop_table(", "drop_partitioned_table(", 1)


@Operations.implementation_for(CreatePartitionedTableOp)
def _create(operations: Operations, operation: CreatePartitionedTableOp) -> Table:
    parent = operation.parent(operations.get_context().dialect)
    partitioning_of(parent.to_table(operations.get_context()))
    table: Table = operations.invoke(parent)
    run(operations, _partitions(operation))
    return table


@Operations.implementation_for(DropPartitionedTableOp)
def _drop(operations: Operations, operation: DropPartitionedTableOp) -> None:
    run(operations, _removal(ident(operation.table_name, operation.schema)))


LABELS = {
    Grain.DAY: "YYYY_MM_DD",
    Grain.WEEK: 'IYYY"_w"IW',
    Grain.MONTH: "YYYY_MM",
    Grain.YEAR: "YYYY",
}
"""How the server writes :meth:`~dataarch.clock.Grain.label`."""


def _partitions(operation: CreatePartitionedTableOp) -> str:
    """Return a DO block that makes the partitions, by the server's clock at the time when it is run.

    All reckoning is in timestamps without a zone that mean UTC, and each bound is written with its offset, so that
    neither the session's zone and date style matter, nor whether the column is a timestamptz, a timestamp or a date.
    """
    grain, table = operation.partitioning.grain, operation.table_name
    label, length = LABELS[grain], len(grain.label(date(2026, 1, 1)))
    months, rest = f"{name_stem(table, length)}_", f"{name_stem(table, length + len('rest_'))}_rest_"
    return f"""
DO $partitions$
DECLARE
    parent regclass := {literal(ident(table, operation.schema))}::regclass;
    home text := (SELECT nspname FROM pg_class JOIN pg_namespace ON pg_namespace.oid = relnamespace
                  WHERE pg_class.oid = parent);
    step interval := '1 {grain}';
    first timestamp := date_trunc('{grain}', now() AT TIME ZONE 'UTC');
    ending timestamp := first + {operation.partitioning.policy.premake + 1} * step;
    part record;
    holder text;
BEGIN
    FOR part IN
        SELECT {literal(catch_all_name(table, None))} AS name, NULL::timestamp AS lower, first AS upper
        UNION ALL
        SELECT {literal(months)} || to_char(period, '{label}'), period, period + step
            FROM generate_series(first, ending - step, step) AS period
        UNION ALL
        SELECT {literal(rest)} || to_char(ending, '{label}'), ending, NULL
    LOOP
        EXECUTE format('CREATE TABLE %I.%I PARTITION OF %s FOR VALUES FROM (%s) TO (%s)', home, part.name, parent,
            coalesce(quote_literal(to_char(part.lower, 'YYYY-MM-DD') || ' 00:00:00+00'), 'MINVALUE'),
            coalesce(quote_literal(to_char(part.upper, 'YYYY-MM-DD') || ' 00:00:00+00'), 'MAXVALUE'));
        -- default privileges may have granted it to somebody, whom no policy of the parent would hold back there
        FOR holder IN
            SELECT DISTINCT CASE grantee WHEN 0 THEN 'PUBLIC' ELSE quote_ident(pg_get_userbyid(grantee)) END
            FROM pg_class, LATERAL aclexplode(relacl)
            WHERE oid = to_regclass(format('%I.%I', home, part.name)) AND grantee <> relowner
        LOOP
            EXECUTE format('REVOKE ALL ON %I.%I FROM %s', home, part.name, holder);
        END LOOP;
    END LOOP;
END
$partitions$
""".strip()


def _removal(table: str) -> str:
    # its foreign keys are triggers of the tables they refer to, which are locked with it
    return bounded(
        f"""
            {lock_with_partitions(table)}
            DECLARE
                referenced regclass;
            BEGIN
                FOR referenced IN
                    SELECT DISTINCT confrelid::regclass FROM pg_constraint
                    WHERE conrelid = {literal(table)}::regclass AND contype = 'f'
                LOOP
                    EXECUTE format('LOCK TABLE %s IN ACCESS EXCLUSIVE MODE', referenced);
                END LOOP;
            END;
            DROP TABLE {table};"""
    )


def create_partitioned_table(
    table_name: str,
    *columns: SchemaItem,
    by: str = "created_at",
    grain: str = "month",
    premake: int = 12,
    schema: str | None = None,
    **kw: Any,
) -> Table:
    """Make a table partitioned by time, with a partition for each period from the present one to ``premake`` ahead.

    Every other instant lies in one of two catch-alls by range, so that no row is ever refused for want of a partition;
    there is no DEFAULT partition. Names: :mod:`dataarch.partitions.naming`.

    Args:
        table_name: name of the table.
        columns: columns, constraints and indexes, as for ``op.create_table``.
        by: the column that says when, NOT NULL and part of the primary key: timestamptz, or timestamp or date in UTC.
        grain: how long each period is: day, week, month or year.
        premake: periods ahead of the present one, by the server's clock.
        schema: the table's schema; by default the first of the search path.
        kw: as for ``op.create_table``.

    Returns:
        The table, for ``op.bulk_insert``.

    Raises:
        InvalidPartitioning: the column is not there, may be NULL or is not in the primary key; or premake is negative.

    Guarantee: part of the revision's transaction. Partitions have no grants, whatever the default privileges say. Locks
    (SHARE ROW EXCLUSIVE) the tables that its foreign keys refer to until the revision ends.
    """
    creation = CreateTableOp(table_name, columns, schema=schema, **kw)
    made: Table = op.invoke(CreatePartitionedTableOp(creation, by=by, grain=grain, premake=premake))
    return made


def drop_partitioned_table(table_name: str, *, schema: str | None = None) -> None:
    """Drop a partitioned table with its partitions; **their rows are lost**.

    Args:
        table_name: name of the table.
        schema: its schema; by default the search path finds it.

    Raises:
        LockTimeout: readers or writers held it, or a table that it refers to, through all tries.

    Guarantee: part of the revision's transaction. Takes ACCESS EXCLUSIVE on the table, its partitions and the tables
    that its foreign keys refer to, and keeps them until the revision ends; each is waited for 0.1 s at a time.
    """
    op.invoke(DropPartitionedTableOp(table_name, schema=schema))
