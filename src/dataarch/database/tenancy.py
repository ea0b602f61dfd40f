"""The tenant's border on this side of the server.

The server guards every row by policy. Here, a statement without a tenant is refused before it is sent, so that it can
never answer with silently empty results; a statement that would change the tenant or the role half way is refused;
and a role that the policies do not bind is refused.
"""

from __future__ import annotations

import re
from enum import StrEnum
from functools import lru_cache
from typing import Any
from uuid import UUID

from sqlalchemy import Connection, Engine, TextClause, event
from sqlalchemy.sql import ClauseElement, visitors
from sqlalchemy.sql.schema import Table

from dataarch.errors import RoleBypassesRowSecurity, TenantNotSet, TenantSwitchRefused
from dataarch.models.tenancy import tenant_column

__all__ = [
    "INTERNAL",
    "ISOLATION",
    "READING",
    "TENANT",
    "Isolation",
    "RoleCheck",
    "guard",
    "refuse_switch",
    "tenant_uuid",
]

TENANT = "dataarch_tenant"
"""Execution option of a connection: the tenant that its transactions belong to."""

ISOLATION = "dataarch_isolation"
"""Execution option of a connection: the isolation level of its transactions."""

READING = "dataarch_reading"
"""Execution option of a connection: whether the server refuses to write in its transactions."""

INTERNAL = "dataarch_internal"
"""Execution option of a statement of our own, which needs no tenant."""

GUARDED = "dataarch_guarded"
"""Execution option of an engine whose statements are watched."""

BINDING = """
SELECT current_user, rolsuper OR rolbypassrls
       OR EXISTS (SELECT FROM pg_class WHERE oid = to_regclass('public.users') AND pg_has_role(relowner, 'MEMBER')),
       coalesce(has_function_privilege(session_user, to_regprocedure('public.begin_unit(uuid,text,int4,int4,int4)'),
                                       'EXECUTE'), false)
FROM pg_roles WHERE rolname = current_user
"""

SWITCH = re.compile(
    # where a statement begins: UPDATE … SET role = … is about a column
    r"(?:^|[;$'(]|\b(?:begin|then|else|loop)\b)\s*set\s+role\b|\bset\s+(?:local|session)\s+role\b"
    r"|\bset\s+(?:local\s+|session\s+)?session\s+authorization\b"
    r"|\breset\s+(?:role|session\s+authorization|all)\b|\bdiscard\s+all\b"
    # its arguments may be bound parameters, which no pattern sees
    r"|\bset_config\b"
    r"|\bdataarch\s*\.\s*tenant_id\b|\bset_tenant\b|\bbegin_unit\b"
    # an identifier in Unicode escapes may be any of these
    r'|\bu&"'
    # without the transaction, tenant and role are gone
    r"|(?:^|;)\s*(?:commit|abort|rollback(?!\s+(?:work\s+|transaction\s+)?to\b)|(?:start|prepare)\s+transaction)\b"
    r"|^\s*(?:begin|end)\b",
    re.IGNORECASE,
)

COMMENT = re.compile(r"--[^\n]*|/\*(?:(?!/\*|\*/).)*\*/", re.DOTALL)
"""A comment that has none inside it; PostgreSQL nests them."""


class Isolation(StrEnum):
    """What a transaction sees of those that run at the same time; PostgreSQL, "Transaction Isolation"."""

    READ_COMMITTED = "READ COMMITTED"
    REPEATABLE_READ = "REPEATABLE READ"
    SERIALIZABLE = "SERIALIZABLE"


def tenant_uuid(tenant_id: UUID | str | None) -> UUID:
    """Return a tenant's id as a UUID.

    Raises:
        TenantNotSet: there is none, or it is not a UUID.
    """
    if isinstance(tenant_id, UUID):
        return tenant_id
    try:
        return UUID(str(tenant_id))
    except ValueError:
        raise TenantNotSet(f"{tenant_id!r} is not the id of a tenant.", value=tenant_id) from None


class RoleCheck:
    """Whether the policies bind the role that transactions run as; asked once an engine.

    Attributes:
        joined: whether a transaction may begin together with its first statement: the role is bound, and the
            function is there (revision 0019) that its login needs for it.
    """

    def __init__(self) -> None:
        self._bound = False
        self.joined = False

    def once(self, connection: Connection) -> None:
        """Ask the server, the first time.

        Raises:
            RoleBypassesRowSecurity: a superuser, a role with BYPASSRLS, or an owner of the tables.
        """
        if self._bound:
            return
        role, bypasses, can_join = connection.exec_driver_sql(BINDING, execution_options={INTERNAL: True}).one()
        if bypasses:
            raise RoleBypassesRowSecurity(
                f"The role {role} is not bound by row-level security, so it would see every tenant.", value=role
            )
        self._bound = True
        self.joined = can_join

    def again(self) -> None:
        """Ask the server once more, when the next transaction has begun by itself."""
        self._bound = self.joined = False


def guard(engine: Engine) -> None:
    """Watch every statement of an engine and of all that share its pool."""
    engine.update_execution_options(**{GUARDED: True})

    @event.listens_for(engine, "before_execute")
    def refuse_without_tenant(
        connection: Connection, statement: object, _many: object, _one: object, _options: object
    ) -> None:
        if TENANT not in connection.get_execution_options() and needs_tenant(statement):
            raise TenantNotSet(f"No tenant is set for the statement {_shortened(statement)}.")

    @event.listens_for(engine, "before_cursor_execute")
    def refuse_unbound(
        connection: Connection, _cursor: object, statement: str, _parameters: object, context: Any, _many: object
    ) -> None:
        if context is None or context.execution_options.get(INTERNAL):
            return
        refuse_switch(connection, statement)
        if context.compiled is None and TENANT not in connection.get_execution_options():
            raise TenantNotSet(f"No tenant is set for the statement {_shortened(statement)}.")


def refuse_switch(connection: Connection, statement: str) -> None:
    """Refuse SQL that would change the tenant or the role, on a connection of an engine that is watched.

    For a statement that is sent inside one of our own, which nobody looks at.
    """
    if connection.get_execution_options().get(GUARDED) and switches(statement):
        raise TenantSwitchRefused(
            "A statement would change the tenant or the role in the middle of a transaction.", value=statement
        )


@lru_cache(maxsize=2048)
def switches(statement: str) -> bool:
    """Return whether SQL names what only the unit of work may set, or ends its transaction.

    It finds mistakes, and injection of the ordinary kind; SQL that composes other SQL while it runs gets past it.
    """
    return SWITCH.search(statement) is not None or SWITCH.search(_without_disguise(statement)) is not None


def _without_disguise(statement: str) -> str:
    """Return SQL without comments and without quotes around identifiers."""
    plain, comments = COMMENT.subn(" ", statement)
    while comments:
        plain, comments = COMMENT.subn(" ", plain)
    return plain.replace('"', "")


def needs_tenant(statement: object) -> bool:
    """Return whether a statement touches a tenant's table, or is text, which may touch anything."""
    if not isinstance(statement, ClauseElement):
        return False
    return any(
        isinstance(part, TextClause) or (isinstance(part, Table) and tenant_column(part) is not None)
        for part in visitors.iterate(statement)
    )


def _shortened(statement: object) -> str:
    text = " ".join(str(statement).split())
    return repr(text if len(text) <= 100 else f"{text[:99]}…")
