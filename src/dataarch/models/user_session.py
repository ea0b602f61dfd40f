"""Users who are signed in."""

from __future__ import annotations

from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import CheckConstraint, ForeignKeyConstraint, Index, text
from sqlalchemy.orm import Mapped, mapped_column

from dataarch.clock import utcnow
from dataarch.models.base import Base
from dataarch.models.tenancy import TenantOwned
from dataarch.models.types import Json, Sha256

__all__ = ["UserSession"]


class UserSession(TenantOwned, Base):
    """A user who is signed in somewhere; whoever has the token is taken for the user.

    The token itself is nowhere, only its hash: who reads this table can sign in as nobody. ``seen_at`` is when the
    session was last touched; it is in no index, so that a touch writes none.
    """

    __tablename__ = "user_sessions"
    __table_args__ = (
        ForeignKeyConstraint(["tenant_id", "user_id"], ["users.tenant_id", "users.id"], ondelete="CASCADE"),
        CheckConstraint("expires_at > created_at", name="expires_after_creation"),
        Index(None, "tenant_id", "user_id"),
    )

    token_hash: Mapped[str] = mapped_column(Sha256(), primary_key=True)
    user_id: Mapped[UUID]
    data: Mapped[Any] = mapped_column(Json(), default=dict, server_default=text("'{}'::jsonb"))
    created_at: Mapped[datetime] = mapped_column(default=utcnow, server_default=text("clock_timestamp()"))
    seen_at: Mapped[datetime] = mapped_column(default=utcnow, server_default=text("clock_timestamp()"))
    expires_at: Mapped[datetime]
