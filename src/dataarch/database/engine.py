"""Engines: how a connection is opened, and how each transaction on it begins.

BEGIN, the time-outs, the role and the tenant travel together with the first statement, on a connection that is in
autocommit mode for psycopg; by themselves, as one simple query, where the connection may have broken meanwhile. All of
it is local to the transaction, so that PgBouncer in transaction mode may hand the connection to anybody afterwards.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from functools import lru_cache, partial
from typing import Any, cast
from uuid import UUID

import psycopg
from sqlalchemy import URL, AsyncAdaptedQueuePool, Connection, Engine, QueuePool, create_engine, event
from sqlalchemy.engine import ExceptionContext
from sqlalchemy.exc import DBAPIError
from sqlalchemy.exc import TimeoutError as PoolTimeout
from sqlalchemy.ext.asyncio import AsyncEngine, create_async_engine

from dataarch.database import driver
from dataarch.database.beginning import Beginning, Prologue
from dataarch.database.commit_hooks import watch
from dataarch.database.error_mapping import translate
from dataarch.database.settings import Settings
from dataarch.database.tenancy import INTERNAL, ISOLATION, READING, TENANT, Isolation, RoleCheck, guard
from dataarch.errors import DataArchError, NoConnectionFree, ServerTooOld

__all__ = [
    "OLDEST_SERVER",
    "application_engine",
    "async_application_engine",
    "async_owner_engine",
    "gate_engine",
    "owner_engine",
]

OLDEST_SERVER = (15, 0)

ASYNC_CREATOR = "async_creator_fn"
"""The argument by which SQLAlchemy's dialect for asyncio is told how to connect."""

WITHOUT_FUNCTION = frozenset({"42501", "42883"})
"""SQLSTATE where a function is not there, or not for this role: it may be the one that begins a transaction."""

to_json = partial(json.dumps, ensure_ascii=False, allow_nan=False, separators=(",", ":"))


def application_engine(settings: Settings, url: URL | None = None) -> Engine:
    """Return the engine that the application's units of work run on; no connection is made yet.

    Args:
        settings: the database's.
        url: the application's login to another server than its own, such as a replica.
    """
    url = url or settings.application
    engine = create_engine(url, poolclass=Pool, **_common(settings, url, autocommit=True))
    _prepare(engine, settings)
    return engine


def async_application_engine(settings: Settings, url: URL | None = None) -> AsyncEngine:
    """Return the same for asyncio: one implementation serves both."""
    url = url or settings.application
    options = {"autocommit": True, ASYNC_CREATOR: driver.AsyncConnection.connect}
    engine = create_async_engine(url, poolclass=AsyncPool, **_common(settings, url, **options))
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


def gate_engine(settings: Settings) -> Engine:
    """Return the engine that the cache's gate is asked by: one connection of its own, each statement by itself."""
    url = settings.application
    common = {**_common(settings, url), "pool_size": 1, "max_overflow": 0}
    common["connect_args"]["prepare_threshold"] = None
    engine = create_engine(url, poolclass=Pool, pool_pre_ping=True, isolation_level="AUTOCOMMIT", **common)
    event.listen(engine, "handle_error", translate, retval=True)
    return engine


def _watch(engine: Engine) -> None:
    event.listen(engine, "handle_error", translate, retval=True)
    event.listen(engine, "first_connect", _refuse_old_server)
    watch(engine)


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
        "pool_use_lifo": True,
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
    known = _beginnings(Prologue(settings))
    can_join = psycopg.Pipeline.is_supported()
    _watch(engine)
    guard(engine)

    @event.listens_for(engine, "do_connect")
    def connect(_dialect: object, _record: object, given: Any, options: Any) -> Any:
        # asyncio has its own way, and there it is awaited
        return None if ASYNC_CREATOR in options else driver.Connection.connect(*given, **options)

    @event.listens_for(engine, "handle_error")
    def doubt(context: ExceptionContext) -> None:
        if getattr(context.original_exception, "sqlstate", None) in WITHOUT_FUNCTION:
            check.again()

    @event.listens_for(engine, "begin")
    def begin(connection: Connection) -> None:
        options = connection.get_execution_options()
        level = options.get(ISOLATION, Isolation.READ_COMMITTED)
        beginning = known(options.get(TENANT), level, options.get(READING, False))
        if can_join and check.joined and (deferring := _driver(connection)).believed_in():
            deferring.beginning = beginning
        else:
            _send(connection, beginning.batch)
            if beginning.tenant_id is not None:
                check.once(connection)
            deferring = _driver(connection)
        deferring.unwaited = can_join and beginning.unwaited


def _beginnings(prologue: Prologue) -> Callable[[UUID | None, str, bool], Beginning]:
    """Return what gives an engine's beginnings; those of the tenants that came last are not made anew."""

    @lru_cache(maxsize=256)
    def known(tenant_id: UUID | None, isolation: str, reading: bool) -> Beginning:  # noqa: FBT001  # a key of the cache
        return Beginning(prologue, tenant_id, Isolation(isolation), reading)

    return known


def _driver(connection: Connection) -> driver.Deferring:
    return cast("driver.Deferring", connection.connection.driver_connection)


def _send(connection: Connection, batch: str) -> None:
    """Begin a transaction, on a new connection where the pooled one broke while nobody used it.

    So BEGIN is also the ping that would cost a round trip of its own: nothing is lost by sending it again. SQLAlchemy
    has given up every other connection of that age by then.
    """
    try:
        connection.exec_driver_sql(batch, execution_options={INTERNAL: True})
    except (DataArchError, DBAPIError):
        if not connection.invalidated:
            raise
        connection.exec_driver_sql(batch, execution_options={INTERNAL: True})


def _refuse_old_server(dbapi_connection: Any, _record: object) -> None:
    connection = getattr(dbapi_connection, "driver_connection", dbapi_connection)
    version = connection.info.server_version
    if version < OLDEST_SERVER[0] * 10_000:
        raise ServerTooOld(f"The server is PostgreSQL {version // 10_000}; dataarch needs 15 or later.")
