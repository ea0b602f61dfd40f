"""Set a column NOT NULL without reading the table while others wait."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

from sqlalchemy import Connection

from dataarch.errors import InvalidChange
from dataarch.rollout.drafting.copies import COPY, copied, told
from dataarch.rollout.drafting.draft import Draft
from dataarch.rollout.drafting.naming import quoted, word
from dataarch.rollout.drafting.not_null import filled_draft, set_draft, unchecked_draft, validated_draft
from dataarch.rollout.drafting.tables import Table, table_of

__all__ = ["SetNotNull"]


@dataclass(frozen=True, slots=True)
class SetNotNull:
    """Set a column NOT NULL by way of a CHECK; rows without a value can be filled first."""

    table: Annotated[str, "The table."]
    column: Annotated[str, "The column."]
    fill: Annotated[
        str | None, "What rows without a value get: SQL over the columns of the row, such as \"'none'\"."
    ] = None
    schema: Annotated[str | None, "The table's schema; by default the search path finds it."] = None

    def drafts(self, connection: Connection) -> list[Draft]:
        """Return expand, or a backfill where rows are filled first; and contract in transactions of their own."""
        table = table_of(connection, self.table, self.schema)
        column = table.column(self.column)
        if not column.nullable:
            raise InvalidChange(
                f"The column {quoted(self.column)} of {table.sql} is NOT NULL already.",
                hint="There is nothing to do.",
                table=self.table,
                column=self.column,
            )
        what = word("not_null", *table.words, self.column)
        filling = [] if self.fill is None else [self._filled(table, self.fill, what)]
        return [
            *filling,
            unchecked_draft(table, self.column, what, gate=what if filling else None),
            validated_draft(table, self.column, what),
            set_draft(table, self.column, what),
        ]

    def _filled(self, table: Table, fill: str, what: str) -> Draft:
        with copied(table) as connection:
            told(
                connection,
                f"EXPLAIN UPDATE {COPY} SET {quoted(self.column)} = ({fill})",
                refusal=f"{quoted(self.column)} of {table.sql} cannot be {fill}",
                hint="Write text in single quotes, and columns by their bare names.",
            )
        return filled_draft(table, self.column, fill, what)
