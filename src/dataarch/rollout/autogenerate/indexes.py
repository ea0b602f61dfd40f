"""Make and drop indexes of partitioned tables partition by partition, without locking them all."""

from __future__ import annotations

from alembic.operations import MigrateOperation
from alembic.operations.ops import CreateIndexOp, DropIndexOp, ModifyTableOps
from sqlalchemy import text

from dataarch.models.declared import qualified
from dataarch.rollout.autogenerate.run import Run
from dataarch.rollout.operations import CreatePartitionedIndexOp

__all__ = ["compare_indexes"]

OPERATOR_CLASSES = text(
    """
    SELECT attname, opcname
    FROM pg_index, LATERAL unnest(indclass::oid[], indkey::int2[]) AS part (class, key)
    JOIN pg_opclass ON pg_opclass.oid = class AND NOT opcdefault
    JOIN pg_attribute ON attnum = key
    WHERE indexrelid = to_regclass(:index) AND attrelid = indrelid
    """
)


def compare_indexes(run: Run) -> None:
    """Propose partitioned indexes where Alembic proposes plain ones on a partitioned table that is there and stays.

    A plain ``CREATE INDEX`` would let no one write to any partition until all are indexed. A table that is made by the
    same revision is empty: its indexes are made with it, in one transaction.
    """
    for operation in run.operations.ops:
        if isinstance(operation, ModifyTableOps) and _stays_partitioned(run, operation):
            operation.ops[:] = [_partitioned(run, one) for one in operation.ops]


def _stays_partitioned(run: Run, operation: ModifyTableOps) -> bool:
    relation = run.catalog.find(operation.table_name, operation.schema)
    leaves = (operation.schema, operation.table_name) in run.dropped
    return relation is not None and relation.key is not None and not leaves


def _partitioned(run: Run, operation: MigrateOperation) -> MigrateOperation:
    if isinstance(operation, CreateIndexOp):
        return CreatePartitionedIndexOp(operation)
    if isinstance(operation, DropIndexOp):
        return CreatePartitionedIndexOp(_made_again(run, operation)).reverse()
    return operation


def _made_again(run: Run, operation: DropIndexOp) -> CreateIndexOp:
    """Return what makes an index again as it is: SQLAlchemy 2.0 does not see its operator classes."""
    made_again = operation.reverse()
    index = qualified(str(operation.index_name), operation.schema or run.catalog.default_schema)
    classes = {row.attname: row.opcname for row in run.connection.execute(OPERATOR_CLASSES, {"index": index})}
    if classes:
        made_again.kw["postgresql_ops"] = classes
    return made_again
