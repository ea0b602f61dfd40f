"""A temporary table beside the one that rows are for: what is wrong with them is found there, set by set.

The stage is made once in a transaction and goes with it. Its statements run as the session's role: the policies and the
constraints of the table judge every row.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

from sqlalchemy import Column, ForeignKeyConstraint, Table

from dataarch.database.error_mapping import CONSTRAINTS
from dataarch.errors import ConstraintError, UnknownReference
from dataarch.models.declared import qualified
from dataarch.models.tenancy import tenant_column
from dataarch.repositories.bulk.encoding import HEADER, TRAILER, Encoder
from dataarch.repositories.bulk.wire import Wire

__all__ = ["Stage", "framed"]

SAVEPOINT = "dataarch_rows"

Errors = dict[int, ConstraintError]
"""Why rows are refused, by their positions."""


def framed(pieces: Iterable[bytes]) -> Iterator[bytes]:
    """Give pieces of COPY BINARY with what it begins and ends with."""
    yield HEADER
    yield from pieces
    yield TRAILER


class Stage:
    """The stage of one table in one transaction."""

    def __init__(self, wire: Wire, table: Table, encoder: Encoder) -> None:
        """Take an encoder of numbered rows."""
        self._wire = wire
        self._table = table
        self._target = qualified(table.name, table.schema or "public")
        self._name = qualified(f"dataarch_stage_{table.name}"[:63], "pg_temp")
        self._columns = ", ".join(qualified(column.name) for column in encoder.columns)
        self._made = False

    @property
    def insert(self) -> str:
        """The statement that writes all rows, or none."""
        return f"INSERT INTO {self._target} ({self._columns}) SELECT {self._columns} FROM {self._name}"

    def fill(self, pieces: Iterable[bytes]) -> None:
        """Put rows on the stage, in the place of those before."""
        if self._made:
            self._wire.execute(f"TRUNCATE {self._name}")
        else:
            # another load of this transaction may have left one, for other columns
            self._wire.execute(
                f"DROP TABLE IF EXISTS {self._name};"
                f" CREATE TEMP TABLE {self._name} (position bigint, LIKE {self._target}) ON COMMIT DROP"
            )
            self._made = True
        self._wire.copy(f"COPY {self._name} (position, {self._columns}) FROM STDIN (FORMAT binary)", framed(pieces))

    def drop_known(self, key: Sequence[Column[object]]) -> None:
        """Take off what the table has already under a key shorter than its primary key, and what comes twice."""
        same = " AND ".join(f"old.{qualified(column.name)} = s.{qualified(column.name)}" for column in key)
        names = ", ".join(qualified(column.name) for column in key)
        # without figures the planner would rather read the whole table
        self._wire.execute(f"ANALYZE {self._name}")
        self._wire.execute(f"DELETE FROM {self._name} AS s USING {self._target} AS old WHERE {same}")
        self._wire.execute(
            f"DELETE FROM {self._name} AS s USING (SELECT position, row_number() OVER (PARTITION BY {names}"
            f" ORDER BY position) AS turn FROM {self._name}) AS again WHERE again.position = s.position AND turn > 1"
        )

    def sift(self) -> tuple[int, Errors]:
        """Write the good rows; return how many were not there before, and why others are refused.

        Rows that the table has already, or that come twice, are neither.
        """
        errors: Errors = {}
        for reference in sorted(self._table.foreign_key_constraints, key=lambda one: str(one.name)):
            errors.update(self._strangers(reference))
        inserted, others = self._insert_some("true")
        return inserted, errors | others

    def _strangers(self, reference: ForeignKeyConstraint) -> Errors:
        """Take off the rows that refer to what is not there, or what the session cannot see."""
        other = qualified(reference.referred_table.name, reference.referred_table.schema or "public")
        pairs = [(one.parent, one.column) for one in reference.elements]
        same = " AND ".join(f"other.{qualified(there.name)} = s.{qualified(here.name)}" for here, there in pairs)
        given = " AND ".join(f"s.{qualified(here.name)} IS NOT NULL" for here, _ in pairs)
        found = self._wire.rows(
            f"DELETE FROM {self._name} AS s WHERE {given} AND NOT EXISTS (SELECT FROM {other} AS other WHERE {same})"
            " RETURNING position"
        )
        return {position: unknown(self._table, reference) for (position,) in found}

    def _insert_some(self, which: str) -> tuple[int, Errors]:
        """Write rows; where a constraint refuses one that nobody foresaw, halve them until it stands alone."""
        try:
            with self._wire.savepoint(SAVEPOINT):
                inserted = self._wire.execute(f"{self.insert} WHERE {which} ORDER BY position ON CONFLICT DO NOTHING")
        except ConstraintError as error:
            ((least, most),) = self._wire.rows(f"SELECT min(position), max(position) FROM {self._name} WHERE {which}")
            if least == most:
                return 0, {least: error}
        else:
            return inserted, {}
        middle = (least + most) // 2
        before, wrong_before = self._insert_some(f"position BETWEEN {least} AND {middle}")
        after, wrong_after = self._insert_some(f"position BETWEEN {middle + 1} AND {most}")
        return before + after, wrong_before | wrong_after


def unknown(table: Table, reference: ForeignKeyConstraint) -> ConstraintError:
    """Return the error of a row that refers to what is not there."""
    name = str(reference.name)
    owner = tenant_column(table)
    column = next((one.parent.name for one in reference.elements if one.parent is not owner), None)
    return CONSTRAINTS.get(name, UnknownReference)(
        f"The row was refused by {name} of {table.description}: the row it refers to is not there.",
        hint="Correct the row, or write what it refers to first.",
        table=table.description,
        column=column,
        constraint=name,
        sqlstate="23503",
    )
