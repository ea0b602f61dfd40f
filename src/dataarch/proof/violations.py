"""For every constraint of a table, a row that breaks it and nothing else.

A valid row is changed in one column, then in two, then in three, over values worth trying; the database says which
CHECKs each candidate breaks, and the first that breaks the one in question alone is taken. :func:`refusals` then shows
that the constraint stands alone: the row is refused by it, and accepted once it is taken away.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import chain

from sqlalchemy import ForeignKeyConstraint, PrimaryKeyConstraint, UniqueConstraint
from sqlalchemy.sql.schema import Table

from dataarch.models.partitioning import partitioning_of
from dataarch.proof.judge import Row, checks
from dataarch.proof.world import Placed, World, foreign_keys

__all__ = ["Violation", "violations_of"]

CHECK, FOREIGN_KEY, NOT_NULL, UNIQUE = "23514", "23503", "23502", "23505"

Key = PrimaryKeyConstraint | UniqueConstraint


@dataclass(frozen=True, slots=True)
class Violation:
    """A row that breaks exactly one constraint.

    Attributes:
        constraint: the constraint's name; of a NOT NULL, which has none before PostgreSQL 18, ``table.column``.
        sqlstate: with what the server refuses it.
        given: rows that are there before, first things first; some may be there already.
        broken: the row that is refused.
        deferred: whether it is refused only at commit.
        clearing: statements that take away what would refuse the row first; empty for all but a few.
    """

    constraint: str
    sqlstate: str
    given: tuple[Placed, ...]
    broken: Placed
    deferred: bool = False
    clearing: tuple[str, ...] = ()


def violations_of(table: Table, world: World) -> Iterator[Violation]:
    """Give a violation of each constraint of a table.

    Raises:
        LookupError: none can be found for a constraint; the message names it.
    """
    yield from (_without_value(table, world, column.name) for column in table.columns if not column.nullable)
    yield from (_against_check(table, world, name) for name in checks(table))
    yield from (_second_of_key(table, world, key) for key in _keys(table))
    yield from (_without_parent(table, world, key) for key in foreign_keys(table))


def _none_found(constraint: str) -> LookupError:
    return LookupError(f"No row was found that breaks {constraint} and nothing else.")


# ── NOT NULL ──────────────────────────────────────────────────────────────────────────────────────────────────────


def _without_value(table: Table, world: World, column: str) -> Violation:
    valid = Placed(table, world.plain(table))
    broken = Placed(table, {**valid.row, column: None})
    clearing = tuple(chain(_clear_computed(table, column), _clear_routing(table, column)))
    return Violation(f"{table.name}.{column}", NOT_NULL, tuple(world.parents(valid)), broken, clearing=clearing)


def _clear_computed(table: Table, column: str) -> Iterator[str]:
    if table.columns[column].computed is not None:
        yield f"ALTER TABLE public.{table.name} ALTER COLUMN {column} DROP EXPRESSION"


def _clear_routing(table: Table, column: str) -> Iterator[str]:
    """Make a partition for a row without a month; elsewhere it has none to go to, which refuses it first."""
    partitioning = partitioning_of(table)
    if partitioning is not None and partitioning.column == column:
        yield f"CREATE TABLE public.{table.name}_rest_any PARTITION OF public.{table.name} DEFAULT"


# ── CHECK ─────────────────────────────────────────────────────────────────────────────────────────────────────────


def _against_check(table: Table, world: World, name: str) -> Violation:
    valid = world.plain(table)
    for rows in world.near(table, valid):
        for row, broken in zip(rows, world.judge.broken(table, rows), strict=True):
            if broken == {name}:
                placed = Placed(table, row)
                return Violation(name, CHECK, tuple(world.parents(Placed(table, valid))), placed)
    raise _none_found(name)


# ── PRIMARY KEY, UNIQUE ───────────────────────────────────────────────────────────────────────────────────────────


def _keys(table: Table) -> list[Key]:
    keys = [each for each in table.constraints if isinstance(each, PrimaryKeyConstraint | UniqueConstraint)]
    # a table without a primary key has one of no columns
    return sorted((key for key in keys if _names(key)), key=lambda key: str(key.name))


def _names(key: Key) -> frozenset[str]:
    return frozenset(column.name for column in key.columns)


def _second_of_key(table: Table, world: World, key: Key) -> Violation:
    first = Placed(table, world.plain(table))
    same = _names(key)
    second: Row = {**world.plain(table), **{name: first.row[name] for name in same}}
    narrower = [other for other in _keys(table) if _names(other) < same]
    others = [_names(other) for other in _keys(table) if other is not key and other not in narrower]
    for rows in world.near(table, second, fixed=same):
        different = [row for row in rows if all(_differ(first.row, row, names) for names in others)]
        if accepted := world.judge.accepted(table, different):
            broken = Placed(table, accepted[0])
            given = (*world.parents(first), first, *world.parents(broken))
            clearing = tuple(f"ALTER TABLE public.{table.name} DROP CONSTRAINT {other.name}" for other in narrower)
            return Violation(str(key.name), UNIQUE, given, broken, clearing=clearing)
    raise _none_found(str(key.name))


def _differ(one: Row, other: Row, names: frozenset[str]) -> bool:
    return any(one[name] != other[name] for name in names)


# ── FOREIGN KEY ───────────────────────────────────────────────────────────────────────────────────────────────────


def _without_parent(table: Table, world: World, key: ForeignKeyConstraint) -> Violation:
    valid = world.plain(table)
    for rows in world.near(table, valid):
        for row in world.judge.accepted(table, [row for row in rows if _refers(world, table, row, key)]):
            child = Placed(table, row)
            given = tuple(world.parents(child, without=key))
            return Violation(str(key.name), FOREIGN_KEY, given, child, deferred=key.initially == "DEFERRED")
    raise _none_found(str(key.name))


def _refers(world: World, table: Table, row: Row, key: ForeignKeyConstraint) -> bool:
    computed = {column.name: str(column.computed.sqltext) for column in key.columns if column.computed is not None}
    whole = {**row, **world.judge.ask(table, [row], computed)[0]}
    return all(whole[column.name] is not None for column in key.columns)
