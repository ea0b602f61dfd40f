"""Versions of rows: who has read a row and writes it later is told when somebody else wrote it in between.

The database itself raises the version of a row that changes, whoever writes it: the ORM, a bulk statement or psql. An
update that changes nothing leaves it as it is.
"""

from __future__ import annotations

from typing import Any

from sqlalchemy import BigInteger, FetchedValue, MetaData, text
from sqlalchemy.orm import Mapped, declared_attr, mapped_column

from dataarch.models.declared import Function, Trigger, declare

__all__ = ["Versioned", "declare_versions"]

RAISE_VERSION = Function(
    "raise_version",
    "",
    "RETURNS trigger LANGUAGE plpgsql SET search_path = pg_catalog "
    "AS $$BEGIN NEW.version := OLD.version + 1; RETURN NEW; END$$",
)


class Versioned:
    """A row with a version: 1 when it is new, one more with each change.

    An object that is written through a session is written only if its row still has the version that was read; if not,
    :class:`~dataarch.errors.StaleRow` is raised and nothing is written.
    """

    version: Mapped[int] = mapped_column(
        BigInteger(), default=1, server_default=text("1"), server_onupdate=FetchedValue(), sort_order=100
    )

    @declared_attr.directive
    def __mapper_args__(cls) -> dict[str, Any]:  # noqa: N805  # a class's, as SQLAlchemy wants it
        return {"version_id_col": cls.version, "version_id_generator": False}


def declare_versions(metadata: MetaData) -> None:
    """Declare the trigger of every table that has versions, and the function that they call."""
    tables = [table for table in metadata.sorted_tables if "version" in table.columns]
    triggers = (
        Trigger(
            f"raise_version_of_{table.name}",
            table.name,
            "BEFORE UPDATE",
            "FOR EACH ROW WHEN (old.* IS DISTINCT FROM new.*) EXECUTE FUNCTION raise_version()",
        )
        for table in tables
    )
    declare(metadata, RAISE_VERSION, *triggers)
