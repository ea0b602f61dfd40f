"""``op.enable_tenant_isolation`` and ``op.disable_tenant_isolation``."""

from __future__ import annotations

from typing import Any

from alembic import op
from alembic.autogenerate import renderers
from alembic.autogenerate.api import AutogenContext
from alembic.operations import MigrateOperation, Operations

from dataarch.models.tenancy import POLICY_NAME, policy_expression
from dataarch.partitions.quoting import ident, literal
from dataarch.rollout.operations.statements import bounded, lock_with_partitions, run

__all__ = [
    "DisableTenantIsolationOp",
    "EnableTenantIsolationOp",
    "disable_tenant_isolation",
    "enable_tenant_isolation",
]


@Operations.register_operation("enable_tenant_isolation")
class EnableTenantIsolationOp(MigrateOperation):
    """Let each tenant see and write its own rows of a table and of its partitions, and no others."""

    def __init__(self, table_name: str, column: str = "tenant_id", *, schema: str | None = None) -> None:
        self.table_name = table_name
        self.column = column
        self.schema = schema

    @classmethod
    def enable_tenant_isolation(
        cls, operations: Operations, table_name: str, column: str = "tenant_id", *, schema: str | None = None
    ) -> None:
        """Isolate tenants, as :func:`enable_tenant_isolation` says."""
        operations.invoke(cls(table_name, column, schema=schema))

    def reverse(self) -> DisableTenantIsolationOp:
        """Return the operation that takes the isolation away."""
        return DisableTenantIsolationOp(self.table_name, self.column, schema=self.schema)

    def to_diff_tuple(self) -> tuple[Any, ...]:
        """Return the difference as Alembic's comparison shows it."""
        return ("add_tenant_isolation", self.schema, self.table_name, self.column)


@Operations.register_operation("disable_tenant_isolation")
class DisableTenantIsolationOp(MigrateOperation):
    """Take the isolation of tenants away from a table and its partitions."""

    def __init__(self, table_name: str, column: str = "tenant_id", *, schema: str | None = None) -> None:
        self.table_name = table_name
        self.column = column
        self.schema = schema

    @classmethod
    def disable_tenant_isolation(
        cls, operations: Operations, table_name: str, column: str = "tenant_id", *, schema: str | None = None
    ) -> None:
        """Take isolation away, as :func:`disable_tenant_isolation` says."""
        operations.invoke(cls(table_name, column, schema=schema))

    def reverse(self) -> EnableTenantIsolationOp:
        """Return the operation that isolates the tenants again."""
        return EnableTenantIsolationOp(self.table_name, self.column, schema=self.schema)

    def to_diff_tuple(self) -> tuple[Any, ...]:
        """Return the difference as Alembic's comparison shows it."""
        return ("remove_tenant_isolation", self.schema, self.table_name, self.column)


@renderers.dispatch_for(EnableTenantIsolationOp)
def _render_enable(context: AutogenContext, operation: EnableTenantIsolationOp) -> str:
    return _rendered(context, "enable_tenant_isolation", operation)


@renderers.dispatch_for(DisableTenantIsolationOp)
def _render_disable(context: AutogenContext, operation: DisableTenantIsolationOp) -> str:
    return _rendered(context, "disable_tenant_isolation", operation)


def _rendered(context: AutogenContext, name: str, operation: EnableTenantIsolationOp | DisableTenantIsolationOp) -> str:
    column = "" if operation.column == "tenant_id" else f", {operation.column!r}"
    schema = "" if operation.schema is None else f", schema={operation.schema!r}"
    return f"{context.opts['alembic_module_prefix']}{name}({operation.table_name!r}{column}{schema})"


@Operations.implementation_for(EnableTenantIsolationOp)
def _enable(operations: Operations, operation: EnableTenantIsolationOp) -> None:
    # format() reads percent signs
    condition = policy_expression(ident(operation.column)).replace("%", "%%")
    policy = literal(f"CREATE POLICY {POLICY_NAME} ON %s USING ({condition}) WITH CHECK ({condition})")
    on_each = f"""
                EXECUTE format('DROP POLICY IF EXISTS {POLICY_NAME} ON %s', member);
                EXECUTE format({policy}, member);
                EXECUTE format('ALTER TABLE %s ENABLE ROW LEVEL SECURITY', member);"""
    run(operations, _on_each(ident(operation.table_name, operation.schema), on_each))


@Operations.implementation_for(DisableTenantIsolationOp)
def _disable(operations: Operations, operation: DisableTenantIsolationOp) -> None:
    # a policy of somebody else's would guard nothing without row-level security
    on_each = f"""
                EXECUTE format('DROP POLICY IF EXISTS {POLICY_NAME} ON %s', member);
                IF NOT EXISTS (SELECT FROM pg_policy WHERE polrelid = member) THEN
                    EXECUTE format('ALTER TABLE %s DISABLE ROW LEVEL SECURITY', member);
                END IF;"""
    run(operations, _on_each(ident(operation.table_name, operation.schema), on_each))


def _on_each(table: str, statements: str) -> str:
    """Return a DO block that runs statements for a table and each of its partitions, of all levels, all or none."""
    return bounded(
        f"""
            {lock_with_partitions(table)}
            DECLARE
                member regclass;
            BEGIN
                FOR member IN
                    SELECT {literal(table)}::regclass UNION SELECT relid FROM pg_partition_tree({literal(table)})
                LOOP
                    {statements.strip()}
                END LOOP;
            END;"""
    )


def enable_tenant_isolation(table_name: str, column: str = "tenant_id", *, schema: str | None = None) -> None:
    """Let each tenant see and write its own rows of a table, and no others, also where a partition is named.

    The policy is that of :func:`dataarch.models.tenancy.policy_expression`, for reading and writing; row-level security
    is enabled, not forced: the owner stands outside it.

    Args:
        table_name: a table, partitioned or not.
        column: the column that says whose row it is: a uuid.
        schema: the table's schema; by default the search path finds it.

    Raises:
        LockTimeout: readers or writers held the table through all tries.

    Guarantee: part of the revision's transaction; idempotent; a different policy of this name is replaced. Takes ACCESS
    EXCLUSIVE on the table and its partitions and keeps it until the revision ends; it is waited for 0.1 s at a time.
    """
    op.invoke(EnableTenantIsolationOp(table_name, column, schema=schema))


def disable_tenant_isolation(table_name: str, column: str = "tenant_id", *, schema: str | None = None) -> None:
    """Take the isolation of tenants away from a table and its partitions.

    Where other policies remain, row-level security stays enabled for them.

    Args:
        table_name: a table, partitioned or not.
        column: the column, so that the operation can be reversed.
        schema: the table's schema; by default the search path finds it.

    Raises:
        LockTimeout: readers or writers held the table through all tries.

    Guarantee: as for :func:`enable_tenant_isolation`.
    """
    op.invoke(DisableTenantIsolationOp(table_name, column, schema=schema))
