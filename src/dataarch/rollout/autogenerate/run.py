"""What the comparators share: Alembic's context, the operations found so far, and one look at the catalog."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from alembic.autogenerate.api import AutogenContext
from alembic.operations import MigrateOperation
from alembic.operations.ops import CreateTableOp, DropTableOp, UpgradeOps
from sqlalchemy import Connection, MetaData, Table

from dataarch.models.declared import Declared, declared_in
from dataarch.rollout.autogenerate.catalog import Catalog, Relation

__all__ = ["Run", "table_key"]


@dataclass(frozen=True)
class Run:
    """One comparison.

    Attributes:
        context: Alembic's.
        operations: what Alembic and the comparators before this one propose, in the order of the upgrade.
        schemas: the schemas that are compared; None is the default one.
        connection: the one that is compared.
        catalog: what is in the database.
        created: the tables that Alembic proposes to make, by schema and name.
        dropped: the tables that it proposes to drop.
    """

    context: AutogenContext
    operations: UpgradeOps
    schemas: frozenset[str | None]
    connection: Connection
    catalog: Catalog
    created: frozenset[tuple[str | None, str]]
    dropped: frozenset[tuple[str | None, str]]

    @classmethod
    def of(cls, context: AutogenContext, operations: UpgradeOps, schemas: set[str | None]) -> Run:
        """Begin a comparison, after Alembic's own comparators and before others put operations in the place of theirs.

        Raises:
            RuntimeError: Alembic compares without a connection, which it never does.
        """
        if context.connection is None:
            raise RuntimeError("There is nothing to compare with: Alembic has no connection.")
        tables = [one for one in operations.ops if isinstance(one, CreateTableOp | DropTableOp)]
        created = frozenset((one.schema, one.table_name) for one in tables if isinstance(one, CreateTableOp))
        dropped = frozenset((one.schema, one.table_name) for one in tables if isinstance(one, DropTableOp))
        catalog = Catalog.of(context.connection)
        return cls(context, operations, frozenset(schemas), context.connection, catalog, created, dropped)

    @cached_property
    def declared(self) -> tuple[Declared, ...]:
        """Functions, triggers and policies of the models, but those that ``include_object`` leaves out."""
        given = self.context.metadata
        several = [given] if isinstance(given, MetaData) else list(given or [])
        found = [one for metadata in several for one in declared_in(metadata)]
        return tuple(one for one in found if self.included(one, one.name, one.kind))

    def tables(self) -> Iterator[tuple[Table, Relation]]:
        """Yield each table that is compared, as the models and as the database have it."""
        for table in self.context.sorted_tables:
            relation = self.catalog.find_table(table)
            if relation is not None and self.compared(table.schema) and self.included(table, table.name, "table"):
                yield table, relation

    def compared(self, schema: str | None) -> bool:
        """Tell whether a schema is compared."""
        return (None if schema == self.catalog.default_schema else schema) in self.schemas

    def included(self, thing: Any, name: str, kind: Any) -> bool:
        """Ask the environment's ``include_object`` about something of the models."""
        return self.context.run_object_filters(thing, name, kind, False, None)  # noqa: FBT003  # Alembic's signature

    def named(self, name: str, kind: Any, schema: str, table: str | None = None) -> bool:
        """Ask the environment's ``include_name`` about something of the database."""
        parents: Any = {"schema_name": None if schema == self.catalog.default_schema else schema, "table_name": table}
        return self.context.run_name_filters(name, kind, parents)

    def first(self, *operations: MigrateOperation) -> None:
        """Propose operations to be run before all others."""
        self.operations.ops[:0] = operations

    def last(self, *operations: MigrateOperation) -> None:
        """Propose operations to be run after all others so far."""
        self.operations.ops.extend(operations)


def table_key(operation: CreateTableOp) -> str:
    """Return what SQLAlchemy calls the table in its metadata."""
    return operation.table_name if operation.schema is None else f"{operation.schema}.{operation.table_name}"
