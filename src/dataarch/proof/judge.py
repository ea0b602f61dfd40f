"""Ask the database what a CHECK makes of a row, instead of predicting it."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import CheckConstraint, Connection
from sqlalchemy.sql.schema import Column, Table
from sqlalchemy.types import TypeDecorator

from dataarch.errors import InvalidValue

__all__ = ["Judge", "Row", "checks", "stored", "written"]

Row = Mapping[str, object]
"""A row by names of columns, each value as the database holds it."""


def checks(table: Table) -> dict[str, str]:
    """Return the conditions of a table's CHECKs, in SQL, by name."""
    return {
        str(constraint.name): str(constraint.sqltext)
        for constraint in sorted(table.constraints, key=lambda constraint: str(constraint.name))
        if isinstance(constraint, CheckConstraint)
    }


def written(table: Table) -> list[Column[Any]]:
    """Return the columns that a row gives a value to: all but the computed ones."""
    return [column for column in table.columns if column.computed is None]


def stored(table: Table, row: Row) -> Row:
    """Return a row of Python values as the database holds it; raises what the types raise."""
    return {name: _stored(table.columns[name], value) for name, value in row.items()}


def _stored(column: Column[Any], value: object) -> object:
    kind = column.type
    # the dialect is not looked at by any type of dataarch
    return kind.process_bind_param(value, None) if isinstance(kind, TypeDecorator) else value  # type: ignore[arg-type]


def as_json(rows: Iterable[Row]) -> str:
    """Return rows as JSON that ``jsonb_populate_recordset`` reads."""
    return json.dumps([dict(row) for row in rows], default=str)


@dataclass(frozen=True, slots=True)
class Judge:
    """What one database makes of rows; it writes nothing."""

    connection: Connection

    def ask(self, table: Table, rows: Sequence[Row], expressions: Mapping[str, str]) -> list[Row]:
        """Return the value of each expression over each row, in the rows' order, with one query.

        Where one is beyond what its type holds, as a sum may be, it is false: the server refuses such a row, too.
        """
        if not rows or not expressions:
            return [{} for _ in rows]
        try:
            with self.connection.begin_nested():
                return self._asked(table, rows, expressions)
        except InvalidValue:
            if len(rows) > 1:
                return [answer for row in rows for answer in self.ask(table, [row], expressions)]
            if len(expressions) == 1:
                return [dict.fromkeys(expressions, False)]
            each = [self.ask(table, rows, {name: condition})[0] for name, condition in expressions.items()]
            return [{name: value for answer in each for name, value in answer.items()}]

    def _asked(self, table: Table, rows: Sequence[Row], expressions: Mapping[str, str]) -> list[Row]:
        asked = ", ".join(f"({expression})" for expression in expressions.values()).replace("%", "%%")
        source = f"jsonb_populate_recordset(NULL::public.{table.name}, %s::jsonb)"
        # names and expressions are the models' own
        answers = self.connection.exec_driver_sql(f"SELECT {asked} FROM {source}", (as_json(rows),))
        return [dict(zip(expressions, answer, strict=True)) for answer in answers]

    def broken(self, table: Table, rows: Sequence[Row]) -> list[frozenset[str]]:
        """Return for each row the names of the CHECKs that are false for it; NULL breaks none."""
        verdicts = self.ask(table, rows, checks(table))
        return [frozenset(name for name, verdict in each.items() if verdict is False) for each in verdicts]

    def accepted(self, table: Table, rows: Sequence[Row]) -> list[Row]:
        """Return the rows that no CHECK of the table refuses."""
        return [row for row, broken in zip(rows, self.broken(table, rows), strict=True) if not broken]
