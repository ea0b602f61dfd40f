"""How many rows a statement gives: counted, or estimated by the planner in the time of a plan."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from sqlalchemy import ClauseElement, CompoundSelect, Executable, Select, func, select
from sqlalchemy.ext.compiler import compiles
from sqlalchemy.orm import Session

from dataarch.errors import InvalidValue

__all__ = ["Count", "count"]


@dataclass(frozen=True, slots=True)
class Count:
    """A number of rows.

    Attributes:
        value: how many, or about how many.
        exact: whether they were counted.
    """

    value: int
    exact: bool

    def __str__(self) -> str:
        return f"{self.value:,}" if self.exact else f"about {self.value:,}"


def count(session: Session, statement: Any, *, exact: bool = True) -> Count:
    """Return how many rows a statement gives.

    Args:
        session: any session; in one of a tenant, its rows.
        statement: a select, or a union of them, with whatever it has; of its order nothing depends.
        exact: whether to read the rows and count them, or to ask the planner for its estimate, which costs no more
            than a plan, whatever the size of the table.

    Raises:
        InvalidValue: it is no select.

    Guarantee: reads only. An estimate rests on what the last ANALYZE saw, scaled to the table's present size: for a
    whole table, as the owner, it is ``reltuples`` of ``pg_class``. With conditions it may be wrong by any factor, and
    it is never 0.
    """
    if not isinstance(statement, Select | CompoundSelect):
        raise InvalidValue(f"A {type(statement).__name__} has no rows to count.", hint="Give a select(…).")
    if not exact:
        # past the session, which adds its criteria to statements of the ORM alone; the policies give the same rows
        plan = session.connection().execute(_Explained(statement)).scalar_one()
        return Count(round(plan[0]["Plan"]["Plan Rows"]), exact=False)
    rows = statement.order_by(None).subquery()
    return Count(session.execute(select(func.count()).select_from(rows)).scalar_one(), exact=True)


class _Explained(Executable, ClauseElement):
    """A statement of which the plan is wanted, and not the rows."""

    inherit_cache = False

    def __init__(self, statement: ClauseElement) -> None:
        self.statement = statement

    def get_children(self, **_: Any) -> Iterator[ClauseElement]:
        """Show what is in here to whoever asks which tables it reads."""
        yield self.statement


@compiles(_Explained)
def _explain(element: _Explained, compiler: Any, **named: Any) -> str:
    return f"EXPLAIN (FORMAT JSON) {compiler.process(element.statement, **named)}"
