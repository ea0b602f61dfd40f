"""``op.create_partitioned_index`` and ``op.drop_partitioned_index``."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from alembic import op
from alembic.autogenerate import render_op_text, renderers
from alembic.autogenerate.api import AutogenContext
from alembic.operations import MigrateOperation, Operations
from alembic.operations.ops import CreateIndexOp, DropIndexOp
from sqlalchemy import ColumnElement, Index, TextClause

from dataarch.errors import InvalidValue
from dataarch.rollout.operations.index_builder import build, print_build, print_removal, remove
from dataarch.rollout.operations.index_statements import IndexStatements

__all__ = [
    "CreatePartitionedIndexOp",
    "DropPartitionedIndexOp",
    "create_partitioned_index",
    "drop_partitioned_index",
]

Columns = Sequence[str | TextClause | ColumnElement[Any]]


@Operations.register_operation("create_partitioned_index")
class CreatePartitionedIndexOp(MigrateOperation):
    """Make an index on a partitioned table and on each partition, while everybody goes on reading and writing."""

    def __init__(self, creation: CreateIndexOp) -> None:
        """Wrap the creation of the index, as Alembic has it."""
        if creation.index_name is None:
            raise InvalidValue("An index of a partitioned table needs a name.", table=creation.table_name)
        # the partitions' indexes are built concurrently in any case, the parent's cannot be
        creation.kw.pop("postgresql_concurrently", None)
        if creation.kw.get("postgresql_tablespace") is not None:
            raise InvalidValue(
                f"The index {creation.index_name} cannot be given a tablespace here.",
                hint="Leave it away, and move the indexes afterwards: ALTER INDEX … SET TABLESPACE …",
                table=creation.table_name,
            )
        self.creation = creation
        self.index_name: str = creation.index_name

    @property
    def table_name(self) -> str:
        """Name of the partitioned table."""
        return self.creation.table_name

    @property
    def schema(self) -> str | None:
        """The table's schema; None for the one that is first in the search path."""
        return self.creation.schema

    @classmethod
    def from_index(cls, index: Index) -> CreatePartitionedIndexOp:
        """Return the operation that makes an index of the models."""
        return cls(CreateIndexOp.from_index(index))

    @classmethod
    def create_partitioned_index(
        cls,
        operations: Operations,
        index_name: str,
        table_name: str,
        columns: Columns,
        *,
        unique: bool = False,
        schema: str | None = None,
        **dialect_kw: Any,
    ) -> None:
        """Make an index, as :func:`create_partitioned_index` says."""
        operations.invoke(
            cls(CreateIndexOp(index_name, table_name, columns, schema=schema, unique=unique, **dialect_kw))
        )

    def reverse(self) -> DropPartitionedIndexOp:
        """Return the operation that drops the index again."""
        return DropPartitionedIndexOp(self.index_name, self.table_name, schema=self.schema, reversed_by=self)

    def to_diff_tuple(self) -> tuple[Any, ...]:
        """Return the difference as Alembic's comparison shows it."""
        return ("add_partitioned_index", self.creation.to_index())


@Operations.register_operation("drop_partitioned_index")
class DropPartitionedIndexOp(MigrateOperation):
    """Drop an index of a partitioned table, and with it those of the partitions."""

    def __init__(
        self,
        index_name: str,
        table_name: str,
        *,
        schema: str | None = None,
        reversed_by: CreatePartitionedIndexOp | None = None,
    ) -> None:
        self.index_name = index_name
        self.table_name = table_name
        self.schema = schema
        self.reversed_by = reversed_by

    @classmethod
    def from_index(cls, index: Index) -> DropPartitionedIndexOp:
        """Return the operation that drops an index of the models, and can be reversed."""
        return CreatePartitionedIndexOp.from_index(index).reverse()

    @classmethod
    def drop_partitioned_index(
        cls, operations: Operations, index_name: str, table_name: str, *, schema: str | None = None
    ) -> None:
        """Drop an index, as :func:`drop_partitioned_index` says."""
        operations.invoke(cls(index_name, table_name, schema=schema))

    def reverse(self) -> CreatePartitionedIndexOp:
        """Return the operation that makes the index again; raises InvalidValue if its definition is not known."""
        if self.reversed_by is None:
            raise InvalidValue(f"Nobody said what {self.index_name} is an index on.", table=self.table_name)
        return self.reversed_by

    def to_diff_tuple(self) -> tuple[Any, ...]:
        """Return the difference as Alembic's comparison shows it."""
        return ("remove_partitioned_index", self.reversed_by.creation.to_index() if self.reversed_by else None)


@renderers.dispatch_for(CreatePartitionedIndexOp)
def _render_create(context: AutogenContext, operation: CreatePartitionedIndexOp) -> str:
    return render_op_text(context, operation.creation).replace("create_index(", "create_partitioned_index(", 1)


@renderers.dispatch_for(DropPartitionedIndexOp)
def _render_drop(context: AutogenContext, operation: DropPartitionedIndexOp) -> str:
    plain = DropIndexOp(operation.index_name, operation.table_name, schema=operation.schema)
    return render_op_text(context, plain).replace("drop_index(", "drop_partitioned_index(", 1)


@Operations.implementation_for(CreatePartitionedIndexOp)
def _create(operations: Operations, operation: CreatePartitionedIndexOp) -> None:
    statements = IndexStatements(operation.index_name, operation.table_name, operation.schema)
    context = operations.get_context()
    with context.autocommit_block():
        if context.as_sql:
            print_build(operations, operation.creation, statements)
        else:
            build(operations.get_bind(), operation.creation, statements)


@Operations.implementation_for(DropPartitionedIndexOp)
def _drop(operations: Operations, operation: DropPartitionedIndexOp) -> None:
    statements = IndexStatements(operation.index_name, operation.table_name, operation.schema)
    context = operations.get_context()
    with context.autocommit_block():
        if context.as_sql:
            print_removal(operations, statements)
        else:
            remove(operations.get_bind(), statements)


def create_partitioned_index(
    index_name: str,
    table_name: str,
    columns: Columns,
    *,
    unique: bool = False,
    schema: str | None = None,
    **dialect_kw: Any,
) -> None:
    """Make an index on a partitioned table and on each partition, while everybody goes on reading and writing.

    Args:
        index_name: the parent's index; a partition's is called after the partition and this name.
        table_name: a partitioned table; its partitions may be partitioned again.
        columns: names of columns, or expressions, as for ``op.create_index``.
        unique: whether it is unique; then it must include the columns that the table is partitioned by.
        schema: the table's schema; by default the search path finds it.
        dialect_kw: as for ``op.create_index``: ``postgresql_using``, ``postgresql_where`` …; no tablespace.

    Raises:
        IndexDiffers: the name is taken by another index.
        LockTimeout: a lock was not granted for 60 seconds, or the upgrade's patience.
        AlreadyExists: two rows have the same key; the unfinished index is dropped, so that it refuses no row.
        InvalidValue: it has no name, or a tablespace.

    Guarantee: commits what the revision did before. Idempotent: killed at any moment, the next run completes it, uses
    what is valid and drops what is not; partitions that come meanwhile are included. Takes SHARE on the parent and
    ACCESS EXCLUSIVE on each new index for a moment, each waited for 0.1 s at a time; all else is SHARE UPDATE
    EXCLUSIVE, which holds up no reader and no writer. Each build waits for the transactions open when it began.
    """
    creation = CreateIndexOp(index_name, table_name, columns, schema=schema, unique=unique, **dialect_kw)
    op.invoke(CreatePartitionedIndexOp(creation))


def drop_partitioned_index(index_name: str, table_name: str, *, schema: str | None = None) -> None:
    """Drop an index of a partitioned table and of all its partitions.

    Args:
        index_name: the parent's index.
        table_name: its table.
        schema: the table's schema; by default the search path finds it.

    Raises:
        LockTimeout: readers or writers held the table for 60 seconds, or the upgrade's patience.

    Guarantee: commits what the revision did before. Idempotent, and no error where there is no such index. PostgreSQL
    drops no partitioned index concurrently: ACCESS EXCLUSIVE on the table and all partitions, for the moment that the
    catalog's change takes, waited for 0.1 s at a time.
    """
    op.invoke(DropPartitionedIndexOp(index_name, table_name, schema=schema))
