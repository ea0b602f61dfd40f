"""Add an index while everybody goes on reading and writing."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

from sqlalchemy import Connection, text

from dataarch.errors import InvalidChange
from dataarch.rollout.drafting.copies import COPY, copied, told
from dataarch.rollout.drafting.draft import Draft, Phase
from dataarch.rollout.drafting.indexes import created_by, definition, dropped_by
from dataarch.rollout.drafting.naming import quoted, slug, trimmed, word
from dataarch.rollout.drafting.tables import Table, table_of
from dataarch.rollout.drafting.text import docstring

__all__ = ["AddIndex", "body_of", "index_locks", "within_partitions"]

BODY = text(
    f"""
    SELECT substr(written, strpos(written, ' USING ') + 1)
    FROM pg_index, pg_get_indexdef(indexrelid) AS written WHERE indrelid = '{COPY}'::regclass
    """
)


@dataclass(frozen=True, slots=True)
class AddIndex:
    """Add an index while everybody goes on reading and writing."""

    table: Annotated[str, "The table."]
    columns: Annotated[tuple[str, ...], "Its columns, or expressions such as 'lower(email)' or 'created_at DESC'."]
    unique: Annotated[bool, "Refuse two rows with the same values."] = False
    where: Annotated[str | None, "Index only the rows for which this is true."] = None
    using: Annotated[str, "The method: btree, gin, gist, hash, brin."] = "btree"
    name: Annotated[str | None, "What the index is called; by default idx_table_columns."] = None
    schema: Annotated[str | None, "The table's schema; by default the search path finds it."] = None

    def drafts(self, connection: Connection) -> list[Draft]:
        """Return the one revision: expand."""
        table = table_of(connection, self.table, self.schema)
        name = self.name or trimmed("_".join(["idx", self.table, *(slug(one) for one in self.columns)]))
        table.free_relation(name)
        if self.unique:
            within_partitions(table, self.columns)
        body = body_of(table, self.columns, using=self.using, where=self.where)
        creation = definition(table, name, body, unique=self.unique)
        says = f"Index {name} of {table.sql} on {', '.join(self.columns)}."
        return [
            Draft(
                Phase.EXPAND,
                word("index", name),
                docstring(says, index_locks(table)),
                (created_by(table, creation),),
                (dropped_by(table, name),),
            )
        ]


def body_of(table: Table, columns: tuple[str, ...], *, using: str, where: str | None) -> str:
    """Return an index's definition as the server writes it; it is asked on an empty copy of the table.

    Raises:
        InvalidChange: a column, an expression, the method or the condition does not fit.
    """
    keys = ", ".join(quoted(one) if one in table.columns else one for one in columns)
    condition = f" WHERE {where}" if where else ""
    with copied(table) as connection:
        told(
            connection,
            f"CREATE INDEX ON {COPY} USING {quoted(using)} ({keys}){condition}",
            refusal=f"An index of {table.sql} on {', '.join(columns)} cannot be made",
            hint=f"Its columns are: {', '.join(table.columns)}.",
        )
        return str(connection.scalar(BODY))


def within_partitions(table: Table, columns: tuple[str, ...]) -> None:
    """Raise InvalidChange if a unique key of a partitioned table lacks a column that it is partitioned by."""
    missing = [one for one in table.partition_key if one not in columns]
    if missing:
        raise InvalidChange(
            f"A unique key of {table.sql} needs {' and '.join(map(quoted, missing))}: the table is partitioned by it, "
            "and each partition looks only among its own rows.",
            hint="Add it to the columns.",
            table=table.name,
            column=missing[0],
        )


def index_locks(table: Table) -> str:
    """Return which locks the creation of an index takes, for a docstring."""
    if table.partitioned:
        return (
            "Locks: SHARE on the table for a moment, SHARE UPDATE EXCLUSIVE on each partition while its index is "
            "built: nobody waits for longer than 0.1 s. Killed, the same revision completes it."
        )
    return (
        "Locks: SHARE UPDATE EXCLUSIVE on the table while the index is built: nobody waits. It waits for the "
        "transactions that are open when it begins. What a killed run has left is dropped first."
    )
