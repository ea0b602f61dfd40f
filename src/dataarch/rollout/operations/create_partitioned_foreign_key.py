"""``op.create_partitioned_foreign_key``."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, TypedDict, Unpack

from alembic import op
from alembic.autogenerate import render_op_text, renderers
from alembic.autogenerate.api import AutogenContext
from alembic.operations import MigrateOperation, Operations
from alembic.operations.ops import CreateForeignKeyOp, DropConstraintOp

from dataarch.errors import InvalidValue
from dataarch.partitions.quoting import ident, literal
from dataarch.rollout.operations.statements import bounded, run, verbatim

__all__ = ["CreatePartitionedForeignKeyOp", "ForeignKeyOptions", "create_partitioned_foreign_key"]

ACTIONS = ("CASCADE", "RESTRICT", "SET NULL", "SET DEFAULT", "NO ACTION")


class ForeignKeyOptions(TypedDict, total=False):
    """What a foreign key can leave out."""

    source_schema: str | None
    referent_schema: str | None
    ondelete: str | None
    onupdate: str | None


@Operations.register_operation("create_partitioned_foreign_key")
class CreatePartitionedForeignKeyOp(MigrateOperation):
    """Give a partitioned table a foreign key, while everybody goes on reading and nobody waits for rows to be read."""

    def __init__(self, creation: CreateForeignKeyOp) -> None:
        """Wrap the creation of the foreign key, as Alembic has it."""
        for action in ("ondelete", "onupdate"):
            if (given := creation.kw.get(action)) is not None and str(given).upper() not in ACTIONS:
                raise InvalidValue(f"{action} cannot be {given!r}.", hint=f"It is one of: {', '.join(ACTIONS)}.")
        if creation.constraint_name is None:
            raise InvalidValue("A foreign key of a partitioned table needs a name.", table=creation.source_table)
        self.creation = creation

    @classmethod
    def create_partitioned_foreign_key(
        cls,
        operations: Operations,
        constraint_name: str,
        source_table: str,
        referent_table: str,
        local_cols: Sequence[str],
        remote_cols: Sequence[str],
        **options: Unpack[ForeignKeyOptions],
    ) -> None:
        """Add a foreign key, as :func:`create_partitioned_foreign_key` says."""
        made = CreateForeignKeyOp(
            constraint_name, source_table, referent_table, list(local_cols), list(remote_cols), **options
        )
        operations.invoke(cls(made))

    def reverse(self) -> DropConstraintOp:
        """Return the operation that drops the foreign key again, from the table and all partitions."""
        creation = self.creation
        schema = creation.kw.get("source_schema")
        return DropConstraintOp(creation.constraint_name, creation.source_table, type_="foreignkey", schema=schema)

    def to_diff_tuple(self) -> tuple[Any, ...]:
        """Return the difference as Alembic's comparison shows it."""
        return ("add_partitioned_fk", self.creation.to_constraint())


@renderers.dispatch_for(CreatePartitionedForeignKeyOp)
def _render(context: AutogenContext, operation: CreatePartitionedForeignKeyOp) -> str:
    plain = render_op_text(context, operation.creation)
    return plain.replace("create_foreign_key(", "create_partitioned_foreign_key(", 1)


@Operations.implementation_for(CreatePartitionedForeignKeyOp)
def _create(operations: Operations, operation: CreatePartitionedForeignKeyOp) -> None:
    context = operations.get_context()
    with context.autocommit_block():
        for query in (_adding(operation.creation), _validating(operation.creation)):
            if context.as_sql:
                context.impl.static_output(f"{query}\n\\gexec")
                continue
            connection = operations.get_bind()
            for statement in list(connection.scalars(verbatim(query))):
                connection.execute(verbatim(statement))
        run(operations, _of_the_whole(operation.creation))


def _table(creation: CreateForeignKeyOp) -> str:
    return ident(creation.source_table, creation.kw.get("source_schema"))


def _definition(creation: CreateForeignKeyOp) -> str:
    referent = ident(creation.referent_table, creation.kw.get("referent_schema"))
    local, remote = (", ".join(map(ident, columns)) for columns in (creation.local_cols, creation.remote_cols))
    actions = "".join(
        f" {words} {str(creation.kw[option]).upper()}"
        for option, words in (("ondelete", "ON DELETE"), ("onupdate", "ON UPDATE"))
        if creation.kw.get(option) is not None
    )
    name = ident(str(creation.constraint_name))
    return f"ADD CONSTRAINT {name} FOREIGN KEY ({local}) REFERENCES {referent} ({remote}){actions}"


def _adding(creation: CreateForeignKeyOp) -> str:
    """Query for statements that add it to each partition that has rows and lacks it, not valid yet."""
    rest = literal(f" {_definition(creation)} NOT VALID")
    return f"""
SELECT format({literal(bounded("%s;"))}, 'ALTER TABLE ' || relid::regclass || {rest})
FROM pg_partition_tree({literal(_table(creation))})
WHERE isleaf AND level > 0 AND NOT EXISTS (
    SELECT FROM pg_constraint WHERE conrelid = relid AND conname = {literal(str(creation.constraint_name))})
ORDER BY relid
""".strip()


def _validating(creation: CreateForeignKeyOp) -> str:
    """Query for statements that look up every row of the partitions where it is not valid yet."""
    name = str(creation.constraint_name)
    return f"""
SELECT 'ALTER TABLE ' || relid::regclass || {literal(f" VALIDATE CONSTRAINT {ident(name)}")}
FROM pg_partition_tree({literal(_table(creation))})
JOIN pg_constraint ON conrelid = relid AND conname = {literal(name)} AND NOT convalidated
WHERE isleaf AND level > 0
ORDER BY relid
""".strip()


def _of_the_whole(creation: CreateForeignKeyOp) -> str:
    """Return a DO block that adds it to the table, which finds those of the partitions, and reads no row of them.

    The triggers of those go from the other table, which takes ACCESS EXCLUSIVE: whoever held less by then would end
    each transaction that has read the table and now writes it, as a deadlock.
    """
    referent = ident(creation.referent_table, creation.kw.get("referent_schema"))
    return bounded(
        f"""
            IF NOT EXISTS (
                SELECT FROM pg_constraint WHERE conrelid = {literal(_table(creation))}::regclass
                    AND conname = {literal(str(creation.constraint_name))})
            THEN
                LOCK TABLE {referent} IN ACCESS EXCLUSIVE MODE;
                ALTER TABLE {_table(creation)} {_definition(creation)};
            END IF;"""
    )


def create_partitioned_foreign_key(
    constraint_name: str,
    source_table: str,
    referent_table: str,
    local_cols: Sequence[str],
    remote_cols: Sequence[str],
    **options: Unpack[ForeignKeyOptions],
) -> None:
    """Give a partitioned table a foreign key, partition by partition, so that nobody waits while rows are looked up.

    Args:
        constraint_name: of the foreign key, of the table and of each partition.
        source_table: a partitioned table; its partitions may be partitioned again.
        referent_table: the table that is referred to.
        local_cols: the columns that refer.
        remote_cols: the columns that are referred to, in the same order.
        options: ``source_schema``, ``referent_schema``, ``ondelete``, ``onupdate``, as for ``op.create_foreign_key``.

    Raises:
        UnknownReference: a row refers to none; correct it and run the revision again.
        LockTimeout: writers held a partition or the other table for 10 seconds.
        InvalidValue: it has no name, or an action that there is not.

    Guarantee: commits what the revision did before. Idempotent: killed at any moment, the next run completes it. SHARE
    ROW EXCLUSIVE on the tables, and in the end ACCESS EXCLUSIVE on the one that is referred to, for a moment, each
    waited for 0.1 s at a time; SHARE UPDATE EXCLUSIVE on a partition while its rows are looked up, which holds up no
    reader and no writer. A partition that comes meanwhile is looked up under the stronger lock.
    """
    made = CreateForeignKeyOp(
        constraint_name, source_table, referent_table, list(local_cols), list(remote_cols), **options
    )
    op.invoke(CreatePartitionedForeignKeyOp(made))
