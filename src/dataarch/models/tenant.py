"""The tenant: the customer whose data all other rows are."""

from __future__ import annotations

from datetime import datetime
from uuid import UUID

from sqlalchemy import UniqueConstraint, text
from sqlalchemy.orm import Mapped, mapped_column

from dataarch.clock import utcnow
from dataarch.models.base import NEW_ID, Base, new_id
from dataarch.models.types import Slug, Text
from dataarch.models.versioning import Versioned

__all__ = ["Tenant"]


class Tenant(Versioned, Base):
    """One customer. Deleting a tenant deletes all of its data and nothing else."""

    __tablename__ = "tenants"
    __table_args__ = (UniqueConstraint("slug"),)

    id: Mapped[UUID] = mapped_column(primary_key=True, default=new_id, server_default=text(NEW_ID))
    slug: Mapped[str] = mapped_column(Slug())
    name: Mapped[str] = mapped_column(Text(200))
    created_at: Mapped[datetime] = mapped_column(default=utcnow, server_default=text("clock_timestamp()"))
