"""Ranges of keys that workers share: where a table is cut, and who takes which.

A range belongs to nobody for longer than a batch: the lock on its line in the books is taken and left with the batch's
transaction. So what a killed worker had begun is free at once, and any number of workers and processes share the work.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum
from itertools import pairwise
from typing import Any

from sqlalchemy import Connection

from dataarch.errors import BackfillChanged
from dataarch.partitions.quoting import ident, literal
from dataarch.rollout.backfill.books import SCHEMA, Record, changed
from dataarch.rollout.backfill.session import ask, send, together
from dataarch.rollout.backfill.shape import Leaf, Shape
from dataarch.rollout.backfill.statements import Key, Statements, array

__all__ = ["Claim", "Unclaimed", "claim", "plan"]

ROWS = 60_000
"""Rows that a range of a large table should have: enough that its last, smaller batch costs little."""

FEW = 8
"""Ranges of a smaller table, if each has :data:`FEWEST` rows."""

FEWEST = 10_000

MOST = 64
"""Ranges of a table or partition at the most."""

SAMPLED_PAGES = 128
"""Pages that are read to find where a table can be cut."""


class Unclaimed(Enum):
    """Why there is no range to work on."""

    PAUSED = "paused"
    TAKEN = "taken"
    DONE = "done"


@dataclass(frozen=True, slots=True)
class Claim:
    """A range that this transaction works on; ``gone`` says that its partition is no longer there."""

    number: int
    leaf: tuple[str, str]
    reached: Key | None
    upper: Key | None
    gone: bool


def plan(connection: Connection, record: Record, statements: Statements) -> int:
    """Cut each table that has no ranges yet, and commit; return how many ranges were added.

    Called again when all are done, it finds the partitions that came meanwhile.
    """
    _standing(ask(connection, f"{_state(record)} FOR UPDATE"), record)
    known = {
        (one.leaf_schema, one.leaf_name)
        for one in ask(
            connection,
            f"SELECT DISTINCT leaf_schema, leaf_name FROM {SCHEMA}.backfill_ranges WHERE name = {literal(record.name)}",
        )
    }
    added = 0
    for leaf in statements.shape.leaves:
        if leaf.place not in known:
            added += _add(connection, record.name, leaf, _cuts(connection, statements.shape, leaf))
    connection.commit()
    return added


def claim(
    connection: Connection, record: Record, expected: Claim | None, ahead: str
) -> tuple[Claim | Unclaimed, Sequence[Any] | None]:
    """Begin a transaction, and take a range for it: the one had before, if it is free, or the next.

    Args:
        connection: in autocommit mode.
        record: the backfill.
        expected: the range had before, as this worker has left it.
        ahead: a query about the expected range, asked in the same round trip.

    Returns:
        The range, or why there is none; and the answer to the query, if the range is as expected.

    Raises:
        BackfillChanged: it was forgotten, or registered anew with another definition.
    """
    ranges = f"FROM {SCHEMA}.backfill_ranges WHERE name = {literal(record.name)} AND done_at IS NULL"
    what = f"""SELECT number, leaf_schema, leaf_name, reached, upper,
        to_regclass(quote_ident(leaf_schema) || '.' || quote_ident(leaf_name)) IS NULL AS gone {ranges}"""
    lock = "FOR UPDATE SKIP LOCKED"
    if expected is None:
        _, stands, taken = together(connection, "BEGIN", _state(record), f"{what} ORDER BY number LIMIT 1 {lock}")
        answer = None
    else:
        mine = f"{what} AND number = {expected.number} {lock}"
        _, stands, taken, answer = together(connection, "BEGIN", _state(record), mine, ahead)
    if (hindered := _standing(stands.rows, record)) is not None:
        return hindered, None
    if not taken.rows and expected is not None:
        [taken] = together(connection, f"{what} ORDER BY number LIMIT 1 {lock}")
    if not taken.rows:
        [left] = together(connection, f"SELECT true AS open {ranges} LIMIT 1")
        return (Unclaimed.TAKEN if left.rows else Unclaimed.DONE), None
    one = taken.rows[0]
    found = Claim(one.number, (one.leaf_schema, one.leaf_name), _key(one.reached), _key(one.upper), one.gone)
    return found, answer.rows if answer is not None and found == expected else None


def _state(record: Record) -> str:
    return f"SELECT digest, paused_at IS NOT NULL AS paused FROM {SCHEMA}.backfills WHERE name = {literal(record.name)}"


def _standing(stands: Sequence[Any], record: Record) -> Unclaimed | None:
    if not stands:
        raise BackfillChanged(f"The backfill {record.name} was forgotten.", hint="Register it again with a revision.")
    if stands[0].digest != record.digest:
        raise changed(record)
    return Unclaimed.PAUSED if stands[0].paused else None


def _key(found: Sequence[str] | None) -> Key | None:
    return None if found is None else tuple(found)


def _cuts(connection: Connection, shape: Shape, leaf: Leaf) -> list[Key]:
    """Return keys that cut a table into parts of about the same size, from a sample of its pages."""
    parts = min(MOST, max(leaf.estimate // ROWS, min(FEW, leaf.estimate // FEWEST)))
    if parts < 2:
        return []
    percent = min(100.0, 100.0 * SAMPLED_PAGES / max(1, leaf.pages))
    columns = ", ".join(ident(one.name) for one in shape.key)
    texts = ", ".join(f"{ident(one.name)}::text" for one in shape.key)
    found = ask(
        connection,
        f"SELECT key FROM (SELECT ARRAY[{texts}] AS key, row_number() OVER (ORDER BY {columns}) AS n,"
        f" count(*) OVER () AS rows FROM {ident(leaf.name, leaf.schema)} TABLESAMPLE SYSTEM ({percent:.6f})) AS sample"
        f" WHERE n % greatest(1, rows / {parts}) = 0 AND n < rows ORDER BY n",
    )
    return [tuple(one.key) for one in found]


def _add(connection: Connection, name: str, leaf: Leaf, cuts: Sequence[Key]) -> int:
    bounds = [None, *cuts, None]
    first = f"(SELECT coalesce(max(number), 0) FROM {SCHEMA}.backfill_ranges WHERE name = {literal(name)})"
    lines = ", ".join(
        f"({at}, {array(lower)}, {array(upper)})" for at, (lower, upper) in enumerate(pairwise(bounds), 1)
    )
    send(
        connection,
        f"INSERT INTO {SCHEMA}.backfill_ranges (name, number, leaf_schema, leaf_name, reached, upper)"
        f" SELECT {literal(name)}, {first} + n, {literal(leaf.schema)}, {literal(leaf.name)}, reached::text[],"
        f" upper::text[] FROM (VALUES {lines}) AS cut (n, reached, upper)",
    )
    return len(bounds) - 1
