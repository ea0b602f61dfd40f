"""Doors to a database and its cache, other ways to it, and looks behind them."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from uuid import UUID

from sqlalchemy import select, text, update

from caching.redis_servers import OwnRedis
from dataarch.caching.database import Database
from dataarch.caching.entity_views import PRODUCT, PROFILE
from dataarch.caching.kinds import Kind
from dataarch.caching.near_cache import MOST, NearCache
from dataarch.caching.region import Region
from dataarch.models import User
from dataarch.models.base import new_id
from database.wire import Proxy
from fixtures.caches import opened, quicken, until
from fixtures.catalogs import owner_connection
from fixtures.tenants import Inhabited


@contextmanager
def near_door(db: Database, *, bound: float = 1.0, most: int = MOST, **changes: object) -> Iterator[Database]:
    """Open a further door to the same database and cache, which keeps profiles and products near."""
    with Database(db.settings.model_copy(update=changes)) as door:
        door.cache.keep_near(PROFILE.name, PRODUCT.name, most=most, bound=bound)
        yield opened(door)


def kept(db: Database) -> NearCache:
    assert db.cache.fencing.near is not None
    return db.cache.fencing.near


def name_of(db: Database, home: Inhabited) -> str | None:
    profile = db.cache.profiles.get(home.id, home.user_id)
    return None if profile is None else profile.full_name


def rename(db: Database, home: Inhabited, name: str) -> None:
    with db.tenant(home.id) as session:
        session.execute(update(User).where(User.id == home.user_id).values(full_name=name))


def behind_its_back(db: Database, home: Inhabited, name: str) -> None:
    """Change a name so that no cache hears of it."""
    with owner_connection(db.settings) as connection:
        connection.execute("UPDATE users SET full_name = %s WHERE id = %s", [name, home.user_id])


def served_near(db: Database, home: Inhabited) -> str | None:
    """Return a name that came from the near cache, as soon as one does."""
    found: list[str | None] = []

    def hit() -> bool:
        before = kept(db).hits
        found.append(name_of(db, home))
        return kept(db).hits > before

    until(hit, "a hit in the near cache")
    return found[-1]


def shelf_of(db: Database) -> Any:
    shelf = kept(db)._shelf
    assert shelf is not None
    return shelf


@contextmanager
def on(own: OwnRedis, settings: Any) -> Iterator[Database]:
    """Open a database whose cache is a server of the test's own."""
    quicken(settings)
    with Database(settings.model_copy(update={"redis_url": own.url})) as db:
        db.cache.keep_near(PROFILE.name)
        yield opened(db)


@contextmanager
def through(cached: Database, **changes: object) -> Iterator[Database]:
    """Open the same database and cache, reached another way."""
    with Database(cached.settings.model_copy(update={"prepare_threshold": None, **changes})) as db:
        yield opened(db)


def questions(wire: Proxy) -> list[bytes]:
    """Return the statements that asked for users or products."""
    return [sent for sent in wire.texts if b"FROM users" in sent or b"FROM products" in sent]


def add_products(db: Database, home: Inhabited, count: int) -> list[UUID]:
    ids = [new_id() for _ in range(count)]
    with db.tenant(home.id) as session:
        session.execute(
            text(
                "INSERT INTO products (tenant_id, id, slug, name, price, currency)"
                " SELECT :tenant, id, 'p-' || n, 'Product ' || n, n, 'GBP'"
                " FROM unnest(CAST(:ids AS uuid[])) WITH ORDINALITY AS u (id, n)"
            ),
            {"tenant": home.id, "ids": ids},
        )
    return ids


class UserNames:
    """What users are called, remembered under a kind; counts how often the database was asked."""

    def __init__(self, db: Database, kind: Kind) -> None:
        self.db = db
        self.region: Region = db.cache.define(kind)
        opened(db)
        self.asked = 0

    def read(self, tenant: UUID, user: UUID) -> str | None:
        self.asked += 1
        with self.db.tenant(tenant) as session:
            return session.scalar(select(User.full_name).where(User.id == user))

    def get(self, tenant: UUID, user: UUID) -> str | None:
        found: str | None = self.region.get_or_create(
            self.region.key(user, tenant=tenant), self.read, creator_args=((tenant, user), {})
        )
        return found
