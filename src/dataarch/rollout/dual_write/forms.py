"""The two forms of a table's facts: which columns each has, and how it follows from the other one."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType

from dataarch.errors import InvalidChange

__all__ = ["Forms"]

WINNERS = ("new", "old", "refuse")

LONGEST_NAME = 50
"""Bytes: the functions that hold the expressions are called after the dual write, and a name has 63."""

RESERVED = ("$bounded$", "$dual_write$")
"""What ends the block that an expression stands in."""


@dataclass(frozen=True)
class Forms:
    """Two forms of the same facts in one table, refused where they cannot work on any server.

    Attributes:
        name: of the trigger and of its function, and the beginning of the names of the functions of its expressions.
        table: the table's name.
        forward: each column of the new form, and the SQL expression over the row's other columns that it follows from.
        backward: each column of the old form, and the same. One of the two may be empty: then nothing follows there.
        schema: the table's schema; by default the search path finds it.
        on_conflict: what happens when a writer gives both forms and they differ: ``refuse``, or the form that wins.

    Raises:
        InvalidChange: there is nothing to write, a column is of both forms, or a name or an expression cannot be used.
    """

    name: str
    table: str
    forward: Mapping[str, str] = field(default_factory=dict)
    backward: Mapping[str, str] = field(default_factory=dict)
    schema: str | None = None
    on_conflict: str = "refuse"

    def __post_init__(self) -> None:
        """Refuse what cannot work on any server; what was given may change afterwards, and this does not."""
        for side in ("forward", "backward"):
            object.__setattr__(self, side, MappingProxyType(dict(getattr(self, side))))
        if not self.forward and not self.backward:
            raise self._refusal("names no column to write", "Give it forward, backward or both.")
        if both := sorted(self.forward.keys() & self.backward.keys()):
            raise self._refusal(
                f"has {', '.join(both)} in both forms", "A column is of the old form or of the new one."
            )
        if self.on_conflict not in WINNERS:
            raise self._refusal(f"cannot let {self.on_conflict!r} win", "on_conflict is 'refuse', 'old' or 'new'.")
        if not 0 < len(self.name.encode()) <= LONGEST_NAME:
            raise self._refusal("is called by a name of a wrong length", f"1 to {LONGEST_NAME} bytes.")
        self._refuse_unusable_text()

    def _refuse_unusable_text(self) -> None:
        texts = [self.name, self.table, self.schema or "public"]
        for column, expression in (*self.forward.items(), *self.backward.items()):
            if not expression.strip():
                raise self._refusal(f"has no expression for {column}", "Say what the column follows from, in SQL.")
            texts += [column, expression]
        if any("\0" in text or mark in text for text in texts for mark in RESERVED) or not all(texts):
            raise self._refusal(
                "has a name or an expression that cannot be sent", f"Names are not empty, and none has {RESERVED[0]}."
            )

    def _refusal(self, what: str, hint: str) -> InvalidChange:
        return InvalidChange(f"The dual write {self.name} {what}.", hint=hint, table=self.table, constraint=self.name)
