"""Tenants by their slugs, made where there is none yet."""

from __future__ import annotations

from uuid import UUID

from sqlalchemy import bindparam, func, select

from dataarch.database.unit_of_work import Database
from dataarch.errors import SlugTaken
from dataarch.models import Tenant
from dataarch.models.base import new_id
from dataarch.models.types import Slug

__all__ = ["find_tenant", "tenant_of"]


def find_tenant(db: Database, slug: str) -> UUID | None:
    """Return the id of the tenant with this slug, if there is one; raises :class:`InvalidSlug` where none can be."""
    with db.session() as session:
        found: UUID | None = session.scalar(select(func.find_tenant(bindparam("slug", slug, type_=Slug()))))
    return found


def tenant_of(db: Database, slug: str, name: str) -> UUID:
    """Return the id of the tenant with this slug, made if there is none yet. Safe to run at the same time."""
    found = find_tenant(db, slug)
    if found is not None:
        return found
    made = new_id()
    try:
        with db.tenant(made) as session:
            session.add(Tenant(id=made, slug=slug, name=name))
    except SlugTaken:
        # somebody else made it in between
        if (found := find_tenant(db, slug)) is None:
            raise
        return found
    return made
