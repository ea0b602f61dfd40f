"""Rows of any form, put together in portions that give the same columns."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import islice
from operator import itemgetter
from typing import Any

from sqlalchemy import Column, inspect

from dataarch.errors import InvalidValue
from dataarch.models import Base
from dataarch.repositories.bulk.outcome import Refused
from dataarch.repositories.bulk.target import Target, names_of, table_written

__all__ = ["Batch", "Given", "batches", "portions"]


@dataclass
class Given:
    """Rows that give the same columns.

    Attributes:
        target: what they do.
        rows: the rows by names, or in the order of the columns that travel.
        positions: where they were among the rows of the batch.
    """

    target: Target
    rows: list[Any] = field(default_factory=list)
    positions: list[int] = field(default_factory=list)


@dataclass(frozen=True)
class Batch:
    """So many rows of a call.

    Attributes:
        start: the position of the first one.
        rows: the rows as they were given.
    """

    start: int
    rows: Sequence[Any]


def batches(rows: Iterable[Any], size: int) -> Iterator[Batch]:
    """Give rows in batches.

    Raises:
        InvalidValue: the size is no positive number.
    """
    if type(size) is not int or size < 1:
        raise InvalidValue(f"A batch of {size!r} rows is none.", hint="Give a number of rows, as 100_000.", value=size)
    left, start = iter(rows), 0
    while taken := list(islice(left, size)):
        yield Batch(start, taken)
        start += len(taken)


def portions(batch: Batch, model: type[Base], key: tuple[Column[Any], ...]) -> tuple[list[Given], list[Refused]]:
    """Put the rows of a batch together by what they give; to write the portions in turn is to write row by row.

    Args:
        batch: the rows.
        model: what they are.
        key: the columns that say which row is meant; none where every row is a new one.

    Returns:
        The portions in the order in which they must be written, and what is no row at all.
    """
    alike = _alike(batch.rows, model, key)
    if alike is not None:
        return [alike], []
    sorter = _Sorter(model, key)
    refused = []
    for at, row in enumerate(batch.rows):
        named = _by_names(model, row)
        if named is None:
            said = f"A {type(row).__name__} is no row here."
            refused.append(Refused(batch.start + at, row, InvalidValue(said, hint="Give a dict, or an instance.")))
        else:
            sorter.add(at, named)
    return sorter.found, refused


def _alike(rows: Sequence[Any], model: type[Base], key: tuple[Column[Any], ...]) -> Given | None:
    """Return all rows as one portion, where they are dicts with the same names; None where they may not be."""
    first, known = rows[0], names_of(model)
    if set(map(type, rows)) != {dict} or set(map(len, rows)) != {len(first)} or not first.keys() <= known.keys():
        return None
    target = _target(model, key, first)
    names = {known[name].name: name for name in first}
    columns = [column.name for column in target.travelling]
    if len(columns) < 2 or sorted(columns) != sorted(names) or len(names) < len(first):
        return None
    try:
        # tuples in the order of the columns are the quickest to encode
        return Given(target, list(map(itemgetter(*(names[column] for column in columns)), rows)), [])
    except KeyError:
        return None


class _Sorter:
    """Puts rows into portions; a key that comes again with other columns begins new ones."""

    def __init__(self, model: type[Base], key: tuple[Column[Any], ...]) -> None:
        self.found: list[Given] = []
        self._model, self._key = model, key
        self._targets: dict[tuple[str, ...], Target] = {}
        self._open: dict[Target, Given] = {}
        self._seen: dict[str, Target] = {}

    def add(self, at: int, row: dict[str, Any]) -> None:
        """Put a row where it belongs."""
        names = tuple(row)
        target = self._targets.get(names)
        if target is None:
            target = self._targets[names] = _target(self._model, self._key, names)
        if self._key and self._seen.setdefault(self._key_of(row), target) != target:
            self._open, self._seen = {}, {self._key_of(row): target}
        portion = self._open.get(target)
        if portion is None:
            portion = self._open[target] = Given(target)
            self.found.append(portion)
        portion.rows.append(row)
        portion.positions.append(at)

    def _key_of(self, row: dict[str, Any]) -> str:
        # what is stored may differ in case; taken for the same, two keys only cost another portion
        known = names_of(self._model)
        return ascii([value for name, value in row.items() if name in known and known[name] in self._key]).lower()


def _target(model: type[Base], key: tuple[Column[Any], ...], names: Iterable[str]) -> Target:
    known = names_of(model)
    table = table_written(model)
    given = {known[name] for name in names if name in known} | set(key)
    tenant = table.columns["tenant_id"]
    columns = tuple(column for column in table.columns if column in given and column is not tenant)
    return Target(table, key, columns, says_tenant=tenant in given)


def _by_names(model: type[Base], row: Any) -> dict[str, Any] | None:
    if isinstance(row, Mapping):
        return dict(row)
    if isinstance(row, model):
        return _of_instance(row)
    named = getattr(row, "_mapping", None)
    return dict(named) if isinstance(named, Mapping) else None


def _of_instance(row: Base) -> dict[str, Any]:
    state: Any = inspect(row)
    names: Sequence[str] = [prop.key for prop in state.mapper.column_attrs]
    if state.has_identity:
        # what was expired is read again, rather than taken for not given
        return {name: getattr(row, name) for name in names if name in names_of(type(row))}
    return {name: row.__dict__[name] for name in names if name in row.__dict__}
