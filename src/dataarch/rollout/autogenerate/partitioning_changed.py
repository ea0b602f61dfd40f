"""``op.partitioning_changed``: what autogenerate proposes where PostgreSQL has no ALTER TABLE, and nobody can run."""

from __future__ import annotations

from typing import Any, NoReturn

from alembic.autogenerate import renderers
from alembic.autogenerate.api import AutogenContext
from alembic.operations import MigrateOperation, Operations

from dataarch.errors import InvalidPartitioning

__all__ = ["PartitioningChangedOp"]


@Operations.register_operation("partitioning_changed")
class PartitioningChangedOp(MigrateOperation):
    """A table's model says of its partitions what the table in the database does not."""

    def __init__(self, table_name: str, *, was: str | None, becomes: str | None, schema: str | None = None) -> None:
        self.table_name = table_name
        self.was = was
        self.becomes = becomes
        self.schema = schema

    @classmethod
    def partitioning_changed(
        cls,
        operations: Operations,
        table_name: str,
        *,
        was: str | None,
        becomes: str | None,
        schema: str | None = None,
    ) -> NoReturn:
        """Refuse.

        Args:
            operations: Alembic's.
            table_name: name of the table.
            was: how it is partitioned, for example ``RANGE (created_at) by month``; None if it is not.
            becomes: how its model says it should be.
            schema: the table's; None is the default one.

        Raises:
            InvalidPartitioning: always, with and without ``--sql``.
        """
        operations.invoke(cls(table_name, was=was, becomes=becomes, schema=schema))
        raise AssertionError("unreachable")

    def reverse(self) -> PartitioningChangedOp:
        """Return the change back, which cannot be run either."""
        return PartitioningChangedOp(self.table_name, was=self.becomes, becomes=self.was, schema=self.schema)

    def to_diff_tuple(self) -> tuple[Any, ...]:
        """Return what ``alembic check`` prints."""
        return ("modify_partitioning", self.schema, self.table_name, self.was, self.becomes)


@Operations.implementation_for(PartitioningChangedOp)
def _refuse(operations: Operations, operation: PartitioningChangedOp) -> NoReturn:  # noqa: ARG001  # its signature
    was, becomes = (operation.was or "not partitioned", operation.becomes or "not partitioned")
    raise InvalidPartitioning(
        f"The table {operation.table_name} is {was}, and its model says {becomes}: PostgreSQL cannot change that in "
        "place.",
        hint="Take the change out of the model; or put another revision in the place of this one: "
        + (
            f"dataarch revision partition-table {operation.table_name} COLUMN writes it."
            if operation.was is None
            else "make a new table as the model says, copy the rows, and swap the names."
        ),
        table=operation.table_name,
    )


@renderers.dispatch_for(PartitioningChangedOp)
def _render(context: AutogenContext, operation: PartitioningChangedOp) -> str:
    schema = "" if operation.schema is None else f", schema={operation.schema!r}"
    prefix = context.opts["alembic_module_prefix"]
    return (
        "# PostgreSQL cannot do this in place: it refuses to run, and says what to do\n"
        f"{prefix}partitioning_changed({operation.table_name!r}, was={operation.was!r}, "
        f"becomes={operation.becomes!r}{schema})"
    )
