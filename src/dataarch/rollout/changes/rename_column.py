"""Rename a column under which the previous version of the application goes on working."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

from sqlalchemy import Connection

from dataarch.rollout.drafting.carried import Carried, Successor
from dataarch.rollout.drafting.dependents import dependents_of
from dataarch.rollout.drafting.draft import Draft
from dataarch.rollout.drafting.naming import quoted, word
from dataarch.rollout.drafting.replacement import NewColumn, Replacement
from dataarch.rollout.drafting.tables import table_of

__all__ = ["RenameColumn"]


@dataclass(frozen=True, slots=True)
class RenameColumn:
    """Rename a column: both names are there, and in step, until no version uses the old one."""

    table: Annotated[str, "The table."]
    old: Annotated[str, "What the column is called now."]
    new: Annotated[str, "What it is to be called."]
    schema: Annotated[str | None, "The table's schema; by default the search path finds it."] = None

    def drafts(self, connection: Connection) -> list[Draft]:
        """Return expand, backfill and contract."""
        table = table_of(connection, self.table, self.schema)
        column = table.column(self.old)
        table.free(self.new)
        along = dependents_of(table, self.old)
        return Replacement(
            table=table,
            what=word("rename", *table.words, self.old),
            says=f"Column {quoted(self.new)} of {table.sql} instead of {quoted(self.old)}",
            old=(column,),
            new=(
                NewColumn(
                    self.new,
                    column.as_kind,
                    nullable=column.nullable,
                    default=column.default,
                    final=self.new,
                ),
            ),
            forward={self.new: quoted(self.old)},
            backward={self.old: quoted(self.new)},
            along=along,
            carried=(Carried(table, Successor(self.old, self.new), along),),
        ).drafts()
