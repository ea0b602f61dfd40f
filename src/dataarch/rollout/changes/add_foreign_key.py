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
from dataarch.rollout.operations import CreatePartitionedForeignKeyOp
from dataarch.rollout.operations.statements import verbatim

__all__ = ["AddForeignKey"]

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
        """Return expand and contract; expand alone for a partitioned table."""
        table = table_of(connection, self.table, self.schema)
        referent = table_of(connection, self.referent, self.schema)
        columns = tuple(self.columns.split(","))
        remote = tuple(self.to.split(",")) if self.to else referent.primary_key
        for one, names in ((table, columns), (referent, remote)):
            for name in names:
                one.column(name)
        name = self.name or trimmed(f"fk_{self.table}_{self.referent}")
        table.free_constraint(name)
        self._asked(table, referent, columns, remote)
        adding = CreateForeignKeyOp(
            name,
            self.table,
            self.referent,
            list(columns),
            list(remote),
            source_schema=self.schema,
            referent_schema=self.schema,
            ondelete=self.on_delete and self.on_delete.upper(),
        )
        says = f"{listed(columns)} of {table.sql} refers to {referent.sql}"
        return self._by_partition(adding, says) if table.partitioned else self._two(table, referent, adding, says)

    def _by_partition(self, adding: CreateForeignKeyOp, says: str) -> list[Draft]:
        making = CreatePartitionedForeignKeyOp(adding)
        return [
            Draft(
                Phase.EXPAND,
                word("refer", str(adding.constraint_name)),
                docstring(
                    f"Foreign key {adding.constraint_name}: {says}.",
                    "It is made partition by partition, because PostgreSQL before 18 has none that is not valid on a "
                    "partitioned table. It refuses if a row refers to none; correct it and run the revision again.",
                    "Locks: SHARE ROW EXCLUSIVE on both tables, and ACCESS EXCLUSIVE on the one referred to, for a "
                    "moment: nobody waits for longer than 0.1 s. SHARE UPDATE EXCLUSIVE on a partition while its rows "
                    "are looked up: readers and writers go on.",
                    f"Going down: ACCESS EXCLUSIVE on both tables and all partitions, {MOMENT}.",
                ),
                (making,),
                (making.reverse(),),
            )
        ]

    def _two(self, table: Table, referent: Table, adding: CreateForeignKeyOp, says: str) -> list[Draft]:
        on, both, name = OnTable(table), f"{table.sql} and {referent.sql}", str(adding.constraint_name)
        adding.kw["postgresql_not_valid"] = True
        dropping = on.drop_constraint(name, "foreignkey")
        return [
            Draft(
                Phase.EXPAND,
                word("refer", name),
                docstring(
                    f"Foreign key {name}, for rows that are written from now on: {says}.",
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
