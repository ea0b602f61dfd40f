"""Records from a list, read as an extractor reads a file: batch by batch, from any position on."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from hashlib import sha256
from threading import Event
from typing import Any
from uuid import UUID

from dataarch.database.unit_of_work import Database, TenantSession
from dataarch.errors import FeedError, InvalidValue
from dataarch.models import Base, Product, Tenant
from dataarch.models.base import new_id
from dataarch.pipelines.loaders.upsert import Upsert
from dataarch.pipelines.pipeline import Loaded, Loader, Pipeline, TenantName
from dataarch.pipelines.records import Batch, Position, Reject, Row, Source, Stage, each
from dataarch.pipelines.tenants import find_tenant

CUT_OFF = "cut off"
"""Stands in a list where its source cannot be read any further."""


@dataclass(frozen=True)
class Listed:
    """Reads lists of records by name; text is what no record could be made of."""

    def sources(self, given: Mapping[str, Sequence[Any]]) -> list[Source]:
        return [Source(name, list(rows)) for name, rows in given.items()]

    def resume(self, source: Source, position: Position) -> Position:
        return position if digest(source.place[: position.records]) == position.checksum else Position()

    def read(self, source: Source, position: Position, size: int) -> Iterator[Batch]:
        records = [one for one in source.place if one is not CUT_OFF]
        before = position
        while True:
            some = records[before.records : before.records + size]
            done = before.records + len(some)
            end = done == len(records) and CUT_OFF not in source.place
            after = Position(done, 0, digest(records[:done]), end=end)
            numbers = range(before.records + 1, done + 1)
            good = [(number, row) for number, row in zip(numbers, some, strict=True) if isinstance(row, dict)]
            bad = [
                Reject(number, Stage.EXTRACT, "It is no record.", row)
                for number, row in zip(numbers, some, strict=True)
                if isinstance(row, str)
            ]
            rows: list[Row] = [row for _, row in good]
            yield Batch(source, before, after, rows, [number for number, _ in good], rows, bad)
            before = after
            if done == len(records):
                break
        if CUT_OFF in source.place:
            raise FeedError(f"The source {source.name} is cut off.", source=source.name, line=done + 1)

    def parse(self, text: str) -> Row:
        try:
            return dict(json.loads(text))
        except ValueError:
            raise InvalidValue("It is still no record.") from None


def digest(records: Sequence[Any]) -> str:
    return sha256(b"".join(json.dumps(one).encode() for one in records)).hexdigest()


def product(number: int, **changed: Any) -> dict[str, Any]:
    """Return the record of a product."""
    return {
        "external_id": f"T{number}",
        "slug": f"tea-{number}",
        "name": f"Tea {number}",
        "price": 995,
        "currency": "GBP",
        **changed,
    }


def pipeline(name: str = "products", load: Loader | None = None, **given: Any) -> Pipeline:
    """Return a pipeline of listed records into products."""
    return Pipeline(name, Listed(), (), load or Upsert(Product, key="external_id"), **given)


def by_shop(row: Row) -> TenantName:
    """Return the tenant of a record that says which shop it is of."""
    if not row["shop"]:
        raise InvalidValue("A record without a shop belongs to nobody.", column="shop")
    return TenantName(row["shop"], row["shop"].title())


class OfShops(Upsert):
    """Upserts products without their shop, which is no column."""

    def load(self, session: TenantSession, rows: Sequence[Row]) -> Loaded:
        return super().load(session, [{name: value for name, value in row.items() if name != "shop"} for row in rows])


class LostFor(OfShops):
    """Is stopped while it loads for one tenant; which one is said later, as it may not be there yet."""

    def __init__(self, db: Database, slug: str) -> None:
        super().__init__(Product, key="external_id")
        self.db, self.slug = db, slug

    def load(self, session: TenantSession, rows: Sequence[Row]) -> Loaded:
        if session.tenant_id == find_tenant(self.db, self.slug):
            raise RuntimeError("The process is killed.")
        return super().load(session, rows)


class Late(LostFor):
    """Is killed when it loads for one tenant; that what it had loaded for others is committed takes a while."""

    def __init__(self, db: Database, slug: str) -> None:
        super().__init__(db, slug)
        self.loaded, self.commits = Event(), Event()

    def load(self, session: TenantSession, rows: Sequence[Row]) -> Loaded:
        loaded = super().load(session, rows)
        self.loaded.set()
        assert self.commits.wait(30)
        return loaded


def shops(name: str = "shops") -> Pipeline:
    """Return a pipeline whose records say which tenant they are of."""
    return pipeline(name, load=OfShops(Product, key="external_id"), tenant_by=by_shop)


def cheap(row: Row) -> Row:
    if row["price"] > 1000:
        raise InvalidValue("It is dear.", column="price")
    return row


def only_cheap(batch: Batch) -> Batch:
    """Reject what costs more than 1,000: a step that is mended later."""
    return each(batch, Stage.VALIDATE, cheap)


def home(db: Database, slug: str = "acme") -> UUID:
    """Make a tenant."""
    tenant_id = new_id()
    with db.tenant(tenant_id) as session:
        session.add(Tenant(id=tenant_id, slug=f"{slug}-{tenant_id.hex[-12:]}", name=slug))
    return tenant_id


def name_of(db: Database, tenant_id: UUID) -> TenantName:
    """Return what a record says that belongs to a tenant."""
    with db.tenant(tenant_id) as session:
        tenant = session.get_one(Tenant, tenant_id)
        return TenantName(tenant.slug, tenant.name)


def stored(db: Database, tenant_id: UUID, model: type[Base], *names: str) -> list[tuple[Any, ...]]:
    """Return columns of all rows of a tenant, in order."""
    with db.tenant(tenant_id) as session:
        columns = [getattr(model, name) for name in names]
        return sorted(tuple(row) for row in session.query(*columns))
