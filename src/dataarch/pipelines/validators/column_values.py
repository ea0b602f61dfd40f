"""The values of a column, as files have them: given or not, and typed, or wrong for a reason."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from types import NoneType
from typing import Any

from sqlalchemy import Column

from dataarch.errors import DataArchError, InvalidValue, MissingValue
from dataarch.models.tenancy import tenant_column
from dataarch.models.types import Text
from dataarch.pipelines.validators.readings import Reading, reading_of
from dataarch.repositories.bulk.encoding import field_of
from dataarch.repositories.bulk.fields import MISSING
from dataarch.repositories.bulk.json_field import JsonField

__all__ = ["ColumnValues", "values_of"]

GAPS = {NoneType, str}
"""Of what kinds a value is that counts as not given."""

PART = 32
"""Values that take the slow way together."""


@dataclass(frozen=True, slots=True)
class ColumnValues:
    """How the values of one column are read.

    Attributes:
        column: the column.
        reading: how those that are given are read.
        needed: whether a row must give it.
    """

    column: Column[Any]
    reading: Reading
    needed: bool
    _absent: Any
    _none_is_value: bool
    _empty_is_value: bool

    def read(self, values: Sequence[Any], bad: dict[int, DataArchError], name: str) -> tuple[Sequence[Any], bool]:
        """Return the typed values of a field, and whether rows go on without it: MISSING stands for it there.

        Args:
            values: one of each row.
            bad: why rows are rejected, by their places among them; the first reason counts. Their values mean nothing.
            name: what the field is called.
        """
        given = values if self._has_all(values) else [value for value in values if not self._is_gap(value)]
        gaps = len(given) < len(values)
        found = None if gaps and self.needed else self._quickly(given)
        if found is None:
            found = self._in_parts(values, bad, name)
        elif gaps:
            typed = iter(found)
            found = [self._absent if self._is_gap(value) else next(typed) for value in values]
        return found, gaps and self._absent is MISSING

    def missing(self, name: str) -> MissingValue:
        """Return why a row without the field is rejected."""
        table = self.column.table.description
        return MissingValue(
            f"The row has no {name}, and {table} must have one.", hint="Give it a value.", column=name, table=table
        )

    def _has_all(self, values: Sequence[Any]) -> bool:
        """Return whether no value counts as not given, where that is quick to see."""
        kinds = set(map(type, values))
        # of other kinds nothing is asked, not even whether they are true: some raise
        return kinds.isdisjoint(GAPS) or (kinds == {str} and all(values))

    def _is_gap(self, value: Any) -> bool:
        return (value is None and not self._none_is_value) or (
            not self._empty_is_value and type(value) is str and not value
        )

    def _quickly(self, values: Sequence[Any]) -> Sequence[Any] | None:
        try:
            return self.reading.many(values) if values else values
        except (DataArchError, TypeError, ValueError, ArithmeticError, RecursionError):
            return None

    def _in_parts(self, values: Sequence[Any], bad: dict[int, DataArchError], name: str) -> list[Any]:
        """Take the quick way as far as it goes: a value that is not plain costs only those around it the slow one."""
        typed: list[Any] = []
        for start in range(0, len(values), PART):
            part = values[start : start + PART]
            found = self._quickly(part) if self._has_all(part) else None
            if found is None:
                found = [self._slowly(at, value, bad, name) for at, value in enumerate(part, start)]
            typed += found
        return typed

    def _slowly(self, at: int, value: Any, bad: dict[int, DataArchError], name: str) -> Any:
        if at in bad:
            return MISSING
        try:
            return self._value(value, name)
        except DataArchError as error:
            error.column, error.table = name, self.column.table.description
            bad[at] = error
        except (TypeError, ValueError, ArithmeticError, RecursionError) as odd:
            # a type meets what it was not made for: the row is rejected, the others go on
            said = f"A {type(value).__name__} that cannot be stored was given ({type(odd).__name__})."
            bad[at] = InvalidValue(said, value=value, column=name, table=self.column.table.description)
        return MISSING

    def _value(self, value: Any, name: str) -> Any:
        if not self._is_gap(value):
            return self.reading.one(value)
        if self.needed:
            raise self.missing(name)
        return self._absent


def values_of(column: Column[Any], *, json_texts: bool = True) -> ColumnValues:
    """Return how the values of a column are read; raises :class:`ConfigurationError` where its type is not known.

    Args:
        column: the column.
        json_texts: whether text in a column of JSON is the text of a JSON value, and not a string of JSON.
    """
    field = field_of(column)
    strings = isinstance(field, JsonField) and not json_texts
    defaulted = column.default is not None or column.server_default is not None or column is _numbered(column)
    needed = not (column.nullable or defaulted or column is tenant_column(column.table))
    return ColumnValues(
        column,
        reading_of(field, json_texts=json_texts),
        needed,
        # what is not given stays as it is, or is the default
        None if column.nullable and not field.none_is_value else MISSING,
        field.none_is_value,
        strings or (isinstance(column.type, Text) and column.type.least == 0),
    )


def _numbered(column: Column[Any]) -> Column[Any] | None:
    """Return the column of the table that the server numbers by itself."""
    found: Column[Any] | None = column.table.autoincrement_column
    return found
