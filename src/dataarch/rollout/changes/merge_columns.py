"""Merge several columns into one, while both forms are used."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

from sqlalchemy import Connection

from dataarch.errors import InvalidChange
from dataarch.rollout.drafting.dependents import dependents_of
from dataarch.rollout.drafting.draft import Draft
from dataarch.rollout.drafting.expressions import assigned, kind_of_expression
from dataarch.rollout.drafting.naming import listed, quoted, word
from dataarch.rollout.drafting.replacement import NewColumn, Replacement
from dataarch.rollout.drafting.tables import table_of

__all__ = ["MergeColumns"]


@dataclass(frozen=True, slots=True)
class MergeColumns:
    """Merge columns into one: both forms are there, and in step, until no version uses the old one."""

    table: Annotated[str, "The table."]
    columns: Annotated[tuple[str, ...], "The columns that are merged."]
    into: Annotated[str, "The new column, as \"full_name=first_name || ' ' || last_name\"."] = ""
    back: Annotated[tuple[str, ...], "An old column, as \"first_name=split_part(full_name, ' ', 1)\"; for each."] = ()
    not_null: Annotated[bool, "The new column is NOT NULL in the end."] = False
    schema: Annotated[str | None, "The table's schema; by default the search path finds it."] = None

    def drafts(self, connection: Connection) -> list[Draft]:
        """Return expand, backfill and contract."""
        table = table_of(connection, self.table, self.schema)
        old = tuple(table.column(name) for name in self.columns)
        forward = assigned((self.into,) if self.into else (), option="--into")
        backward = assigned(self.back, option="--back")
        if set(backward) != set(self.columns):
            raise InvalidChange(
                f"--back says {listed(list(backward))}, but {listed(self.columns)} are merged.",
                hint="Say for each of them how it follows from the new column.",
                table=self.table,
            )
        (name,) = forward
        table.free(name)
        return Replacement(
            table=table,
            what=word("merge", *table.words, name),
            says=f"Column {quoted(name)} of {table.sql} instead of {listed(self.columns)}",
            old=old,
            new=(
                NewColumn(
                    name, kind_of_expression(table, forward[name]), nullable=not self.not_null, default=None, final=name
                ),
            ),
            forward=forward,
            backward=backward,
            along=dependents_of(table, *self.columns),
        ).drafts()
