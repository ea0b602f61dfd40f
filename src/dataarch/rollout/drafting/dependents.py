"""What depends on a column or a table: what goes with it, and what is in the way."""

from __future__ import annotations

from dataclasses import dataclass

from alembic.operations import MigrateOperation
from alembic.operations.ops import DropIndexOp
from sqlalchemy import text

from dataarch.errors import InvalidChange
from dataarch.rollout.drafting.directives import Again, Alone, Sql
from dataarch.rollout.drafting.indexes import Index, created_by, definition, index_of, indexes_of
from dataarch.rollout.drafting.naming import quoted
from dataarch.rollout.drafting.tables import Table

__all__ = ["Constraint", "Dependents", "dependents_of", "refuse_dependents_of"]

OF_COLUMNS = text(
    """
    SELECT DISTINCT pg_describe_object(classid, objid, objsubid) AS said,
           contype::text AS kind, conname::text AS name, pg_get_constraintdef(pg_constraint.oid) AS definition,
           CASE WHEN conrelid = :table THEN ARRAY(
               SELECT attname::text FROM unnest(conkey) WITH ORDINALITY AS part (number, place)
               JOIN pg_attribute ON attrelid = conrelid AND attnum = part.number ORDER BY place) END AS columns,
           classid = 'pg_class'::regclass AND EXISTS (
               SELECT FROM pg_index WHERE indexrelid = objid AND indrelid = :table) AS is_index,
           classid = 'pg_class'::regclass AND deptype IN ('a', 'i')
               AND (SELECT relkind FROM pg_class WHERE oid = objid) = 'S' AS is_sequence,
           coalesce(convalidated, true) AS valid
    FROM pg_depend LEFT JOIN pg_constraint ON classid = 'pg_constraint'::regclass AND objid = pg_constraint.oid
    WHERE refclassid = 'pg_class'::regclass AND refobjid = :table AND refobjsubid = ANY (:numbers)
      AND contype IS DISTINCT FROM 'n'
      AND NOT (classid = 'pg_attrdef'::regclass AND EXISTS (
          SELECT FROM pg_attrdef WHERE pg_attrdef.oid = objid AND adrelid = :table AND adnum = refobjsubid))
    ORDER BY said
    """
)

OF_TABLE = text(
    """
    SELECT DISTINCT pg_describe_object(classid, objid, objsubid) AS said
    FROM pg_depend LEFT JOIN pg_constraint ON classid = 'pg_constraint'::regclass AND objid = pg_constraint.oid
    WHERE refclassid = 'pg_class'::regclass AND deptype = 'n'
      AND refobjid IN (SELECT :table UNION ALL SELECT relid::oid FROM pg_partition_tree(:table))
      AND conrelid IS DISTINCT FROM :table
      AND (conrelid IS NULL OR conrelid NOT IN (SELECT relid FROM pg_partition_tree(:table)))
      AND classid <> 'pg_policy'::regclass
    ORDER BY said
    """
)

NOT_VALID = " NOT VALID"
"""How the server's words for a constraint end that was not looked at for every row."""


OF_OTHERS = "Change or drop that first, in a revision of its own."

OF_KEY = (
    "A key says which row is which, and has one form only while two versions run. For another name, let the model have "
    'it: new_name = mapped_column("old_name", …). For another form, add a column with a unique key of its own, let '
    "others refer to that, and drop this one when nobody does."
)


@dataclass(frozen=True, slots=True)
class Constraint:
    """A constraint of the table that changes.

    Attributes:
        name: its name.
        kind: as the catalog has it: c is a CHECK, f a foreign key, u unique, x an exclusion.
        definition: what stands behind its name, as the server writes it.
        columns: those it is about, in its order.
    """

    name: str
    kind: str
    definition: str
    columns: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Dependents:
    """What goes when columns go.

    Attributes:
        table: theirs.
        constraints: CHECKs, foreign keys, unique and exclusion constraints with one of the columns.
        indexes: those with one of the columns that belong to no constraint.
    """

    table: Table
    constraints: tuple[Constraint, ...]
    indexes: tuple[Index, ...]

    @property
    def names(self) -> str:
        """Their names, for a sentence; empty if there are none."""
        return ", ".join([*(one.name for one in self.constraints), *(one.name for one in self.indexes)])

    def dropped(self) -> tuple[MigrateOperation, ...]:
        """Return the operations that drop them."""
        return (
            *(self._sql(f"DROP CONSTRAINT {quoted(one.name)}") for one in self.constraints),
            *(DropIndexOp(one.name, self.table.name, schema=self.table.schema) for one in self.indexes),
        )

    def restored(self) -> Again:
        """Return the operations that make them again, for the way down.

        Rows are read after the strong locks are gone, but for what PostgreSQL makes in no other way: exclusion and
        deferrable constraints, what is unique on a partitioned table, and before PostgreSQL 18 its foreign keys.
        """
        made, indexes, read = list[MigrateOperation](), [*self.indexes], list[MigrateOperation]()
        for one in self.constraints:
            adding = f"ADD CONSTRAINT {quoted(one.name)}"
            made.append(self._sql(f"DROP CONSTRAINT IF EXISTS {quoted(one.name)}"))
            if not self._online(one):
                made.append(self._sql(f"{adding} {one.definition}"))
            elif one.kind == "u":
                indexes.append(index_of(self.table, one.name))
                read.append(self._sql(f"{adding} UNIQUE USING INDEX {quoted(one.name)}"))
            else:
                made.append(self._sql(f"{adding} {one.definition.removesuffix(NOT_VALID)}{NOT_VALID}"))
                if not one.definition.endswith(NOT_VALID):
                    read.append(self._sql(f"VALIDATE CONSTRAINT {quoted(one.name)}"))
        built = [
            created_by(self.table, definition(self.table, one.name, one.body, unique=one.unique)) for one in indexes
        ]
        return Again(tuple(made), (*built, *([Alone(*read)] if read else [])))

    def _online(self, one: Constraint) -> bool:
        """Tell whether a constraint can be made without reading rows under a lock that others wait for."""
        if one.kind == "x" or "DEFERRABLE" in one.definition:
            return False
        return one.kind == "c" or not self.table.partitioned or (one.kind == "f" and self.table.server >= 18)

    def _sql(self, what: str) -> Sql:
        return Sql(f"ALTER TABLE {self.table.sql} {what}")


def dependents_of(table: Table, *columns: str) -> Dependents:
    """Return what goes when columns of a table go.

    Raises:
        InvalidChange: one is part of the primary key or of the partition key, or something outside of the table
            depends on it: a view, a policy, a generated column, a trigger, another table's foreign key.
    """
    numbers = [table.column(name).number for name in columns]
    rows = table.connection.execute(OF_COLUMNS, {"table": table.oid, "numbers": numbers}).all()
    in_the_way = [row.said for row in rows if not (row.is_index or row.is_sequence or row.columns)]
    in_the_way += [row.said for row in rows if row.columns and row.kind == "p"]
    if any(name in table.partition_key for name in columns):
        in_the_way.append("the partitioning of the table")
    if in_the_way:
        raise InvalidChange(
            f"Of the table {table.sql}, {' and '.join(quoted(one) for one in columns)} cannot go: "
            f"{', '.join(in_the_way)} depends on it.",
            hint=OF_KEY if any(row.kind in {"p", "f"} and row.said in in_the_way for row in rows) else OF_OTHERS,
            table=table.name,
            column=columns[0],
        )
    constraints = tuple(
        Constraint(row.name, row.kind, row.definition, tuple(row.columns)) for row in rows if row.columns
    )
    indexes = tuple(one for one in indexes_of(table) if not one.constraint and set(one.columns) & set(columns))
    return Dependents(table, constraints, indexes)


def refuse_dependents_of(table: Table) -> None:
    """Raise InvalidChange if something outside of a table depends on it: a view, or a foreign key of another table."""
    found = list(table.connection.scalars(OF_TABLE, {"table": table.oid}))
    if found:
        raise InvalidChange(
            f"The table {table.sql} cannot go: {', '.join(found)} depends on it.",
            hint="Change or drop that first, in a revision of its own.",
            table=table.name,
        )
