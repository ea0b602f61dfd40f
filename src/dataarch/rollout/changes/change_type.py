"""Change the type of a column without writing all rows while others wait."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Annotated

from alembic.operations import MigrateOperation
from alembic.operations.ops import AlterColumnOp
from sqlalchemy import Connection, text
from sqlalchemy.types import NullType

from dataarch.errors import InvalidChange
from dataarch.rollout.drafting.both_forms import Turned
from dataarch.rollout.drafting.carried import Carried, Successor
from dataarch.rollout.drafting.copies import COPY, copied, told
from dataarch.rollout.drafting.dependents import Dependents, dependents_of
from dataarch.rollout.drafting.directives import Sql
from dataarch.rollout.drafting.draft import Draft, Phase
from dataarch.rollout.drafting.expressions import renamed
from dataarch.rollout.drafting.naming import quoted, trimmed, word
from dataarch.rollout.drafting.replacement import NewColumn, Replacement
from dataarch.rollout.drafting.tables import Column, Table, table_of
from dataarch.rollout.drafting.text import MOMENT, docstring
from dataarch.rollout.drafting.types import Kind, kind_of

__all__ = ["ChangeType"]

COLLATE = re.compile(r"\bcollate\b", re.IGNORECASE)

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
        kind = self._kind(connection, column)
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

    def _kind(self, connection: Connection, column: Column) -> Kind:
        """Return the new type, with the old one's collation where none is written and it can have one."""
        kind = kind_of(connection, self.type)
        if kind.collated is None or not column.collated or COLLATE.search(self.type):
            return kind
        return kind_of(connection, kind.kind + column.collated)

    def _by_way_of_another(self, table: Table, column: Column, kind: Kind, along: Dependents) -> list[Draft]:
        meanwhile, afterwards = trimmed(f"{column.name}_new"), trimmed(f"{column.name}_old")
        table.free(meanwhile)
        table.free(afterwards)
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
            other_names=self._turned(table, column, kind),
        ).drafts()

    def _turned(self, table: Table, column: Column, kind: Kind) -> Turned:
        """Return how the columns follow from each other once the new one has the name."""
        meanwhile, afterwards = trimmed(f"{column.name}_new"), trimmed(f"{column.name}_old")
        names = {column.name: afterwards, meanwhile: column.name}
        forward, backward = f"{quoted(afterwards)}::{kind.kind}", f"{quoted(column.name)}::{column.kind}"
        if self.using is not None:
            forward = renamed(table, self.using, names, kinds={meanwhile: kind.kind})
        if self.back is not None:
            backward = renamed(table, self.back, names, kinds={meanwhile: kind.kind})
        return Turned({column.name: afterwards}, {column.name: forward}, {afterwards: backward})

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
            (_altered(table, column.name, column.as_kind),),
            {"changing-column-type": "the server was asked: it writes no row anew"},
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
