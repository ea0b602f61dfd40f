"""Change the type of a column without writing all rows while others wait."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

from alembic.operations import MigrateOperation
from alembic.operations.ops import AlterColumnOp
from sqlalchemy import Connection, text
from sqlalchemy.types import NullType

from dataarch.errors import InvalidChange
from dataarch.rollout.drafting.carried import Carried, Successor
from dataarch.rollout.drafting.copies import COPY, copied, told
from dataarch.rollout.drafting.dependents import Dependents, dependents_of
from dataarch.rollout.drafting.directives import Sql
from dataarch.rollout.drafting.draft import Draft, Phase
from dataarch.rollout.drafting.naming import quoted, trimmed, word
from dataarch.rollout.drafting.replacement import NewColumn, Replacement
from dataarch.rollout.drafting.tables import Column, Table, table_of
from dataarch.rollout.drafting.text import MOMENT, docstring
from dataarch.rollout.drafting.types import Kind, kind_of

__all__ = ["ChangeType"]

FILES = text(
    f"""
    SELECT array_agg(pg_relation_filenode(file) ORDER BY file)
    FROM (SELECT '{COPY}'::regclass::oid AS file UNION ALL
          SELECT indexrelid FROM pg_index WHERE indrelid = '{COPY}'::regclass) AS files
    """
)

DEFAULT = text(
    f"""
    SELECT pg_get_expr(adbin, adrelid) FROM pg_attrdef JOIN pg_attribute ON attrelid = adrelid AND attnum = adnum
    WHERE adrelid = '{COPY}'::regclass AND attname = :name
    """
)


@dataclass(frozen=True, slots=True)
class ChangeType:
    """Change a column's type: at once where no row is written anew, else by way of a second column."""

    table: Annotated[str, "The table."]
    column: Annotated[str, "The column."]
    type: Annotated[str, "Its new type, as SQL has it: bigint, 'varchar(200)'."]
    using: Annotated[str | None, "The new value of the old one, as SQL; by default a cast."] = None
    back: Annotated[str | None, "The old value of the new one, called column_new meanwhile; by default a cast."] = None
    schema: Annotated[str | None, "The table's schema; by default the search path finds it."] = None

    def drafts(self, connection: Connection) -> list[Draft]:
        """Return expand alone where no row has to be written anew; else expand, backfill and contract."""
        table = table_of(connection, self.table, self.schema)
        column = table.column(self.column)
        kind = kind_of(connection, self.type)
        if kind.kind == column.kind:
            raise InvalidChange(
                f"The column {quoted(self.column)} of {table.sql} is {kind.kind} already.",
                hint="There is nothing to do.",
                table=self.table,
                column=self.column,
            )
        along = dependents_of(table, self.column)
        if self.using is None and not along.constraints and _is_instant(table, column, kind):
            return [self._at_once(table, column, kind)]
        return self._by_way_of_another(table, column, kind, along)

    def _by_way_of_another(self, table: Table, column: Column, kind: Kind, along: Dependents) -> list[Draft]:
        meanwhile = trimmed(f"{column.name}_new")
        table.free(meanwhile)
        forward = self.using or f"{quoted(column.name)}::{kind.kind}"
        backward = self.back or f"{quoted(meanwhile)}::{column.kind}"
        return Replacement(
            table=table,
            what=word("type", *table.words, column.name),
            says=f"Column {quoted(column.name)} of {table.sql}: {kind.kind} instead of {column.kind}",
            old=(column,),
            new=(
                NewColumn(
                    meanwhile,
                    kind,
                    nullable=column.nullable,
                    default=self._default(table, column, kind),
                    final=column.name,
                ),
            ),
            forward={meanwhile: forward},
            backward={column.name: backward},
            along=along,
            carried=(Carried(table, Successor(column.name, meanwhile, kind.kind, forward), along),),
        ).drafts()

    def _default(self, table: Table, column: Column, kind: Kind) -> str | None:
        """Return the default as the server writes it for the new type."""
        if column.default is None:
            return None
        with copied(table) as connection:
            told(
                connection,
                f"ALTER TABLE {COPY} ALTER {quoted(column.name)} TYPE {kind.kind} USING NULL,"
                f" ALTER {quoted(column.name)} SET DEFAULT ({column.default})",
                refusal=f"The default {column.default} of {quoted(column.name)} is none of {kind.kind}",
                hint="Drop the default in a revision before, and give the column another one afterwards.",
            )
            found: str | None = connection.scalar(DEFAULT, {"name": column.name})
        return found

    def _at_once(self, table: Table, column: Column, kind: Kind) -> Draft:
        return Draft(
            Phase.EXPAND,
            word("type", *table.words, column.name),
            docstring(
                f"Column {quoted(column.name)} of {table.sql}: {kind.kind} instead of {column.kind}.",
                "No row is written anew: PostgreSQL keeps both types alike.",
                f"Locks: ACCESS EXCLUSIVE on the table, {MOMENT}.",
                "Going down reads every row under the same lock, and fails if one does not fit.",
            ),
            (_altered(table, column.name, kind),),
            (_altered(table, column.name, Kind(column.kind, column.type, rewrites=False)),),
        )


def _altered(table: Table, name: str, kind: Kind) -> MigrateOperation:
    if isinstance(kind.type, NullType):
        return Sql(f"ALTER TABLE {table.sql} ALTER COLUMN {quoted(name)} TYPE {kind.kind}")
    return AlterColumnOp(table.name, name, modify_type=kind.type, schema=table.schema)


def _is_instant(table: Table, column: Column, kind: Kind) -> bool:
    """Ask, on an empty copy, whether the server writes the table or one of its indexes anew."""
    with copied(table, including="INCLUDING ALL") as connection:
        before = connection.scalar(FILES)
        try:
            told(
                connection,
                f"ALTER TABLE {COPY} ALTER {quoted(column.name)} TYPE {kind.kind}",
                refusal=f"{quoted(column.name)} cannot become {kind.kind} by itself",
                hint="Say how with --using.",
            )
        except InvalidChange:
            return False
        return bool(before == connection.scalar(FILES))
