"""The user with profile and settings."""

from __future__ import annotations

from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import CheckConstraint, ForeignKeyConstraint, UniqueConstraint, text
from sqlalchemy.orm import Mapped, mapped_column, relationship

from dataarch.clock import utcnow
from dataarch.models.base import NEW_ID, Base, new_id
from dataarch.models.tenancy import TenantOwned
from dataarch.models.types import Email, Json, Text
from dataarch.models.versioning import Versioned

__all__ = ["User", "UserProfile", "UserSettings"]


class User(Versioned, TenantOwned, Base):
    """A person or account of one tenant, known by e-mail address, by the id of another system, or by both."""

    __tablename__ = "users"
    __table_args__ = (
        UniqueConstraint("tenant_id", "email"),
        UniqueConstraint("tenant_id", "external_id"),
        ForeignKeyConstraint(["tenant_id"], ["tenants.id"], ondelete="CASCADE"),
        CheckConstraint("email IS NOT NULL OR external_id IS NOT NULL", name="identified"),
    )

    id: Mapped[UUID] = mapped_column(primary_key=True, default=new_id, server_default=text(NEW_ID))
    email: Mapped[str | None] = mapped_column(Email())
    external_id: Mapped[str | None] = mapped_column(Text(200))
    full_name: Mapped[str] = mapped_column(Text(200))
    created_at: Mapped[datetime] = mapped_column(default=utcnow, server_default=text("clock_timestamp()"))
    updated_at: Mapped[datetime] = mapped_column(
        default=utcnow, onupdate=utcnow, server_default=text("clock_timestamp()")
    )

    profile: Mapped[UserProfile | None] = relationship(back_populates="user", passive_deletes=True, cascade="all")
    settings: Mapped[UserSettings | None] = relationship(back_populates="user", passive_deletes=True, cascade="all")


class UserProfile(Versioned, TenantOwned, Base):
    """What a user shows to others; at most one a user."""

    __tablename__ = "user_profiles"
    __table_args__ = (
        ForeignKeyConstraint(["tenant_id", "user_id"], ["users.tenant_id", "users.id"], ondelete="CASCADE"),
    )

    user_id: Mapped[UUID] = mapped_column(primary_key=True)
    display_name: Mapped[str | None] = mapped_column(Text(100))
    bio: Mapped[str | None] = mapped_column(Text(2000))
    avatar_url: Mapped[str | None] = mapped_column(Text(2000))

    user: Mapped[User] = relationship(back_populates="profile")


class UserSettings(Versioned, TenantOwned, Base):
    """What a user has chosen for himself; at most one a user."""

    __tablename__ = "user_settings"
    __table_args__ = (
        ForeignKeyConstraint(["tenant_id", "user_id"], ["users.tenant_id", "users.id"], ondelete="CASCADE"),
    )

    user_id: Mapped[UUID] = mapped_column(primary_key=True)
    locale: Mapped[str] = mapped_column(Text(35), default="en", server_default="en")
    timezone: Mapped[str] = mapped_column(Text(64), default="UTC", server_default="UTC")
    preferences: Mapped[Any] = mapped_column(Json(), default=dict, server_default=text("'{}'::jsonb"))

    user: Mapped[User] = relationship(back_populates="settings")
