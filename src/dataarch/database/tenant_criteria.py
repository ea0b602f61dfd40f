"""What keeps the statements of a session to its tenant.

SQLAlchemy knows a statement again by a key that it makes of all its parts, and keeps with the statement object. So a
statement that a program runs again and again gets a tenant's criteria once.
"""

from __future__ import annotations

from functools import lru_cache
from uuid import UUID
from weakref import WeakKeyDictionary

from sqlalchemy import Executable, Select
from sqlalchemy.orm import with_loader_criteria
from sqlalchemy.sql.base import ExecutableOption

from dataarch.models import Tenant, TenantOwned

__all__ = ["Criteria", "criteria_of", "kept_to"]

Criteria = tuple[ExecutableOption, ...]

MOST_TENANTS = 16
"""Tenants for which a statement is remembered that many of them run; of more, it is made anew."""


@lru_cache(maxsize=256)
def criteria_of(tenant_id: UUID) -> Criteria:
    """Return what keeps statements to a tenant, made once: SQLAlchemy takes a while to look into the lambdas."""
    return (
        with_loader_criteria(TenantOwned, lambda cls: cls.tenant_id == tenant_id, include_aliases=True),
        with_loader_criteria(Tenant, lambda cls: cls.id == tenant_id, include_aliases=True),
    )


_KEPT: WeakKeyDictionary[Executable, dict[Criteria, Executable]] = WeakKeyDictionary()
"""Statements with a tenant's criteria: by the one without them, as long as that lives, and by the criteria."""


def kept_to(criteria: Criteria, statement: Executable) -> Executable:
    """Return a statement kept to a tenant, the same object for the same statement and criteria.

    It is found by the very criteria that are in it, and not by an id that says whose they are. Safe to call from
    threads at the same time: no statement is ever changed, and who comes second makes one more that is alike.
    """
    if not isinstance(statement, Select):
        return statement.options(*criteria)
    by_criteria = _KEPT.get(statement)
    if by_criteria is None:
        by_criteria = _KEPT[statement] = {}
    kept = by_criteria.get(criteria)
    if kept is None:
        kept = statement.options(*criteria)
        if len(by_criteria) >= MOST_TENANTS:
            by_criteria.clear()
        by_criteria[criteria] = kept
    return kept
