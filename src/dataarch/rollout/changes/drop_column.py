"""Drop a column that no running version of the application uses any more."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

from sqlalchemy import Connection

from dataarch.errors import InvalidChange
from dataarch.rollout.drafting.dependents import Dependents, dependents_of
from dataarch.rollout.drafting.directives import Again
from dataarch.rollout.drafting.draft import Draft, Phase
from dataarch.rollout.drafting.naming import quoted, word
from dataarch.rollout.drafting.on_table import OnTable
from dataarch.rollout.drafting.tables import Column, Table, table_of
from dataarch.rollout.drafting.text import MOMENT, docstring

__all__ = ["DropColumn"]


@dataclass(frozen=True, slots=True)
class DropColumn:
    """Drop a column; first it may be left out by those who write."""

    table: Annotated[str, "The table."]
    column: Annotated[str, "The column."]
    schema: Annotated[str | None, "The table's schema; by default the search path finds it."] = None

    def drafts(self, connection: Connection) -> list[Draft]:
        """Return contract, and before it expand where the column is NOT NULL."""
        table = table_of(connection, self.table, self.schema)
        column = table.column(self.column)
        if column.made_by == "generated":
            raise InvalidChange(
                f"The column {quoted(column.name)} of {table.sql} is generated: its expression would be lost.",
                hint="Drop it in a revision of your own: op.drop_column.",
                table=self.table,
                column=self.column,
            )
        along = dependents_of(table, self.column)
        contract = self._contract(table, column, along)
        # an identity writes itself
        return (
            [contract] if column.nullable or column.made_by == "identity" else [self._expand(table, column), contract]
        )

    def _expand(self, table: Table, column: Column) -> Draft:
        on = OnTable(table)
        return Draft(
            Phase.EXPAND,
            word("leave_out", *table.words, column.name),
            docstring(
                f"Column {quoted(column.name)} of {table.sql} may be left out by those who write.",
                f"Locks: ACCESS EXCLUSIVE on the table, {MOMENT}.",
                "Going down fails where rows without a value have come meanwhile; readers and writers go on.",
            ),
            (on.nullable(column.name, nullable=True),),
            Again.together([on.not_null_again(column.name)]),
        )

    def _contract(self, table: Table, column: Column, along: Dependents) -> Draft:
        on = OnTable(table)
        # a sequence of its own goes with the column
        default = None if column.made_by else column.default
        back = [on.add_column(column.name, column.kind, column.type)]
        if along.names:
            # they are made in transactions of their own, and if killed there, going down begins once more
            back = [on.add_column_again(column.name, column.kind)]
        if default is not None:
            # afterwards, so that it is not taken for what the rows had
            back.append(on.default(column.name, default))
        return Draft(
            Phase.CONTRACT,
            word("drop", *table.words, column.name),
            docstring(
                f"Without the column {quoted(column.name)} of {table.sql}.",
                f"Locks: ACCESS EXCLUSIVE on the table, {MOMENT}.",
                f"With it go: {along.names}. Going down makes them anew while everybody goes on."
                if along.names
                else "",
                "ITS VALUES ARE LOST: going down brings the column back without any. A version of the application "
                "that still reads or writes it fails after this.",
            ),
            (on.drop_column(column.name),),
            Again.together([Again(tuple(back), ()), along.restored()]),
            {
                "ban-drop-column": "no version uses it any more; the docstring says what is lost",
            },
        )
