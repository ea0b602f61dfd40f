"""Read the latest rows of a partitioned table at a cost that does not grow with its history.

The table is read backwards in windows of time: the future, then the present period with the 3 before it, then 8 and 16
periods, then all that is older. Each window is a statement of its own, so that PostgreSQL plans and locks the window's
partitions alone. A reader whose rows are recent never pays for the months before them.

Three things about the statements keep the plan an ordered walk along the index, whatever the planner believes of this
user: its estimates are often a hundred times too low, because a user implies the tenant, and then it would rather read
all rows of the month and sort them.

- The bounds are written into the SQL. A plan that the server keeps is thereby a plan of these partitions.
- The order is that of the index, and nothing else: rows of one instant are put in order here.
- How many rows are wanted is hidden in a sub-select, for which the planner assumes a tenth of them all.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import datetime
from operator import attrgetter, itemgetter
from typing import Any
from weakref import WeakKeyDictionary

from sqlalchemy import (
    Alias,
    BindParameter,
    Column,
    ColumnElement,
    Connection,
    Executable,
    FromClause,
    Integer,
    Result,
    Select,
    Table,
    bindparam,
    inspect,
    literal_column,
    select,
    union_all,
)
from sqlalchemy.orm import Mapper, Session

from dataarch.clock import Grain, Period, utcnow
from dataarch.database.select_shape import combines_rows, unadorned
from dataarch.errors import InvalidPeriod, InvalidValue
from dataarch.models.partitioning import Partitioning, partitioning_of

__all__ = ["PERIODS", "Window", "latest", "windows_back"]

PERIODS = (4, 8, 16)
"""How many periods the windows between the future and the rest have; a round trip costs as much as planning a dozen."""

MOST_BUILT = 32
"""Statements that are kept for one select: those of the windows of a few months."""

LIMIT: BindParameter[int] = bindparam("latest_limit", type_=Integer())

Window = tuple[datetime | None, datetime | None]
"""The instants ``lower <= t < upper``; None is an open end."""


def windows_back(now: datetime, grain: Grain) -> Iterator[Window]:
    """Give windows that cover all of time once, the newest first.

    Args:
        now: any aware instant; it lies in the second window.
        grain: how long the periods are that windows are made of.

    Returns:
        The future; the present period and the 3 before it; 8 and 16 periods; all that is older.

    Raises:
        InvalidPeriod: ``now`` lies in the last period of the year 9999.

    The future has a window of its own although it is mostly empty: where a dozen empty partitions share a window with
    the present one, PostgreSQL prefers to read and sort all rows of the month.
    """
    first = Period.of(now, grain).plus(1)
    yield first.start, None
    for periods in PERIODS:
        try:
            earlier = first.plus(-periods)
        except InvalidPeriod:
            # before the year 1 there are no periods, and the open window takes what is left
            break
        yield earlier.start, first.start
        first = earlier
    yield None, first.start


def latest(
    session: Session | Connection,
    statement: Select[*tuple[Any, ...]],
    *,
    limit: int,
    now: datetime | None = None,
    parameters: Mapping[str, object] | None = None,
) -> list[Any]:
    """Return the latest rows of a select on a partitioned table, newest first.

    Args:
        session: any session; in one of a tenant, its rows. Under asyncio:
            ``await session.run_sync(latest, statement, limit=50)``. Its connection takes less time, and adds no tenant
            to the statement.
        statement: selects from one model that declares partitions, with any conditions and joins; its order is none, or
            ``column.desc()`` of the partition column. No limit, offset, DISTINCT, GROUP BY or window function in it.
            One that is kept and given again, with what changes as ``parameters``, is not prepared anew each time.
        limit: how many at the most.
        now: where the windows begin, by default at the present instant. It decides what it costs, never what it gives.
        parameters: the values of the statement's ``bindparam``s.

    Returns:
        What is selected, as ``session.scalars`` gives it where that is one thing, else rows as of ``session.execute``:
        those of ``ORDER BY column DESC, … DESC LIMIT limit``, where … is the rest of the primary key, which Python puts
        in order. What an outer join gives without a row of the partitioned table has no instant and is left out.

    Raises:
        InvalidValue: the statement or the limit is of another kind.

    Guarantee: reads only. One round trip where the latest rows are recent and the statement has no joins or options,
    five at the most. Each trip is read as of its own moment: rows that are moved to another period meanwhile may be
    seen twice or not at all, unless the transaction is REPEATABLE READ.
    """
    if limit < 0:
        raise InvalidValue(f"There are no latest {limit} rows.", hint="Give a limit of 0 or more.", value=limit)
    reader = _READERS.get(statement)
    if reader is None:
        reader = _READERS[statement] = _Reader(statement)
    found: list[Any] = []
    looked_into = 0
    for step in _steps(reader, now or utcnow()):
        if len(found) >= limit:
            break
        if looked_into > 1 and _too_rare(len(found), limit, windows=looked_into - 1):
            return found + reader.read(session, ((None, step[0][1]),), limit - len(found), parameters)
        found += reader.read(session, step, limit - len(found), parameters)
        looked_into += len(step)
    return found


def _steps(reader: _Reader, now: datetime) -> list[tuple[Window, ...]]:
    """Return the windows of each round trip."""
    windows = list(windows_back(now, reader.grain))
    steps: list[tuple[Window, ...]] = [(window,) for window in windows]
    if reader.together:
        steps[:2] = [(windows[0], windows[1])]
    return steps


def _too_rare(found: int, limit: int, *, windows: int) -> bool:
    """Return whether rows as rare as those found in the first windows will not fill the limit within the others.

    Then one trip for all that is older is cheaper than several.
    """
    return found * sum(PERIODS[windows:]) < (limit - found) * sum(PERIODS[:windows])


class _Reader:
    """A statement in the order of its partition column, and what it takes to put its rows in their total order.

    Attributes:
        grain: of the partitions.
        together: whether several windows can be one statement, by UNION ALL.
    """

    def __init__(self, statement: Select[*tuple[Any, ...]]) -> None:
        source, table, partitioning = _partitioned(statement)
        self._instant: Any = source.c[partitioning.column]
        if reason := _refusal(statement, self._instant):
            raise InvalidValue(
                f"The latest rows of {table.name} cannot be read by this statement: {reason}.",
                hint=f"Order it by {partitioning.column} descending or not at all, and give the limit to latest().",
                table=table.name,
                column=partitioning.column,
            )
        self.grain = partitioning.grain
        others: list[Any] = [source.c[column.key] for column in table.primary_key if column.key != partitioning.column]
        self._width = len(statement.column_descriptions)
        key: list[Any] = [self._instant, *others]
        self._key = _key_of(statement, key)
        self._ordered = statement.order_by(None).order_by(self._instant.desc())
        if self._key is None:
            self._ordered = self._ordered.add_columns(self._instant, *others)
        self.together = self._key is not None and _is_plain(statement)
        self._orm = any(description.get("entity") is not None for description in statement.column_descriptions)
        self._built: dict[tuple[Window, ...], Executable] = {}

    def read(
        self,
        session: Session | Connection,
        windows: tuple[Window, ...],
        limit: int,
        parameters: Mapping[str, object] | None,
    ) -> list[Any]:
        """Return the latest rows of windows, in their total order."""
        statement = self._built.get(windows)
        if statement is None:
            if len(self._built) >= MOST_BUILT:
                self._built = {}
            statement = self._built[windows] = self._build(windows)
        result = session.execute(statement, {**(parameters or {}), LIMIT.key: limit})
        if self._key is None:
            return self._without_keys(result, limit)
        rows: list[Any] = list(result.scalars() if self._width == 1 else result)
        rows.sort(key=self._key, reverse=True)
        return rows[:limit]

    def _build(self, windows: tuple[Window, ...]) -> Executable:
        parts = []
        for lower, upper in windows:
            part = self._ordered
            if lower is not None:
                part = part.where(self._instant >= _literal(lower))
            if upper is not None:
                part = part.where(self._instant < _literal(upper))
            parts.append(part.fetch(select(LIMIT).scalar_subquery(), with_ties=True))
        if len(parts) == 1:
            return parts[0]
        # of a model's attributes, so that its objects come of it
        return self._ordered.order_by(None).from_statement(union_all(*parts)) if self._orm else union_all(*parts)

    def _without_keys(self, result: Result[*tuple[Any, ...]], limit: int) -> list[Any]:
        """Return rows without the key that was selected behind them."""
        frozen = result.freeze()
        keys = [tuple(row[self._width :]) for row in frozen()]
        asked = frozen().scalars() if self._width == 1 else frozen().columns(*range(self._width))
        rows: Sequence[Any] = asked.all()
        newest_first = sorted(range(len(keys)), key=keys.__getitem__, reverse=True)
        return [rows[index] for index in newest_first[:limit]]


_READERS: WeakKeyDictionary[Select[*tuple[Any, ...]], _Reader] = WeakKeyDictionary()


def _key_of(statement: Select[*tuple[Any, ...]], key: Sequence[Column[Any]]) -> Callable[[Any], tuple[Any, ...]] | None:
    """Return what takes the key out of a row, where the key is among what is selected."""
    selected = [description["expr"] for description in statement.column_descriptions]
    if len(selected) == 1:
        entity = inspect(selected[0], raiseerr=False)
        if not isinstance(entity, Mapper) or not all(entity.columns.contains_column(column) for column in key):
            return None
        return attrgetter(*(entity.get_property_by_column(column).key for column in key))
    plain = [getattr(expression, "__clause_element__", lambda one=expression: one)() for expression in selected]
    places = [next((at for at, one in enumerate(plain) if _same(one, column)), -1) for column in key]
    return None if -1 in places else itemgetter(*places)


def _same(one: object, column: Column[Any]) -> bool:
    return isinstance(one, ColumnElement) and column.compare(one)


def _is_plain(statement: Select[*tuple[Any, ...]]) -> bool:
    """Return whether a statement selects from one model or table, with conditions and nothing else."""
    descriptions = statement.column_descriptions
    models = {description.get("entity") for description in descriptions}
    names = {description["name"] for description in descriptions}
    one = next(iter(models)) if len(models) == 1 else False
    if len(names) != len(descriptions) or not (one is None or isinstance(one, type)):
        return False
    again = select(*(description["expr"] for description in descriptions))
    unordered, where = statement.order_by(None), statement.whereclause
    if where is None:
        return unordered.compare(again)
    # several calls of where() make one AND
    return unordered.compare(again.where(where)) or unordered.compare(again.where(*getattr(where, "clauses", ())))


def _literal(instant: datetime) -> ColumnElement[Any]:
    """Return a bound as it stands in the SQL; PostgreSQL reads it as the type of the column, in UTC."""
    return literal_column(f"'{instant.isoformat()}'")


def _partitioned(statement: Select[*tuple[Any, ...]]) -> tuple[FromClause, Table, Partitioning]:
    """Return the one partitioned table that a statement selects from: as it names it, as it is, and its partitions."""
    found = []
    for source in getattr(statement, "columns_clause_froms", ()):
        table = source.element if isinstance(source, Alias) else source
        if isinstance(table, Table) and (partitioning := partitioning_of(table)) is not None:
            found.append((source, table, partitioning))
    if len(found) != 1:
        raise InvalidValue(
            f"The statement selects columns of {len(found)} partitioned tables; its latest rows are those of one.",
            hint="Select from one model that declares partitioned(…).",
            value=len(found),
        )
    return found[0]


def _refusal(statement: Select[*tuple[Any, ...]], instant: ColumnElement[Any]) -> str | None:
    """Return why the rows of windows, one after another, would not be those of the statement."""
    if reason := combines_rows(statement):
        return reason
    bare = unadorned(statement)
    if not (statement.compare(bare) or statement.compare(bare.order_by(instant.desc()))):
        return "it has another order, or its own limit, offset or GROUP BY"
    return None
