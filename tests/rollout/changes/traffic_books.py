"""What rows have to say while versions of an application write them, and how each version has them in its columns."""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from functools import cached_property
from itertools import count
from typing import Any

from sqlalchemy import inspect

__all__ = ["SOMETHING", "Book", "Fact", "Facts", "Form"]

Facts = Mapping[str, Any]
"""What a row says, by name; or what it has in its columns, by the attributes of a class."""

BEGAN = datetime(2025, 12, 25, tzinfo=UTC)


class Something:
    """A value that the server has chosen: any, but for NULL."""

    def __eq__(self, other: object) -> bool:
        return other is not None

    __hash__ = object.__hash__


SOMETHING = Something()


@dataclass(frozen=True)
class Fact:
    """Something that rows say.

    Attributes:
        first: what a row says that was there before all writers.
        fresh: what a writer writes.
        otherwise: what a row says that was written by a version which does not know of it.
    """

    first: Callable[[int], Any]
    fresh: Callable[[random.Random], Any]
    otherwise: Any = None


@dataclass(frozen=True)
class Form:
    """How a version has a table.

    Attributes:
        model: its class, whose key is ``id``, or ``id`` and ``at``.
        says: what its attributes have where a row says this; by default each fact is an attribute, or not known.
        unfilled: attributes that are NULL in a row that a backfill has not reached.
        deletes: whether it deletes rows.
    """

    model: Any
    says: Callable[[Facts], Facts] | None = None
    unfilled: tuple[str, ...] = ()
    deletes: bool = True

    @cached_property
    def table(self) -> str:
        """The table's name."""
        return str(self.model.__tablename__)

    @cached_property
    def keys(self) -> tuple[str, ...]:
        """The attributes of its key."""
        return tuple(one.name for one in inspect(self.model).primary_key)

    @cached_property
    def columns(self) -> dict[str, Any]:
        """Its columns by attribute, without those of the key."""
        mapped = inspect(self.model).column_attrs
        return {one.key: one.columns[0] for one in mapped if not one.columns[0].primary_key}

    def key(self, number: int) -> dict[str, Any]:
        """Return the key of a row."""
        return dict(zip(self.keys, (number, BEGAN + timedelta(hours=number % 300)), strict=False))

    def knows(self, fact: str) -> bool:
        """Tell whether this version reads and writes a fact."""
        return self.says is not None or fact in self.columns

    def attributes(self, facts: Facts) -> dict[str, Any]:
        """Return what its attributes have where a row says this."""
        said = facts if self.says is None else self.says(facts)
        return {name: said[name] for name in self.columns}

    def changed(self, fact: str, facts: Facts) -> dict[str, Any]:
        """Return the attributes that a change of one fact changes."""
        attributes = self.attributes(facts)
        return {name: attributes[name] for name in ([fact] if fact in self.columns else attributes.keys() - facts)}

    def agrees(self, found: Facts | None, facts: Facts | None, *, filled: bool) -> bool:
        """Tell whether what was found of a row is what it has to say."""
        if found is None or facts is None:
            return found is facts
        wanted = self.attributes(facts)
        return found == wanted or (not filled and found == {**wanted, **dict.fromkeys(self.unfilled)})


@dataclass
class Book:
    """What every row of a table has to say: what was there, and what a writer was told is written.

    Attributes:
        facts: what rows say.
        rows: how many there were before all writers, numbered from 1.
        written: rows that were written since; None is one that was deleted.
        share: of so many who have books of their own, which one this is; a row belongs to one of them.
        forgotten: facts that went with their column.
    """

    facts: Mapping[str, Fact]
    rows: int
    written: dict[int, Facts | None] = field(default_factory=dict)
    share: tuple[int, int] = (0, 1)
    forgotten: frozenset[str] = frozenset()

    def __post_init__(self) -> None:
        self._newest = self._number(max([self.rows, *self.written]) // self.share[1] + 1)
        self._numbers = count(self._newest, self.share[1])
        # who writes a row puts himself down here: of two, setdefault lets one do so
        self._taken: dict[int, object] = {}
        self._turns: dict[int, int] = {}

    def says(self, number: int) -> Facts | None:
        """Return what a row has to say; None if there must be none."""
        if number in self.written or not 1 <= number <= self.rows:
            return self.written.get(number)
        return {name: None if name in self.forgotten else fact.first(number) for name, fact in self.facts.items()}

    def invented(self, chance: random.Random, form: Form, before: Facts | None) -> dict[str, Any]:
        """Return what a version might say in a row: what it does not know stays as it is."""
        without = {name: fact.otherwise for name, fact in self.facts.items()} if before is None else before
        return {name: fact.fresh(chance) if form.knows(name) else without[name] for name, fact in self.facts.items()}

    def put(self, number: int, facts: Facts | None) -> None:
        """Write down what was acknowledged of a row that one has."""
        self.written[number] = facts

    @contextmanager
    def having(self, number: int) -> Iterator[bool]:
        """Have a row for oneself, among those who use this book; False where somebody else has it."""
        mine = object()
        if self._taken.setdefault(number, mine) is not mine:
            yield False
            return
        try:
            yield True
        finally:
            self._turns[number] = self._turns.get(number, 0) + 1
            del self._taken[number]

    def some_row(self, chance: random.Random) -> int:
        """Return the number of a row of one's share, which may have been deleted."""
        recent = chance.random() < 0.2
        top = self._newest if recent else self.rows
        least = max(0, top - 100) if recent else 0
        return self._number(chance.randrange(least // self.share[1], top // self.share[1]))

    def new_row(self) -> int:
        """Return a number that no row has had."""
        self._newest = next(self._numbers)
        return self._newest

    def forget(self, facts: Iterable[str]) -> None:
        """Let facts be lost, with the column that had them, while others write."""
        lost = dict.fromkeys(facts)
        self.forgotten |= frozenset(lost)
        # those too that somebody is about to write, who read the row before
        for number in {*list(self.written), *list(self._taken)}:
            while not self._changed(number, lost):
                time.sleep(0.001)

    def undisturbed(self, before: Mapping[int, int]) -> set[int]:
        """Return those of rows that nobody has written since."""
        return {number for number, turn in self.turns(before).items() if before[number] == turn}

    def turns(self, numbers: Iterable[int]) -> dict[int, int]:
        """Return the rows that nobody is writing, each with how often it was written."""
        return {number: self._turns.get(number, 0) for number in numbers if number not in self._taken}

    @property
    def newest(self) -> int:
        """The highest number that a row may have."""
        return max([self._newest, self.rows, *list(self.written)])

    def _number(self, place: int) -> int:
        own, of = self.share
        # numbers begin with 1
        return place * of + own + 1

    def _changed(self, number: int, by: Facts) -> bool:
        with self.having(number) as mine:
            if mine and (said := self.written.get(number)) is not None:
                self.put(number, {**said, **by})
            return mine
