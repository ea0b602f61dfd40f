"""What belongs to a tenant, and the one shape of the policy that guards it."""

from __future__ import annotations

from uuid import UUID

from sqlalchemy import Column, Table
from sqlalchemy.orm import Mapped, mapped_column

__all__ = ["POLICY_NAME", "TENANT_SETTING", "TenantOwned", "policy_expression", "tenant_column"]

TENANT_SETTING = "dataarch.tenant_id"
"""The transaction's setting that row-level security reads."""

POLICY_NAME = "tenant_isolation"


class TenantOwned:
    """A row that belongs to one tenant, for as long as it exists: ``tenant_id`` never changes."""

    tenant_id: Mapped[UUID] = mapped_column(primary_key=True, sort_order=-100)


def tenant_column(table: Table) -> Column[UUID] | None:
    """Return the column that says whose row it is; None for a table that belongs to nobody.

    ``tenants`` itself is guarded by its own id: a tenant sees the one row that is its own.
    """
    if table.name == "tenants" and "id" in table.columns:
        return table.columns["id"]
    return table.columns.get("tenant_id")


def policy_expression(column: str) -> str:
    """Return the policy's condition, for USING and WITH CHECK alike.

    After a commit the setting is ``''``, not NULL: hence ``nullif``. No CASE, no OR and no sub-select: the first two
    lose the index, the third is refused by Citus.
    """
    return f"{column} = nullif(current_setting('{TENANT_SETTING}', true), '')::uuid"
