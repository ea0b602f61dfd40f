"""dataarch: a PostgreSQL data layer that a team can trust on day one.

The public names are here; importing the package connects to nothing. See the README for a first program.
"""

from dataarch import errors, models
from dataarch.clock import Month, aware, utcnow
from dataarch.database.settings import Settings
from dataarch.database.tenancy import Isolation
from dataarch.database.unit_of_work import AsyncDatabase, Database, TenantSession
from dataarch.errors import DataArchError
from dataarch.models import (
    Base,
    Inventory,
    InventoryMovement,
    Product,
    Tenant,
    TenantOwned,
    User,
    UserActivity,
    UserProfile,
    UserSettings,
)

__all__ = [
    "AsyncDatabase",
    "Base",
    "DataArchError",
    "Database",
    "Inventory",
    "InventoryMovement",
    "Isolation",
    "Month",
    "Product",
    "Settings",
    "Tenant",
    "TenantOwned",
    "TenantSession",
    "User",
    "UserActivity",
    "UserProfile",
    "UserSettings",
    "aware",
    "errors",
    "models",
    "utcnow",
]
