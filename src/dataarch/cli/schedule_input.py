"""Schedules that a module of the user's code declares."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from dataarch.cli.modules import imported
from dataarch.errors import ConfigurationError
from dataarch.pipelines.schedulers.schedule import Schedule, distinct

__all__ = ["schedules_of"]

EXAMPLE = (
    'Declare one there, for example: HOURLY = Schedule(PRODUCTS, "15 * * * *", given="incoming/*.csv", tenant="acme").'
)


def schedules_of(module: str, only: Sequence[str] | None = None) -> list[Schedule]:
    """Return the schedules that stand in a module, alone or in lists, in their order; or those of some pipelines.

    Raises:
        ConfigurationError: it cannot be imported, or has none, or none of a pipeline that is named.
        InvalidValue: two of them are for one pipeline and tenant.
    """
    found = {id(one): one for value in vars(imported(module)).values() for one in _within(value)}
    if not found:
        raise ConfigurationError(f"The module {module} has no schedule.", hint=EXAMPLE, value=module)
    schedules = distinct(found.values())
    names = {one.pipeline.name for one in schedules}
    if unknown := [name for name in only or () if name not in names]:
        raise ConfigurationError(
            f"No pipeline {unknown[0]} is scheduled in {module}.",
            hint=f"There are: {', '.join(sorted(names))}.",
            value=unknown[0],
        )
    return [one for one in schedules if not only or one.pipeline.name in only]


def _within(value: Any) -> Iterator[Schedule]:
    if isinstance(value, Schedule):
        yield value
    elif isinstance(value, list | tuple):
        yield from (one for one in value if isinstance(one, Schedule))
