"""Drop a table that no running version of the application uses any more, and keep its rows for a while."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

from sqlalchemy import Connection

from dataarch.rollout.drafting.dependents import refuse_dependents_of
from dataarch.rollout.drafting.draft import Draft, Phase
from dataarch.rollout.drafting.naming import word
from dataarch.rollout.drafting.tables import table_of
from dataarch.rollout.drafting.text import MOMENT, docstring
from dataarch.rollout.operations import SetTableAsideOp

__all__ = ["DropTable"]


@dataclass(frozen=True, slots=True)
class DropTable:
    """Drop a table; its rows are kept until somebody deletes what is set aside."""

    table: Annotated[str, "The table."]
    schema: Annotated[str | None, "The table's schema; by default the search path finds it."] = None

    def drafts(self, connection: Connection) -> list[Draft]:
        """Return the one revision: contract."""
        table = table_of(connection, self.table, self.schema)
        refuse_dependents_of(table)
        reach = "the table and its partitions" if table.partitioned else "the table"
        aside = SetTableAsideOp(self.table, schema=self.schema)
        return [
            Draft(
                Phase.CONTRACT,
                word("drop", *table.words),
                docstring(
                    f"Without the table {table.sql}.",
                    f"Locks: ACCESS EXCLUSIVE on {reach}, {MOMENT}.",
                    "A version of the application that still reads or writes it fails after this. The rows are kept, "
                    "with keys, indexes and foreign keys, in schema dataarch_set_aside, and going down brings them "
                    "back. Once nobody misses them: DROP TABLE dataarch_set_aside.… CASCADE; then they are lost.",
                ),
                (aside,),
                (aside.reverse(),),
            )
        ]
