"""Split a column into several, while both forms are used."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

from sqlalchemy import Connection

from dataarch.rollout.drafting.dependents import dependents_of
from dataarch.rollout.drafting.draft import Draft
from dataarch.rollout.drafting.expressions import assigned, kind_of_expression
from dataarch.rollout.drafting.naming import listed, quoted, word
from dataarch.rollout.drafting.replacement import NewColumn, Replacement
from dataarch.rollout.drafting.tables import table_of

__all__ = ["SplitColumns"]


@dataclass(frozen=True, slots=True)
class SplitColumns:
    """Split a column into several: both forms are there, and in step, until no version uses the old one."""

    table: Annotated[str, "The table."]
    column: Annotated[str, "The column that is split."]
    into: Annotated[tuple[str, ...], "A new column, as \"first_name=split_part(full_name, ' ', 1)\"; for each."] = ()
    back: Annotated[str, "The old column of the new ones, as \"first_name || ' ' || last_name\"."] = ""
    not_null: Annotated[bool, "The new columns are NOT NULL in the end."] = False
    schema: Annotated[str | None, "The table's schema; by default the search path finds it."] = None

    def drafts(self, connection: Connection) -> list[Draft]:
        """Return expand, backfill and contract."""
        table = table_of(connection, self.table, self.schema)
        column = table.column(self.column)
        forward = assigned(self.into, option="--into")
        backward = assigned((f"{self.column}={self.back}",) if self.back else (), option="--back")
        for name in forward:
            table.free(name)
        return Replacement(
            table=table,
            what=word("split", *table.words, self.column),
            says=f"Columns {listed(list(forward))} of {table.sql} instead of {quoted(self.column)}",
            old=(column,),
            new=tuple(
                NewColumn(
                    name, kind_of_expression(table, expression), nullable=not self.not_null, default=None, final=name
                )
                for name, expression in forward.items()
            ),
            forward=forward,
            backward=backward,
            along=dependents_of(table, self.column),
        ).drafts()
