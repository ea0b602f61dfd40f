"""Add a unique constraint whose index is built while everybody goes on."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

from alembic.operations import MigrateOperation
from sqlalchemy import Connection

from dataarch.rollout.changes.add_index import body_of, index_locks, within_partitions
from dataarch.rollout.drafting.directives import Sql
from dataarch.rollout.drafting.draft import Draft, Phase
from dataarch.rollout.drafting.indexes import created_by, definition, dropped_by
from dataarch.rollout.drafting.naming import listed, quoted, trimmed, word
from dataarch.rollout.drafting.on_table import OnTable
from dataarch.rollout.drafting.tables import Table, table_of
from dataarch.rollout.drafting.text import MOMENT, docstring

__all__ = ["AddUnique"]


@dataclass(frozen=True, slots=True)
class AddUnique:
    """Add a unique constraint, whose index is built while everybody goes on reading and writing."""

    table: Annotated[str, "The table."]
    columns: Annotated[tuple[str, ...], "Its columns."]
    name: Annotated[str | None, "What the constraint is called; by default uq_table_columns."] = None
    schema: Annotated[str | None, "The table's schema; by default the search path finds it."] = None

    def drafts(self, connection: Connection) -> list[Draft]:
        """Return two revisions, expand and contract; one for a partitioned table, which gets the index alone."""
        table = table_of(connection, self.table, self.schema)
        for column in self.columns:
            table.column(column)
        within_partitions(table, self.columns)
        name = self.name or trimmed("_".join(["uq", self.table, *self.columns]))
        table.free_relation(name)
        making = created_by(
            table,
            definition(table, name, body_of(table, self.columns, using="btree", where=None), unique=True),
        )
        no_constraint = (
            "PostgreSQL makes no constraint of an index of a partitioned table; the index refuses the same rows, and "
            "ON CONFLICT finds it."
            if table.partitioned
            else ""
        )
        expand = Draft(
            Phase.EXPAND,
            word("unique", name),
            docstring(
                f"Unique index {name} of {table.sql} on {listed(self.columns)}.",
                "Two rows with the same values make it fail, and nothing of it stays that would refuse a row.",
                no_constraint,
                index_locks(table),
            ),
            (making,),
            (dropped_by(table, name),),
        )
        return [expand] if table.partitioned else [expand, self._constraint(table, name, making)]

    def _constraint(self, table: Table, name: str, making: MigrateOperation) -> Draft:
        on = OnTable(table)
        return Draft(
            Phase.CONTRACT,
            word("constrain", name),
            docstring(
                f"Unique constraint {name} of {table.sql}, of the index of this name.",
                f"Locks: ACCESS EXCLUSIVE on the table, {MOMENT}.",
                "After it the index goes only with its constraint. Going down builds the index anew.",
            ),
            (Sql(f"ALTER TABLE {table.sql} ADD CONSTRAINT {quoted(name)} UNIQUE USING INDEX {quoted(name)}"),),
            (on.drop_constraint(name, "unique"), making),
        )
