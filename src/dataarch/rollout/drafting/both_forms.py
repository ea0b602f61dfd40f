"""Two forms of the same facts in one table: the columns that go, those that come, and what keeps them in step."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field

from dataarch.rollout.backfill.statements import TO_THE_BYTE
from dataarch.rollout.drafting.carried import Carried, Rule
from dataarch.rollout.drafting.dependents import Dependents
from dataarch.rollout.drafting.naming import quoted
from dataarch.rollout.drafting.on_table import OnTable, not_null_name
from dataarch.rollout.drafting.tables import Column, Table
from dataarch.rollout.drafting.types import Kind
from dataarch.rollout.dual_write import DualWrite
from dataarch.rollout.operations import CreateDualWriteOp, StartBackfillOp

__all__ = ["BothForms", "NewColumn", "Turned"]

PLAIN = re.compile(r"text|character( varying)?(\(\d+\))?")
"""Types whose equality is that of bytes, in the collation of the database."""


@dataclass(frozen=True, slots=True)
class NewColumn:
    """A column that comes.

    Attributes:
        name: while both forms are there.
        kind: its type.
        nullable: whether it may be NULL in the end.
        default: its default in the end.
        final: its name in the end.
    """

    name: str
    kind: Kind
    nullable: bool
    default: str | None
    final: str


@dataclass(frozen=True, slots=True)
class Turned:
    """How the forms are called, and follow from each other, once the new one has its names of the end.

    Attributes:
        names: what old columns are called then, of which new ones have the names.
        forward: each new column, as an SQL expression over the old ones.
        backward: each old column, as an SQL expression over the new ones.
    """

    names: Mapping[str, str]
    forward: Mapping[str, str]
    backward: Mapping[str, str]


@dataclass(frozen=True)
class BothForms:
    """Columns that take the place of others.

    Attributes:
        table: theirs.
        what: name of the dual write and of the backfill, and of the files.
        says: what takes the place of what, for docstrings.
        old: the columns that go.
        new: the columns that come.
        forward: each new column, as an SQL expression over the old ones.
        backward: each old column, as an SQL expression over the new ones.
        along: what goes with the old columns.
        carried: what is carried over to the new ones.
        other_names: how they are called in the end, where that is not as before.
    """

    table: Table
    what: str
    says: str
    old: tuple[Column, ...]
    new: tuple[NewColumn, ...]
    forward: Mapping[str, str]
    backward: Mapping[str, str]
    along: Dependents
    carried: tuple[Carried, ...] = field(default=())
    other_names: Turned | None = None

    @property
    def names(self) -> str:
        """The old columns, for a sentence."""
        return " and ".join(quoted(one.name) for one in self.old)

    @property
    def turned(self) -> Turned:
        """How they are called, and follow from each other, in the end."""
        return self.other_names or Turned({}, self.forward, self.backward)

    @property
    def what_back(self) -> str:
        """Name of the dual write and of the backfill by which the old form follows the new one."""
        return f"{self.what}_back"

    @property
    def dual_write(self) -> CreateDualWriteOp:
        """What keeps both in step while the old form is the one that is whole."""
        return self._in_step(self.what, self.forward, self.backward)

    @property
    def dual_write_back(self) -> CreateDualWriteOp:
        """What keeps both in step while the new form is: to fill the old one never makes the new one move."""
        return self._in_step(self.what_back, self.turned.backward, self.turned.forward)

    @property
    def backfill(self) -> StartBackfillOp:
        """What fills the new form."""
        return self._filling(self.what, self.forward, self._agreeing({}, self.forward, self.backward))

    @property
    def backfill_back(self) -> StartBackfillOp:
        """What fills the old form; a column that must not be NULL has to be there, whatever follows from what."""
        turned = self.turned
        agree = self._agreeing(self._final_names, turned.forward, turned.backward)
        if agree is not None:
            tight = [turned.names.get(one.name, one.name) for one in self.old if not one.nullable]
            agree = " AND ".join([*(f"{quoted(name)} IS NOT NULL" for name in tight), f"({agree})" if tight else agree])
        return self._filling(self.what_back, turned.backward, agree)

    @property
    def rules(self) -> list[Rule]:
        """What the new form is to keep to; CHECKs first, whose lock is the stronger one."""
        on = OnTable(self.table)
        not_null = [one.name for one in self.new if not one.nullable]
        found = [Rule(not_null_name(self.table.name, name), "check", on.not_null_check(name)) for name in not_null]
        found += [rule for carried in self.carried for rule in carried.rules]
        return sorted(found, key=lambda rule: rule.kind)

    def _in_step(self, name: str, forward: Mapping[str, str], backward: Mapping[str, str]) -> CreateDualWriteOp:
        return CreateDualWriteOp(DualWrite(name, self.table.name, dict(forward), dict(backward), self.table.schema))

    def _filling(self, name: str, sets: Mapping[str, str], matches: str | None) -> StartBackfillOp:
        return StartBackfillOp(name, self.table.name, sets=dict(sets), matches=matches, schema=self.table.schema)

    @property
    def _final_names(self) -> Mapping[str, str]:
        """How columns are called in the end that are called otherwise meanwhile."""
        return {**{one.name: one.final for one in self.new}, **self.turned.names}

    def _agreeing(self, names: Mapping[str, str], *sides: Mapping[str, str]) -> str | None:
        """Return what holds for a row whose forms agree; None where the form that is filled alone says it."""
        if self.other_names is None and self.carried:
            return None
        texts = self._to_the_byte(names)
        return " OR ".join(f"({_follows(side, texts)})" for side in sides)

    def _to_the_byte(self, names: Mapping[str, str]) -> set[str]:
        """Return the columns whose values have no equality, or one that may be true of values that are not the same."""
        texts = {one.name: one.kind for one in self.old if one.as_text}
        texts |= {one.name: one.kind.kind for one in self.new if one.kind.as_text}
        if all(map(PLAIN.fullmatch, texts.values())):
            return set()
        return {names.get(name, name) for name in texts}


def _follows(side: Mapping[str, str], texts: Collection[str]) -> str:
    return " AND ".join(_is(column, expression, exact=column in texts) for column, expression in side.items())


def _is(column: str, expression: str, *, exact: bool) -> str:
    bytewise = TO_THE_BYTE if exact else ""
    return f"{quoted(column)}{bytewise} IS NOT DISTINCT FROM ({expression}){bytewise}"
