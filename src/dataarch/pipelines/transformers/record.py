"""Any function from one record to another as a step."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from dataarch.errors import ConfigurationError, InvalidValue
from dataarch.pipelines.pipeline import Step
from dataarch.pipelines.records import Batch, Row, Stage, each

__all__ = ["Record", "mapped"]


class Record(dict[str, Any]):
    """A copy of a record, as functions of others get it: looking up a field that it does not have rejects it."""

    def __missing__(self, name: object) -> Any:
        """Raise :class:`InvalidValue` by the field's name; a KeyError would look like a mistake in the function."""
        raise InvalidValue(f"The record has no {name}.", hint="Give it a value.", column=str(name))

    def pop(self, name: Any, *default: Any) -> Any:
        """Take a field out, as a dict does."""
        return super().pop(name, *default) if default or name in self else self[name]

    def __delitem__(self, name: Any) -> None:
        super().__delitem__(name if name in self else self[name])


def mapped(function: Callable[[dict[str, Any]], Row]) -> Step:
    """Return a step that gives what a function makes of each record.

    Args:
        function: takes a record, as a copy that it may change, and returns one. It raises
            :class:`~dataarch.errors.InvalidValue` to reject the record, with ``column`` as the field; a record that
            does not have a field which it looks up is rejected too. Whatever else it raises stops the run.

    The step itself raises ConfigurationError where the function returns what is no record.
    """

    def made(row: Row) -> Row:
        found = function(Record(row))
        if not isinstance(found, Mapping):
            raise ConfigurationError(
                f"The function of mapped() returned {type(found).__name__}, not a record.",
                hint="Return a dict; to reject a record, raise InvalidValue.",
            )
        return dict(found)

    def step(batch: Batch) -> Batch:
        return each(batch, Stage.TRANSFORM, made)

    return step
