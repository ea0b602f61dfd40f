"""Add a column, with a default or without."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

from sqlalchemy import Connection

from dataarch.errors import InvalidChange
from dataarch.rollout.drafting.draft import Draft, Phase
from dataarch.rollout.drafting.naming import quoted, word
from dataarch.rollout.drafting.not_null import filled_draft, set_draft, unchecked_draft, validated_draft
from dataarch.rollout.drafting.on_table import OnTable
from dataarch.rollout.drafting.tables import Table, table_of
from dataarch.rollout.drafting.text import MOMENT, docstring
from dataarch.rollout.drafting.types import Kind, kind_of

__all__ = ["AddColumn"]


@dataclass(frozen=True, slots=True)
class AddColumn:
    """Add a column; rows that are there get its default without being written anew, or batch by batch."""

    table: Annotated[str, "The table."]
    column: Annotated[str, "What the column is called."]
    type: Annotated[str, "Its type, as SQL has it: timestamptz, 'numeric(12, 2)'."]
    default: Annotated[str | None, "Its default, as SQL has it: \"'new'\", 0, 'now()', 'gen_random_uuid()'."] = None
    not_null: Annotated[bool, "Every row has a value; it needs a default."] = False
    schema: Annotated[str | None, "The table's schema; by default the search path finds it."] = None

    def drafts(self, connection: Connection) -> list[Draft]:
        """Return expand; backfill and contract too where the default differs from row to row."""
        table = table_of(connection, self.table, self.schema)
        table.free(self.column)
        if self.not_null and self.default is None:
            raise InvalidChange(
                f"The rows of {table.sql} would have no value for {quoted(self.column)}.",
                hint="Say which with --default; or add it without --not-null, fill it, and then set-not-null.",
                table=self.table,
                column=self.column,
            )
        kind = kind_of(connection, self.type, self.default)
        if self.default is None or not kind.rewrites:
            return [self._at_once(table, kind)]
        return self._row_by_row(table, kind_of(connection, self.type), self.default)

    def _row_by_row(self, table: Table, kind: Kind, default: str) -> list[Draft]:
        on, what = OnTable(table), word("add", *table.words, self.column)
        expand = Draft(
            Phase.EXPAND,
            what,
            docstring(
                f"Column {quoted(self.column)} of {table.sql}: {kind.kind}, default {default} for rows to come.",
                "The default is another for each row, so rows that are there are filled by a backfill.",
                f"Locks: ACCESS EXCLUSIVE on the table, {MOMENT}.",
                "Going down drops the column, and what has been written to it.",
            ),
            (on.add_column(self.column, kind.kind, kind.type), on.default(self.column, default)),
            (on.drop_column(self.column),),
            {"downgrade-loses-data": "the column goes with the version that writes it"},
        )
        filling = filled_draft(table, self.column, default, what)
        if not self.not_null:
            return [expand, filling]
        return [
            expand,
            filling,
            unchecked_draft(table, self.column, what, gate=what),
            validated_draft(table, self.column, what),
            set_draft(table, self.column, what),
        ]

    def _at_once(self, table: Table, kind: Kind) -> Draft:
        on = OnTable(table)
        what = "NOT NULL" if self.not_null else "NULL allowed"
        default = "without a default" if self.default is None else f"default {self.default}"
        return Draft(
            Phase.EXPAND,
            word("add", *table.words, self.column),
            docstring(
                f"Column {quoted(self.column)} of {table.sql}: {kind.kind}, {what}, {default}.",
                "" if self.default is None else "Rows that are there have the default at once: none is written anew.",
                f"Locks: ACCESS EXCLUSIVE on the table, {MOMENT}.",
                "Going down drops the column, and what has been written to it.",
            ),
            (on.add_column(self.column, kind.kind, kind.type, default=self.default, nullable=not self.not_null),),
            (on.drop_column(self.column),),
            {"downgrade-loses-data": "the column goes with the version that writes it"},
        )
