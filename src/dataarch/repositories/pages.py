"""Pages of a list by keyset: each begins behind a row, wherever that lies by now, and costs the same at any depth.

::

    page = read_page(session, select(User), order=[User.created_at.desc()])
    more = read_page(session, select(User), order=[User.created_at.desc()], cursor=page.next)
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Generic, TypeAlias, TypeVar

from sqlalchemy import ColumnElement, Join, Row, Select, literal, select
from sqlalchemy.engine.result import IteratorResult, SimpleResultMetaData
from sqlalchemy.orm import Session
from sqlalchemy.sql import visitors

from dataarch.database.commit_hooks import UnitSession
from dataarch.database.select_shape import combines_rows, unadorned, unwrapped
from dataarch.errors import InvalidValue, shown
from dataarch.repositories.cursors import Binding, Position, seal, unseal
from dataarch.repositories.ordering import Key, Source, backwards, beyond, keys_of, source_of
from dataarch.repositories.questions import asked

__all__ = ["LARGEST_PAGE", "Page", "read_page"]

LARGEST_PAGE = 10_000
"""Rows; who wants more wants :func:`dataarch.repositories.streams.stream`."""

Item = TypeVar("Item")

Statement: TypeAlias = "Select[*tuple[Any, ...]]"


@dataclass(frozen=True, slots=True)
class Page(Generic[Item]):
    """Some items of a list, in its order.

    Attributes:
        items: what was selected.
        next: cursor of the page behind it; None where the list ends.
        previous: cursor of the page before it; None where the list begins.
    """

    items: tuple[Item, ...]
    next: str | None = None
    previous: str | None = None

    @property
    def has_next(self) -> bool:
        """Whether there is a page behind it."""
        return self.next is not None

    @property
    def has_previous(self) -> bool:
        """Whether there is a page before it."""
        return self.previous is not None

    def __iter__(self) -> Iterator[Item]:
        return iter(self.items)

    def __len__(self) -> int:
        return len(self.items)


def read_page(
    session: Session, statement: Statement, *, order: object = (), size: int = 50, cursor: str | None = None
) -> Page[Any]:
    """Read one page of a list.

    Args:
        session: that of a unit of work; in one of a tenant, its rows. Under asyncio:
            ``await session.run_sync(read_page, statement, order=…)``.
        statement: selects a model, or columns of one first, with any conditions, and joins that give no row twice. No
            order, limit, offset, DISTINCT, GROUP BY or window function in it.
        order: a column or a list of columns, each ascending, or ``.desc()``, with ``.nulls_first()`` or
            ``.nulls_last()`` where PostgreSQL's default will not do. The primary key is always added at the end.
        size: how many items at the most, from 1 to 10,000.
        cursor: ``next`` or ``previous`` of another page of this list; None for its beginning.

    Returns:
        Items as ``session.scalars`` gives them where one thing is selected, else rows as of ``session.execute``.

    Raises:
        InvalidCursor: the cursor is damaged, or not of this statement with these values, this order and this tenant.
        InvalidValue: the statement, the order or the size is of another kind.

    Guarantee: reads only. A row that is there all the while, with the same values to be ordered by, is on exactly one
    of the pages that follow one another, whatever others insert and delete meanwhile. Where an index has the tenant and
    the columns of the order, a page reads its own rows and no others: in one round trip, or in as many more as the
    order changes its direction or has NULLs behind values, where the page crosses such a border.
    """
    if not 1 <= size <= LARGEST_PAGE:
        raise InvalidValue(
            f"A page of {shown(size)} items cannot be read.", hint=f"Ask for 1 to {LARGEST_PAGE:,}.", value=size
        )
    listed = _List.of(session, statement, order)
    position = Position(()) if cursor is None else unseal(cursor, listed.binding)
    rows = listed.read(session, position, size + 1)
    if len(rows) > size and listed.values(rows[size]) == listed.values(rows[size - 1]):
        raise InvalidValue(
            "A row is in the list twice, and the second would be lost between two pages.",
            hint="Select first the model whose rows they are; in place of a join to many rows, ask for one of them: "
            "where(User.orders.any(…)).",
        )
    return listed.page(rows[:size], position, more=len(rows) > size)


@dataclass(frozen=True, slots=True)
class _List:
    """A statement in an order.

    Attributes:
        statement: as it was given.
        keys: what it is ordered by.
        added: the columns that have to be selected for that, behind those of the statement.
        places: where in a row the keys stand.
        width: how many things the statement itself selects.
        binding: what its cursors belong to.
    """

    statement: Statement
    keys: tuple[Key, ...]
    added: list[ColumnElement[Any]]
    places: list[int]
    width: int
    binding: Binding

    @classmethod
    def of(cls, session: Session, statement: Statement, order: object) -> _List:
        if not isinstance(statement, Select):
            raise InvalidValue(
                f"Pages are read of a select, not of {type(statement).__name__}.",
                hint="Give select(Model), or select(Model.column, …); a union as select(…) from its subquery.",
            )
        if not isinstance(session, UnitSession) or session.unit.origin is None:
            raise InvalidValue(
                f"The {type(session).__name__} was opened by no Database, so there is no secret to seal cursors with.",
                hint="Open it with `with db.tenant(tenant_id) as session:`.",
            )
        tenant_id = session.unit.tenant_id
        source = source_of(statement)
        keys = keys_of(order, source, tenant_id)
        question = asked(statement, [key.clause for key in keys], lambda one: _refuse(one, source))
        secret = session.unit.origin.settings.cursor_secret.get_secret_value()
        binding = Binding(secret, tenant_id, question.query, question.order)
        selected = [unwrapped(one["expr"]) for one in statement.column_descriptions]
        known = {column: place for place, column in enumerate(selected) if isinstance(column, ColumnElement)}
        added = [key.column for key in keys if key.column not in known]
        known |= {column: len(selected) + place for place, column in enumerate(added)}
        return cls(statement, keys, added, [known[key.column] for key in keys], len(selected), binding)

    def read(self, session: Session, position: Position, many: int) -> list[Row[*tuple[Any, ...]]]:
        """Read so many rows from a position on, in the direction that it looks."""
        keys = backwards(self.keys) if position.backward else self.keys
        statement = self.statement.add_columns(*self.added).order_by(*(key.clause for key in keys))
        statement = statement.limit(self._limit(many))
        if not position.values:
            return list(session.execute(statement).all())
        rows: list[Row[*tuple[Any, ...]]] = []
        for conditions in beyond(keys, position.values, inclusive=position.inclusive):
            rows += session.execute(statement.where(*conditions)).all()
            if len(rows) >= many:
                break
        return rows[:many]

    def _limit(self, many: int) -> Any:
        """Return a limit that lets the planner walk along the index, and never read and sort all rows.

        A number in the SQL would look like more rows than there are, in a plan for any values; a parameter is taken for
        a tenth of them there. Of a partitioned table the planner expects too few rows with known values too, because a
        user implies the tenant; hence the sub-select, as in :mod:`dataarch.partitions.windows`.
        """
        return select(literal(many)).scalar_subquery() if self.keys[0].divides else many

    def values(self, row: Row[*tuple[Any, ...]]) -> tuple[object, ...]:
        """Return what a row is ordered by."""
        return tuple([row[place] for place in self.places])

    def page(self, rows: list[Row[*tuple[Any, ...]]], position: Position, *, more: bool) -> Page[Any]:
        """Return rows as a page with the cursors of those around it."""
        ahead = self._cursor(self.values(rows[-1]), backward=position.backward) if more else None
        behind = None
        if rows and position.values:
            behind = self._cursor(self.values(rows[0]), backward=not position.backward)
        elif position.values:
            # nothing is left here: the way back begins with the row that the cursor was of
            behind = self._cursor(position.values, backward=not position.backward, inclusive=not position.inclusive)
        if position.backward:
            rows.reverse()
            return Page(self._items(rows), next=behind, previous=ahead)
        return Page(self._items(rows), next=ahead, previous=behind)

    def _cursor(self, values: tuple[object, ...], *, backward: bool, inclusive: bool = False) -> str:
        return seal(Position(values, backward=backward, inclusive=inclusive), self.binding)

    def _items(self, rows: list[Row[*tuple[Any, ...]]]) -> tuple[Any, ...]:
        """Return what the statement selects, without what was added."""
        if self.width == 1:
            return tuple([row[0] for row in rows])
        if not self.added or not rows:
            return tuple(rows)
        names = SimpleResultMetaData(rows[0]._fields[: self.width])
        return tuple(IteratorResult(names, (tuple(row[: self.width]) for row in rows)).all())


# ── statements that have no pages ─────────────────────────────────────────────────────────────────────────────────


def _refuse(statement: Statement, source: Source) -> None:
    """Refuse a statement whose rows behind a condition would not be those behind a row."""
    if (reason := _reason(statement, source)) is not None:
        raise InvalidValue(
            f"Pages cannot be read of this statement: {reason}.",
            hint="Give the order and the size to read_page(), and put the rest into a subquery.",
            table=None if source.table is None else source.table.name,
        )


def _reason(statement: Statement, source: Source) -> str | None:
    if reason := combines_rows(statement):
        return reason
    if not statement.compare(unadorned(statement)):
        return "it has its own order, limit, offset or GROUP BY"
    if any(_may_lack(joined, source) for joined in statement.get_final_froms()):
        return "an outer join gives rows without one of the model that comes first"
    return None


def _may_lack(joined: object, source: Source) -> bool:
    """Return whether a join gives rows in which the source has none."""
    if not isinstance(joined, Join):
        return False
    left, right = (not {source.selectable}.isdisjoint(visitors.iterate(one)) for one in (joined.left, joined.right))
    if joined.full or (joined.isouter and right):
        return left or right
    return _may_lack(joined.left, source) or _may_lack(joined.right, source)
