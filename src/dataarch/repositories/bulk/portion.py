"""Write one portion of rows: judge them all at once, then write the good ones, whatever others do meanwhile."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import count
from typing import Any
from uuid import UUID

from sqlalchemy import Connection, TypeDecorator

from dataarch.database.commit_hooks import MOST_ROWS
from dataarch.database.tenancy import INTERNAL
from dataarch.errors import AlreadyExists, ConstraintError, DataArchError, Deadlock, InvalidValue, SerializationFailure
from dataarch.models.base import new_id
from dataarch.repositories.bulk.planning import MANY, Planning
from dataarch.repositories.bulk.rules import ALONE, DIALECT, table_name
from dataarch.repositories.bulk.statements import OF_SOME, SOME, statements_for
from dataarch.repositories.bulk.target import Target, uniques

__all__ = ["Portion", "Written"]

TRIES = 10
"""How often a portion is judged at the most, because others changed meanwhile what it is judged by."""

OF_A_ROW: tuple[type[DataArchError], ...] = (ConstraintError, InvalidValue)
"""What a row is refused for; anything else is the statement's own failure."""


class OvertakenError(Exception):
    """Somebody removed, or gave another key to, a row that was to be changed."""


UNWRITTEN: tuple[type[Exception], ...] = (OvertakenError, Deadlock, *OF_A_ROW)
"""Why rows are not written that may be: when they are judged again, or each by itself."""


@dataclass
class Written:
    """What became of the rows in a stage.

    Attributes:
        inserted: rows that were not there.
        updated: rows that were there and have new values.
        unchanged: rows that were there with the same values.
        outdone: rows of which a later one has the same key.
        refused: why, by the number of the row in the stage.
    """

    inserted: int = 0
    updated: int = 0
    unchanged: int = 0
    outdone: int = 0
    refused: dict[int, DataArchError] = field(default_factory=dict)

    def add(self, inserted: int, updated: int, unchanged: int) -> None:
        """Count rows."""
        self.inserted += inserted
        self.updated += updated
        self.unchanged += unchanged


class Portion:
    """Rows of one kind on their way into a table, within a transaction of its tenant."""

    def __init__(self, connection: Connection, target: Target, tenant_id: UUID) -> None:
        self.connection = connection
        self.target = target
        self.statements = statements_for(target)
        self._made: list[tuple[Any, ...]] = []
        self._planning = Planning(self._run, table_name(target).replace("%%", "%"))
        self._values: dict[str, Any] = {"tenant": tenant_id, **_first_id(), **_touches(target)}

    def open(self, rows: int) -> None:
        """Make the stage for so many rows, and let the server sort many of them in memory."""
        self._planning.begin(rows)
        self._run(self.statements.stage)

    def write(self) -> Written:
        """Judge the rows in the stage and write the good ones.

        Raises:
            Retryable: others were in the way all the time.
        """
        written = Written()
        for attempt in count(1):
            self._judge()
            try:
                with self.connection.begin_nested():
                    written.add(*self._apply())
                break
            except UNWRITTEN as error:
                # others came in between, and are seen when the rows are judged again
                if attempt == (TRIES if self._by_others(error) else 2):
                    if isinstance(error, Deadlock):
                        raise
                    self._apply_by_halves(written)
                    break
            self._run(self.statements.drop)
        written.outdone = self._run(self.statements.outdone).scalar_one()
        for at, code in self._run(self.statements.refused):
            if at not in written.refused:
                written.refused[at] = self.statements.rules[code].error(self.target)
        return written

    def identities(self) -> list[tuple[Any, ...]] | None:
        """Return the primary keys of the rows that are written, without the tenant; None where there are too many."""
        if len(self._made) > MOST_ROWS:
            return None
        changed = self._run(self.statements.changed) if self.statements.changed else ()
        return self._made + [tuple(row) for row in changed]

    def ids(self) -> tuple[bytes, bytes] | None:
        """Return the ids of the rows that are written, 16 bytes each, and their numbers in the stage, 4 bytes each.

        None where the table has no single id.
        """
        if not self.statements.written:
            return None
        ids, numbers = self._run(self.statements.written).one()
        return ids or b"", numbers or b""

    def close(self) -> None:
        """Drop what was made for the portion, and leave the settings as they were."""
        self._run(self.statements.drop)
        self._run(self.statements.drop_stage)
        self._planning.end()

    # ── the steps ─────────────────────────────────────────────────────────────────────────────────────────────────

    def _run(self, statement: str, **values: Any) -> Any:
        # what is written is noted by the caller, who knows the rows
        return self.connection.exec_driver_sql(
            statement, {**self._values, **values}, execution_options={INTERNAL: True}
        )

    def _some(self, statement: str, some: Sequence[int] | None) -> Any:
        if some is None:
            return self._run(statement.replace(SOME, ""))
        return self._run(statement.replace(SOME, OF_SOME), some=some)

    def _judge(self) -> None:
        with self._planning.lookups():
            judged = self._run(self.statements.judge)
        if judged.rowcount > MANY:
            self._run(self.statements.analyze)
        while self._contest():
            # an earlier row of the same key takes the place of one that has lost, and may be contested itself
            if not self._run(self.statements.outdone).scalar_one() or not self._run(self.statements.stand_in).rowcount:
                break

    def _contest(self) -> bool:
        """Let each value that only one row may have go to one of them; return whether any row has lost."""
        lost = False
        while self.statements.contest and self._run(self.statements.contest).rowcount:
            lost = True
        return lost

    def _apply(self, some: Sequence[int] | None = None) -> tuple[int, int, int]:
        """Write the good rows, all or some; return how many were new, changed, and left as they are.

        Raises:
            OvertakenError: a row that was to be changed is not there any more.
        """
        new, stale, same = self._some(self.statements.tally, some).one()
        if stale:
            with self._planning.lookups():
                locked = self._some(self.statements.lock, some).scalar_one()
                if locked != stale or self._some(self.statements.update, some).rowcount != stale:
                    raise OvertakenError
        if new > MOST_ROWS:
            self._some(self.statements.insert, some)
            self._made += [()] * new
        elif new:
            self._made += map(tuple, self._some(self.statements.insert + self.statements.returning, some))
        return new, stale, same

    def _apply_by_halves(self, written: Written) -> None:
        """Write the good rows although the server refuses some that nothing else finds fault with; single these out."""
        waiting = [[at for (at,) in self._run(self.statements.order)]]
        while waiting:
            some = waiting.pop()
            try:
                with self.connection.begin_nested():
                    written.add(*self._apply(some))
            except UNWRITTEN as error:
                if isinstance(error, Deadlock):
                    raise
                if len(some) > 1:
                    half = len(some) // 2
                    # the first half comes first: locks are taken in the order of the keys
                    waiting += [some[half:], some[:half]]
                else:
                    waiting += self._single_out(some[0], error, written)

    def _single_out(self, at: int, error: Exception, written: Written) -> list[list[int]]:
        """Refuse one row; return those that are to be tried in its place.

        Raises:
            SerializationFailure: others write the same key, and this transaction cannot see what they wrote.
        """
        if not isinstance(error, DataArchError):
            self._run(self.statements.take_as_new, at=at)
            return [[at]]
        raced = self.target.key and isinstance(error, AlreadyExists) and self._by_others(error)
        if raced and self._run(self.statements.there_now, at=at).scalar_one():
            raise SerializationFailure("Others write rows with the same keys at the same time.") from error
        written.refused[at] = _of_one_row(error)
        self._run(self.statements.refuse_one, at=at)
        if not self.statements.stand_in:
            return []
        return [[earlier] for (earlier,) in self._run(self.statements.stand_in)]

    def _by_others(self, error: Exception) -> bool:
        """Return whether only who writes at the same time can have caused it: the rows were judged by it before."""
        if isinstance(error, ConstraintError):
            return error.constraint in {one.name for one in uniques(self.target.table)}
        return isinstance(error, OvertakenError | Deadlock)


def _of_one_row(error: DataArchError) -> DataArchError:
    """Return the error of a statement as that of the one row in it."""
    return type(error)(
        error.message,
        hint=ALONE,
        table=error.table,
        column=error.column,
        constraint=error.constraint,
        sqlstate=error.sqlstate,
    )


def _first_id() -> dict[str, Any]:
    """Return what the ids of new rows are counted from: the one half of a new id as digits, the other as a number."""
    new = new_id().int
    # a quarter of the numbers that the variant leaves is for counting
    first = (new & (2**61 - 1)) - 2**63
    return {"id": f"{new >> 64:016x}", "number": first}


def _touches(target: Target) -> dict[str, Any]:
    """Return the values of the columns that change because others do."""
    values = {}
    for column in target.touched:
        onupdate: Any = column.onupdate
        if onupdate.is_clause_element:
            continue
        # SQLAlchemy gives every such function a context, which ours do not look at
        value = onupdate.arg(None) if onupdate.is_callable else onupdate.arg
        kind = column.type
        values[f"touched {column.name}"] = (
            kind.process_bind_param(value, DIALECT) if isinstance(kind, TypeDecorator) else value
        )
    return values
