"""The unit of work: one transaction of one tenant, committed at its end; the only place that commits.

::

    db = Database()
    with db.tenant(tenant_id) as session:
        session.add(User(email="ada@example.com", full_name="Ada"))
    # committed here; any error inside rolls all of it back
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from contextlib import AbstractAsyncContextManager, AbstractContextManager, asynccontextmanager, contextmanager
from functools import partial
from types import MappingProxyType, TracebackType
from typing import Any, Self
from uuid import UUID

from sqlalchemy import Column, Connection, Engine, Executable, Insert, Table, event, inspect
from sqlalchemy.ext.asyncio import AsyncEngine, AsyncSession
from sqlalchemy.orm import ORMExecuteState, Session

from dataarch.database.commit_hooks import UNIT, Listener, Unit, UnitSession, opened
from dataarch.database.embedded import embedded_settings
from dataarch.database.engine import application_engine, async_application_engine, async_owner_engine, owner_engine
from dataarch.database.explain import explain
from dataarch.database.origin import Origin, awaited
from dataarch.database.plans import Plan
from dataarch.database.settings import Settings
from dataarch.database.tenancy import ISOLATION, READING, TENANT, Isolation, tenant_uuid
from dataarch.database.tenant_criteria import criteria_of, kept_to
from dataarch.errors import InvalidValue, MissingValue, TenantMismatch, TenantNotSet
from dataarch.models import Tenant, TenantOwned

__all__ = ["AsyncDatabase", "Database", "TenantSession", "tenant_session"]


UNIT_OF_WORK: Mapping[str, Any] = MappingProxyType({"expire_on_commit": False, "close_resets_only": False})
"""Objects stay usable after the block; the session does not: what it then wrote, nobody would commit."""


class TenantSession(UnitSession):
    """A session whose statements on tenants' tables carry ``tenant_id = :tenant``.

    The policies would give the same rows; with the predicate the planner also gets its index, and Citus its shard.
    """

    def __init__(self, bind: Any = None, *, tenant_id: UUID, unit: Unit | None = None, **given: Any) -> None:
        super().__init__(bind, unit=unit or Unit(tenant_id=tenant_id), **{**UNIT_OF_WORK, **given})
        self.tenant_id = tenant_id
        self.tenant_criteria = criteria_of(tenant_id)


def tenant_session(session: Session, otherwise: str) -> TenantSession:
    """Return a session as the one of a tenant; raises :class:`TenantNotSet` with these words where it is none."""
    if not isinstance(session, TenantSession):
        raise TenantNotSet(otherwise)
    return session


@event.listens_for(TenantSession, "do_orm_execute")
def _add_tenant(state: ORMExecuteState) -> None:
    if not isinstance(state.session, TenantSession):
        return
    if state.is_insert:
        _refuse_without_tenant(state)
        return
    if state.is_update:
        _refuse_without_version(state)
    state.statement = kept_to(state.session.tenant_criteria, state.statement)


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


def _refuse_without_version(state: ORMExecuteState) -> None:
    """Refuse a bulk update by primary keys that does not say which versions of the rows it was made from."""
    mapper, given = state.bind_mapper, state.parameters
    if mapper is None or mapper.version_id_col is None or not given or isinstance(given, Mapping):
        return
    name = mapper.get_property_by_column(mapper.version_id_col).key
    if not all(name in row for row in given):
        raise MissingValue(
            f"A bulk update of {mapper.class_.__name__} by primary keys gives no {name}.",
            hint=f"Give each row the {name} that it was read with, or change rows by update(…).where(…).",
            table=mapper.local_table.description,
            column=name,
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


def _unit(
    db: Database | AsyncDatabase, tenant_id: UUID, isolation: Isolation, *, stale: bool = False
) -> tuple[Unit, dict[str, Any]]:
    """Return a unit of work of a tenant, and the options of its connection."""
    moment = isolation is not Isolation.READ_COMMITTED
    unit = Unit(db.listener, tenant_id=tenant_id, one_moment=moment, stale=stale, origin=db.origin)
    return unit, {TENANT: tenant_id, ISOLATION: isolation, UNIT: unit}


@contextmanager
def _unit_session(engine: Engine, unit: Unit) -> Iterator[UnitSession]:
    """Open a unit of work of no tenant."""
    with opened(unit), UnitSession(engine, unit=unit, options={UNIT: unit}, **UNIT_OF_WORK) as session, session.begin():
        yield session


@asynccontextmanager
async def _async_unit(engine: AsyncEngine, unit: Unit) -> AsyncIterator[AsyncSession]:
    """Open the same for asyncio."""
    options = {UNIT: unit}
    with opened(unit):
        async with (
            AsyncSession(engine, sync_session_class=UnitSession, unit=unit, options=options, **UNIT_OF_WORK) as session,
            session.begin(),
        ):
            yield session


@contextmanager
def _tenant_session(engine: Engine, tenant: UUID, unit: Unit, options: Mapping[str, Any]) -> Iterator[TenantSession]:
    """Open a unit of work of a tenant."""
    with opened(unit), TenantSession(engine, tenant_id=tenant, unit=unit, options=options) as session, session.begin():
        yield session


@asynccontextmanager
async def _async_tenant(
    engine: AsyncEngine, tenant: UUID, unit: Unit, options: Mapping[str, Any]
) -> AsyncIterator[AsyncSession]:
    """Open the same for asyncio."""
    given: dict[str, Any] = {"tenant_id": tenant, "unit": unit, "options": options}
    with opened(unit):
        async with (
            AsyncSession(engine, sync_session_class=TenantSession, **given) as session,
            session.begin(),
        ):
            yield session


@contextmanager
def _sync_session(opens: Callable[[], AbstractAsyncContextManager[AsyncSession]]) -> Iterator[Session]:
    with awaited(opens()) as session:
        yield session.sync_session


def _refuse_both(tenant_id: UUID | str | None, *, owner: bool) -> None:
    if owner and tenant_id is not None:
        raise InvalidValue("The owner stands outside the tenants.", hint="Name a tenant, or the owner.")


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
        replica = self.settings.replica
        self._replica = None if replica is None else application_engine(self.settings, replica)
        self._owner_engine: Engine = owner_engine(self.settings)
        self.listener: Listener | None = None
        self.origin = Origin(self.settings, self.session)
        self._owner_origin = Origin(self.settings, self.owner, owner=True)

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
        with _tenant_session(self.engine, tenant, *_unit(self, tenant, isolation)) as session:
            yield session

    @contextmanager
    def reading(
        self, tenant_id: UUID | str, *, isolation: Isolation = Isolation.READ_COMMITTED
    ) -> Iterator[TenantSession]:
        """Open a unit of work of one tenant that only reads, on the replica where ``replica_url`` names one.

        Args:
            tenant_id: whose rows it sees.
            isolation: as of :meth:`tenant`; a replica has no SERIALIZABLE.

        Raises:
            ReadOnlyUnit: something was to be written; the server refuses it.
            ServerUnreachable: the replica does not answer; the application's own server is not asked instead.
            DataArchError: as :meth:`tenant`.

        A read costs one round trip: what nobody has written need not be waited for when it is committed. On a replica
        it may be older than the last commit, and the cache keeps nothing of it.
        """
        tenant = tenant_uuid(tenant_id)
        unit, options = _unit(self, tenant, isolation, stale=self._replica is not None)
        engine = self._replica or self.engine
        with _tenant_session(engine, tenant, unit, {**options, READING: True}) as session:
            yield session

    @contextmanager
    def session(self) -> Iterator[Session]:
        """Open a unit of work of no tenant: whatever touches a tenant's table raises :class:`TenantNotSet`."""
        with _unit_session(self.engine, Unit(self.listener, origin=self.origin)) as session:
            yield session

    @contextmanager
    def owner(self) -> Iterator[Session]:
        """Open a unit of work as the owner of the tables, outside the policies: for maintenance, not for requests."""
        with _unit_session(self._owner_engine, Unit(self.listener, origin=self._owner_origin)) as session:
            yield session

    @contextmanager
    def maintenance(self) -> Iterator[Connection]:
        """Open a connection of the owner on which each statement is a transaction of its own, sent as it is written.

        For work that cannot run inside a transaction, or is many. The connection is closed at the end, and with it go
        its settings and its advisory locks.
        """
        with self._owner_engine.connect() as connection:
            try:
                yield connection.execution_options(isolation_level="AUTOCOMMIT", no_parameters=True)
            finally:
                # the pool must not hand out its settings and locks to anybody else
                connection.invalidate()

    def explain(
        self,
        statement: Executable | str,
        parameters: Mapping[str, Any] | None = None,
        *,
        tenant_id: UUID | str | None = None,
        owner: bool = False,
        analyze: bool = False,
        generic: bool = False,
    ) -> Plan:
        """Return the plan of a statement, in a unit of work of its own; see :func:`dataarch.database.explain.explain`.

        Args:
            statement: of the ORM, of Core, or SQL as text.
            parameters: for its bound parameters.
            tenant_id: whose unit of work; without it, a statement on a tenant's table is refused.
            owner: as the owner of the tables, outside the policies.
            analyze: run it, to measure rows, pages and times; whatever it writes is undone.
            generic: the plan for any values, which a prepared statement gets when it has been run often.

        Raises:
            TenantNotSet: neither a tenant nor the owner is named, and the statement needs one.
            InvalidValue: both are, or the statement has no plan.
        """
        with self._asking(tenant_id, owner=owner) as session:
            return explain(session, statement, parameters, analyze=analyze, generic=generic)

    def _asking(self, tenant_id: UUID | str | None, *, owner: bool) -> AbstractContextManager[Session]:
        _refuse_both(tenant_id, owner=owner)
        if owner:
            return self.owner()
        return self.session() if tenant_id is None else self.tenant(tenant_id)

    @contextmanager
    def changing(self, *tables: Table) -> Iterator[None]:
        """Tell whoever listens to commits that rows of tables come or go in the block by no unit of work's doing."""
        unit = Unit(self.listener)
        for table in tables:
            unit.changed(table)
        unit.announce(None)
        try:
            yield
        finally:
            unit.end(committed=True)

    def close(self) -> None:
        """Close every pooled connection. Idempotent; a later unit of work connects anew."""
        for engine in filter(None, (self.engine, self._replica, self._owner_engine)):
            engine.dispose()

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
        replica = self.settings.replica
        self._replica = None if replica is None else async_application_engine(self.settings, replica)
        self._owner_engine: AsyncEngine = async_owner_engine(self.settings)
        self.listener: Listener | None = None
        self.origin = Origin(self.settings, partial(_sync_session, self.session))
        self._owner_origin = Origin(self.settings, partial(_sync_session, self.owner), owner=True)

    @asynccontextmanager
    async def tenant(
        self, tenant_id: UUID | str, *, isolation: Isolation = Isolation.READ_COMMITTED
    ) -> AsyncIterator[AsyncSession]:
        """Open a unit of work of one tenant; as :meth:`Database.tenant`."""
        tenant = tenant_uuid(tenant_id)
        async with _async_tenant(self.engine, tenant, *_unit(self, tenant, isolation)) as session:
            yield session

    @asynccontextmanager
    async def reading(
        self, tenant_id: UUID | str, *, isolation: Isolation = Isolation.READ_COMMITTED
    ) -> AsyncIterator[AsyncSession]:
        """Open a unit of work of one tenant that only reads; as :meth:`Database.reading`."""
        tenant = tenant_uuid(tenant_id)
        unit, options = _unit(self, tenant, isolation, stale=self._replica is not None)
        engine = self._replica or self.engine
        async with _async_tenant(engine, tenant, unit, {**options, READING: True}) as session:
            yield session

    @asynccontextmanager
    async def session(self) -> AsyncIterator[AsyncSession]:
        """Open a unit of work of no tenant; as :meth:`Database.session`."""
        async with _async_unit(self.engine, Unit(self.listener, origin=self.origin)) as session:
            yield session

    @asynccontextmanager
    async def owner(self) -> AsyncIterator[AsyncSession]:
        """Open a unit of work as the owner of the tables; as :meth:`Database.owner`."""
        async with _async_unit(self._owner_engine, Unit(self.listener, origin=self._owner_origin)) as session:
            yield session

    async def explain(
        self,
        statement: Executable | str,
        parameters: Mapping[str, Any] | None = None,
        *,
        tenant_id: UUID | str | None = None,
        owner: bool = False,
        analyze: bool = False,
        generic: bool = False,
    ) -> Plan:
        """Return the plan of a statement; as :meth:`Database.explain`."""
        async with self._asking(tenant_id, owner=owner) as session:
            return await session.run_sync(explain, statement, parameters, analyze=analyze, generic=generic)

    def _asking(self, tenant_id: UUID | str | None, *, owner: bool) -> AbstractAsyncContextManager[AsyncSession]:
        _refuse_both(tenant_id, owner=owner)
        if owner:
            return self.owner()
        return self.session() if tenant_id is None else self.tenant(tenant_id)

    async def close(self) -> None:
        """Close every pooled connection. Idempotent; a later unit of work connects anew."""
        for engine in filter(None, (self.engine, self._replica, self._owner_engine)):
            await engine.dispose()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None
    ) -> None:
        await self.close()
