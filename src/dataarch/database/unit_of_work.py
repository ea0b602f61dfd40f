"""The unit of work: one transaction of one tenant, committed at its end; the only place that commits.

::

    db = Database()
    with db.tenant(tenant_id) as session:
        session.add(User(email="ada@example.com", full_name="Ada"))
    # committed here; any error inside rolls all of it back
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager
from types import MappingProxyType, TracebackType
from typing import Any, Self
from uuid import UUID

from sqlalchemy import Column, Engine, Insert, event, inspect
from sqlalchemy.ext.asyncio import AsyncEngine, AsyncSession
from sqlalchemy.orm import ORMExecuteState, Session, with_loader_criteria

from dataarch.database.embedded import embedded_settings
from dataarch.database.engine import application_engine, async_application_engine, async_owner_engine, owner_engine
from dataarch.database.settings import Settings
from dataarch.database.tenancy import ISOLATION, TENANT, Isolation, tenant_uuid
from dataarch.errors import MissingValue, TenantMismatch
from dataarch.models import Tenant, TenantOwned

__all__ = ["AsyncDatabase", "Database", "TenantSession"]


UNIT_OF_WORK: Mapping[str, Any] = MappingProxyType({"expire_on_commit": False, "close_resets_only": False})
"""Objects stay usable after the block; the session does not: what it then wrote, nobody would commit."""


class TenantSession(Session):
    """A session whose statements on tenants' tables carry ``tenant_id = :tenant``.

    The policies would give the same rows; with the predicate the planner also gets its index, and Citus its shard.
    """

    def __init__(self, bind: Any = None, *, tenant_id: UUID, **given: Any) -> None:
        super().__init__(bind, **{**UNIT_OF_WORK, **given})
        self.tenant_id = tenant_id


@event.listens_for(TenantSession, "do_orm_execute")
def _add_tenant(state: ORMExecuteState) -> None:
    if not isinstance(state.session, TenantSession):
        return
    if state.is_insert:
        _refuse_without_tenant(state)
        return
    tenant_id = state.session.tenant_id
    state.statement = state.statement.options(
        with_loader_criteria(TenantOwned, lambda cls: cls.tenant_id == tenant_id, include_aliases=True),
        with_loader_criteria(Tenant, lambda cls: cls.id == tenant_id, include_aliases=True),
    )


def _refuse_without_tenant(state: ORMExecuteState) -> None:
    """Refuse a bulk insert that leaves the tenant open, which the server would call a row of another tenant.

    It applies the policy before NOT NULL.
    """
    mapper, statement = state.bind_mapper, state.statement
    if mapper is None or not issubclass(mapper.class_, TenantOwned) or not isinstance(statement, Insert):
        return
    if statement.select is not None or any(column.key == "tenant_id" for column in _given_columns(statement)):
        return
    given = state.parameters or {}
    rows = [given] if isinstance(given, Mapping) else given
    if not all("tenant_id" in row for row in rows):
        raise MissingValue(
            f"A bulk insert of {mapper.class_.__name__} gives no tenant_id.",
            hint="Give each row the session's tenant_id; objects that are added get it by themselves.",
            table=mapper.local_table.description,
            column="tenant_id",
            tenant_id=getattr(state.session, "tenant_id", None),
        )


def _given_columns(statement: Insert) -> Iterator[Column[Any]]:
    """Give the columns that the statement itself has values for; SQLAlchemy has no public way to ask."""
    for values in (statement._values or {}, *(row for rows in statement._multi_values for row in rows)):
        yield from (column for column in values if isinstance(column, Column))


@event.listens_for(TenantSession, "before_flush")
def _own_every_row(session: TenantSession, context: object, instances: object) -> None:  # noqa: ARG001  # the event's signature
    for row in (*session.new, *session.dirty, *session.deleted):
        if isinstance(row, TenantOwned):
            _own(row, "tenant_id", session.tenant_id)
        elif isinstance(row, Tenant):
            _own(row, "id", session.tenant_id)


def _own(row: TenantOwned | Tenant, attribute: str, tenant_id: UUID) -> None:
    present = getattr(row, attribute)
    if present is None:
        setattr(row, attribute, tenant_id)
    elif present != tenant_id or inspect(row).attrs[attribute].history.deleted:
        raise TenantMismatch(
            f"A {type(row).__name__} of tenant {present} was to be written in a session of tenant {tenant_id}.",
            table=inspect(row).mapper.local_table.description,
            column=attribute,
            value=present,
            tenant_id=tenant_id,
        )


class Database:
    """A PostgreSQL database, from its settings: the door to every unit of work.

    Nothing connects before the first statement. Safe to share between threads; a session is not.
    """

    def __init__(self, settings: Settings | None = None) -> None:
        """Take the settings; without any, those of ``DATAARCH_…`` variables or of the embedded server that runs here.

        Raises:
            ConfigurationError: a setting cannot be used, or no database is known.
        """
        self.settings = embedded_settings(settings or Settings.load(), start=False)
        self.engine: Engine = application_engine(self.settings)
        self._owner_engine: Engine = owner_engine(self.settings)

    @contextmanager
    def tenant(
        self, tenant_id: UUID | str, *, isolation: Isolation = Isolation.READ_COMMITTED
    ) -> Iterator[TenantSession]:
        """Open a unit of work of one tenant: committed when the block ends, rolled back on any error.

        Args:
            tenant_id: whose rows it sees and writes.
            isolation: under a stricter level than READ COMMITTED, :class:`SerializationFailure` asks for another try.

        Raises:
            TenantNotSet: the id is no UUID.
            RoleBypassesRowSecurity: the policies do not bind the role.
            ServerError: the server cannot be reached, is too old or not migrated.

        A read ends with a commit too: a rollback would throw away psycopg's prepared statements.
        """
        tenant = tenant_uuid(tenant_id)
        bind = self.engine.execution_options(**{TENANT: tenant, ISOLATION: isolation})
        with TenantSession(bind, tenant_id=tenant) as session, session.begin():
            yield session

    @contextmanager
    def session(self) -> Iterator[Session]:
        """Open a unit of work of no tenant: whatever touches a tenant's table raises :class:`TenantNotSet`."""
        with Session(self.engine, **UNIT_OF_WORK) as session, session.begin():
            yield session

    @contextmanager
    def owner(self) -> Iterator[Session]:
        """Open a unit of work as the owner of the tables, outside the policies: for maintenance, not for requests."""
        with Session(self._owner_engine, **UNIT_OF_WORK) as session, session.begin():
            yield session

    def close(self) -> None:
        """Close every pooled connection. Idempotent; a later unit of work connects anew."""
        self.engine.dispose()
        self._owner_engine.dispose()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.close()


class AsyncDatabase:
    """The same for asyncio; ``await session.run_sync(function)`` runs any synchronous code on the session."""

    def __init__(self, settings: Settings | None = None) -> None:
        """As :class:`Database`."""
        self.settings = embedded_settings(settings or Settings.load(), start=False)
        self.engine: AsyncEngine = async_application_engine(self.settings)
        self._owner_engine: AsyncEngine = async_owner_engine(self.settings)

    @asynccontextmanager
    async def tenant(
        self, tenant_id: UUID | str, *, isolation: Isolation = Isolation.READ_COMMITTED
    ) -> AsyncIterator[AsyncSession]:
        """Open a unit of work of one tenant; as :meth:`Database.tenant`."""
        tenant = tenant_uuid(tenant_id)
        bind = self.engine.execution_options(**{TENANT: tenant, ISOLATION: isolation})
        async with (
            AsyncSession(bind, sync_session_class=TenantSession, tenant_id=tenant) as session,
            session.begin(),
        ):
            yield session

    @asynccontextmanager
    async def session(self) -> AsyncIterator[AsyncSession]:
        """Open a unit of work of no tenant; as :meth:`Database.session`."""
        async with AsyncSession(self.engine, **UNIT_OF_WORK) as session, session.begin():
            yield session

    @asynccontextmanager
    async def owner(self) -> AsyncIterator[AsyncSession]:
        """Open a unit of work as the owner of the tables; as :meth:`Database.owner`."""
        async with AsyncSession(self._owner_engine, **UNIT_OF_WORK) as session, session.begin():
            yield session

    async def close(self) -> None:
        """Close every pooled connection. Idempotent; a later unit of work connects anew."""
        await self.engine.dispose()
        await self._owner_engine.dispose()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None
    ) -> None:
        await self.close()
