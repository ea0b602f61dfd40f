"""Any function from one record to another as a step."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from dataarch.errors import ConfigurationError
from dataarch.pipelines.pipeline import Step
from dataarch.pipelines.records import Batch, Row, Stage, each

__all__ = ["mapped"]


def mapped(function: Callable[[dict[str, Any]], Row]) -> Step:
    """Return a step that gives what a function makes of each record.

    Args:
        function: takes a record, as a copy that it may change, and returns one. It raises
            :class:`~dataarch.errors.InvalidValue` to reject the record, with ``column`` as the field; a record that
            does not have a field which it looks up is rejected too. Whatever else it raises stops the run.

    The step itself raises ConfigurationError where the function returns what is no record.
    """

    def made(row: Row) -> Row:
        found = function(dict(row))
        if not isinstance(found, Mapping):
            raise ConfigurationError(
                f"The function of mapped() returned {type(found).__name__}, not a record.",
                hint="Return a dict; to reject a record, raise InvalidValue.",
            )
        return found

    def step(batch: Batch) -> Batch:
        return each(batch, Stage.TRANSFORM, made)

    return step
