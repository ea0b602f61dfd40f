"""advanced-alchemy: its repositories, on dataarch's models and plain sessions of the owner."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import ExitStack
from typing import Any

from sqlalchemy.orm import Session

from benchmarks.repositories.peers_ground import WANTED, Ground
from benchmarks.repositories.peers_measure import Way, by, needed
from benchmarks.repositories.peers_sqlalchemy import activity, opened
from dataarch.models import Base, Product, UserActivity

__all__ = ["ingest", "latest", "upsert"]


def _repository(model: type[Base]) -> Any:
    base = needed("advanced_alchemy.repository").SQLAlchemySyncRepository
    return type(base)(f"{model.__name__}Repository", (base,), {"model_type": model})


def ingest(stack: ExitStack, ground: Ground) -> Sequence[Way]:
    """add_many."""
    repository = _repository(UserActivity)
    engine = opened(stack, ground)

    def added() -> None:
        with Session(engine) as session, session.begin():
            repository(session=session).add_many([activity(row) for row in ground.rows])

    return [by("advanced-alchemy, add_many", added)]


def latest(stack: ExitStack, ground: Ground) -> Sequence[Way]:
    """get_many with an order and a limit."""
    session = stack.enter_context(Session(opened(stack, ground)))
    repository = _repository(UserActivity)(session=session)
    filters = needed("advanced_alchemy.filters")

    def objects() -> object:
        session.expunge_all()
        return repository.get_many(
            filters.OrderBy("created_at", "desc"),
            filters.LimitOffset(WANTED, 0),
            tenant_id=ground.tenant_id,
            user_id=ground.user_id,
        )

    return [by("advanced-alchemy, objects", objects)]


def upsert(stack: ExitStack, ground: Ground) -> Sequence[Way]:
    """upsert_many by the key of the constraint."""
    repository = _repository(Product)
    engine = opened(stack, ground)

    def upserted() -> None:
        with Session(engine) as session, session.begin():
            rows = [Product(**row) for row in ground.rows]
            repository(session=session).upsert_many(rows, match_fields=["tenant_id", "external_id"])

    return [by("advanced-alchemy, upsert_many", upserted)]
