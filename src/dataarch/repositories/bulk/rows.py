"""Rows in whatever form they come, taken apart into columns."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from itertools import repeat
from operator import is_, itemgetter
from types import NoneType
from typing import Any

from sqlalchemy import Column, Table, inspect
from sqlalchemy.orm import Mapper

from dataarch.errors import InvalidValue
from dataarch.models.base import Base
from dataarch.models.types import Json
from dataarch.repositories.bulk.fields import MISSING, Bad, all_of
from dataarch.repositories.bulk.target import made_in_python

__all__ = ["RowNames"]


class RowNames:
    """What the columns of a table are called in rows, and what stands for those that are not given."""

    def __init__(self, table: Table, columns: Sequence[Column[Any]]) -> None:
        self._mapper = _mapper(table)
        self._names = [(_attribute(self._mapper, column), column.name) for column in columns]
        self._known = {name for names in self._names for name in names}
        self._defaults = [_default(column) for column in columns]
        # None in a column of JSON is a value
        self._gaps = [{type(MISSING)} | (set() if isinstance(column.type, Json) else {NoneType}) for column in columns]

    def columns(self, rows: Sequence[Any], bad: Bad) -> tuple[list[list[Any]], dict[str, int]]:
        """Return the values of each column, and how many of them are defaults; note the rows that have no such form."""
        if all_of(tuple, rows) and set(map(len, rows)) == {len(self._names)}:
            found = [list(values) for values in zip(*rows, strict=True)]
        else:
            found = self._by_name(rows, bad)
        defaulted: dict[str, int] = {}
        for at, (default, gaps) in enumerate(zip(self._defaults, self._gaps, strict=True)):
            if default is not None and not gaps.isdisjoint(map(type, found[at])):
                absent = [type(value) in gaps for value in found[at]]
                defaulted[self._names[at][1]] = sum(absent)
                found[at] = [default() if gone else value for value, gone in zip(found[at], absent, strict=True)]
        return found, defaulted

    def places(self, names: Sequence[str]) -> list[int | None]:
        """Return where each column is among names, None where it is not; raises :class:`InvalidValue` for others."""
        unknown = set(names) - self._known
        if unknown or len(set(names)) != len(names):
            raise InvalidValue(
                f"The columns {', '.join(map(ascii, names))} are not those of the table, each of them once.",
                hint=f"Known are {', '.join(sorted(self._known))}.",
            )
        found = {name: at for at, name in enumerate(names)}
        return [found.get(attribute, found.get(name)) for attribute, name in self._names]

    def place_of(self, name: str) -> int:
        """Return where a column is in rows that are sequences."""
        return next(at for at, (_, column) in enumerate(self._names) if column == name)

    def loaded(self, rows: Sequence[Any]) -> None:
        """Read what instances of the model have not read yet, while the connection is free for it."""
        if self._mapper is not None:
            for row in rows:
                if isinstance(row, self._mapper.class_):
                    self._of_instance(row)

    def _by_name(self, rows: Sequence[Any], bad: Bad) -> list[list[Any]]:
        named = rows if all_of(dict, rows) else [self._mapping(at, row, bad) for at, row in enumerate(rows)]
        found = [_values(named, *names) for names in self._names]
        # that nothing else was given is seen from the numbers alone
        if sum(map(len, named)) != sum(given for _, given in found):
            self._refuse_unknown(named, bad)
        return [values for values, _ in found]

    def _refuse_unknown(self, rows: Sequence[dict[str, Any]], bad: Bad) -> None:
        for at, row in enumerate(rows):
            unknown = row.keys() - self._known
            if unknown:
                names = ", ".join(sorted(map(ascii, unknown)))
                hint = f"Known are {', '.join(sorted(self._known))}."
                bad.setdefault(at, InvalidValue(f"The row has what is no column: {names}.", hint=hint))

    def _mapping(self, at: int, row: Any, bad: Bad) -> dict[str, Any]:
        """Return a row by names; an empty one where it cannot be."""
        if isinstance(row, Mapping):
            return dict(row)
        if self._mapper is not None and isinstance(row, self._mapper.class_):
            return self._of_instance(row)
        named = getattr(row, "_mapping", None)
        if isinstance(named, Mapping):
            return dict(named)
        if isinstance(row, Sequence) and not isinstance(row, str | bytes | bytearray) and len(row) == len(self._names):
            return {name: value for (name, _), value in zip(self._names, row, strict=True)}
        bad[at] = InvalidValue(
            f"A {type(row).__name__} is no row here.",
            hint=f"Give a dict, an instance of the model, or a sequence of {len(self._names)} values.",
        )
        return {}

    def _of_instance(self, row: Any) -> dict[str, Any]:
        if inspect(row).has_identity:
            # what was expired is read again, rather than taken for not given
            return {name: getattr(row, name) for name, _ in self._names}
        set_so_far = row.__dict__
        return {name: set_so_far[name] for name, _ in self._names if name in set_so_far}


def _mapper(table: Table) -> Mapper[Any] | None:
    return next((mapper for mapper in Base.registry.mappers if mapper.local_table is table), None)


def _attribute(mapper: Mapper[Any] | None, column: Column[Any]) -> str:
    return column.name if mapper is None else mapper.get_property_by_column(column).key


def _values(rows: Sequence[dict[str, Any]], attribute: str, name: str) -> tuple[list[Any], int]:
    """Return a column's values, and how many of them were given."""
    for known in {attribute: None, name: None}:
        try:
            return list(map(itemgetter(known), rows)), len(rows)
        except KeyError:
            pass
    if attribute == name:
        values = [row.get(name, MISSING) for row in rows]
    else:
        values = [row[attribute] if attribute in row else row.get(name, MISSING) for row in rows]
    return values, len(rows) - sum(map(is_, values, repeat(MISSING)))


def _default(column: Column[Any]) -> Callable[[], Any] | None:
    """Return what makes a column's value where none is given; None where nothing in Python does."""
    if not made_in_python(column):
        return None
    default: Any = column.default
    if default.is_callable:
        # SQLAlchemy gives every such function a context, which ours do not look at
        return lambda: default.arg(None)
    return lambda: default.arg
