"""Compare row-level security: a tenant's table and each of its partitions are guarded, by what the models declare."""

from __future__ import annotations

from collections.abc import Iterator

from alembic.operations import MigrateOperation
from alembic.operations.ops import CreateTableOp, DropTableOp
from sqlalchemy import Table

from dataarch.models.declared import RowPolicy
from dataarch.models.tenancy import POLICY_NAME, policy_expression, tenant_column
from dataarch.rollout.autogenerate.catalog import Relation, StoredPolicy, policies_of
from dataarch.rollout.autogenerate.objects import CreateObjectOp, DropObjectOp, ReplaceObjectOp
from dataarch.rollout.autogenerate.run import Run, table_key
from dataarch.rollout.autogenerate.scratch import asked, like
from dataarch.rollout.operations import DisableTenantIsolationOp, EnableTenantIsolationOp
from dataarch.rollout.operations.statements import verbatim

__all__ = ["KeepTenantIsolationOp", "compare_policies"]


class KeepTenantIsolationOp(EnableTenantIsolationOp):
    """Mend the isolation of a table that was isolated, though not everywhere or not rightly.

    Going back must not open what was closed before: it is kept.
    """

    def reverse(self) -> KeepTenantIsolationOp:  # type: ignore[override]  # it is its own reverse
        """Return what leaves the table isolated."""
        return self


def compare_policies(run: Run) -> None:
    """Propose isolation where it is missing or not as the models have it, and take away policies nobody declared."""
    for operation in list(run.operations.ops):
        if isinstance(operation, CreateTableOp):
            _guard(run, operation)
        elif isinstance(operation, DropTableOp):
            run.first(*_gone(run, operation))
    for table, relation in run.tables():
        if _wanted(run, table):
            run.last(*_surplus(run, table, relation))
            run.last(*_isolation(run, table, relation))
            run.last(*_others(run, table, relation))


def _guard(run: Run, operation: CreateTableOp) -> None:
    """Isolate a table as soon as it is made: an index of another table, built later on, commits what came before."""
    table = run.context.table_key_to_table[table_key(operation)]
    column = tenant_column(table)
    if not _wanted(run, table):
        return
    if column is not None:
        after = run.operations.ops.index(operation) + 1
        run.operations.ops.insert(after, EnableTenantIsolationOp(table.name, column.name, schema=table.schema))
    run.last(*(CreateObjectOp(one) for one in _declared_on(run, table)))


def _gone(run: Run, operation: DropTableOp) -> Iterator[MigrateOperation]:
    """Yield what takes the policies of a table away before it goes, so that they come back with it."""
    relation = run.catalog.find(operation.table_name, operation.schema)
    if relation is None:
        return
    column = tenant_column(operation.to_table())
    for name, policy in sorted(run.catalog.policies.get(relation.oid, {}).items()):
        if name == POLICY_NAME and column is not None:
            yield DisableTenantIsolationOp(operation.table_name, column.name, schema=operation.schema)
        else:
            yield DropObjectOp(_declaration(run, relation, name, policy))


def _wanted(run: Run, table: Table) -> bool:
    return run.included(table, POLICY_NAME, "policy")


def _isolation(run: Run, table: Table, relation: Relation) -> Iterator[MigrateOperation]:
    column = tenant_column(table)
    stored = [run.catalog.policies.get(one.oid, {}).get(POLICY_NAME) for one in run.catalog.tree(relation)]
    if column is None:
        if any(stored):
            yield DisableTenantIsolationOp(table.name, schema=table.schema)
        return
    rule = policy_expression(column.name)
    wanted = _as_stored(run, relation, f"USING ({rule}) WITH CHECK ({rule})")
    guarded = all(one.secured for one in run.catalog.tree(relation))
    if guarded and wanted is not None and all(one == wanted for one in stored):
        return
    isolated_before = relation.secured and stored[0] is not None
    kind = KeepTenantIsolationOp if isolated_before else EnableTenantIsolationOp
    yield kind(table.name, column.name, schema=table.schema)


def _surplus(run: Run, table: Table, relation: Relation) -> Iterator[MigrateOperation]:
    """Yield what takes undeclared policies away, from tables whose policies the models declare and their partitions."""
    declared = {one.name for one in _declared_on(run, table)}
    if tenant_column(table) is None and not declared:
        return
    for one in run.catalog.tree(relation):
        for name, policy in sorted(run.catalog.policies.get(one.oid, {}).items()):
            if name not in {*declared, POLICY_NAME} and run.named(name, "policy", one.schema, one.name):
                yield DropObjectOp(_declaration(run, one, name, policy))


def _others(run: Run, table: Table, relation: Relation) -> Iterator[MigrateOperation]:
    """Yield what makes the table's declared policies true."""
    there = run.catalog.policies.get(relation.oid, {})
    for declared in _declared_on(run, table):
        stored = there.get(declared.name)
        if stored is None:
            yield CreateObjectOp(declared)
        elif stored != _as_stored(run, relation, declared.definition) or not relation.secured:
            yield ReplaceObjectOp(declared, _declaration(run, relation, declared.name, stored))


def _declared_on(run: Run, table: Table) -> list[RowPolicy]:
    default = run.catalog.default_schema
    return [
        one
        for one in run.declared
        if isinstance(one, RowPolicy) and (one.schema or default, one.table) == (table.schema or default, table.name)
    ]


def _declaration(run: Run, relation: Relation, name: str, stored: StoredPolicy) -> RowPolicy:
    schema = None if relation.schema == run.catalog.default_schema else relation.schema
    return stored.declaration(name, relation.name, schema)


def _as_stored(run: Run, relation: Relation, definition: str) -> StoredPolicy | None:
    """Return a policy in the server's own words; None if the table lacks what it names."""

    def question() -> StoredPolicy:
        table = like(run.connection, relation.name, relation.sql)
        run.connection.execute(verbatim(f"CREATE POLICY wanted ON {table} {definition}"))
        (policies,) = policies_of(run.connection, table).values()
        return policies["wanted"]

    return asked(run.connection, question)
