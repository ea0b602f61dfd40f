"""Which unit of work a layer reads and writes in: the caller's where it is of the same tenant, else one of its own."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractAsyncContextManager, AbstractContextManager, contextmanager
from dataclasses import dataclass
from uuid import UUID

from sqlalchemy.ext.asyncio import AsyncSession
from sqlalchemy.orm import Session
from sqlalchemy.util.concurrency import in_greenlet

from dataarch.database.commit_hooks import Unit, current_unit, opened
from dataarch.database.origin import awaited
from dataarch.errors import TenantNotSet

__all__ = ["Units", "async_units"]


@dataclass(frozen=True, slots=True)
class Units:
    """A database's units of work.

    Attributes:
        open: opens one of a tenant.
        ours: whether a unit of work is of this database; a program may have several.
        ready: raises where none can be opened.
    """

    open: Callable[[UUID], AbstractContextManager[Session]]
    ours: Callable[[Unit], bool]
    ready: Callable[[], None] = lambda: None

    @contextmanager
    def session(self, tenant: UUID) -> Iterator[Session]:
        """Give the session of the innermost unit of work, if it is this tenant's; else that of a new one.

        What is read on a replica is not good enough: then a new one is opened on the application's own server.
        """
        unit = current_unit()
        if unit is None or unit.session is None or unit.tenant_id != tenant or not self.ours(unit):
            with self.open(tenant) as session:
                yield session
        elif unit.stale:
            with opened(Unit(tenant_id=tenant), alone=True), self.open(tenant) as session:
                yield session
        else:
            yield unit.session


def async_units(
    open_async: Callable[[UUID], AbstractAsyncContextManager[AsyncSession]], ours: Callable[[Unit], bool]
) -> Units:
    """Return the units of work of a database under asyncio, for code that ``run_sync`` runs."""

    @contextmanager
    def opened(tenant: UUID) -> Iterator[Session]:
        with awaited(open_async(tenant)) as session:
            yield session.sync_session

    return Units(opened, ours, _in_run_sync)


def _in_run_sync() -> None:
    # refused on a hit too: it would else depend on the cache whether a program works
    if not in_greenlet():
        raise TenantNotSet(
            "Under asyncio this runs inside of run_sync alone.",
            hint="async with db.tenant(tenant_id) as session: await session.run_sync(lambda _: …)",
        )
