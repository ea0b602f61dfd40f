"""The tenant of a session: its own row, and no other's."""

from __future__ import annotations

from dataarch.models import Tenant
from dataarch.repositories.queries import Queries
from dataarch.repositories.repository import Repository

__all__ = ["TenantQueries", "TenantRepository"]


class TenantQueries(Queries[Tenant]):
    """Reads of the tenant's own row."""

    model = Tenant

    def current(self) -> Tenant | None:
        """Return the tenant, or None where it is not made yet or not there any more."""
        return self.get(self.tenant_id)


class TenantRepository(TenantQueries, Repository[Tenant]):
    """Reads and writes of the tenant's own row; removing it removes all that the tenant has."""
