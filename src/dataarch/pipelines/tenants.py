"""Tenants by their slugs, made where there is none yet."""

from __future__ import annotations

from uuid import UUID

from sqlalchemy import func, select

from dataarch.database.unit_of_work import Database
from dataarch.errors import SlugTaken
from dataarch.models import Tenant
from dataarch.models.base import new_id

__all__ = ["tenant_of"]


def tenant_of(db: Database, slug: str, name: str) -> UUID:
    """Return the id of the tenant with this slug, made if there is none yet. Safe to run at the same time."""
    find = select(func.find_tenant(slug))
    with db.session() as session:
        found: UUID | None = session.scalar(find)
    if found is not None:
        return found
    made = new_id()
    try:
        with db.tenant(made) as session:
            session.add(Tenant(id=made, slug=slug, name=name))
    except SlugTaken:
        # somebody else made it in between
        with db.session() as session:
            return UUID(str(session.scalars(find).one()))
    return made
