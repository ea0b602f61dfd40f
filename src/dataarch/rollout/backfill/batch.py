"""One batch: the next rows of a range are filled, and what was done is in the books, in one transaction.

Where an expression fails on some row, or a constraint refuses it, halves of halves are tried under savepoints until
that row is alone; it is written down, and the rest go on.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from sqlalchemy import Connection
from sqlalchemy.exc import DBAPIError

from dataarch.errors import DataArchError
from dataarch.partitions.quoting import literal
from dataarch.rollout.backfill.books import SCHEMA
from dataarch.rollout.backfill.ranges import Claim
from dataarch.rollout.backfill.session import FAILURES, Failure, ask, send, sqlstate_of, together
from dataarch.rollout.backfill.statements import Key, Statements, array

__all__ = ["CAREFUL", "Batch", "BatchWork", "Done", "is_of_a_row", "said"]

CAREFUL = 256
"""Rows of a batch at the most that is searched for those that fail: each try may be a subtransaction."""

CLASSES_OF_ROWS = ("22", "23", "38", "39", "44", "54", "DA", "P0")
"""SQLSTATE classes of errors that are about a row's values, and not about the statement or the server."""

LONGEST_REASON = 500


@dataclass(frozen=True, slots=True)
class Done:
    """What became of rows: how many were changed, and which could not be."""

    changed: int = 0
    failed: int = 0

    def __add__(self, other: Done) -> Done:
        """Add what became of others."""
        return Done(self.changed + other.changed, self.failed + other.failed)


@dataclass(frozen=True, slots=True)
class Batch:
    """A batch that was committed.

    Attributes:
        number: of the range.
        rows: that it looked at.
        changed: of them that it changed; the others were done already, or are not concerned.
        failed: of them that it could not fill.
        seconds: that it took, from its first row to its commit.
    """

    number: int
    rows: int
    changed: int
    failed: int
    seconds: float


@dataclass(frozen=True, slots=True)
class BatchWork:
    """What a worker does in one transaction."""

    connection: Connection
    statements: Statements

    def ahead(self, claim: Claim, size: int) -> str:
        """Return the query that tells where the next batch of a range ends."""
        return self.statements.end(claim.leaf, claim.reached, claim.upper, size)

    def do(
        self, claim: Claim, size: int, found: Sequence[Any] | None, *, careful: bool
    ) -> tuple[Claim | None, int, Done]:
        """Fill the next rows of a range, write down how far it is, and commit.

        Args:
            claim: the range, locked by this transaction.
            size: rows at the most.
            found: the answer to :meth:`ahead`, if it was asked already.
            careful: look for rows that fail, instead of raising.

        Returns:
            The range as it is now, None where it is done; how many rows were looked at, and what became of them.
        """
        if careful:
            send(self.connection, "SET CONSTRAINTS ALL IMMEDIATE")
        window = (0, None, 0) if claim.gone else self._window(claim, size, found)
        rows, key, equal = window
        done = Done()
        if key is not None:
            fill = self._carefully if careful else self._plainly
            done = fill(claim.leaf, claim.reached, key, equal, rows)
        left = None if key is None or rows < size else replace(claim, reached=key)
        together(self.connection, self._note_of(claim, key or claim.reached, rows, done, ended=left is None), "COMMIT")
        return left, rows, done

    def again(self, leaf: tuple[str, str], key: Key, *, gone: bool) -> bool:
        """Try a row that has failed once more; return whether it is done now, or gone with its partition."""
        before = f"name = {literal(self._name)} AND leaf_schema = {literal(leaf[0])} AND leaf_name = {literal(leaf[1])}"
        send(self.connection, "SET CONSTRAINTS ALL IMMEDIATE; SAVEPOINT dataarch_batch")
        try:
            if not gone:
                send(self.connection, self.statements.update_one(leaf, key))
        except FAILURES as error:
            if not is_of_a_row(error):
                raise
            send(self.connection, "ROLLBACK TO SAVEPOINT dataarch_batch")
            self._note(leaf, key, error)
            return False
        send(self.connection, f"DELETE FROM {SCHEMA}.backfill_failures WHERE {before} AND key = {array(key)}")
        return True

    @property
    def _name(self) -> str:
        return self.statements.definition.name

    def _window(self, claim: Claim, size: int, found: Sequence[Any] | None) -> tuple[int, Key | None, int]:
        """Return rows, last key, and number of leading columns that both bounds share."""
        if found is None:
            [(found, _)] = together(self.connection, self.ahead(claim, size))
        if found:
            return size, tuple(found[0].key), _leading(found[0].equal)
        [(found, _)] = together(self.connection, self.statements.last(claim.leaf, claim.reached, claim.upper, size))
        # one that comes between two looks may make it as many as asked for: fewer say that the range ends
        return (min(found[0].rows, size - 1), tuple(found[0].key), _leading(found[0].equal)) if found else (0, None, 0)

    def _plainly(self, leaf: tuple[str, str], lower: Key | None, upper: Key, equal: int, _rows: int) -> Done:
        statements = self.statements.updates(leaf, lower, upper, equal)
        return Done(sum(answer.changed for answer in together(self.connection, *statements)))

    def _carefully(self, leaf: tuple[str, str], lower: Key | None, upper: Key, equal: int, rows: int) -> Done:
        send(self.connection, "SAVEPOINT dataarch_batch")
        try:
            done = self._plainly(leaf, lower, upper, equal, rows)
        except FAILURES as error:
            if not is_of_a_row(error):
                raise
            send(self.connection, "ROLLBACK TO SAVEPOINT dataarch_batch; RELEASE SAVEPOINT dataarch_batch")
            return self._halves(leaf, lower, upper, rows, error)
        send(self.connection, "RELEASE SAVEPOINT dataarch_batch")
        return done

    def _halves(self, leaf: tuple[str, str], lower: Key | None, upper: Key, rows: int, error: Failure) -> Done:
        half = max(1, rows // 2)
        found = ask(self.connection, self.statements.end(leaf, lower, upper, half))
        middle = tuple(found[0].key) if found else upper
        if middle == upper:
            if half > 1:
                return self._halves(leaf, lower, upper, half, error)
            self._note(leaf, upper, error)
            return Done(failed=1)
        first = self._carefully(leaf, lower, middle, _leading(found[0].equal), half)
        rest = ask(self.connection, self.statements.last(leaf, middle, upper, rows))
        if not rest:
            return first
        return first + self._carefully(leaf, middle, upper, _leading(rest[0].equal), rest[0].rows)

    def _note(self, leaf: tuple[str, str], key: Key, error: Failure) -> None:
        send(
            self.connection,
            f"INSERT INTO {SCHEMA}.backfill_failures (name, leaf_schema, leaf_name, key, sqlstate, reason)"
            f" VALUES ({literal(self._name)}, {literal(leaf[0])}, {literal(leaf[1])}, {array(key)},"
            f" {literal(sqlstate_of(error))}, {literal(said(error))})"
            f" ON CONFLICT (name, leaf_schema, leaf_name, key) DO UPDATE"
            f" SET sqlstate = excluded.sqlstate, reason = excluded.reason, failed_at = now()",
        )

    def _note_of(self, claim: Claim, reached: Key | None, rows: int, done: Done, *, ended: bool) -> str:
        return (
            f"UPDATE {SCHEMA}.backfill_ranges SET reached = {array(reached)}, seen = seen + {rows},"
            f" changed = changed + {done.changed}, batches = batches + {int(rows > 0)}, updated_at = clock_timestamp(),"
            f" done_at = {'clock_timestamp()' if ended else 'NULL'}"
            f" WHERE name = {literal(self._name)} AND number = {claim.number}"
        )


def is_of_a_row(error: BaseException) -> bool:
    """Return whether an error is about the values of some row."""
    return sqlstate_of(error).startswith(CLASSES_OF_ROWS)


def said(error: Failure) -> str:
    """Return what the server said of a row, on one line of bounded length."""
    cause = error.__cause__ if isinstance(error, DataArchError) and error.__cause__ is not None else error
    original = cause.orig if isinstance(cause, DBAPIError) else cause
    diagnosis = getattr(original, "diag", None)
    text = getattr(diagnosis, "message_primary", None) or str(original)
    return " ".join(text.replace("\0", "").split())[:LONGEST_REASON]


def _leading(equal: list[bool]) -> int:
    """Return how many columns from the first on are equal."""
    return equal.index(False) if False in equal else len(equal)
