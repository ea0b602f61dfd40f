"""The statements of a batch: where it ends, what it changes, and which rows are done.

A table may have an index that begins as its key does, and is smaller: for ``(tenant_id, id) > (…)`` the planner takes
that one, and reads all rows of the tenant for each batch. So the end of a batch is found in the key's order, with sorts
switched off, and its rows by equality on leading columns and a range on the next: no other index serves that better.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from dataarch.partitions.quoting import ident, literal
from dataarch.rollout.backfill.definition import Definition
from dataarch.rollout.backfill.shape import Column, Filled, Shape

__all__ = ["TO_THE_BYTE", "Comparison", "Key", "Statements", "array", "pieces"]

TO_THE_BYTE = '::text COLLATE "C"'
"""What follows a value that is compared to the byte, whatever its type and collation call equal."""

Key = tuple[str, ...]
"""Values of a key as text, in the order of its columns."""

Comparison = tuple[int, str, str]
"""Number of a column, operator, and the value it is compared with."""


def pieces(lower: Key | None, upper: Key | None, equal: int) -> list[list[Comparison]]:
    """Return an interval of keys as pieces: each fixes leading columns and has a range in the next one.

    Args:
        lower: the key before the first; None is no bound.
        upper: the last key; None is no bound.
        equal: how many leading columns of both are equal.

    Returns:
        Conditions that together hold for the keys k with lower < k <= upper, and each key in one piece alone.
    """
    if lower is None or upper is None:
        return _above(lower, 0) if upper is None else _up_to(upper, 0)
    last = len(lower) - 1
    if equal > last:
        return []
    same: list[Comparison] = [(at, "=", lower[at]) for at in range(equal)]
    if equal == last:
        return [[*same, (last, ">", lower[last]), (last, "<=", upper[last])]]
    between: list[Comparison] = [*same, (equal, ">", lower[equal]), (equal, "<", upper[equal])]
    return [*_above(lower, equal + 1), between, *_up_to(upper, equal + 1)]


def _above(lower: Key | None, first: int) -> list[list[Comparison]]:
    if lower is None:
        return [[]]
    return [[*_fixed(lower, at), (at, ">", lower[at])] for at in range(len(lower) - 1, first - 1, -1)]


def _up_to(upper: Key, first: int) -> list[list[Comparison]]:
    last = len(upper) - 1
    return [[*_fixed(upper, at), (at, "<=" if at == last else "<", upper[at])] for at in range(first, last + 1)]


def _fixed(key: Key, columns: int) -> list[Comparison]:
    return [(at, "=", key[at]) for at in range(columns)]


def array(key: Key | None) -> str:
    """Return a key as the books keep it."""
    return "NULL" if key is None else f"ARRAY[{', '.join(map(literal, key))}]::text[]"


@dataclass(frozen=True, slots=True)
class Statements:
    """The statements of one backfill; ``leaf`` is the schema and name of the table whose rows are meant.

    Each is written without parameters: what looks like one is none.
    """

    definition: Definition
    shape: Shape

    def end(self, leaf: tuple[str, str], lower: Key | None, upper: Key | None, count: int) -> str:
        """Return a query for the key of the ``count``-th row from ``lower`` on; no row where there are fewer."""
        # what is made of the key is made of the last row alone, not of those that are passed over
        row = (
            f"SELECT {self._order()} FROM {self._only(leaf)} WHERE {self._window(lower, upper)}"
            f" ORDER BY {self._order()} OFFSET {count - 1} LIMIT 1"
        )
        return f"SELECT {self._key} AS key, {self._equal(lower)} AS equal FROM ({row}) AS {self._alias}"

    def last(self, leaf: tuple[str, str], lower: Key | None, upper: Key | None, most: int) -> str:
        """Return a query for the last key of a window that few rows are left of, and their number up to a most."""
        rows = f"FROM {self._only(leaf)} WHERE {self._window(lower, upper)}"
        # in the key's order, so that no other index is read for them
        count = f"SELECT count(*) FROM (SELECT true {rows} ORDER BY {self._order()} LIMIT {most}) AS left_over"
        return (
            f"SELECT {self._key} AS key, {self._equal(lower)} AS equal, ({count}) AS rows"
            f" {rows} ORDER BY {self._order(' DESC')} LIMIT 1"
        )

    def updates(self, leaf: tuple[str, str], lower: Key | None, upper: Key, equal: int) -> list[str]:
        """Return the statements that fill the rows of a window which are not done already."""
        return [self._update(leaf, self._all(piece)) for piece in pieces(lower, upper, equal)]

    def update_one(self, leaf: tuple[str, str], key: Key) -> str:
        """Return the statement that fills one row."""
        return self._update(leaf, self._all(_fixed(key, len(key))))

    def update_all(self) -> str:
        """Return the statement that fills all rows which are not done already."""
        return f"UPDATE {self._whole} SET {self._sets()} WHERE {self.concerned} AND {self.differs}"

    def comparison(self) -> str:
        """Return a query for the number of all rows, and of those that are concerned and not done."""
        return f"SELECT count(*), count(*) FILTER (WHERE {self.concerned} AND {self.differs}) FROM {self._whole}"

    def probe(self) -> str:
        """Return a query that names all that the others name, and is planned but not run."""
        return f"EXPLAIN {self.update_all()}"

    @property
    def concerned(self) -> str:
        """The rows that are concerned."""
        return "true" if self.definition.where is None else f"(({self.definition.where}\n))"

    @property
    def matches(self) -> str:
        """What holds for a row that is done; never NULL."""
        if self.definition.matches is not None:
            return f"(({self.definition.matches}\n)) IS TRUE"
        return "(" + " AND ".join(f"{_is(one)} NOT DISTINCT FROM {_expected(one)}" for one in self.shape.filled) + ")"

    @property
    def differs(self) -> str:
        """What holds for a row that is not done; never NULL."""
        return f"NOT {self.matches}" if self.definition.matches is None else f"({self.matches}) IS NOT TRUE"

    def chunk(self, leaf: tuple[str, str], lower: Key | None, upper: Key | None, limit: int) -> str:
        """Return a query that compares the next rows: their number, how many differ, checksums, and the last key.

        One statement, so one snapshot: what is compared was in the table at one moment.
        """
        values = ", ".join(f"{ident(one.name)}::text" for one in self.shape.filled)
        expected = ", ".join(f"CAST(({one.expression}\n) AS {one.type})::text" for one in self.shape.filled)
        rows = (
            f"SELECT row_number() OVER (ORDER BY {self._order()}) AS n, {self._key} AS key, ({self.concerned}) IS TRUE"
            f" AS concerned, {self.matches} AS same, ARRAY[{values}] AS found, ARRAY[{expected}] AS expected"
            f" FROM {self._only(leaf)} WHERE {self._window(lower, upper)} ORDER BY {self._order()} LIMIT {limit}"
        )
        return f"""
WITH chunk AS MATERIALIZED ({rows})
SELECT count(*) AS rows,
       count(*) FILTER (WHERE concerned) AS compared,
       count(*) FILTER (WHERE concerned AND NOT same) AS differing,
       coalesce(sum(hashtextextended(ROW(key, found)::text, 0)) FILTER (WHERE concerned), 0)::text AS checksum,
       (SELECT key FROM chunk WHERE n = (SELECT max(n) FROM chunk)) AS last,
       (SELECT json_agg(json_build_object('key', key, 'found', found, 'expected', expected))::text
        FROM (SELECT * FROM chunk WHERE concerned AND NOT same ORDER BY n LIMIT 5) AS shown) AS differences
FROM chunk"""

    # ── parts ─────────────────────────────────────────────────────────────────────────────────────────────────────

    @property
    def _alias(self) -> str:
        # an expression may name the table, whatever the partition is called
        return ident(self.definition.table)

    @property
    def _whole(self) -> str:
        return f"{ident(self.shape.table, self.shape.schema)} AS {self._alias}"

    def _update(self, leaf: tuple[str, str], which: str) -> str:
        return f"UPDATE {self._only(leaf)} SET {self._sets()} WHERE {which} AND {self.concerned} AND {self.differs}"

    def _sets(self) -> str:
        return ", ".join(f"{ident(one.name)} = ({one.expression}\n)" for one in self.shape.filled)

    def _only(self, leaf: tuple[str, str]) -> str:
        return f"ONLY {ident(leaf[1], leaf[0])} AS {self._alias}"

    @property
    def _key(self) -> str:
        return f"ARRAY[{', '.join(f'{self._column(one)}::text' for one in self.shape.key)}]"

    def _equal(self, lower: Key | None) -> str:
        """Return whether each column is the lower bound's; only the server knows which texts are equal."""
        if lower is None:
            return "'{}'::boolean[]"
        both = zip(self.shape.key, lower, strict=True)
        return f"ARRAY[{', '.join(f'{self._column(column)} = {_value(column, value)}' for column, value in both)}]"

    def _order(self, direction: str = "") -> str:
        return ", ".join(f"{self._column(one)}{direction}" for one in self.shape.key)

    def _window(self, lower: Key | None, upper: Key | None) -> str:
        bounds = [self._row(sign, key) for sign, key in ((">", lower), ("<=", upper)) if key is not None]
        return " AND ".join(bounds) or "true"

    def _row(self, sign: str, key: Key) -> str:
        values = ", ".join(_value(column, value) for column, value in zip(self.shape.key, key, strict=True))
        return f"({self._order()}) {sign} ({values})"

    def _all(self, piece: Sequence[Comparison]) -> str:
        key = self.shape.key
        said = (f"{self._column(key[at])} {sign} {_value(key[at], value)}" for at, sign, value in piece)
        return " AND ".join(said) or "true"

    def _column(self, column: Column) -> str:
        # by the table's name, so that no ORDER BY means a column of the output
        return ident(column.name, self.definition.table)


def _value(column: Column, value: str) -> str:
    return f"{literal(value)}::{column.type}"


def _is(one: Filled) -> str:
    return f"{ident(one.name)}{TO_THE_BYTE if one.as_text else ''} IS"


def _expected(one: Filled) -> str:
    cast = f"CAST(({one.expression}\n) AS {one.type})"
    return f"{cast}{TO_THE_BYTE}" if one.as_text else cast
