"""``op.partition_table`` and ``op.unpartition_table``."""

from __future__ import annotations

from typing import Any

from alembic import op
from alembic.autogenerate import renderers
from alembic.autogenerate.api import AutogenContext
from alembic.operations import MigrateOperation, Operations

from dataarch.errors import InvalidValue
from dataarch.partitions.blueprint import without_grants
from dataarch.partitions.naming import catch_all_name
from dataarch.partitions.quoting import ident, literal
from dataarch.rollout.dual_write.marks import UNMAKEABLE
from dataarch.rollout.operations.partition_obstacles import dependents, obstacles
from dataarch.rollout.operations.partition_statements import COUNTED, MADE, into, out_of
from dataarch.rollout.operations.statements import bounded, lock_with_partitions, run

__all__ = ["PartitionTableOp", "UnpartitionTableOp", "partition_table", "unpartition_table"]


@Operations.register_operation("partition_table")
class PartitionTableOp(MigrateOperation):
    """Let a table with rows become one that is partitioned by time; its rows stay where they are."""

    def __init__(self, table_name: str, by: str, *, schema: str | None = None) -> None:
        self.table_name = table_name
        self.by = by
        self.schema = schema

    @classmethod
    def partition_table(cls, operations: Operations, table_name: str, by: str, *, schema: str | None = None) -> None:
        """Partition a table, as :func:`partition_table` says."""
        operations.invoke(cls(table_name, by, schema=schema))

    def reverse(self) -> UnpartitionTableOp:
        """Return the operation that makes it an ordinary table again."""
        return UnpartitionTableOp(self.table_name, schema=self.schema, reversed_by=self)

    def to_diff_tuple(self) -> tuple[Any, ...]:
        """Return the difference as Alembic's comparison shows it."""
        return ("partition_table", self.schema, self.table_name, self.by)


@Operations.register_operation("unpartition_table")
class UnpartitionTableOp(MigrateOperation):
    """Let a table that was partitioned be an ordinary one again, while its rows are still where they were."""

    def __init__(
        self, table_name: str, *, schema: str | None = None, reversed_by: PartitionTableOp | None = None
    ) -> None:
        self.table_name = table_name
        self.schema = schema
        self.reversed_by = reversed_by

    @classmethod
    def unpartition_table(cls, operations: Operations, table_name: str, *, schema: str | None = None) -> None:
        """Take the partitioning back, as :func:`unpartition_table` says."""
        operations.invoke(cls(table_name, schema=schema))

    def reverse(self) -> PartitionTableOp:
        """Return the operation that partitions it; raises InvalidValue if its column is not known."""
        if self.reversed_by is None:
            raise InvalidValue(f"Nobody said by what {self.table_name} is partitioned.", table=self.table_name)
        return self.reversed_by

    def to_diff_tuple(self) -> tuple[Any, ...]:
        """Return the difference as Alembic's comparison shows it."""
        return ("unpartition_table", self.schema, self.table_name)


@renderers.dispatch_for(PartitionTableOp)
def _render_into(_context: AutogenContext, operation: PartitionTableOp) -> str:
    return f"op.partition_table({operation.table_name!r}, {operation.by!r}{_schema(operation.schema)})"


@renderers.dispatch_for(UnpartitionTableOp)
def _render_out_of(_context: AutogenContext, operation: UnpartitionTableOp) -> str:
    return f"op.unpartition_table({operation.table_name!r}{_schema(operation.schema)})"


def _schema(schema: str | None) -> str:
    return "" if schema is None else f", schema={schema!r}"


@Operations.implementation_for(PartitionTableOp)
def _into(operations: Operations, operation: PartitionTableOp) -> None:
    name, schema = operation.table_name, operation.schema
    table = ident(name, schema)
    lock = f"LOCK TABLE ONLY {table} IN ACCESS EXCLUSIVE MODE;"
    refused = f"({obstacles(name, operation.by, schema)})\nUNION ALL\n({_without_time(table, operation.by)})"
    run(operations, _moved(table, lock, refused, into(name, operation.by, schema)))


@Operations.implementation_for(UnpartitionTableOp)
def _out_of(operations: Operations, operation: UnpartitionTableOp) -> None:
    name, schema = operation.table_name, operation.schema
    table = ident(name, schema)
    refused = f"({_parted(name, schema)})\nUNION ALL\n({dependents(name, schema)})"
    run(operations, _moved(table, lock_with_partitions(table), refused, out_of(name, schema)))


def _without_time(table: str, by: str) -> str:
    """Return a query for what the revisions before should have done: the primary key has the time."""
    return f"""
SELECT {literal(f"its primary key lacks {by}")}, 'Let the revisions of dataarch revision partition-table run before.'
WHERE NOT EXISTS (
    SELECT FROM pg_constraint JOIN pg_attribute ON attrelid = conrelid AND attnum = ANY (conkey)
    WHERE conrelid = {literal(table)}::regclass AND contype = 'p' AND attname = {literal(by)})
""".strip()


def _parted(name: str, schema: str | None) -> str:
    """Return a query for why a table cannot be an ordinary one again."""
    rest = literal(catch_all_name(name, None))
    return f"""
SELECT 'it has ' || count(*) || ' partitions, and it can go back while all rows lie in the one that it began with',
    'Leave it partitioned: the version of the application that was there before works'
    ' with it too. To have one table nevertheless: make it, copy the rows, swap the names.'
FROM pg_inherits JOIN pg_class ON pg_class.oid = inhrelid
WHERE inhparent = {literal(ident(name, schema))}::regclass
HAVING count(*) <> 1 OR min(relname) <> {rest}
    OR min(pg_get_expr(relpartbound, inhrelid)) <> 'FOR VALUES FROM (MINVALUE) TO (MAXVALUE)'
""".strip()


def _moved(table: str, lock: str, refused: str, statements: str) -> str:
    """Return a DO block that locks a table and what it refers to, refuses what is in the way, and runs the statements.

    What it refers to is locked against readers too: the triggers of its foreign keys are exchanged there.
    """
    return bounded(
        f"""
            {lock}
            DECLARE
                found record;
                statement text;
                making text[];
                giving text[];
                counting text[];
            BEGIN
                FOR found IN
                    SELECT DISTINCT confrelid::regclass AS referenced FROM pg_constraint
                    WHERE conrelid = {literal(table)}::regclass AND contype = 'f' ORDER BY 1
                LOOP
                    EXECUTE format('LOCK TABLE %s IN ACCESS EXCLUSIVE MODE', found.referenced);
                END LOOP;
                FOR found IN SELECT * FROM ({refused}) AS refused (why, hint) LIMIT 1 LOOP
                    RAISE EXCEPTION USING ERRCODE = '{UNMAKEABLE}', TABLE = {literal(table)},
                        MESSAGE = {literal(table)} || ': ' || found.why, HINT = found.hint;
                END LOOP;
                SELECT array_agg(said ORDER BY place, said) FILTER (WHERE place < {MADE}),
                       array_agg(said ORDER BY place, said) FILTER (WHERE place >= {MADE} AND place < {COUNTED}),
                       array_agg(said) FILTER (WHERE place = {COUNTED})
                    INTO making, giving, counting FROM ({statements}) AS statements;
                FOREACH statement IN ARRAY coalesce(counting, '{{}}') LOOP
                    EXECUTE statement INTO statement;
                    giving := giving || statement;
                END LOOP;
                FOREACH statement IN ARRAY making LOOP
                    EXECUTE statement;
                END LOOP;
                {without_grants(table)};
                FOREACH statement IN ARRAY coalesce(giving, '{{}}') LOOP
                    EXECUTE statement;
                END LOOP;
            END;"""
    )


def partition_table(table_name: str, by: str, *, schema: str | None = None) -> None:
    """Let a table become one that is partitioned by time, with all of its rows in one catch-all partition.

    The table itself becomes the partition ``…_rest_min``, for every instant. Its name, owner, grants, policies,
    triggers, keys, indexes, foreign keys, sequences, defaults, rules and comments are those of the new one.
    :mod:`dataarch.partitions` then carves the periods out of it, which the table's model declares.

    Args:
        table_name: name of the table.
        by: the column that says when: timestamptz, or timestamp or date in UTC; part of the primary key.
        schema: the table's schema; by default the search path finds it.

    Raises:
        InvalidChange: something is in the way, such as a view, a foreign key to the table, or a unique key without the
            time; the message says what, why, and what to do. Nothing was changed.
        LockTimeout: readers or writers held the table, or one that it refers to, for 10 seconds.

    Guarantee: part of the revision's transaction. ACCESS EXCLUSIVE on the table and on those that its foreign keys
    refer to, each waited for 0.1 s at a time, until the revision ends; reads and writes no row, so that its time does
    not depend on their number. What it carries over is asked of the database that it runs in, once the table is locked.
    The partition keeps its policies, and has no grants.
    """
    op.invoke(PartitionTableOp(table_name, by, schema=schema))


def unpartition_table(table_name: str, *, schema: str | None = None) -> None:
    """Let a table that ``op.partition_table`` has partitioned be an ordinary one again.

    Args:
        table_name: name of the table.
        schema: its schema; by default the search path finds it.

    Raises:
        InvalidChange: it has another partition by now, such as a month that ``dataarch partitions maintain`` has made.
        LockTimeout: as for :func:`partition_table`.

    Guarantee: as for :func:`partition_table`; the rows that were written meanwhile stay too.
    """
    op.invoke(UnpartitionTableOp(table_name, schema=schema))
