"""The directives of one table, so that a change need not say for each which table it is."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from alembic.operations import MigrateOperation
from alembic.operations.ops import AddColumnOp, AlterColumnOp, DropColumnOp, DropConstraintOp
from sqlalchemy import Column as SqlColumn
from sqlalchemy import DefaultClause, text
from sqlalchemy.sql.elements import conv
from sqlalchemy.types import NullType, TypeEngine

from dataarch.rollout.drafting.directives import Again, Alone, Check, Sql, untouched
from dataarch.rollout.drafting.naming import quoted, trimmed
from dataarch.rollout.drafting.tables import Table

__all__ = ["OnTable", "not_null_name"]


def not_null_name(table: str, column: str) -> str:
    """Return the name of the CHECK that lets SET NOT NULL go without a scan."""
    return trimmed(f"ck_{table}_{column}_not_null")


@dataclass(frozen=True, slots=True)
class OnTable:
    """Alembic's operations for a table.

    Attributes:
        table: the one that changes.
    """

    table: Table

    def add_column(
        self, name: str, kind: str, type_: TypeEngine[Any], *, default: str | None = None, nullable: bool = True
    ) -> MigrateOperation:
        """Return the operation that adds a column; the catalog's words serve for a type that SQLAlchemy lacks."""
        if isinstance(type_, NullType):
            rest = ("" if default is None else f" DEFAULT {default}") + ("" if nullable else " NOT NULL")
            return Sql(f"ALTER TABLE {self.table.sql} ADD COLUMN {quoted(name)} {kind}{rest}")
        given = None if default is None else text(untouched(default))
        column: SqlColumn[Any] = SqlColumn(name, type_, server_default=given, nullable=nullable)
        return AddColumnOp(self.table.name, column, schema=self.table.schema)

    def add_column_again(self, name: str, kind: str) -> Sql:
        """Return the operation that adds a column if it is not there, for a revision that commits in its middle."""
        return Sql(f"ALTER TABLE {self.table.sql} ADD COLUMN IF NOT EXISTS {quoted(name)} {kind}")

    def valid_again(self, name: str) -> Again:
        """Return the operations that add the CHECK of a column that may be NULL from then on."""
        check = not_null_name(self.table.name, name)
        adding = (self.drop_check(check, if_exists=True), self.not_null_check(name))
        return Again((*adding, self.nullable(name, nullable=True)), (Alone(self.validate(check)),))

    def not_null_again(self, name: str) -> Again:
        """Return the operations that set a column NOT NULL, for which the rows are read while everybody goes on."""
        check = not_null_name(self.table.name, name)
        dropping = self.drop_check(check, if_exists=True)
        setting = Alone(self.validate(check), self.nullable(name, nullable=False), dropping)
        return Again((dropping, self.not_null_check(name)), (setting,))

    def drop_column(self, name: str) -> DropColumnOp:
        """Return the operation that drops a column, with what is in it."""
        return DropColumnOp(self.table.name, name, schema=self.table.schema)

    def rename_column(self, name: str, new: str) -> AlterColumnOp:
        """Return the operation that gives a column another name."""
        return AlterColumnOp(self.table.name, name, modify_name=new, schema=self.table.schema)

    def nullable(self, name: str, *, nullable: bool) -> AlterColumnOp:
        """Return the operation that lets a column be NULL, or lets it no longer."""
        return AlterColumnOp(self.table.name, name, modify_nullable=nullable, schema=self.table.schema)

    def default(self, name: str, default: str | None) -> AlterColumnOp:
        """Return the operation that gives a column a default for rows to come, or takes it away."""
        given = None if default is None else DefaultClause(text(untouched(default)))
        return AlterColumnOp(self.table.name, name, modify_server_default=given, schema=self.table.schema)

    def check(self, name: str, condition: str, *, valid: bool = False) -> Check:
        """Return the operation that adds a CHECK: for rows written from now on, or for all of them at once."""
        return Check(name, self.table.name, condition, schema=self.table.schema, valid=valid)

    def drop_check(self, name: str, *, if_exists: bool = False) -> DropConstraintOp:
        """Return the operation that drops a CHECK."""
        option = True if if_exists else None
        return DropConstraintOp(conv(name), self.table.name, type_="check", schema=self.table.schema, if_exists=option)

    def drop_constraint(self, name: str, kind: str) -> DropConstraintOp:
        """Return the operation that drops a constraint of a kind of Alembic's."""
        named = conv(name) if kind == "check" else name
        return DropConstraintOp(named, self.table.name, type_=kind, schema=self.table.schema)

    def validate(self, name: str) -> Sql:
        """Return the operation that looks whether every row keeps to a constraint."""
        return Sql(f"ALTER TABLE {self.table.sql} VALIDATE CONSTRAINT {quoted(name)}")

    def not_null_check(self, column: str) -> Check:
        """Return the CHECK that a column is not NULL, for rows written from now on."""
        return self.check(not_null_name(self.table.name, column), f"{quoted(column)} IS NOT NULL")
