"""Add a CHECK without reading the table while others wait."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

from sqlalchemy import Connection

from dataarch.rollout.drafting.copies import COPY, copied, told
from dataarch.rollout.drafting.draft import Draft, Phase
from dataarch.rollout.drafting.naming import word
from dataarch.rollout.drafting.on_table import OnTable
from dataarch.rollout.drafting.tables import table_of
from dataarch.rollout.drafting.text import MOMENT, docstring

__all__ = ["AddCheck"]


@dataclass(frozen=True, slots=True)
class AddCheck:
    """Add a CHECK: for rows written from now on, then for all of them."""

    table: Annotated[str, "The table."]
    name: Annotated[str, "What the constraint is called, such as ck_orders_amount_positive."]
    condition: Annotated[str, "What every row has to keep to, such as 'amount > 0'."]
    schema: Annotated[str | None, "The table's schema; by default the search path finds it."] = None

    def drafts(self, connection: Connection) -> list[Draft]:
        """Return two revisions: expand and contract."""
        table = table_of(connection, self.table, self.schema)
        table.free_constraint(self.name)
        with copied(table) as on_copy:
            told(
                on_copy,
                f"ALTER TABLE {COPY} ADD CHECK ({self.condition})",
                refusal=f"The rows of {table.sql} cannot be asked whether {self.condition}",
                hint=f"Its columns are: {', '.join(table.columns)}.",
            )
        on = OnTable(table)
        unchecked = on.check(self.name, self.condition)
        return [
            Draft(
                Phase.EXPAND,
                word("check", self.name),
                docstring(
                    f"CHECK {self.name} of {table.sql}, for rows that are written from now on: {self.condition}.",
                    "A row that breaks it and is there already cannot be updated until it is corrected, whatever "
                    "column the update is about.",
                    f"Locks: ACCESS EXCLUSIVE on the table, {MOMENT}.",
                ),
                (unchecked,),
                (on.drop_check(self.name),),
            ),
            Draft(
                Phase.CONTRACT,
                word("validate", self.name),
                docstring(
                    f"CHECK {self.name} of {table.sql} holds for every row.",
                    "Locks: SHARE UPDATE EXCLUSIVE on the table while every row is read: readers and writers go on.",
                    "It refuses if a row breaks the rule; after it none can.",
                ),
                (on.validate(self.name),),
                (on.drop_check(self.name), unchecked),
            ),
        ]
