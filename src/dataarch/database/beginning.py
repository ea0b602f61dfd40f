"""How a transaction begins: as one simple query, or as two messages that the first statement can follow."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from uuid import UUID

import psycopg

from dataarch.database.settings import Settings
from dataarch.database.tenancy import Isolation

__all__ = ["Beginning", "Prologue"]

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

CALL = (
    b"SELECT public.begin_unit($1::pg_catalog.uuid, $2::pg_catalog.text, "
    b"$3::pg_catalog.int4, $4::pg_catalog.int4, $5::pg_catalog.int4)"
)
"""The same in one message. It is never prepared: a name could be taken by what raw SQL has prepared under it."""


class Prologue:
    """What every transaction of an engine begins with."""

    def __init__(self, settings: Settings) -> None:
        local = {
            "statement_timeout": settings.statement_timeout,
            "lock_timeout": settings.lock_timeout,
            "idle_in_transaction_session_timeout": settings.idle_in_transaction_timeout,
        }
        # 0 would switch the time-out off
        limits = {name: max(1, round(seconds * 1000)) for name, seconds in local.items()}
        parts = [
            *CLEAN,
            "SET LOCAL timezone = 'UTC'",
            *(f"SET LOCAL {name} = {milliseconds}" for name, milliseconds in limits.items()),
        ]
        if settings.role:
            parts.append(f"SET LOCAL ROLE {settings.role}")
        self.statements = "; ".join(parts)
        self.arguments: tuple[bytes | None, ...] = (
            settings.role.encode() if settings.role else None,
            *(str(milliseconds).encode() for milliseconds in limits.values()),
        )


@dataclass(frozen=True)
class Beginning:
    """How transactions begin that are alike; an engine keeps those of the tenants that it has seen last.

    Attributes:
        prologue: the engine's.
        tenant_id: whose transaction it is.
        isolation: said each time: which level it is must not depend on the server's default.
        reading: whether the server refuses to write in it.
    """

    prologue: Prologue
    tenant_id: UUID | None
    isolation: Isolation
    reading: bool = False

    @cached_property
    def begin(self) -> str:
        """BEGIN alone."""
        return f"BEGIN ISOLATION LEVEL {self.isolation}{' READ ONLY' if self.reading else ''}"

    @property
    def batch(self) -> str:
        """All of it, as one simple query."""
        tenant = f"; SELECT public.set_tenant('{self.tenant_id}')" if self.tenant_id is not None else ""
        return f"{self.begin}; {self.prologue.statements}{tenant}"

    @property
    def unwaited(self) -> bool:
        """Whether nothing depends on the answer to COMMIT: of what was read SERIALIZABLE, it says whether it holds."""
        return self.reading and self.isolation is not Isolation.SERIALIZABLE

    @cached_property
    def _messages(self) -> tuple[bytes, tuple[bytes | None, ...]]:
        tenant = None if self.tenant_id is None else str(self.tenant_id).encode()
        return self.begin.encode(), (tenant, *self.prologue.arguments)

    def send(self, pgconn: psycopg.pq.abc.PGconn) -> None:
        """Put all of it into a pipeline, as two messages; each is answered."""
        begin, arguments = self._messages
        pgconn.send_query_params(begin, None)
        pgconn.send_query_params(CALL, arguments)
