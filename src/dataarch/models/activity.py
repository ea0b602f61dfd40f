"""The user activity log, partitioned by month of ``created_at`` in UTC."""

from __future__ import annotations

from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import ForeignKeyConstraint, Index, text
from sqlalchemy.orm import Mapped, mapped_column

from dataarch.clock import utcnow
from dataarch.models.base import NEW_ID, Base, new_id
from dataarch.models.partitioning import partitioned
from dataarch.models.tenancy import TenantOwned
from dataarch.models.types import Json, Text

__all__ = ["UserActivity"]


class UserActivity(TenantOwned, Base):
    """One thing that a user did.

    ``metadata_`` is the column ``metadata``: SQLAlchemy keeps the plain name for itself. The primary key ends with
    ``created_at`` because a unique constraint of a partitioned table must contain the partition key.
    """

    __tablename__ = "user_activity_log"
    __table_args__ = (
        ForeignKeyConstraint(["tenant_id", "user_id"], ["users.tenant_id", "users.id"], ondelete="CASCADE"),
        Index("idx_tenant_user_created", "tenant_id", "user_id", text("created_at DESC")),
        # dataarch: allow index-unusable-with-policies: find_activity() asks it, as the owner and for one tenant
        Index(
            "idx_metadata_gin",
            "metadata",
            postgresql_using="gin",
            postgresql_ops={"metadata": "jsonb_path_ops"},
        ),
        Index(
            "idx_active_users",
            "tenant_id",
            "user_id",
            postgresql_where=text("activity_type <> 'deleted'"),
        ),
        partitioned("created_at"),
    )

    id: Mapped[UUID] = mapped_column(primary_key=True, default=new_id, server_default=text(NEW_ID))
    user_id: Mapped[UUID]
    activity_type: Mapped[str] = mapped_column(Text(100))
    metadata_: Mapped[Any] = mapped_column("metadata", Json(), default=dict, server_default=text("'{}'::jsonb"))
    created_at: Mapped[datetime] = mapped_column(
        primary_key=True, default=utcnow, server_default=text("clock_timestamp()")
    )
