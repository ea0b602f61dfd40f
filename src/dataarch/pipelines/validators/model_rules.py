"""Records against a model: what is valid is said once, by the columns of the model and their types."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from operator import itemgetter
from typing import Any, Literal, NamedTuple

from dataarch.errors import DataArchError, InvalidValue
from dataarch.models.base import Base
from dataarch.pipelines.pipeline import Step
from dataarch.pipelines.records import Batch, Row, Stage, without
from dataarch.pipelines.validators.column_values import ColumnValues, values_of
from dataarch.repositories.bulk.fields import MISSING
from dataarch.repositories.bulk.target import names_of

__all__ = ["valid"]

Names = tuple[Any, ...]
"""The names of a record's fields, in its order; a source may give others than text."""


def valid(
    model: type[Base],
    extra: Literal["reject", "ignore"] = "reject",
    given: Iterable[str] | None = None,
    *,
    json: Literal["text", "value"] = "text",
) -> Step:
    """Return a step that gives the typed values of a model's columns, and rejects what they do not accept.

    Args:
        model: what the records are to be rows of. They name its attributes or its columns.
        extra: what becomes of a field that the model does not have.
        given: the fields that records have, where they are not whole rows, as for an upsert that brings a price up
            to date; a mandatory column that is not among them is not asked for, and any other field is extra.
        json: what text in a column of JSON is: the text of a JSON value, as in CSV, or a string of JSON, as in JSON.

    Returns:
        The step. A value may be text, as CSV has it, or what JSON and Parquet give for it. None, and the empty text
        where the column does not allow it, count as not given: the column is NULL where it may be, and left out where
        it has a default. ``tenant_id`` is never asked for. A record is rejected once, for the first of its columns, in
        the order of the model, that is wrong.

    Raises:
        InvalidValue: the model has no such field.
        ConfigurationError: nobody knows how a column's type is read.
    """
    table: Any = model.__table__
    columns = {
        column.name: values_of(column, json_texts=json == "text") for column in table.columns if column.computed is None
    }
    rules = _Rules(model, columns, tuple(given) if given is not None else None, ignore=extra == "ignore")

    def step(batch: Batch) -> Batch:
        bad: dict[int, DataArchError] = {}
        found = rules.read(batch.rows, bad)
        rows = [row for at, row in enumerate(found) if at not in bad] if bad else found
        return without(batch, rows, dict(sorted(bad.items())), Stage.VALIDATE)

    return step


class _Plan(NamedTuple):
    """How records with the same fields are read.

    Attributes:
        fields: the names that count, in the order of the model's columns, each with how it is read.
        first: the first mandatory column that is missing, and how many of the fields come before it.
        also: what is wrong with the record beside its columns.
    """

    fields: list[tuple[str, ColumnValues]]
    first: tuple[int, ColumnValues] | None
    also: str


class _Rules:
    """What a model says of records."""

    def __init__(
        self, model: type[Base], columns: dict[str, ColumnValues], given: tuple[str, ...] | None, *, ignore: bool
    ) -> None:
        known = names_of(model)
        self.columns, self.ignore = columns, ignore
        unknown = [name for name in given or () if name not in known]
        if unknown:
            raise InvalidValue(
                f"{model.__name__} has no {', '.join(map(ascii, unknown))}.", hint=f"It has {', '.join(sorted(known))}."
            )
        wanted = {known[name].name for name in given} if given is not None else set(self.columns)
        self.names: Mapping[Any, str] = {name: column.name for name, column in known.items() if column.name in wanted}
        self.needed = {name for name in wanted if self.columns[name].needed}

    def read(self, rows: Sequence[Row], bad: dict[int, DataArchError]) -> list[Row]:
        """Return the typed rows; those that are noted as bad mean nothing."""
        if not rows:
            return []
        names = tuple(rows[0])
        if set(map(len, rows)) == {len(names)}:
            try:
                # all of them, also those that nobody reads: as many fields of other names are another form
                given = {name: list(map(itemgetter(name), rows)) for name in names}
            except KeyError:
                return self._mixed(rows, bad)
            return self._alike(given, len(rows), bad)
        return self._mixed(rows, bad)

    def _mixed(self, rows: Sequence[Row], bad: dict[int, DataArchError]) -> list[Row]:
        groups: dict[Names, list[int]] = {}
        for at, row in enumerate(rows):
            groups.setdefault(tuple(row), []).append(at)
        found: list[Row] = [{}] * len(rows)
        for names, places in groups.items():
            wrong: dict[int, DataArchError] = {}
            given = {name: [rows[at][name] for at in places] for name in names}
            for at, row in zip(places, self._alike(given, len(places), wrong), strict=True):
                found[at] = row
            bad.update((places[at], error) for at, error in wrong.items())
        return found

    def _alike(self, given: Mapping[Any, list[Any]], number: int, bad: dict[int, DataArchError]) -> list[Row]:
        """Read so many rows that all have these fields, each with its values."""
        plan = self._plan(tuple(given))
        columns: list[Sequence[Any]] = []
        gaps = False
        for at, (name, values) in enumerate(plan.fields):
            if plan.first is not None and plan.first[0] == at:
                _miss(plan.first[1], number, bad)
            found, without_it = values.read(given[name], bad, name)
            columns.append(found)
            gaps |= without_it
        if plan.first is not None:
            _miss(plan.first[1], number, bad)
        if plan.also:
            for at in range(number):
                bad.setdefault(at, InvalidValue(plan.also, hint=f"Known are {', '.join(sorted(self.names))}."))
        return _rows([name for name, _ in plan.fields], columns, number, gaps=gaps)

    def _plan(self, names: Names) -> _Plan:
        asked: dict[str, str] = {}
        extra: list[Any] = []
        twice: list[str] = []
        for name in names:
            column = self.names.get(name)
            if column is None:
                extra.append(name)
            elif column in asked:
                twice.append(column)
            else:
                asked[column] = name
        fields = [(asked[column], values) for column, values in self.columns.items() if column in asked]
        return _Plan(fields, self._first_missing(asked), self._wrong_beside(extra, twice))

    def _first_missing(self, asked: Mapping[str, str]) -> tuple[int, ColumnValues] | None:
        before = 0
        for column, values in self.columns.items():
            if column in asked:
                before += 1
            elif column in self.needed:
                return before, values
        return None

    def _wrong_beside(self, extra: list[Any], twice: list[str]) -> str:
        if twice:
            return f"The record gives {', '.join(twice)} twice, by the name of the attribute and of the column."
        if extra and not self.ignore:
            return f"The record has what is no column here: {', '.join(sorted(map(ascii, extra)))}."
        return ""


def _miss(values: ColumnValues, rows: int, bad: dict[int, DataArchError]) -> None:
    if len(bad) < rows:
        for at in set(range(rows)) - bad.keys():
            bad[at] = values.missing(values.column.name)


def _rows(names: list[str], columns: list[Sequence[Any]], number: int, *, gaps: bool) -> list[Row]:
    if not columns:
        return [{} for _ in range(number)]
    rows: list[Row] = [dict(zip(names, values, strict=True)) for values in zip(*columns, strict=True)]
    if gaps:
        return [{name: value for name, value in row.items() if value is not MISSING} for row in rows]
    return rows
