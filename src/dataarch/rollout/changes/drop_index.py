"""Drop an index while everybody goes on reading and writing."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

from sqlalchemy import Connection

from dataarch.errors import InvalidChange
from dataarch.rollout.drafting.draft import Draft, Phase
from dataarch.rollout.drafting.indexes import created_by, definition, dropped_by, index_of
from dataarch.rollout.drafting.naming import quoted, word
from dataarch.rollout.drafting.tables import table_of
from dataarch.rollout.drafting.text import MOMENT, docstring

__all__ = ["DropIndex"]


@dataclass(frozen=True, slots=True)
class DropIndex:
    """Drop an index while everybody goes on reading and writing."""

    table: Annotated[str, "The table."]
    name: Annotated[str, "The index."]
    schema: Annotated[str | None, "The table's schema; by default the search path finds it."] = None

    def drafts(self, connection: Connection) -> list[Draft]:
        """Return the one revision: contract."""
        table = table_of(connection, self.table, self.schema)
        index = index_of(table, self.name)
        if index.constraint is not None:
            raise InvalidChange(
                f"The index {quoted(self.name)} belongs to the constraint {quoted(index.constraint)}.",
                hint="Drop the constraint instead: op.drop_constraint.",
                table=self.table,
                constraint=index.constraint,
            )
        creation = definition(table, index.name, index.body, unique=index.unique)
        locks = (
            f"Locks: ACCESS EXCLUSIVE on the table and its partitions, {MOMENT}."
            if table.partitioned
            else "Locks: SHARE UPDATE EXCLUSIVE on the table: nobody waits. It waits for transactions that are open."
        )
        impossible = (
            "After it two rows may have the same values, and ON CONFLICT finds no such index."
            if index.unique
            else "After it what was found through the index is found by reading the whole table."
        )
        return [
            Draft(
                Phase.CONTRACT,
                word("drop_index", index.name),
                docstring(f"Without the index {index.name} of {table.sql}.", locks, impossible),
                (dropped_by(table, index.name),),
                (created_by(table, creation),),
            )
        ]
