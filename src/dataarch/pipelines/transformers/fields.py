"""The fields of a record: other names, fewer or more of them, and values for those that are not given."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from dataarch.errors import InvalidValue
from dataarch.pipelines.pipeline import Step
from dataarch.pipelines.records import Batch, Row, Stage, each
from dataarch.pipelines.transformers.record import Record

__all__ = ["computed", "dropped", "kept", "renamed", "stripped", "with_defaults"]


def renamed(names: Mapping[str, str] | None = None, /, **more: str) -> Step:
    """Return a step that gives fields other names; those that a record does not have are none of its business.

    Args:
        names: the new name of each old one, where an old one is no name of Python, as in ``{"Unit Price": "price"}``.
        more: the new name of each old one, as in ``Code="external_id"``.

    A record in which two fields would have the same name is rejected.
    """
    new = {**(names or {}), **more}

    def one(row: Row) -> Row:
        made = {new.get(name, name): value for name, value in row.items()}
        if len(made) < len(row):
            raise _clash(row, new)
        return made

    return _step(one)


def kept(*fields: str) -> Step:
    """Return a step that leaves these fields alone of each record, in this order; it may lack some of them."""
    return _step(lambda row: {name: row[name] for name in fields if name in row})


def dropped(*fields: str) -> Step:
    """Return a step that leaves these fields out; a record may lack some of them."""
    gone = frozenset(fields)
    return _step(lambda row: {name: value for name, value in row.items() if name not in gone})


def with_defaults(**values: Any) -> Step:
    """Return a step that gives fields a value where they are not there, None, or an empty text.

    Args:
        values: the value of each field; rows share it, so it must not be changed later.
    """

    def one(row: Row) -> Row:
        made = dict(row)
        for name, value in values.items():
            if not _is_given(made.get(name)):
                made[name] = value
        return made

    return _step(one)


def computed(**functions: Callable[[Row], Any]) -> Step:
    """Return a step that computes fields from the record; each function sees it as it came into this step.

    Args:
        functions: what gives the value of each field, as in ``slug=lambda row: slugify(row["name"])``. One raises
            :class:`~dataarch.errors.InvalidValue` to reject the record; a record that does not have a field which it
            looks up is rejected too. Whatever else it raises stops the run.
    """

    def one(row: Row) -> Row:
        made, record = dict(row), Record(row)
        for name, function in functions.items():
            try:
                made[name] = function(record)
            except InvalidValue as error:
                error.column = error.column or name
                raise
        return made

    return _step(one)


def stripped(*fields: str) -> Step:
    """Return a step that takes white space off both ends of text.

    Args:
        fields: in which fields; in all of them where none is named.
    """
    wanted = frozenset(fields)

    def one(row: Row) -> Row:
        return {
            name: value.strip() if isinstance(value, str) and (not wanted or name in wanted) else value
            for name, value in row.items()
        }

    return _step(one)


def _step(one: Callable[[Row], Row]) -> Step:
    def step(batch: Batch) -> Batch:
        return each(batch, Stage.TRANSFORM, one)

    return step


def _is_given(value: object) -> bool:
    return value is not None and not (isinstance(value, str) and not value)


def _clash(row: Row, new: Mapping[str, str]) -> InvalidValue:
    seen: dict[str, str] = {}
    for name in row:
        other = seen.setdefault(new.get(name, name), name)
        if other != name:
            break
    return InvalidValue(
        f"The fields {other} and {name} would both be called {new.get(name, name)}.",
        hint="Drop one of them before.",
        column=name,
    )
