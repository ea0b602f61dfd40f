"""The months of rows that are all there before the first is written.

Once rows of a first batch are written, their transaction itself is in the way of making a partition for the second.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from datetime import UTC, date, datetime
from importlib import import_module
from operator import methodcaller
from typing import Any

from dataarch.clock import Month
from dataarch.errors import InvalidValue
from dataarch.repositories.bulk.arrow import UNIX_EPOCH, is_arrow
from dataarch.repositories.bulk.fields import DAY, all_of

__all__ = ["foreseen"]


def foreseen(rows: object, name: str, place: int) -> set[Month]:
    """Return the months that rows lie in, as far as that is plain to see.

    Args:
        rows: an Arrow table or batch, or a list or tuple of rows; of an iterator nothing is seen.
        name: what the instant is called.
        place: where it is in rows that are sequences.
    """
    if is_arrow(rows):
        return set(_of_arrow(rows, name))
    if not isinstance(rows, list | tuple):
        return set()
    instants = map(methodcaller("get", name), rows) if all_of(dict, rows) else (_of(row, name, place) for row in rows)
    return set(_months(instants))


def _of(row: Any, name: str, place: int) -> Any:
    if isinstance(row, tuple | list):
        return row[place] if len(row) > place else None
    return row.get(name) if hasattr(row, "get") else getattr(row, "__dict__", {}).get(name)


def _months(instants: Iterable[Any]) -> Iterator[Month]:
    plain = {
        (at.year, at.month) if at.tzinfo is UTC else at
        for at in instants
        if type(at) is datetime and at.tzinfo is not None
    }
    for one in plain:
        try:
            yield Month.of(one) if isinstance(one, datetime) else Month(*one)
        except InvalidValue:
            # no instant at all, and its row will be refused
            continue


def _of_arrow(rows: Any, name: str) -> Iterator[Month]:
    pa, compute = import_module("pyarrow"), import_module("pyarrow.compute")
    if name not in getattr(rows, "schema", rows).names or not hasattr(rows, "column"):
        return
    instants = rows.column(name)
    if not pa.types.is_timestamp(instants.type) or instants.type.tz is None:
        return
    days = compute.unique(compute.floor_temporal(instants.cast(pa.timestamp("us", "UTC"), safe=False), unit="day"))
    for microseconds in days.cast(pa.int64()).drop_null().to_pylist():
        day = UNIX_EPOCH.toordinal() + microseconds // DAY
        if 1 <= day <= date.max.toordinal():
            yield Month(date.fromordinal(day).year, date.fromordinal(day).month)
