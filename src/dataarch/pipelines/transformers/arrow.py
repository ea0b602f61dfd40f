"""A function from one Arrow table to another as a step: the records of a batch, all at once."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from datetime import date, datetime
from decimal import Decimal
from importlib import import_module
from itertools import chain
from types import NoneType
from typing import Any
from uuid import UUID

from dataarch.clock import aware
from dataarch.errors import DependencyMissing, InvalidValue
from dataarch.pipelines.pipeline import Step
from dataarch.pipelines.records import Batch, Row

__all__ = ["on_arrow"]

FAITHFUL = ({str}, {bytes}, {bool}, {int}, {float}, {Decimal}, {date}, {datetime}, {UUID}, set[type]())
"""Kinds that a column may have, each alone, and come back from Arrow as they were."""


def on_arrow(function: Callable[[Any], Any]) -> Step:
    """Return a step that gives the records of what a function makes of their Arrow table.

    Args:
        function: takes a ``pyarrow.Table`` and returns one with the same rows in the same order; the columns are its
            own affair. A field that a record does not have is null there, and what is still null afterwards stays
            away. Instants are in UTC.

    Raises:
        DependencyMissing: pyarrow is not installed.

    The step raises :class:`~dataarch.errors.InvalidValue`, which stops the run, where the table has another number of
    rows, or a column has values that Arrow would not give back as they are: of several types, or of objects with
    different keys. What is finer than a microsecond is cut off.
    """
    pa = _pyarrow()

    def step(batch: Batch) -> Batch:
        names = list(dict.fromkeys(chain.from_iterable(batch.rows)))
        if not names:
            return batch
        table = pa.table({name: _array(pa, name, [row.get(name) for row in batch.rows]) for name in names})
        made = function(table)
        if not isinstance(made, pa.Table) or made.num_rows != len(batch.rows):
            raise _unaccounted(made, len(batch.rows))
        return replace(batch, rows=_without_gaps(_records(pa, made), batch.rows, set(names)))

    return step


def _pyarrow() -> Any:
    try:
        return import_module("pyarrow")
    except ImportError as missing:
        raise DependencyMissing(
            f"Arrow tables are pyarrow's, which cannot be loaded: {missing}.",
            hint="Install it with `pip install 'dataarch[archive]'`.",
        ) from missing


def _array(pa: Any, name: Any, values: list[Any]) -> Any:
    if not isinstance(name, str):
        raise InvalidValue(f"A column of Arrow cannot be called {name!r}.", hint="Drop the field before.")
    kinds = set(map(type, values)) - {NoneType}
    try:
        if kinds == {datetime} and any(value.tzinfo for value in values if value is not None):
            values = [value if value is None else aware(value) for value in values]
        array = pa.array(values)
        if kinds in FAITHFUL or array.to_pylist() == values:
            return array
        why = "they would not come back as they are"
    except (pa.ArrowException, InvalidValue, TypeError, ValueError, OverflowError) as error:
        why = str(error)
    kinds_named = ", ".join(sorted(kind.__name__ for kind in kinds))
    raise InvalidValue(
        f"Arrow has no column for the values of {name} ({kinds_named}): {why}.",
        hint="Give them one type before, with valid() or mapped(), or drop the field.",
        column=name,
    )


def _unaccounted(made: Any, rows: int) -> InvalidValue:
    what = f"{made.num_rows} rows" if hasattr(made, "num_rows") else f"a {type(made).__name__}"
    return InvalidValue(
        f"The function of on_arrow() was given a table of {rows} rows, and returned {what}.",
        hint="Return a table with the same rows in the same order; to reject records, use rule().",
    )


def _records(pa: Any, table: Any) -> list[Row]:
    names = table.column_names
    if len(set(names)) < len(names):
        raise InvalidValue(f"The function of on_arrow() returned two columns of the same name: {', '.join(names)}.")
    columns = [_values(pa, column) for column in table.columns]
    if not columns:
        return [{} for _ in range(table.num_rows)]
    return [dict(zip(names, values, strict=True)) for values in zip(*columns, strict=True)]


def _without_gaps(rows: list[Row], before: list[Row], names: set[str]) -> list[Row]:
    """Return rows without the fields that they did not have before and that nothing has filled."""
    if set(map(len, before)) == {len(names)}:
        return rows
    return [
        {name: value for name, value in row.items() if value is not None or name in old or name not in names}
        for row, old in zip(rows, before, strict=True)
    ]


def _values(pa: Any, column: Any) -> list[Any]:
    kind = column.type
    if not pa.types.is_timestamp(kind):
        found: list[Any] = column.to_pylist()
        return found
    values = column.cast(pa.timestamp("us", kind.tz), safe=False).to_pylist()
    return values if kind.tz is None else [value if value is None else aware(value) for value in values]
