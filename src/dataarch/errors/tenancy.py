"""A tenant's border would be crossed, or nobody said which tenant."""

from __future__ import annotations

from dataarch.errors.base import DataArchError


class TenancyError(DataArchError):
    """A tenant's border."""


class TenantNotSet(TenancyError):
    """A statement on a tenant's table, and no tenant: refused before anything is sent."""

    default_hint = "Open the session with `with db.tenant(tenant_id) as session:`."


class TenantMismatch(TenancyError):
    """A row of another tenant was to be written."""

    default_hint = "Open a session for that tenant, or correct the row's tenant_id."


class TenantSwitchRefused(TenancyError):
    """A transaction belongs to one tenant from its beginning to its end."""

    default_hint = "Open a second session for the other tenant."


class RoleBypassesRowSecurity(TenancyError):
    """The role would see every tenant: a superuser, a role with BYPASSRLS, or the owner of the tables."""

    default_hint = (
        "Connect as dataarch_app, or set DATAARCH_ROLE=dataarch_app so that each transaction switches to it first."
    )
