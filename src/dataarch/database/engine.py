"""Engines: how a connection is opened, and how each transaction on it begins.

A transaction begins with one round trip: BEGIN, the time-outs, the role and the tenant travel as one simple query on a
connection that is in autocommit mode for psycopg. All of it is local to the transaction, so that PgBouncer in
transaction mode may hand the connection to anybody afterwards.
"""

from __future__ import annotations

import json
from functools import partial
from typing import Any
from uuid import UUID

from sqlalchemy import URL, AsyncAdaptedQueuePool, Connection, Engine, QueuePool, create_engine, event
from sqlalchemy.exc import DBAPIError
from sqlalchemy.exc import TimeoutError as PoolTimeout
from sqlalchemy.ext.asyncio import AsyncEngine, create_async_engine

from dataarch.database.error_mapping import translate
from dataarch.database.settings import Settings
from dataarch.database.tenancy import INTERNAL, ISOLATION, TENANT, Isolation, RoleCheck, guard
from dataarch.errors import DataArchError, NoConnectionFree, ServerTooOld

__all__ = ["OLDEST_SERVER", "application_engine", "async_application_engine", "async_owner_engine", "owner_engine"]

OLDEST_SERVER = (15, 0)

CLEAN = (
    "RESET SESSION AUTHORIZATION",
    "RESET ALL",
    "CLOSE ALL",
    "DISCARD TEMP",
    "UNLISTEN *",
    "SELECT pg_catalog.pg_advisory_unlock_all()",
)
"""What takes from a connection all that another tenant's raw SQL may have left on it, its prepared statements excepted.

A pooler may hand the connection over between any two transactions, so each begins with it; measured at 10 µs.
"""

to_json = partial(json.dumps, ensure_ascii=False, allow_nan=False, separators=(",", ":"))


def application_engine(settings: Settings) -> Engine:
    """Return the engine that the application's units of work run on; no connection is made yet."""
    url = settings.application
    engine = create_engine(url, poolclass=Pool, **_common(settings, url, autocommit=True))
    _prepare(engine, settings)
    return engine


def async_application_engine(settings: Settings) -> AsyncEngine:
    """Return the same for asyncio: one implementation serves both."""
    url = settings.application
    engine = create_async_engine(url, poolclass=AsyncPool, **_common(settings, url, autocommit=True))
    _prepare(engine.sync_engine, settings)
    return engine


def owner_engine(settings: Settings) -> Engine:
    """Return the owner's engine, for migrations and maintenance: no tenant, no role, no time-outs of its own."""
    url = settings.owner
    engine = create_engine(url, poolclass=Pool, pool_pre_ping=True, **_common(settings, url))
    _watch(engine)
    return engine


def async_owner_engine(settings: Settings) -> AsyncEngine:
    """Return the same for asyncio."""
    url = settings.owner
    engine = create_async_engine(url, poolclass=AsyncPool, pool_pre_ping=True, **_common(settings, url))
    _watch(engine.sync_engine)
    return engine


def _watch(engine: Engine) -> None:
    event.listen(engine, "handle_error", translate, retval=True)
    event.listen(engine, "first_connect", _refuse_old_server)


class Pool(QueuePool):
    """A pool that says by name that it is empty."""

    def connect(self) -> Any:
        """Give a connection; raises :class:`NoConnectionFree` when all were in use for too long."""
        try:
            return super().connect()
        except PoolTimeout as empty:
            raise _no_connection_free(self) from empty


class AsyncPool(AsyncAdaptedQueuePool):
    """The same for asyncio."""

    def connect(self) -> Any:
        """Give a connection; raises :class:`NoConnectionFree` when all were in use for too long."""
        try:
            return super().connect()
        except PoolTimeout as empty:
            raise _no_connection_free(self) from empty


def _no_connection_free(pool: QueuePool) -> NoConnectionFree:
    return NoConnectionFree(f"All {pool.checkedout()} connections of the pool were in use for too long.")


def _common(settings: Settings, url: URL, **connect_args: object) -> dict[str, Any]:
    wanted = {
        "application_name": settings.application_name,
        # psycopg waits 2 seconds at the least
        "connect_timeout": max(2, round(settings.connect_timeout)),
    }
    return {
        "pool_size": settings.pool_size,
        "max_overflow": settings.pool_overflow,
        "pool_timeout": settings.pool_timeout,
        # values are people's data, and an error's text ends in a log
        "hide_parameters": True,
        "json_serializer": to_json,
        # asking each new connection for hstore would cost a round trip, and no table has it
        "use_native_hstore": False,
        "connect_args": {
            **{name: value for name, value in wanted.items() if name not in url.query},
            "prepare_threshold": settings.prepare_threshold,
            **connect_args,
        },
    }


def _prepare(engine: Engine, settings: Settings) -> None:
    check = RoleCheck()
    prologue = _prologue(settings)
    _watch(engine)
    guard(engine)

    @event.listens_for(engine, "begin")
    def begin(connection: Connection) -> None:
        options = connection.get_execution_options()
        tenant_id: UUID | None = options.get(TENANT)
        # never the server's default: which level it is must not depend on where the code runs
        isolation = Isolation(options.get(ISOLATION, Isolation.READ_COMMITTED))
        statement = f"BEGIN ISOLATION LEVEL {isolation}; {prologue}"
        if tenant_id is not None:
            statement += f"; SELECT public.set_tenant('{tenant_id}')"
        _send(connection, statement)
        if tenant_id is not None:
            check.once(connection)


def _send(connection: Connection, prologue: str) -> None:
    """Begin a transaction, on a new connection where the pooled one broke while nobody used it.

    So BEGIN is also the ping that would cost a round trip of its own: nothing is lost by sending it again. SQLAlchemy
    has given up every other connection of that age by then.
    """
    try:
        connection.exec_driver_sql(prologue, execution_options={INTERNAL: True})
    except (DataArchError, DBAPIError):
        if not connection.invalidated:
            raise
        connection.exec_driver_sql(prologue, execution_options={INTERNAL: True})


def _prologue(settings: Settings) -> str:
    local = {
        "statement_timeout": settings.statement_timeout,
        "lock_timeout": settings.lock_timeout,
        "idle_in_transaction_session_timeout": settings.idle_in_transaction_timeout,
    }
    parts = [
        *CLEAN,
        "SET LOCAL timezone = 'UTC'",
        # 0 would switch the time-out off
        *(f"SET LOCAL {name} = {max(1, round(seconds * 1000))}" for name, seconds in local.items()),
    ]
    if settings.role:
        parts.append(f"SET LOCAL ROLE {settings.role}")
    return "; ".join(parts)


def _refuse_old_server(dbapi_connection: Any, _record: object) -> None:
    driver = getattr(dbapi_connection, "driver_connection", dbapi_connection)
    version = driver.info.server_version
    if version < OLDEST_SERVER[0] * 10_000:
        raise ServerTooOld(f"The server is PostgreSQL {version // 10_000}; dataarch needs 15 or later.")
