"""What a column has on it (indexes, constraints, grants), carried over to the column that takes its place."""

from __future__ import annotations

import re
from dataclasses import dataclass

from alembic.operations import MigrateOperation
from alembic.operations.ops import CreateIndexOp
from sqlalchemy import text

from dataarch.errors import InvalidChange
from dataarch.rollout.drafting.copies import COPY, copied, told
from dataarch.rollout.drafting.dependents import Constraint, Dependents
from dataarch.rollout.drafting.directives import Alone, Sql
from dataarch.rollout.drafting.indexes import Index, created_by, definition, dropped_by, indexes_of
from dataarch.rollout.drafting.naming import listed, quoted, string, trimmed
from dataarch.rollout.drafting.tables import Table

__all__ = ["Carried", "Rule", "Successor", "commented", "granted"]

BODY = text(
    f"""
    SELECT substr(written, strpos(written, ' USING ') + 1)
    FROM pg_index, pg_get_indexdef(indexrelid) AS written WHERE indrelid = '{COPY}'::regclass
    """
)

CHECK = text(
    f"SELECT pg_get_constraintdef(oid) FROM pg_constraint WHERE conrelid = '{COPY}'::regclass AND contype = 'c'"
)

GRANTS = text(
    """
    SELECT string_agg(privilege_type, ', ' ORDER BY privilege_type) AS privileges,
           CASE grantee WHEN 0 THEN 'PUBLIC' ELSE quote_ident(pg_get_userbyid(grantee)) END AS grantee
    FROM pg_attribute, LATERAL aclexplode(attacl) WHERE attrelid = :table AND attname = :name
    GROUP BY grantee ORDER BY grantee
    """
)


KINDS = {"c": "check", "f": "foreignkey"}
"""What Alembic calls the kinds of constraints that can hold for rows written from now on."""


COMMENT = text("SELECT col_description(:table, :number)")


@dataclass(frozen=True, slots=True)
class Rule:
    """A constraint that holds for rows written from now on, and is validated later.

    Attributes:
        name: its name.
        kind: what Alembic calls its kind.
        adding: the operation that adds it.
    """

    name: str
    kind: str
    adding: MigrateOperation


@dataclass(frozen=True, slots=True)
class Successor:
    """A column that takes another one's place.

    Attributes:
        old: the column that goes.
        new: the one that comes.
        kind: its type, as SQL has it; None where it is the same.
        forward: an SQL expression over the old column.
    """

    old: str
    new: str
    kind: str | None = None
    forward: str = ""


@dataclass(frozen=True, slots=True)
class Carried:
    """Indexes and constraints of a column, for its successor.

    Attributes:
        table: theirs.
        successor: the column that they are carried to.
        of: those of the old column.
    """

    table: Table
    successor: Successor
    of: Dependents

    def refuse(self) -> None:
        """Raise InvalidChange for what cannot be carried over."""
        for one in self.of.constraints:
            if one.kind == "x" or "DEFERRABLE" in one.definition or self._partitioned(one):
                raise InvalidChange(
                    f"The constraint {quoted(one.name)} of {self.table.sql} cannot be made for "
                    f"{quoted(self.successor.new)} while everybody goes on: {one.definition}.",
                    hint="Drop it in a revision before, and add it again afterwards.",
                    table=self.table.name,
                    constraint=one.name,
                )

    @property
    def rules(self) -> list[Rule]:
        """CHECKs and foreign keys, for rows written from now on."""
        found = []
        for one in self.of.constraints:
            if one.kind in KINDS:
                name, said = self.temporary(one.name), f"{self._defined(one)} NOT VALID"
                adding = Sql(f"ALTER TABLE {self.table.sql} ADD CONSTRAINT {quoted(name)} {said}")
                found.append(Rule(name, KINDS[one.kind], adding))
        return found

    @property
    def indexes(self) -> list[tuple[MigrateOperation, MigrateOperation]]:
        """How each index is made while everybody goes on, and how it is dropped again; those of constraints too."""
        return [
            (created_by(self.table, self._creation(one)), dropped_by(self.table, self.temporary(one.name)))
            for one in self._indexes
        ]

    @property
    def constrained(self) -> list[Sql]:
        """What makes unique constraints of their indexes."""
        return [
            Sql(f"ALTER TABLE {self.table.sql} ADD CONSTRAINT {name} UNIQUE USING INDEX {name}")
            for name in (quoted(self.temporary(one.name)) for one in self._indexes if one.constraint)
        ]

    @property
    def unconstrained(self) -> list[MigrateOperation]:
        """The same backwards: indexes again, which are built while everybody goes on."""
        done: list[MigrateOperation] = []
        for one in self._indexes:
            if one.constraint:
                name = quoted(self.temporary(one.name))
                done.append(Alone(Sql(f"ALTER TABLE {self.table.sql} DROP CONSTRAINT IF EXISTS {name}")))
                done.append(created_by(self.table, self._creation(one)))
        return done

    @property
    def taking_over(self) -> list[Sql]:
        """What is done once the old column is gone: the names that stay."""
        return self._renamed(back=False)

    @property
    def giving_back(self) -> list[Sql]:
        """The same backwards, before the old column comes again."""
        return self._renamed(back=True)

    def temporary(self, name: str) -> str:
        """Return what the successor's is called while both are there."""
        new = self.successor.new
        return trimmed(self._named.sub(lambda _: new, name) if self._named.search(name) else f"{name}_new")

    def final(self, name: str) -> str:
        """Return what it is called in the end."""
        # a change of the type ends with the old name of the column
        renamed = self.successor.kind is None and self._named.search(name)
        return self.temporary(name) if renamed else name

    @property
    def _named(self) -> re.Pattern[str]:
        """The old column's name as a word of another name."""
        return re.compile(rf"(?<![^\W_]){re.escape(self.successor.old)}(?![^\W_])")

    def _renamed(self, *, back: bool) -> list[Sql]:
        constraint = (f"ALTER TABLE {self.table.sql} RENAME CONSTRAINT ", " TO ")
        index = (f"ALTER INDEX {'' if self.table.schema is None else quoted(self.table.schema) + '.'}", " RENAME TO ")
        named = [(constraint, one.name) for one in self.of.constraints if one.kind in {*KINDS, "u"}]
        named += [(index, one.name) for one in self.of.indexes]
        done = []
        for (begin, middle), name in named:
            both = (self.temporary(name), self.final(name))
            now, wanted = map(quoted, reversed(both) if back else both)
            if now != wanted:
                done.append(Sql(f"{begin}{now}{middle}{wanted}"))
        return done

    def _partitioned(self, one: Constraint) -> bool:
        return self.table.partitioned and (one.kind == "u" or (one.kind == "f" and self.table.server < 18))

    @property
    def _indexes(self) -> list[Index]:
        unique = {one.name for one in self.of.constraints if one.kind == "u"}
        return [*self.of.indexes, *(one for one in indexes_of(self.table) if one.constraint in unique)]

    def _creation(self, one: Index) -> CreateIndexOp:
        with copied(self.table) as connection:
            self._told(f"CREATE INDEX ON {COPY} {one.body}")
            self._succeeded()
            body = str(connection.scalar(BODY))
        # the table does not have the new column yet, whose name is one nevertheless
        return definition(self.table, self.temporary(one.name), body, unique=one.unique, also=self.successor.new)

    def _defined(self, one: Constraint) -> str:
        if one.kind == "f":
            columns = [self.successor.new if name == self.successor.old else name for name in one.columns]
            rest = one.definition.partition(" REFERENCES ")[2].removesuffix(" NOT VALID")
            return f"FOREIGN KEY ({listed(columns)}) REFERENCES {rest}"
        with copied(self.table) as connection:
            self._told(f"ALTER TABLE {COPY} ADD {one.definition}")
            self._succeeded()
            return str(connection.scalar(CHECK)).removesuffix(" NOT VALID")

    def _succeeded(self) -> None:
        """Let the copy's column become its successor: the server writes what is on it anew."""
        old = quoted(self.successor.old)
        if self.successor.kind is not None:
            self._told(f"ALTER TABLE {COPY} ALTER {old} TYPE {self.successor.kind} USING ({self.successor.forward})")
        self._told(f"ALTER TABLE {COPY} RENAME {old} TO {quoted(self.successor.new)}")

    def _told(self, statement: str) -> None:
        told(
            self.table.connection,
            statement,
            refusal=f"What is on {quoted(self.successor.old)} of {self.table.sql} cannot be on its successor",
            hint="Drop it in a revision before, and add what takes its place afterwards.",
        )


def commented(table: Table, column: str, to: str) -> list[Sql]:
    """Return the statement that gives the comment on a column to another one; none where there is none."""
    said = table.connection.scalar(COMMENT, {"table": table.oid, "number": table.column(column).number})
    return [] if said is None else [Sql(f"COMMENT ON COLUMN {table.sql}.{quoted(to)} IS {string(said)}")]


def granted(table: Table, column: str, to: str) -> list[Sql]:
    """Return the statements that give the privileges on a column of its own to another one."""
    rows = table.connection.execute(GRANTS, {"table": table.oid, "name": column}).all()
    return [
        Sql(
            "GRANT "
            + ", ".join(f"{privilege} ({quoted(to)})" for privilege in row.privileges.split(", "))
            + f" ON {table.sql} TO {row.grantee}"
        )
        for row in rows
    ]
