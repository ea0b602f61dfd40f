"""``op.create_dual_write`` and ``op.drop_dual_write``."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from alembic import op
from alembic.autogenerate import renderers
from alembic.autogenerate.api import AutogenContext
from alembic.operations import MigrateOperation, Operations

from dataarch.errors import InvalidChange
from dataarch.partitions.quoting import ident
from dataarch.rollout.dual_write import DualWrite
from dataarch.rollout.dual_write.removal import removal
from dataarch.rollout.operations.statements import bounded, lock_with_partitions, run

__all__ = ["CreateDualWriteOp", "DropDualWriteOp", "create_dual_write", "drop_dual_write"]


@Operations.register_operation("create_dual_write")
class CreateDualWriteOp(MigrateOperation):
    """Keep an old and a new form of a table's columns in step, whoever writes."""

    def __init__(self, write: DualWrite) -> None:
        self.write = write

    @classmethod
    def create_dual_write(cls, operations: Operations, name: str, table_name: str, **forms: Any) -> None:
        """Keep two forms in step, as :func:`create_dual_write` says."""
        operations.invoke(cls(DualWrite(name, table_name, **forms)))

    def reverse(self) -> DropDualWriteOp:
        """Return the operation that takes the trigger away again."""
        return DropDualWriteOp(self.write.name, self.write.table, schema=self.write.schema, reversed_by=self)

    def to_diff_tuple(self) -> tuple[Any, ...]:
        """Return the difference as Alembic's comparison shows it."""
        return ("add_dual_write", self.write)


@Operations.register_operation("drop_dual_write")
class DropDualWriteOp(MigrateOperation):
    """Take a dual write away; both forms stay as they are."""

    def __init__(
        self, name: str, table_name: str, *, schema: str | None = None, reversed_by: CreateDualWriteOp | None = None
    ) -> None:
        self.name = name
        self.table_name = table_name
        self.schema = schema
        self.reversed_by = reversed_by

    @classmethod
    def drop_dual_write(cls, operations: Operations, name: str, table_name: str, *, schema: str | None = None) -> None:
        """Take a dual write away, as :func:`drop_dual_write` says."""
        operations.invoke(cls(name, table_name, schema=schema))

    def reverse(self) -> CreateDualWriteOp:
        """Return the operation that makes it again; raises InvalidChange if its expressions are not known."""
        if self.reversed_by is None:
            raise InvalidChange(f"Nobody said what the dual write {self.name} writes.", table=self.table_name)
        return self.reversed_by

    def to_diff_tuple(self) -> tuple[Any, ...]:
        """Return the difference as Alembic's comparison shows it."""
        return ("remove_dual_write", self.schema, self.table_name, self.name)


@renderers.dispatch_for(CreateDualWriteOp)
def _render_create(context: AutogenContext, operation: CreateDualWriteOp) -> str:
    write = operation.write
    given = [repr(write.name), repr(write.table)]
    given += [f"forward={dict(write.forward)!r}", f"backward={dict(write.backward)!r}"]
    given += [] if write.schema is None else [f"schema={write.schema!r}"]
    given += [] if write.on_conflict == "refuse" else [f"on_conflict={write.on_conflict!r}"]
    lines = "".join(f"    {one},\n" for one in given)
    return f"{context.opts['alembic_module_prefix']}create_dual_write(\n{lines})"


@renderers.dispatch_for(DropDualWriteOp)
def _render_drop(context: AutogenContext, operation: DropDualWriteOp) -> str:
    schema = "" if operation.schema is None else f", schema={operation.schema!r}"
    prefix = context.opts["alembic_module_prefix"]
    return f"{prefix}drop_dual_write({operation.name!r}, {operation.table_name!r}{schema})"


@Operations.implementation_for(CreateDualWriteOp)
def _create(operations: Operations, operation: CreateDualWriteOp) -> None:
    table = ident(operation.write.table, operation.write.schema)
    lock = lock_with_partitions(table, mode="SHARE ROW EXCLUSIVE")
    run(operations, bounded(f"{lock}\n{operation.write.creation()}"))


@Operations.implementation_for(DropDualWriteOp)
def _drop(operations: Operations, operation: DropDualWriteOp) -> None:
    lock = lock_with_partitions(ident(operation.table_name, operation.schema))
    run(operations, bounded(f"{lock}\n{removal(operation.name, operation.table_name, operation.schema)}"))


def create_dual_write(
    name: str,
    table_name: str,
    *,
    forward: Mapping[str, str],
    backward: Mapping[str, str],
    schema: str | None = None,
    on_conflict: str = "refuse",
) -> None:
    """Keep an old and a new form of a table's columns in step from now on, whoever writes.

    Whoever writes one form has the other written with it, by a trigger; rows that are there already are left to a
    backfill. Which form was written, and what is a conflict: the operation's page in the reference.

    Args:
        name: of the trigger and its function, at most 50 bytes; a table's triggers run in the order of their names.
        table_name: a table, partitioned or not; partitions that come later are included.
        forward: each column of the new form, and an SQL expression over the other columns of the row, by bare names.
        backward: each column of the old form, and the same. One of the two may be empty: nothing is written there.
        schema: the table's schema; by default the search path finds it.
        on_conflict: ``refuse`` a row whose forms were both given and differ (``DualWriteConflict``), or let the ``old``
            or the ``new`` one win.

    Raises:
        InvalidChange: a column is not there, is generated, or has a default that is another each time.
        LockTimeout: writers held the table for 10 seconds.

    Guarantee: part of the revision's transaction. Takes SHARE ROW EXCLUSIVE on the table and its partitions, which
    holds up writers until the revision ends and no readers; it is waited for 0.1 s at a time. No row is touched.
    """
    op.invoke(CreateDualWriteOp(DualWrite(name, table_name, forward, backward, schema, on_conflict)))


def drop_dual_write(name: str, table_name: str, *, schema: str | None = None) -> None:
    """Take a dual write away: its trigger and its functions. Both forms stay as they are.

    Args:
        name: of the dual write.
        table_name: its table.
        schema: the table's schema; by default the search path finds it.

    Raises:
        InvalidChange: there is no such dual write on the table.
        LockTimeout: readers or writers held the table for 10 seconds.

    Guarantee: part of the revision's transaction. Takes ACCESS EXCLUSIVE on the table and its partitions until the
    revision ends; it is waited for 0.1 s at a time.
    """
    op.invoke(DropDualWriteOp(name, table_name, schema=schema))
