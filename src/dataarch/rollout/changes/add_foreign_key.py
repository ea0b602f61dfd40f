"""Add a foreign key without reading the table while others wait."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

from alembic.operations.ops import CreateForeignKeyOp
from sqlalchemy import Connection

from dataarch.errors import InvalidChange
from dataarch.partitions.quoting import ident
from dataarch.rollout.drafting.copies import COPY, copied, told
from dataarch.rollout.drafting.draft import Draft, Phase
from dataarch.rollout.drafting.naming import listed, quoted, trimmed, word
from dataarch.rollout.drafting.on_table import OnTable
from dataarch.rollout.drafting.tables import Table, table_of
from dataarch.rollout.drafting.text import MOMENT, docstring
from dataarch.rollout.operations.statements import verbatim

__all__ = ["AddForeignKey"]

WITH_PARTITIONS = 18
"""The first version whose partitioned tables can have a foreign key that is not valid yet."""

ACTIONS = ("CASCADE", "RESTRICT", "SET NULL", "SET DEFAULT", "NO ACTION")


@dataclass(frozen=True, slots=True)
class AddForeignKey:
    """Add a foreign key: for rows written from now on, then for all of them."""

    table: Annotated[str, "The table that refers."]
    columns: Annotated[str, "Its columns, with commas between them: tenant_id,user_id."]
    referent: Annotated[str, "The table that is referred to."]
    to: Annotated[str | None, "Its columns, with commas between them; by default its primary key."] = None
    on_delete: Annotated[str | None, "CASCADE, RESTRICT, SET NULL, SET DEFAULT or NO ACTION."] = None
    name: Annotated[str | None, "What the constraint is called; by default fk_table_referent."] = None
    schema: Annotated[str | None, "The schema of both tables; by default the search path finds them."] = None

    def drafts(self, connection: Connection) -> list[Draft]:
        """Return two revisions: expand and contract."""
        table = table_of(connection, self.table, self.schema)
        referent = table_of(connection, self.referent, self.schema)
        columns = tuple(self.columns.split(","))
        remote = tuple(self.to.split(",")) if self.to else referent.primary_key
        for one, names in ((table, columns), (referent, remote)):
            for name in names:
                one.column(name)
        if table.partitioned and table.server < WITH_PARTITIONS:
            raise InvalidChange(
                f"PostgreSQL {table.server} checks all rows of the partitioned table {table.sql} at once: it has no "
                f"foreign key NOT VALID there, as {WITH_PARTITIONS} has.",
                hint="Add it NOT VALID to each partition, validate each, then add it to the table: that finds them.",
                table=self.table,
            )
        name = self.name or trimmed(f"fk_{self.table}_{self.referent}")
        table.free_constraint(name)
        self._asked(table, referent, columns, remote)
        return self._two(table, referent, (name, columns, remote))

    def _two(self, table: Table, referent: Table, key: tuple[str, tuple[str, ...], tuple[str, ...]]) -> list[Draft]:
        name, columns, remote = key
        on, both = OnTable(table), f"{table.sql} and {referent.sql}"
        adding = CreateForeignKeyOp(
            name,
            self.table,
            self.referent,
            list(columns),
            list(remote),
            source_schema=self.schema,
            referent_schema=self.schema,
            ondelete=self.on_delete and self.on_delete.upper(),
            postgresql_not_valid=True,
        )
        dropping = on.drop_constraint(name, "foreignkey")
        return [
            Draft(
                Phase.EXPAND,
                word("refer", name),
                docstring(
                    f"Foreign key {name}, for rows that are written from now on: {listed(columns)} of {table.sql} "
                    f"refers to {referent.sql}.",
                    f"Locks: SHARE ROW EXCLUSIVE on {both}, {MOMENT}: writers of both wait for it.",
                ),
                (adding,),
                (dropping,),
            ),
            Draft(
                Phase.CONTRACT,
                word("validate", name),
                docstring(
                    f"Foreign key {name} of {table.sql} holds for every row.",
                    f"Locks: SHARE UPDATE EXCLUSIVE on {table.sql} and ROW SHARE on {referent.sql} while every row is "
                    "read: readers and writers go on.",
                    "It refuses if a row refers to none; after it none can.",
                ),
                (on.validate(name),),
                (dropping, adding),
            ),
        ]

    def _asked(self, table: Table, referent: Table, columns: tuple[str, ...], remote: tuple[str, ...]) -> None:
        """Raise InvalidChange if the server would not have such a foreign key; it is asked on two empty copies."""
        if self.on_delete and self.on_delete.upper() not in ACTIONS:
            raise InvalidChange(
                f"ON DELETE cannot be {self.on_delete!r}.",
                hint=f"It is one of: {', '.join(ACTIONS)}.",
                table=table.name,
            )
        with copied(table) as on_copy:
            source = ident(referent.name, referent.home)
            on_copy.execute(verbatim(f"CREATE TEMPORARY TABLE dataarch_referent (LIKE {source} INCLUDING INDEXES)"))
            told(
                on_copy,
                f"ALTER TABLE {COPY} ADD FOREIGN KEY ({listed(columns)})"
                f" REFERENCES pg_temp.dataarch_referent ({listed(remote)})",
                refusal=f"{listed(columns)} of {table.sql} cannot refer to {listed(remote)} of {referent.sql}",
                hint=f"Name columns of the same types that are unique in {quoted(referent.name)} with --to.",
            )
