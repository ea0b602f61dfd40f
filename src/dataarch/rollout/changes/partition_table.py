"""Let a table with rows become one that is partitioned by time, while everybody goes on."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

from alembic.operations.ops import CreateIndexOp
from sqlalchemy import Connection, inspect

from dataarch.errors import InvalidChange
from dataarch.partitions.naming import catch_all_name
from dataarch.partitions.quoting import ident
from dataarch.rollout.changes.add_index import index_locks
from dataarch.rollout.changes.set_not_null import SetNotNull
from dataarch.rollout.drafting.directives import Alone, Sql
from dataarch.rollout.drafting.draft import Draft, Phase
from dataarch.rollout.drafting.indexes import created_by, definition, dropped_by, indexes_of
from dataarch.rollout.drafting.naming import listed, quoted, trimmed, word
from dataarch.rollout.drafting.tables import Table, table_of
from dataarch.rollout.drafting.text import MOMENT, docstring
from dataarch.rollout.operations import PartitionTableOp
from dataarch.rollout.operations.partition_obstacles import obstacles
from dataarch.rollout.operations.statements import verbatim

__all__ = ["PartitionTable"]

SHOWN = 5
"""Rows without a time that a refusal names."""


@dataclass(frozen=True, slots=True)
class PartitionTable:
    """Partition a table by time; then ``dataarch partitions maintain`` moves its rows to their months."""

    table: Annotated[str, "The table."]
    column: Annotated[str, "The column that says when: timestamptz, timestamp or date."]
    schema: Annotated[str | None, "The table's schema; by default the search path finds it."] = None

    def drafts(self, connection: Connection) -> list[Draft]:
        """Return what the last contracts need, NOT NULL and the time in the primary key, and these."""
        table = table_of(connection, self.table, self.schema)
        column = table.column(self.column)
        self._refuse(table)
        drafts = []
        if column.nullable:
            self._refuse_null(table)
            drafts += SetNotNull(self.table, self.column, schema=self.schema).drafts(connection)
        if self.column not in table.primary_key:
            drafts += self._keyed(table)
        return [*drafts, self._partitioned(table), self._analyzed(table)]

    def _refuse(self, table: Table) -> None:
        found = table.connection.execute(verbatim(obstacles(self.table, self.column, self.schema))).first()
        if found is not None:
            why, hint = found
            raise InvalidChange(
                f"The table {table.sql} cannot be partitioned by {quoted(self.column)}: {why}.",
                hint=hint,
                table=self.table,
                column=self.column,
            )
        table.keyed()

    def _refuse_null(self, table: Table) -> None:
        key, column = ", ".join(map(ident, table.primary_key)), ident(self.column)
        place = ident(table.name, table.home)
        some = table.connection.execute(
            verbatim(
                f"SELECT count(*) OVER (), ROW({key})::text FROM {place} WHERE {column} IS NULL"
                f" ORDER BY {key} LIMIT {SHOWN}"
            )
        ).all()
        if some:
            count, shown = some[0][0], ", ".join(row[1] for row in some)
            raise InvalidChange(
                f"The table {table.sql} cannot be partitioned by {quoted(self.column)}: it is NULL in {count} rows, "
                f"which belong to no month. Their {listed(table.primary_key)}: {shown}"
                f"{', …' if count > SHOWN else ''}.",
                hint=f"Fill them first: dataarch revision set-not-null {self.table} {self.column} --fill …",
                table=self.table,
                column=self.column,
            )

    def _keyed(self, table: Table) -> list[Draft]:
        """Return the revisions after which the time is part of the primary key."""
        key = str(inspect(table.connection).get_pk_constraint(table.name, schema=table.home)["name"])
        (old,) = (one for one in indexes_of(table) if one.constraint == key)
        wanted = (*table.primary_key, self.column)
        name = trimmed("_".join(["uq", self.table, *wanted]))
        table.free_relation(name, hint="Drop or rename that first.")
        making = created_by(table, _also(definition(table, name, old.body, unique=True), self.column))
        before = trimmed(f"{key}_before")
        return [
            Draft(
                Phase.EXPAND,
                word("unique", name),
                docstring(
                    f"Unique index {name} of {table.sql} on {listed(wanted)}, which is to be the primary key.",
                    index_locks(table),
                ),
                (making,),
                (dropped_by(table, name),),
            ),
            Draft(
                Phase.CONTRACT,
                word("key", *table.words, self.column),
                docstring(
                    f"The primary key of {table.sql} is {listed(wanted)}.",
                    f"Locks: ACCESS EXCLUSIVE on the table, {MOMENT}: it takes the index over.",
                    f"After it two rows may have the same {listed(table.primary_key)}, and ON CONFLICT "
                    f"({listed(table.primary_key)}) fails: no running version of the application may count on that "
                    "any more. Going down builds the former index anew, and fails if two rows are alike.",
                ),
                (_taking_over(table, key, name),),
                (
                    created_by(table, definition(table, before, old.body, unique=True)),
                    _taking_over(table, key, before),
                    making,
                ),
                {"ban-drop-constraint": "another primary key takes its place in the same statement"},
            ),
        ]

    def _partitioned(self, table: Table) -> Draft:
        moved = PartitionTableOp(self.table, self.column, schema=self.schema)
        return Draft(
            Phase.CONTRACT,
            word("partition", *table.words),
            docstring(
                f"The table {table.sql} is partitioned by {quoted(self.column)}, with all of its rows in the partition "
                f"{catch_all_name(table.name, None)}.",
                f"Locks: ACCESS EXCLUSIVE on the table and on those that its foreign keys refer to, {MOMENT}: no row "
                "is read.",
                "Then, once its model says partitioned(…): dataarch partitions maintain moves the rows to their months "
                "while everybody goes on. Until it has, this can go down; the rows that were written meanwhile stay.",
            ),
            (moved,),
            (moved.reverse(),),
        )

    def _analyzed(self, table: Table) -> Draft:
        return Draft(
            Phase.CONTRACT,
            word("analyze", *table.words),
            docstring(
                f"The planner knows the rows of {table.sql} as a whole again.",
                "Locks: SHARE UPDATE EXCLUSIVE while a sample of the rows is read: readers and writers go on.",
                "Autovacuum does this for partitions only: repeat it when the rows have changed a lot.",
            ),
            (Alone(Sql(f"ANALYZE {table.sql}")),),
            (),
        )


def _also(creation: CreateIndexOp, column: str) -> CreateIndexOp:
    """Return the same index with one more key."""
    creation.columns = [*creation.columns, column]
    if column in creation.kw.get("postgresql_include", ()):
        creation.kw["postgresql_include"].remove(column)
    return creation


def _taking_over(table: Table, key: str, index: str) -> Sql:
    """Return the statement by which an index becomes the primary key in place of the former one."""
    name = quoted(key)
    return Sql(
        f"ALTER TABLE {table.sql} DROP CONSTRAINT {name}, ADD CONSTRAINT {name} PRIMARY KEY USING INDEX {quoted(index)}"
    )
