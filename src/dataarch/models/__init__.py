"""What exists: the tables as SQLAlchemy models, and nothing that reaches a server.

One aggregate is one file. Every table that belongs to a tenant has ``tenant_id`` first in its primary key, in each of
its unique constraints and in each foreign key to another such table, so that a reference across tenants cannot be
written down.
"""

from dataarch.models.activity import UserActivity
from dataarch.models.base import Base
from dataarch.models.inventory import Inventory, InventoryMovement, InventoryReservation
from dataarch.models.partitioning import Partitioning, Policy, partitioned
from dataarch.models.pipeline import PipelineBatch, PipelineReject, PipelineRun, PipelineSource
from dataarch.models.product import Product
from dataarch.models.tenancy import TenantOwned
from dataarch.models.tenant import Tenant
from dataarch.models.user import User, UserProfile, UserSettings
from dataarch.models.user_session import UserSession
from dataarch.models.versioning import Versioned, declare_versions

__all__ = [
    "Base",
    "Inventory",
    "InventoryMovement",
    "InventoryReservation",
    "Partitioning",
    "PipelineBatch",
    "PipelineReject",
    "PipelineRun",
    "PipelineSource",
    "Policy",
    "Product",
    "Tenant",
    "TenantOwned",
    "User",
    "UserActivity",
    "UserProfile",
    "UserSession",
    "UserSettings",
    "Versioned",
    "partitioned",
]

declare_versions(Base.metadata)
