"""dataarch itself: as the application role with its policies, and as the owner where it has that way."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import ExitStack

from benchmarks.repositories.peers_ground import WANTED, Ground
from benchmarks.repositories.peers_measure import Way, by, needed
from dataarch import Database
from dataarch.models import Product
from dataarch.repositories import ActivityQueries

__all__ = ["ingest", "latest", "upsert"]

NOT_YET = "not in this version"


def ingest(stack: ExitStack, ground: Ground) -> Sequence[Way]:
    """Ingest, as both roles."""
    ingest_rows = needed("dataarch.repositories.bulk.ingest", NOT_YET).ingest
    db = stack.enter_context(Database(ground.settings))

    def as_application() -> None:
        with db.tenant(ground.tenant_id) as session:
            ingest_rows(session, ground.rows)

    def as_owner() -> None:
        with db.owner() as session:
            ingest_rows(session, ground.rows)

    return [by("dataarch, ingest", as_application, policies=True), by("dataarch, ingest as the owner", as_owner)]


def latest(stack: ExitStack, ground: Ground) -> Sequence[Way]:
    """The latest of a user, as objects and as rows, inside of an open unit of work."""
    db = stack.enter_context(Database(ground.settings))
    session = stack.enter_context(db.tenant(ground.tenant_id))
    queries = ActivityQueries(session)

    def objects() -> object:
        session.expunge_all()
        return queries.latest(ground.user_id, WANTED)

    def rows() -> object:
        return queries.latest_rows(ground.user_id, WANTED)

    return [by("dataarch, latest: objects", objects, policies=True), by("dataarch, latest_rows", rows, policies=True)]


def upsert(stack: ExitStack, ground: Ground) -> Sequence[Way]:
    """upsert_many, which says of each row what became of it."""
    upsert_many = needed("dataarch.repositories.bulk.upsert", NOT_YET).upsert_many
    db = stack.enter_context(Database(ground.settings))

    def upserted() -> None:
        with db.tenant(ground.tenant_id) as session:
            upsert_many(session, Product, ground.rows, key="external_id")

    return [by("dataarch, upsert_many", upserted, policies=True)]
