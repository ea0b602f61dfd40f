"""What exists: the tables as SQLAlchemy models, and nothing that reaches a server.

One aggregate is one file. Every table that belongs to a tenant has ``tenant_id`` first in its primary key, in each of
its unique constraints and in each foreign key to another such table, so that a reference across tenants cannot be
written down.
"""

from dataarch.models.activity import UserActivity
from dataarch.models.base import Base
from dataarch.models.inventory import Inventory, InventoryMovement
from dataarch.models.product import Product
from dataarch.models.tenancy import TenantOwned
from dataarch.models.tenant import Tenant
from dataarch.models.user import User, UserProfile, UserSettings

__all__ = [
    "Base",
    "Inventory",
    "InventoryMovement",
    "Product",
    "Tenant",
    "TenantOwned",
    "User",
    "UserActivity",
    "UserProfile",
    "UserSettings",
]
