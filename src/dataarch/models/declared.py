"""Functions, triggers and row policies that belong to a project's models, beside its tables.

``alembic revision --autogenerate`` compares them with the database, as it does with tables.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from sqlalchemy import MetaData

from dataarch.errors import InvalidValue

__all__ = ["Declared", "Function", "RowPolicy", "Trigger", "declare", "declared_in", "qualified"]

KEY = "dataarch_declared"


def qualified(name: str, schema: str | None = None) -> str:
    """Return a name as SQL reads it: quoted, with its schema if it has one."""
    parts = (name,) if schema is None else (schema, name)
    return ".".join('"' + part.replace('"', '""') + '"' for part in parts)


@dataclass(frozen=True, slots=True)
class Function:
    """A function, in the words of ``CREATE FUNCTION``.

    Attributes:
        name: without its schema.
        arguments: what stands between the parentheses, defaults included; may be empty.
        definition: all that follows them: ``RETURNS … LANGUAGE … AS $$…$$``, or an SQL-standard body.
        schema: where it is; None is where the search path puts it.
        types: the types of its arguments, which ``DROP FUNCTION`` needs where several functions have this name.
            Autogenerate asks the server for them and fills them in.
    """

    kind: ClassVar[str] = "function"

    name: str
    arguments: str
    definition: str
    schema: str | None = None
    types: str | None = None

    @property
    def identity(self) -> tuple[str, ...]:
        """What no other function of a declaration has."""
        return (self.kind, self.schema or "", self.name, self.arguments)

    def create_sql(self) -> list[str]:
        """Return the statements that make it."""
        return [f"CREATE FUNCTION {self._signature}"]

    def replace_sql(self) -> list[str]:
        """Return the statements that put it in another's place; its owner and privileges stay as they are."""
        return [f"CREATE OR REPLACE FUNCTION {self._signature}"]

    def drop_sql(self) -> str:
        """Return the statement that takes it away."""
        types = "" if self.types is None else f"({self.types})"
        return f"DROP FUNCTION {qualified(self.name, self.schema)}{types}"

    @property
    def _signature(self) -> str:
        return f"{qualified(self.name, self.schema)}({self.arguments})\n{self.definition}"


@dataclass(frozen=True, slots=True)
class Trigger:
    """A trigger, in the words of ``CREATE TRIGGER``.

    Attributes:
        name: its own; triggers have no schema.
        table: the table it is on; the partitions of a partitioned one have it too.
        timing: what stands between its name and ``ON``: ``BEFORE UPDATE OF price``.
        action: what stands after the table: ``FOR EACH ROW EXECUTE FUNCTION touch()``.
        schema: that of the table.
        constraint: whether it is a constraint trigger.
    """

    kind: ClassVar[str] = "trigger"

    name: str
    table: str
    timing: str
    action: str
    schema: str | None = None
    constraint: bool = False

    @property
    def identity(self) -> tuple[str, ...]:
        """What no other trigger of a declaration has."""
        return (self.kind, self.schema or "", self.table, self.name)

    def create_sql(self) -> list[str]:
        """Return the statements that make it."""
        constraint = "CONSTRAINT " if self.constraint else ""
        table = qualified(self.table, self.schema)
        return [f"CREATE {constraint}TRIGGER {qualified(self.name)} {self.timing} ON {table} {self.action}"]

    def replace_sql(self) -> list[str]:
        """Return the statements that put it in another's place."""
        return [self.drop_sql(), *self.create_sql()]

    def drop_sql(self) -> str:
        """Return the statement that takes it away."""
        return f"DROP TRIGGER {qualified(self.name)} ON {qualified(self.table, self.schema)}"


@dataclass(frozen=True, slots=True)
class RowPolicy:
    """A policy of row-level security beside the tenant's own, in the words of ``CREATE POLICY``.

    Attributes:
        name: its own; policies have no schema.
        table: the table it is on. Partitions do not inherit it; they are read through their table.
        definition: what stands after the table: ``FOR SELECT TO auditor USING (true)``. Making the policy enables
            row-level security on the table; taking it away leaves it enabled.
        schema: that of the table.
    """

    kind: ClassVar[str] = "policy"

    name: str
    table: str
    definition: str
    schema: str | None = None

    @property
    def identity(self) -> tuple[str, ...]:
        """What no other policy of a declaration has."""
        return (self.kind, self.schema or "", self.table, self.name)

    def create_sql(self) -> list[str]:
        """Return the statements that make it; a policy guards nothing before row-level security is enabled."""
        table = qualified(self.table, self.schema)
        return [
            f"CREATE POLICY {qualified(self.name)} ON {table} {self.definition}",
            f"ALTER TABLE {table} ENABLE ROW LEVEL SECURITY",
        ]

    def replace_sql(self) -> list[str]:
        """Return the statements that put it in another's place."""
        return [self.drop_sql(), *self.create_sql()]

    def drop_sql(self) -> str:
        """Return the statement that takes it away."""
        return f"DROP POLICY {qualified(self.name)} ON {qualified(self.table, self.schema)}"


Declared = Function | Trigger | RowPolicy
"""What can be declared beside tables."""


def declare(metadata: MetaData, *objects: Declared) -> None:
    """Declare functions, triggers and policies as part of a project's models.

    Args:
        metadata: the one that Alembic compares the database with.
        objects: in the order in which they can be made: a function before the trigger that calls it.

    Raises:
        InvalidValue: something of the same kind and name is declared already.
    """
    declared: dict[tuple[str, ...], Declared] = metadata.info.setdefault(KEY, {})
    for one in objects:
        if one.identity in declared:
            raise InvalidValue(f"The {one.kind} {one.name} is declared twice.", value=one.name)
        declared[one.identity] = one


def declared_in(metadata: MetaData) -> tuple[Declared, ...]:
    """Return what was declared beside the tables, in that order."""
    declared: dict[tuple[str, ...], Declared] = metadata.info.get(KEY, {})
    return tuple(declared.values())
