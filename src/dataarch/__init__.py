"""dataarch: a PostgreSQL data layer that a team can trust on day one.

The public names are here; importing the package connects to nothing. See the README for a first program.
"""

from dataarch import errors, models
from dataarch.caching.database import AsyncDatabase, Database
from dataarch.caching.keys import cache_key
from dataarch.caching.kinds import Kind
from dataarch.clock import Month, aware, utcnow
from dataarch.database.settings import Settings
from dataarch.database.tenancy import Isolation
from dataarch.database.unit_of_work import TenantSession
from dataarch.errors import DataArchError
from dataarch.models import (
    Base,
    Inventory,
    InventoryMovement,
    InventoryReservation,
    Product,
    Tenant,
    TenantOwned,
    User,
    UserActivity,
    UserProfile,
    UserSession,
    UserSettings,
)

__all__ = [
    "AsyncDatabase",
    "Base",
    "DataArchError",
    "Database",
    "Inventory",
    "InventoryMovement",
    "InventoryReservation",
    "Isolation",
    "Kind",
    "Month",
    "Product",
    "Settings",
    "Tenant",
    "TenantOwned",
    "TenantSession",
    "User",
    "UserActivity",
    "UserProfile",
    "UserSession",
    "UserSettings",
    "aware",
    "cache_key",
    "errors",
    "models",
    "utcnow",
]
