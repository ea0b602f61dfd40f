"""The declarative base: one naming convention, and the CHECK that each type brings to its columns."""

from __future__ import annotations

from datetime import datetime
from typing import ClassVar
from uuid import UUID

from sqlalchemy import CheckConstraint, MetaData, Uuid, event
from sqlalchemy.orm import DeclarativeBase, Mapper
from uuid_utils.compat import uuid7

from dataarch.models.types import Checked, UtcDateTime

__all__ = ["NAMING_CONVENTION", "NEW_ID", "Base", "new_id"]

NAMING_CONVENTION = {
    "pk": "pk_%(table_name)s",
    "uq": "uq_%(table_name)s_%(column_0_N_name)s",
    "fk": "fk_%(table_name)s_%(referred_table_name)s",
    "ck": "ck_%(table_name)s_%(constraint_name)s",
    "ix": "ix_%(table_name)s_%(column_0_N_name)s",
}

NEW_ID = "uuid_v7()"
"""The SQL that makes an id where a row comes from elsewhere than Python."""


def new_id() -> UUID:
    """Return a new UUIDv7: unique, and in the order of its making (RFC 9562)."""
    return uuid7()


class Base(DeclarativeBase):
    """The root of all models; ``Base.metadata`` is what ``alembic check`` compares the database with."""

    metadata = MetaData(naming_convention=NAMING_CONVENTION)
    type_annotation_map: ClassVar = {UUID: Uuid(), datetime: UtcDateTime()}


@event.listens_for(Base, "instrument_class", propagate=True)
def _bring_checks(mapper: Mapper[Base], cls: type[Base]) -> None:  # noqa: ARG001  # the event's signature
    """Give each column of a checked type its CHECK, named after the column: ``ck_users_email_valid``."""
    table = cls.metadata.tables[cls.__tablename__]
    for column in table.columns:
        if isinstance(column.type, Checked):
            table.append_constraint(CheckConstraint(column.type.check(column.name), name=f"{column.name}_valid"))
