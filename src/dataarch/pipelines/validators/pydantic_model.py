"""Records against a pydantic model, for those who have one."""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel, TypeAdapter, ValidationError

from dataarch.errors import DataArchError, InvalidValue, shown
from dataarch.pipelines.pipeline import Step
from dataarch.pipelines.records import Batch, Stage, without

__all__ = ["conforms"]


def conforms(model: type[BaseModel]) -> Step:
    """Return a step that gives what a pydantic model makes of each record, as ``model_dump()`` does.

    Args:
        model: a pydantic model; its own configuration says what it coerces and what becomes of other fields.

    A record that it does not accept is rejected, with the first error's place, as in ``lines.0.price``, and its
    message; it costs the others nothing. What a validator raises beside ValueError and AssertionError stops the run.
    """
    # one record after the other costs what a list of all does, and a bad one does not end it
    validated = TypeAdapter(model).validator.validate_python
    dumped = TypeAdapter(list[model]).dump_python  # type: ignore[valid-type]  # a list of this very model

    def step(batch: Batch) -> Batch:
        found: list[BaseModel] = []
        wrong: dict[int, DataArchError] = {}
        for at, row in enumerate(batch.rows):
            try:
                # a copy: a validator may take the record apart
                found.append(validated(dict(row)))
            except ValidationError as error:
                wrong[at] = _reason(error)
        return without(batch, dumped(found), wrong, Stage.VALIDATE)

    return step


def _reason(error: ValidationError) -> InvalidValue:
    first: dict[str, Any] = dict(error.errors(include_url=False, include_context=False)[0])
    more = error.error_count() - 1
    place = ".".join(map(str, first["loc"]))
    # where a field is missing, the input is all that is around it
    value = f"{shown(first['input'])}: " if place and first["type"] != "missing" else ""
    also = f" ({more} more errors)" if more > 1 else " (1 more error)" if more else ""
    return InvalidValue(f"{value}{first['msg']}{also}.", column=place, value=first["input"])
