"""``op.set_table_aside`` and ``op.take_table_back``."""

from __future__ import annotations

from typing import Any

from alembic import op
from alembic.autogenerate import renderers
from alembic.autogenerate.api import AutogenContext
from alembic.operations import MigrateOperation, Operations

from dataarch.partitions.quoting import ident, literal
from dataarch.rollout.operations.statements import bounded, lock_with_partitions, run
from dataarch.rollout.set_aside import SCHEMA

__all__ = ["SetTableAsideOp", "TakeTableBackOp", "set_table_aside", "take_table_back"]


class _Move(MigrateOperation):
    """A table and its partitions change their schema."""

    def __init__(self, table_name: str, *, schema: str | None = None) -> None:
        self.table_name = table_name
        self.schema = schema


@Operations.register_operation("set_table_aside")
class SetTableAsideOp(_Move):
    """Move a table out of everybody's way, with its rows, keys and indexes."""

    @classmethod
    def set_table_aside(cls, operations: Operations, table_name: str, *, schema: str | None = None) -> None:
        """Move a table away, as :func:`set_table_aside` says."""
        operations.invoke(cls(table_name, schema=schema))

    def reverse(self) -> TakeTableBackOp:
        """Return the operation that brings the table back."""
        return TakeTableBackOp(self.table_name, schema=self.schema)

    def to_diff_tuple(self) -> tuple[Any, ...]:
        """Return the difference as Alembic's comparison shows it."""
        return ("set_table_aside", self.schema, self.table_name)


@Operations.register_operation("take_table_back")
class TakeTableBackOp(_Move):
    """Bring back a table that was set aside."""

    @classmethod
    def take_table_back(cls, operations: Operations, table_name: str, *, schema: str | None = None) -> None:
        """Bring a table back, as :func:`take_table_back` says."""
        operations.invoke(cls(table_name, schema=schema))

    def reverse(self) -> SetTableAsideOp:
        """Return the operation that sets the table aside."""
        return SetTableAsideOp(self.table_name, schema=self.schema)

    def to_diff_tuple(self) -> tuple[Any, ...]:
        """Return the difference as Alembic's comparison shows it."""
        return ("take_table_back", self.schema, self.table_name)


@renderers.dispatch_for(SetTableAsideOp)
def _render_away(_context: AutogenContext, operation: SetTableAsideOp) -> str:
    return f"op.set_table_aside({_arguments(operation)})"


@renderers.dispatch_for(TakeTableBackOp)
def _render_back(_context: AutogenContext, operation: TakeTableBackOp) -> str:
    return f"op.take_table_back({_arguments(operation)})"


def _arguments(operation: _Move) -> str:
    schema = "" if operation.schema is None else f", schema={operation.schema!r}"
    return f"{operation.table_name!r}{schema}"


@Operations.implementation_for(SetTableAsideOp)
def _away(operations: Operations, operation: SetTableAsideOp) -> None:
    run(operations, f"CREATE SCHEMA IF NOT EXISTS {SCHEMA}")
    run(operations, _moved(ident(operation.table_name, operation.schema), literal(SCHEMA)))


@Operations.implementation_for(TakeTableBackOp)
def _back(operations: Operations, operation: TakeTableBackOp) -> None:
    home = "current_schema()" if operation.schema is None else literal(operation.schema)
    run(operations, _moved(ident(operation.table_name, SCHEMA), home))
    run(operations, EMPTY)


EMPTY = f"""
DO $empty$
BEGIN
    IF NOT EXISTS (SELECT FROM pg_class WHERE relnamespace = to_regnamespace('{SCHEMA}')) THEN
        DROP SCHEMA {SCHEMA};
    END IF;
END
$empty$
"""


def _moved(table: str, target: str) -> str:
    """Return a DO block that moves a table and its partitions of every level, the partitions first."""
    return bounded(
        f"""
            {lock_with_partitions(table)}
            DECLARE
                moved regclass;
                first regclass := {literal(table)}::regclass;
            BEGIN
                FOR moved IN
                    SELECT relid FROM pg_partition_tree(first) WHERE relid <> first ORDER BY level DESC
                LOOP
                    EXECUTE format('ALTER TABLE %s SET SCHEMA %I', moved, {target});
                END LOOP;
                EXECUTE format('ALTER TABLE %s SET SCHEMA %I', first, {target});
            END;"""
    )


def set_table_aside(table_name: str, *, schema: str | None = None) -> None:
    """Move a table, with its partitions, rows, keys and indexes, into the schema ``dataarch_set_aside``.

    For those who use it, it is dropped; but ``op.take_table_back`` brings it back as it was. To lose it for good:
    ``DROP TABLE dataarch_set_aside.… CASCADE``.

    Args:
        table_name: name of the table.
        schema: its schema; by default the search path finds it.

    Raises:
        LockTimeout: readers or writers held it for 10 seconds.

    Guarantee: part of the revision's transaction. ACCESS EXCLUSIVE on the table and its partitions, each waited for
    0.1 s at a time; changes no row, so that its time does not depend on their number. Foreign keys stay: what it refers
    to can be deleted only as before. Refused where a table of this name is set aside already.
    """
    op.invoke(SetTableAsideOp(table_name, schema=schema))


def take_table_back(table_name: str, *, schema: str | None = None) -> None:
    """Bring back a table that ``op.set_table_aside`` has moved away.

    Args:
        table_name: name of the table.
        schema: where it belongs; by default the first schema of the search path.

    Raises:
        SchemaNotMigrated: nothing of this name is set aside.

    Guarantee: part of the revision's transaction, with the same locks. The schema goes with its last table.
    """
    op.invoke(TakeTableBackOp(table_name, schema=schema))
