"""Results of selects, remembered under the tables that they read.

::

    rows = db.cache.queries.all(session, select(User.id, User.full_name).where(User.email.is_not(None)))

Which tables these are is found from the statement; see :mod:`dataarch.caching.selects`.
"""

from __future__ import annotations

from contextlib import AbstractContextManager
from typing import Any
from uuid import UUID

from sqlalchemy.engine.result import IteratorResult, SimpleResultMetaData
from sqlalchemy.exc import MultipleResultsFound
from sqlalchemy.orm import Session

from dataarch.caching.counters import KindStats
from dataarch.caching.fencing import Fencing
from dataarch.caching.fingerprints import fingerprint
from dataarch.caching.invalidation import Invalidation
from dataarch.caching.layer import QUERY, Layer
from dataarch.caching.selects import asked
from dataarch.caching.units import Units
from dataarch.database.commit_hooks import Unit, UnitSession, current_unit, opened
from dataarch.database.tenancy import tenant_uuid
from dataarch.errors import InvalidValue, TenantNotSet

__all__ = ["Queries"]

Result = tuple[list[str], list[list[Any]]]
"""The names of the columns, and the rows."""


class Queries:
    """Results of selects, as ``db.cache.queries``; safe to share between threads.

    Each method takes the unit of work that reads, or a tenant's id: then the tenant's unit of work that is open in this
    thread reads, or one that is opened where the database has to be asked. Under asyncio give the session:
    ``await session.run_sync(db.cache.queries.all, statement)``.

    Guarantee: once a commit has returned that wrote to one of the tables, nobody gets what was read before it. Who has
    written something in his own unit of work, or reads as of one moment, is served from the database.
    """

    def __init__(self, fencing: Fencing, stats: KindStats, units: Units) -> None:
        """Take what keeps it right, where it counts, and the units of work."""
        self._layer = Layer(QUERY, fencing, stats)
        self._units = units

    def all(
        self, within: Session | UUID | str, statement: Any, *, ttl: float = 60.0, soft_ttl: float | None = None
    ) -> list[Any]:
        """Return the rows of a select: plain values where it has one column, else rows with names, as SQLAlchemy's.

        Args:
            within: the unit of work that reads, or a tenant's id.
            statement: ``select()`` of columns, or a union of them. Its values are part of the question; so is ``ttl``.
            ttl: seconds for which it is remembered.
            soft_ttl: seconds from when on one caller reads it anew while the others are served the old one.

        Raises:
            InvalidValue: the result could change without a write to one of the tables; see
                :func:`dataarch.caching.selects.asked`. Refused is the same whether the cache can be used or not.
            TenantNotSet: the tables are tenants', and the unit of work is of none.
        """
        names, rows = self._result(within, statement, ttl, soft_ttl)
        if len(names) == 1:
            return [value for (value,) in rows]
        return list(IteratorResult(SimpleResultMetaData(names), map(tuple, rows)).all())

    def first(
        self, within: Session | UUID | str, statement: Any, *, ttl: float = 60.0, soft_ttl: float | None = None
    ) -> Any:
        """Return the first row, or None; all rows are remembered, so give the statement its ``limit(1)``."""
        return next(iter(self.all(within, statement, ttl=ttl, soft_ttl=soft_ttl)), None)

    def one_or_none(
        self, within: Session | UUID | str, statement: Any, *, ttl: float = 60.0, soft_ttl: float | None = None
    ) -> Any:
        """Return the only row, or None; raises SQLAlchemy's MultipleResultsFound where there are more."""
        rows = self.all(within, statement, ttl=ttl, soft_ttl=soft_ttl)
        if len(rows) > 1:
            raise MultipleResultsFound("Multiple rows were found when one or none was required")
        return rows[0] if rows else None

    def scalar(
        self, within: Session | UUID | str, statement: Any, *, ttl: float = 60.0, soft_ttl: float | None = None
    ) -> Any:
        """Return the first column of the first row, or None."""
        _, rows = self._result(within, statement, ttl, soft_ttl)
        return rows[0][0] if rows else None

    # ── where it is read ──────────────────────────────────────────────────────────────────────────────────────────

    def _result(self, within: Any, statement: Any, ttl: float, soft_ttl: float | None) -> Result:
        question = asked(statement)
        session, tenant = self._reader(within)
        region = self._layer.region(ttl, soft_ttl, question.tables)
        key = self._layer.key(region, fingerprint(question.name, float(ttl)), tenant)

        def read() -> Result:
            if session is not None:
                return _read(session, statement)
            with self._opened(tenant) as own:
                return _read(own, statement)

        with opened(_as_seen(session, tenant), alone=True):
            names, rows = self._layer.remembered(region, key, read)
            return names, rows

    def _reader(self, within: Any) -> tuple[UnitSession | None, UUID | None]:
        """Return the session that reads, if it is open already, and whose rows it sees."""
        if isinstance(within, UUID | str):
            self._units.ready()
            tenant = tenant_uuid(within)
            unit = current_unit()
            mine = unit is not None and unit.tenant_id == tenant and self._is_ours(unit) and not unit.stale
            session = unit.session if mine and unit is not None else None
            return (session if isinstance(session, UnitSession) else None), tenant
        if not isinstance(within, UnitSession):
            raise InvalidValue(
                f"A {type(within).__name__} is neither a unit of work nor a tenant's id.",
                hint="Give the session of db.tenant(…); under asyncio by session.run_sync(db.cache.queries.all, …).",
            )
        if not self._is_ours(within.unit):
            raise InvalidValue(
                "The session is none of this cache's database, so what it reads cannot be kept right here.",
                hint="Open it with db.tenant(…) of the same db.",
            )
        # what a replica says may be old, so that nobody could be served with it
        return (None if within.unit.stale else within), within.unit.tenant_id

    def _is_ours(self, unit: Unit) -> bool:
        return isinstance(unit.listener, Invalidation) and unit.listener.fencing is self._layer.fencing

    def _opened(self, tenant: UUID | None) -> AbstractContextManager[Session]:
        if tenant is None:
            raise TenantNotSet("Nobody said whose rows are to be read.")
        return self._units.open(tenant)


def _as_seen(session: UnitSession | None, tenant: UUID | None) -> Unit:
    """Return the unit of work whose rules hold for reading and keeping.

    A session's objects do not matter: columns come from the server, never from the identity map.
    """
    if session is not None and (session.unit.dirty or session.unit.one_moment):
        return session.unit
    return Unit(tenant_id=tenant)


def _read(session: Session, statement: Any) -> Result:
    result = session.execute(statement)
    return list(result.keys()), [list(row) for row in result]
