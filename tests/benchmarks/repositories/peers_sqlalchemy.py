"""SQLAlchemy without dataarch: plain sessions and connections of the owner, on dataarch's models."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import ExitStack
from typing import Any

from sqlalchemy import Engine, Insert, Table, create_engine, select
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.orm import Session

from benchmarks.repositories.peers_ground import UPDATED, WANTED, Ground
from benchmarks.repositories.peers_measure import Way, by
from dataarch.models import Base, Product, UserActivity

__all__ = ["activity", "ingest", "latest", "opened", "upsert"]

ACTIVITIES: Table = Base.metadata.tables["user_activity_log"]
PRODUCTS: Table = Base.metadata.tables["products"]


def opened(stack: ExitStack, ground: Ground) -> Engine:
    """Return an engine as anybody makes one."""
    engine = create_engine(ground.settings.owner)
    stack.callback(engine.dispose)
    return engine


def activity(row: dict[str, Any]) -> UserActivity:
    """Return a row as an object."""
    given = dict(row)
    return UserActivity(metadata_=given.pop("metadata"), **given)


def ingest(stack: ExitStack, ground: Ground) -> Sequence[Way]:
    """The ORM's unit of work, and Core: by the driver's executemany, and by INSERT of many rows, as RETURNING needs."""
    engine = opened(stack, ground)

    def added() -> None:
        with Session(engine) as session, session.begin():
            session.add_all([activity(row) for row in ground.rows])

    def executed(statement: Any) -> None:
        with engine.begin() as connection:
            connection.execute(statement, ground.rows)

    one_by_one = insert(ACTIVITIES)
    return [
        by("SQLAlchemy ORM, add_all", added),
        by("SQLAlchemy Core, insert()", lambda: executed(one_by_one)),
        by(
            "SQLAlchemy Core, insert() by insertmanyvalues",
            lambda: executed(one_by_one.returning(ACTIVITIES.c.id)),
        ),
    ]


def latest(stack: ExitStack, ground: Ground) -> Sequence[Way]:
    """The plain statement, as objects and as rows."""
    engine = opened(stack, ground)
    session = stack.enter_context(Session(engine))
    connection = stack.enter_context(engine.connect())

    def objects() -> object:
        session.expunge_all()
        mine = select(UserActivity).where(
            UserActivity.tenant_id == ground.tenant_id, UserActivity.user_id == ground.user_id
        )
        return session.scalars(mine.order_by(UserActivity.created_at.desc()).limit(WANTED)).all()

    def rows() -> object:
        mine = select(ACTIVITIES).where(
            ACTIVITIES.c.tenant_id == ground.tenant_id, ACTIVITIES.c.user_id == ground.user_id
        )
        return connection.execute(mine.order_by(ACTIVITIES.c.created_at.desc()).limit(WANTED)).all()

    return [by("SQLAlchemy ORM, objects", objects), by("SQLAlchemy Core, rows", rows)]


def upsert(stack: ExitStack, ground: Ground) -> Sequence[Way]:
    """ON CONFLICT for many parameter sets, with and without the multi-row INSERT."""
    engine = opened(stack, ground)
    statement = _on_conflict()

    def executed(statement: Any) -> None:
        with engine.begin() as connection:
            connection.execute(statement, ground.rows)

    returning = statement.returning(PRODUCTS.c.id)
    return [
        by("SQLAlchemy Core, on_conflict_do_update", lambda: executed(statement)),
        by("SQLAlchemy Core, the same by insertmanyvalues", lambda: executed(returning)),
    ]


def _on_conflict() -> Insert:
    statement = insert(Product)
    return statement.on_conflict_do_update(
        index_elements=["tenant_id", "external_id"], set_={name: statement.excluded[name] for name in UPDATED}
    )
