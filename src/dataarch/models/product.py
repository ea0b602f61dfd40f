"""The product."""

from __future__ import annotations

from datetime import datetime
from decimal import Decimal
from uuid import UUID

from sqlalchemy import ForeignKeyConstraint, UniqueConstraint, text
from sqlalchemy.orm import Mapped, mapped_column

from dataarch.clock import utcnow
from dataarch.models.base import NEW_ID, Base, new_id
from dataarch.models.tenancy import TenantOwned
from dataarch.models.types import CurrencyCode, Money, Slug, Text
from dataarch.models.versioning import Versioned

__all__ = ["Product"]


class Product(Versioned, TenantOwned, Base):
    """Something that a tenant sells. Its slug is unique within the tenant; another tenant may have the same."""

    __tablename__ = "products"
    __table_args__ = (
        UniqueConstraint("tenant_id", "slug"),
        UniqueConstraint("tenant_id", "external_id"),
        ForeignKeyConstraint(["tenant_id"], ["tenants.id"], ondelete="CASCADE"),
    )

    id: Mapped[UUID] = mapped_column(primary_key=True, default=new_id, server_default=text(NEW_ID))
    slug: Mapped[str] = mapped_column(Slug())
    external_id: Mapped[str | None] = mapped_column(Text(200))
    name: Mapped[str] = mapped_column(Text(500))
    price: Mapped[Decimal] = mapped_column(Money(scale=2))
    currency: Mapped[str] = mapped_column(CurrencyCode())
    created_at: Mapped[datetime] = mapped_column(default=utcnow, server_default=text("clock_timestamp()"))
    updated_at: Mapped[datetime] = mapped_column(
        default=utcnow, onupdate=utcnow, server_default=text("clock_timestamp()")
    )
