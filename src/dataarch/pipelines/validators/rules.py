"""Rules of one's own: what must hold of a record, in Python and in words."""

from __future__ import annotations

from collections.abc import Callable
from datetime import date
from decimal import Decimal
from uuid import UUID

from dataarch.errors import InvalidValue, shown
from dataarch.pipelines.pipeline import Step
from dataarch.pipelines.records import Batch, Row, Stage, each
from dataarch.pipelines.transformers.record import Record

__all__ = ["rule"]


def rule(field: str, holds: Callable[[Row], object], said: str) -> Step:
    """Return a step that rejects the records of which a rule does not hold.

    Args:
        field: the field that the rule is about. A record that does not have it, or has None there, passes, as NULL
            passes a CHECK: that a field is there, ``valid()`` says.
        holds: whether the rule holds of a record; what it returns counts as true or false.
        said: the rule in words, as in "a quantity is not negative"; each reject says so.

    A record for which ``holds`` raises TypeError, as text does where a number is compared, or which does not have
    another field that it looks up, is rejected too; whatever else it raises is a mistake in it, and stops the run.
    """

    def judged(row: Row) -> Row:
        value = row.get(field)
        if value is None:
            return row
        try:
            kept = holds(Record(row))
        except TypeError as error:
            raise InvalidValue(
                f"Whether {said} cannot be said of {_shown(value)}: {error}.",
                hint="Give the field its type first, with valid().",
                column=field,
                value=value,
            ) from None
        if kept:
            return row
        raise InvalidValue(f"{said[:1].upper()}{said[1:]}: {field} is {_shown(value)}.", column=field, value=value)

    def step(batch: Batch) -> Batch:
        return each(batch, Stage.VALIDATE, judged)

    return step


def _shown(value: object) -> str:
    """Return a value as a reason shows it: what has a text of its own, by that."""
    return str(value) if isinstance(value, Decimal | date | UUID) else shown(value)
