"""Set a column NOT NULL without reading the table while others wait."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

from sqlalchemy import Connection

from dataarch.errors import InvalidChange
from dataarch.rollout.drafting.draft import Draft, Phase
from dataarch.rollout.drafting.naming import quoted, word
from dataarch.rollout.drafting.not_null import set_draft, unchecked_draft, validated_draft
from dataarch.rollout.drafting.tables import table_of

__all__ = ["SetNotNull"]


@dataclass(frozen=True, slots=True)
class SetNotNull:
    """Set a column NOT NULL by way of a CHECK; rows without a value can be filled first."""

    table: Annotated[str, "The table."]
    column: Annotated[str, "The column."]
    schema: Annotated[str | None, "The table's schema; by default the search path finds it."] = None

    def drafts(self, connection: Connection) -> list[Draft]:
        """Return three revisions: expand, and contract in two transactions."""
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
        return [
            unchecked_draft(table, self.column, Phase.EXPAND, what),
            validated_draft(table, self.column, what),
            set_draft(table, self.column, what),
        ]
