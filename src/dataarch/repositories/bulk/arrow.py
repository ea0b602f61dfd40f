"""Arrow tables as rows: taken apart column by column, which costs a fraction of what a dict for each row does."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, datetime, timedelta
from importlib import import_module
from itertools import repeat
from typing import Any
from uuid import UUID

import msgspec
from sqlalchemy import Column, Uuid

from dataarch.models.types import Json
from dataarch.repositories.bulk.fields import MISSING
from dataarch.repositories.bulk.rows import RowNames

__all__ = ["UNIX_EPOCH", "arrow_rows", "is_arrow"]

UNIX_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def is_arrow(rows: object) -> bool:
    """Return whether rows are an Arrow table, batch or reader; loads nothing where they are not."""
    if not type(rows).__module__.startswith("pyarrow"):
        return False
    pa = import_module("pyarrow")
    return isinstance(rows, pa.Table | pa.RecordBatch | pa.RecordBatchReader)


def arrow_rows(rows: Any, columns: Sequence[Column[Any]], names: RowNames, batch: int) -> Iterator[list[Any]]:
    """Give the rows of an Arrow table, batch or reader as tuples in the order of columns.

    A null counts as not given. Text, numbers and timestamps are taken as they are, nanoseconds cut off to
    microseconds; UUIDs may be Arrow's own, 16 bytes, or text; JSON may be a struct, a list, a scalar or Arrow's JSON.

    Raises:
        InvalidValue: a column of the table is none here.
    """
    places = names.places(rows.schema.names)
    batches = [rows] if hasattr(rows, "slice") and not hasattr(rows, "to_batches") else _batches(rows, batch)
    for one in batches:
        for start in range(0, one.num_rows, batch):
            part = one.slice(start, batch)
            found = [
                repeat(MISSING, part.num_rows) if place is None else _values(part.column(place), column)
                for column, place in zip(columns, places, strict=True)
            ]
            yield list(zip(*found, strict=True))


def _batches(rows: Any, batch: int) -> Any:
    return rows.to_batches(max_chunksize=batch) if hasattr(rows, "to_batches") else rows


def _values(values: Any, column: Column[Any]) -> list[Any]:
    pa = import_module("pyarrow")
    kind = values.type
    if pa.types.is_timestamp(kind) and kind.tz is not None:
        return _instants(values.cast(pa.timestamp("us", "UTC"), safe=False).cast(pa.int64()).to_pylist())
    if str(kind).startswith("extension<arrow.json"):
        return [MISSING if text is None else _document(text) for text in values.to_pylist()]
    if isinstance(column.type, Uuid):
        return [_uuid(value) for value in values.to_pylist()]
    gap: Callable[[Any], Any] = _given if isinstance(column.type, Json) else _same
    return list(map(gap, values.to_pylist()))


def _instants(microseconds: list[int | None]) -> list[Any]:
    try:
        since = map(timedelta, repeat(0), repeat(0), microseconds)  # type: ignore[arg-type]  # None raises
        return list(map(UNIX_EPOCH.__add__, since))
    except (TypeError, OverflowError):
        return [_instant(value) for value in microseconds]


def _instant(microseconds: int | None) -> Any:
    if microseconds is None:
        return None
    try:
        return UNIX_EPOCH + timedelta(microseconds=microseconds)
    except OverflowError:
        # no datetime has it: its type says so
        return microseconds


def _uuid(value: Any) -> Any:
    return UUID(bytes=value) if isinstance(value, bytes) and len(value) == 16 else value


def _document(text: Any) -> Any:
    try:
        return msgspec.json.decode(text)
    except msgspec.DecodeError:
        # no JSON, and the type says so
        return object()


def _given(value: Any) -> Any:
    return MISSING if value is None else value


def _same(value: Any) -> Any:
    return value
