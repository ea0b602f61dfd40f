"""The server is not what we need, or cannot do it now; some of it may be tried again."""

from __future__ import annotations

from typing import Any

from dataarch.errors.base import DataArchError


class ServerError(DataArchError):
    """The server cannot do what was asked."""


class ServerUnreachable(ServerError):
    """No connection could be made, or it broke."""

    default_hint = "Check that the server runs and that the URL names it: `dataarch server status`."


class ServerTooOld(ServerError):
    """The server is older than PostgreSQL 15."""

    default_hint = "Use PostgreSQL 15 to 18."


class SchemaNotMigrated(ServerError):
    """A table, column or function of this version of dataarch is not in the database."""

    default_hint = (
        "If it is one of dataarch's, run `alembic upgrade head` (or `dataarch upgrade`) as the owner; "
        "otherwise correct the statement."
    )


class PrivilegeMissing(ServerError):
    """The role may not do this."""

    default_hint = "Run migrations and maintenance as the owner: set DATAARCH_OWNER_URL."


class ClockImplausible(ServerError):
    """A clock is so far from what is in the tables, or from another clock, that nothing is done on its word."""

    default_hint = "Set the clocks of this machine and of the server right (NTP), then run it again."


class IndexDiffers(ServerError):
    """An index of this name is there already, with another definition or on another table."""

    default_hint = "Drop it, or give the new index another name."


class StatementLost(ServerError):
    """A prepared statement is not on the connection that a pooler such as PgBouncer chose for this transaction."""

    default_hint = "Behind PgBouncer in transaction mode, set DATAARCH_PREPARE_THRESHOLD=none."


class ReadOnlyUnit(ServerError):
    """Something was to be written in a unit of work that only reads, or on a server that follows another one."""

    default_hint = "Write it in a unit of work of its own, opened with `with db.tenant(tenant_id) as session:`."


class DiskFull(ServerError):
    """The server has no room left for what was to be written."""

    default_hint = "Make room on the server's disk, and run it again: what was committed stays."


class Retryable(ServerError):
    """Nothing was written, and the same work may succeed when it is tried again."""

    default_hint = "Nothing was written: try the whole unit of work again."


class LockTimeout(Retryable):
    """A lock was not granted in time; an upgrade says in ``blockers`` who held it: pid, query, age and more."""

    blockers: tuple[Any, ...] = ()


class StatementTimeout(Retryable):
    """A statement ran longer than it may."""


class Deadlock(Retryable):
    """Two transactions waited for each other, and this one was ended."""


class SerializationFailure(Retryable):
    """A concurrent transaction changed what this one had read."""


class NoConnectionFree(Retryable):
    """Every connection of the pool was in use for too long."""

    default_hint = "Raise DATAARCH_POOL_SIZE, or end units of work earlier; never open one inside another."


class CacheUnreachable(Retryable):
    """The cache does not answer, and what was asked cannot do without it."""

    default_hint = "Check that Redis or Valkey runs and that DATAARCH_REDIS_URL names it: `dataarch server status`."
