"""What a transaction wrote, and who wants to know of it before and after the commit.

Every statement of an engine that is watched says what it changes: the rows whose keys it names, else the table, else
all of the tenant. It is collected on the root transaction; what a savepoint undid stays in, so that there may be too
much, never too little. A :class:`Listener` hears of it right before COMMIT is sent, when nothing more can be written,
and again when the commit has returned.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from contextvars import ContextVar
from dataclasses import dataclass
from enum import Enum
from types import MappingProxyType
from typing import Any, Protocol
from uuid import UUID

import psycopg
from sqlalchemy import Connection, Engine, Table, event
from sqlalchemy.engine import ExceptionContext
from sqlalchemy.orm import Session, SessionTransaction
from sqlalchemy.orm.exc import StaleDataError
from sqlalchemy.util.concurrency import in_greenlet

from dataarch.database.changes import Change, changes_of
from dataarch.database.origin import Origin
from dataarch.database.row_keys import row_key
from dataarch.database.tenancy import INTERNAL
from dataarch.errors import StaleRow
from dataarch.models.tenancy import tenant_column

__all__ = ["UNIT", "Ending", "Listener", "Unit", "UnitSession", "current_unit", "opened", "watch"]

UNIT = "dataarch_unit"
"""Execution option of a connection: the unit of work that its transactions belong to."""

MOST_ROWS = 200
"""Rows of one table that are remembered one by one; of more, the whole table counts as changed."""


class Ending(Enum):
    """How a commit ended that was announced."""

    COMMITTED = "committed"
    ROLLED_BACK = "rolled back"
    UNKNOWN = "unknown"
    """The connection broke while COMMIT was under way: the server may still carry it out."""


class Listener(Protocol):
    """Who is told of commits."""

    def before_commit(self, unit: Unit, connection: Connection | None, /) -> object:
        """Prepare for the changes of a unit of work to become visible; on its connection, where it has one.

        Whatever is returned is given back at the end. What is raised here keeps the transaction from being committed.
        """

    def after_end(self, ticket: object, ending: Ending, /) -> None:
        """Do what is left to do; must not raise."""


@dataclass(frozen=True, slots=True)
class _Whole:
    table: str | None
    tenant_id: UUID | None


class Unit:
    """One unit of work: what it has written so far, and what it could have read before.

    Attributes:
        tenant_id: whose it is; None for one of no tenant, and for the owner's.
        one_moment: whether all of its reads are as of its beginning (REPEATABLE READ or SERIALIZABLE).
        stale: whether it reads on a replica, and so what others have changed since: nothing of it may be kept.
        origin: the database that opened it; None where a program made its session by hand.
        session: its session; None where statements run on a connection alone.
        around: the unit of work that this one was opened in.
    """

    def __init__(
        self,
        listener: Listener | None = None,
        *,
        tenant_id: UUID | None = None,
        one_moment: bool = False,
        stale: bool = False,
        origin: Origin | None = None,
    ) -> None:
        self.listener = listener
        self.origin = origin
        self.tenant_id = tenant_id
        self.one_moment = one_moment
        self.stale = stale
        self.session: Session | None = None
        self.around: Unit | None = None
        self._changes: dict[Change, None] = {}
        self._rows: dict[_Whole, int] = {}
        self._ticket: object = None
        self._ending = Ending.UNKNOWN

    @property
    def changes(self) -> tuple[Change, ...]:
        """What was written since the last commit, in the order of its first mention."""
        return tuple(self._changes)

    @property
    def dirty(self) -> bool:
        """Whether the transaction, or its session, has something that nobody else sees yet."""
        session = self.session
        return bool(self._changes) or (session is not None and bool(session.new or session.dirty or session.deleted))

    def changed(self, table: Table | str | None, key: tuple[object, ...] | None = None) -> None:
        """Note that something was written which no statement tells: by COPY, or by a function.

        Args:
            table: the table; None for anything of the tenant's.
            key: the row's primary key without its tenant; None for any number of rows.
        """
        owned = not isinstance(table, Table) or tenant_column(table) is not None
        name = table.fullname if isinstance(table, Table) else table
        row = row_key(table, key) if isinstance(table, Table) and key is not None else None
        self.add(Change(name, self.tenant_id if owned else None, row, of_nobody=not owned))

    def add(self, change: Change) -> None:
        """Note a change; rows of which there are too many count as their whole table."""
        whole = _Whole(change.table, change.tenant_id)
        if change.key is not None:
            if self._rows.get(whole, 0) > MOST_ROWS:
                return
            if change in self._changes:
                return
            self._rows[whole] = self._rows.get(whole, 0) + 1
            if self._rows[whole] > MOST_ROWS:
                self._changes = {
                    one: None for one in self._changes if one.key is None or _Whole(one.table, one.tenant_id) != whole
                }
                change = Change(change.table, change.tenant_id, None, of_nobody=change.of_nobody)
        self._changes[change] = None

    # ── the end ───────────────────────────────────────────────────────────────────────────────────────────────────

    def announce(self, connection: Connection | None) -> None:
        """Tell the listener that COMMIT comes next."""
        if self.listener is None or not self._changes:
            return
        self._ending = Ending.UNKNOWN
        self._ticket = self.listener.before_commit(self, connection)

    def refused(self) -> None:
        """Note that the server has answered the commit with an error: nothing was written."""
        self._ending = Ending.ROLLED_BACK

    def end(self, *, committed: bool) -> None:
        """Tell the listener how it ended, if it was announced; then begin anew."""
        ticket, self._ticket = self._ticket, None
        if ticket is None:
            if not committed:
                return
        elif self.listener is not None:
            self.listener.after_end(ticket, Ending.COMMITTED if committed else self._ending)
        self._changes, self._rows = {}, {}

    def forget(self) -> None:
        """Forget what was written: all of it was rolled back, and no commit had been announced."""
        if self._ticket is None:
            self._changes, self._rows = {}, {}


class UnitSession(Session):
    """A session that belongs to a unit of work.

    Its connection gets the options of the unit when a transaction first needs one. An engine with options would give
    them too, but is made anew for each unit, and asks two lists of listeners for every event.
    """

    def __init__(
        self, bind: Any = None, *, unit: Unit, options: Mapping[str, Any] = MappingProxyType({}), **given: Any
    ) -> None:
        super().__init__(bind, **given)
        self.unit = unit
        unit.session = self
        self._options = options
        self._equipped: SessionTransaction | None = None

    def get_bind(self, mapper: Any = None, **given: Any) -> Engine | Connection:
        """Return what a statement runs on; from here on the transaction has its connection, with the unit's options.

        SQLAlchemy asks before it takes a connection for anything, and often names nothing that it asks for.
        """
        bind = super().get_bind(mapper, **given)
        # AsyncSession.get_bind() is no coroutine: there nobody could wait for a connection
        if bind is self.bind and (not bind.dialect.is_async or in_greenlet()):
            self._equip({})
        return bind

    def connection(self, bind_arguments: Any = None, execution_options: Any = None) -> Connection:
        """Return the transaction's connection; options that are given cannot take the place of the unit's."""
        ours = (bind_arguments or {}).get("bind") in {None, self.bind}
        if ours and self._equip(execution_options or {}):
            execution_options = None
        return super().connection(bind_arguments, execution_options)

    def _equip(self, given: Mapping[str, Any]) -> bool:
        """Take a connection with the unit's options, the first time in a transaction; return whether it was that."""
        if not self._options or (self._equipped is not None and self._equipped is self.get_transaction()):
            return False
        super().connection({"bind": self.bind}, {**given, **self._options})
        self._equipped = self.get_transaction()
        return True

    def flush(self, objects: Sequence[Any] | None = None) -> None:
        """Write what was changed; raises :class:`StaleRow` where a row is not any more as it was read."""
        try:
            super().flush(objects)
        except StaleDataError as stale:
            # its text tells the table and how many rows, and no values
            raise StaleRow(f"A row has been changed or removed since it was read: {stale}.") from stale


_CURRENT: ContextVar[Unit | None] = ContextVar("dataarch_unit", default=None)


def current_unit() -> Unit | None:
    """Return the innermost unit of work that is open in this thread or task."""
    return _CURRENT.get()


@contextmanager
def opened(unit: Unit, *, alone: bool = False) -> Iterator[None]:
    """Let a unit of work be the current one; ``alone``: nothing is read through those that it is opened in."""
    if _CURRENT.get() is unit:
        yield
        return
    unit.around = None if alone else _CURRENT.get()
    token = _CURRENT.set(unit)
    try:
        yield
    finally:
        unit.around = None
        # a generator that was closed elsewhere is in another context, where there is nothing to set back
        with suppress(ValueError):
            _CURRENT.reset(token)


@event.listens_for(UnitSession, "after_commit")
def _committed(session: UnitSession) -> None:
    # also sent when a savepoint is released
    if not session.in_nested_transaction():
        session.unit.end(committed=True)


@event.listens_for(UnitSession, "after_rollback")
def _rolled_back(session: UnitSession) -> None:
    if session.in_nested_transaction():
        return
    session.unit.end(committed=False)
    session.unit.forget()


def watch(engine: Engine) -> None:
    """Collect what is written through an engine, and announce its commits."""

    @event.listens_for(engine, "after_cursor_execute")
    def collect(
        connection: Connection, _cursor: object, statement: str, _parameters: object, context: Any, _many: object
    ) -> None:
        unit = _unit_of(connection)
        ours = context is not None and context.execution_options.get(INTERNAL)
        if unit is not None and unit.listener is not None and not ours:
            for change in changes_of(statement, context, unit.tenant_id):
                unit.add(change)

    @event.listens_for(engine, "commit")
    def announce(connection: Connection) -> None:
        unit = _unit_of(connection)
        if unit is not None:
            unit.announce(connection)

    @event.listens_for(engine, "handle_error")
    def refused(context: ExceptionContext) -> None:
        unit = None if context.connection is None else _unit_of(context.connection)
        answered = isinstance(context.original_exception, psycopg.Error) and context.original_exception.sqlstate
        if unit is not None and answered and not context.is_disconnect:
            unit.refused()


def _unit_of(connection: Connection) -> Unit | None:
    unit: Unit | None = connection.get_execution_options().get(UNIT)
    return unit
