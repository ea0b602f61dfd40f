"""What is remembered of a user and of a product: their columns, as values that cannot be changed."""

from __future__ import annotations

from datetime import datetime
from decimal import Decimal
from typing import Any
from uuid import UUID

import msgspec

from dataarch.caching.kinds import Kind
from dataarch.models import Product, User, UserProfile, UserSettings

__all__ = ["PRODUCT", "PROFILE", "ProductView", "ProfileView"]


class ProfileView(msgspec.Struct, frozen=True, kw_only=True):
    """A user with profile and settings. What comes from a row that the user has none of is None."""

    tenant_id: UUID
    id: UUID
    email: str | None
    external_id: str | None
    full_name: str
    created_at: datetime
    updated_at: datetime
    display_name: str | None
    bio: str | None
    avatar_url: str | None
    locale: str | None
    timezone: str | None
    preferences: Any


class ProductView(msgspec.Struct, frozen=True, kw_only=True):
    """A product; what is on hand of it changes with each sale, and is not remembered."""

    tenant_id: UUID
    id: UUID
    slug: str
    external_id: str | None
    name: str
    price: Decimal
    currency: str
    created_at: datetime
    updated_at: datetime


PROFILE = Kind("user_profile", ttl=3600.0, rows=(User, UserProfile, UserSettings), type=ProfileView)
"""What is shown of a user."""

PRODUCT = Kind("product", ttl=3600.0, rows=(Product,), type=ProductView)
"""What is shown of a product."""
