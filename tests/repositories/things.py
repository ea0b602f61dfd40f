"""A tenant's table with columns of every kind of order: ties, NULLs, and texts that Python would sort otherwise."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from decimal import Decimal
from typing import Any
from uuid import UUID

from sqlalchemy import BigInteger, Boolean, Double, Engine, Index, String, event, select
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column, relationship

from dataarch.database.settings import APP_ROLE
from dataarch.database.unit_of_work import Database
from dataarch.models.tenancy import TenantOwned, policy_expression
from dataarch.models.types import Email, Money, UtcDateTime
from dataarch.repositories.pages import Page, read_page

NUMBER_TYPES = {datetime: UtcDateTime(), Decimal: Money(least=-(10**9)), float: Double(), str: String()}


class Thinking(DeclarativeBase):
    """The root of models of tests alone."""

    type_annotation_map = NUMBER_TYPES


class Thing(TenantOwned, Thinking):
    """A thing; ``colour`` and ``size`` are never NULL, and ``email`` may hold what its type would refuse."""

    __tablename__ = "things"
    __table_args__ = (
        Index("ix_things_size", "tenant_id", "size", "id"),
        Index("ix_things_colour", "tenant_id", "colour", "number", "id"),
        Index("ix_things_number", "tenant_id", "number", "id"),
        Index("ix_things_status", "tenant_id", "status", "size", "id"),
    )

    id: Mapped[int] = mapped_column(BigInteger, primary_key=True, autoincrement=False)
    colour: Mapped[str]
    size: Mapped[int]
    status: Mapped[bool] = mapped_column(Boolean, server_default="true")
    name: Mapped[str | None]
    number: Mapped[int | None]
    price: Mapped[Decimal | None]
    seen: Mapped[datetime | None]
    weight: Mapped[float | None]
    email: Mapped[str | None] = mapped_column(Email())
    parent: Mapped[UUID | None]

    parts: Mapped[list[Part]] = relationship(primaryjoin="Thing.id == foreign(Part.thing_id)", viewonly=True)


class Part(TenantOwned, Thinking):
    """A part of a thing."""

    __tablename__ = "parts"

    id: Mapped[int] = mapped_column(BigInteger, primary_key=True, autoincrement=False)
    thing_id: Mapped[int] = mapped_column(BigInteger)


def furnish(db: Database) -> None:
    """Make the tables, as the application sees them: with the policy."""
    with db.owner() as session:
        connection = session.connection()
        Thinking.metadata.create_all(connection)
        if connection.exec_driver_sql("SELECT to_regcollation('\"und-x-icu\"')").scalar() is not None:
            # the order of a language, which is none that Python knows
            connection.exec_driver_sql('ALTER TABLE things ALTER colour TYPE varchar COLLATE "und-x-icu"')
        for table in Thinking.metadata.tables:
            condition = policy_expression("tenant_id")
            connection.exec_driver_sql(f"ALTER TABLE {table} ENABLE ROW LEVEL SECURITY")
            connection.exec_driver_sql(
                f"CREATE POLICY tenant_isolation ON {table} USING ({condition}) WITH CHECK ({condition})"
            )
            connection.exec_driver_sql(f"GRANT SELECT, INSERT, UPDATE, DELETE ON {table} TO {APP_ROLE}")


def walk(session: Session, statement: Any, **given: Any) -> list[Page[Any]]:
    """Return all pages, from the first to the last."""
    pages = [read_page(session, statement, **given)]
    while pages[-1].next is not None:
        assert len(pages) < 1000, "the list has no end"
        pages.append(read_page(session, statement, cursor=pages[-1].next, **given))
    return pages


def walk_back(session: Session, statement: Any, cursor: str, **given: Any) -> list[Page[Any]]:
    """Return all pages before a cursor, from the last to the first."""
    pages = [read_page(session, statement, cursor=cursor, **given)]
    while pages[-1].previous is not None:
        assert len(pages) < 1000, "the list has no beginning"
        pages.append(read_page(session, statement, cursor=pages[-1].previous, **given))
    return pages


def mine(*columns: Any) -> Any:
    """Select things."""
    return select(*columns or (Thing,))


@contextmanager
def statements(session: Session) -> Iterator[list[str]]:
    """Collect the SELECTs that are sent."""
    sent: list[str] = []

    def note(_connection: object, _cursor: object, statement: str, *_rest: object) -> None:
        if statement.startswith("SELECT"):
            sent.append(statement)

    session.connection()
    # of every engine: a connection has no events of its own in SQLAlchemy 2.0
    event.listen(Engine, "before_cursor_execute", note)
    try:
        yield sent
    finally:
        event.remove(Engine, "before_cursor_execute", note)
