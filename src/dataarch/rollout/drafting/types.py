"""Types as SQL says them, and as SQLAlchemy has them."""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, inspect, text
from sqlalchemy.dialects import postgresql
from sqlalchemy.exc import CompileError, DBAPIError, SAWarning
from sqlalchemy.types import Enum, NullType, TypeEngine

from dataarch.database.scratch import scratch
from dataarch.errors import DataArchError, InvalidChange
from dataarch.rollout.backfill.shape import AS_TEXT
from dataarch.rollout.operations.statements import verbatim

__all__ = ["COLLATED", "FULL_TYPE", "Kind", "kind_of", "said_by", "tidy"]

COLLATED = """CASE WHEN attcollation = 0 THEN NULL
    WHEN attcollation = (SELECT typcollation FROM pg_type WHERE pg_type.oid = atttypid) THEN ''
    ELSE ' COLLATE ' || attcollation::regcollation::text END"""
"""What SQL says of the collation of a column of ``pg_attribute``: nothing where it is the type's own."""

FULL_TYPE = f"concat(format_type(atttypid, atttypmod), {COLLATED})"
"""The type of such a column as SQL writes it, with its collation."""

HOME = text("SELECT nspname FROM pg_namespace WHERE oid = pg_my_temp_schema()")

FORM = text(
    f"""
    SELECT {FULL_TYPE}, {COLLATED}, {AS_TEXT}, pg_relation_filenode(attrelid)
    FROM pg_attribute WHERE attrelid = 'pg_temp.dataarch_type'::regclass AND attname = 'value'
    """
)

FILE = text("SELECT pg_relation_filenode('pg_temp.dataarch_type'::regclass)")


@dataclass(frozen=True, slots=True)
class Kind:
    """A type, as the server understands what was written.

    Attributes:
        kind: as the server writes it, with its collation where that is another than the type's own.
        type: the same for SQLAlchemy; NullType where it does not know it.
        collated: what SQL says of its collation: nothing where it is the type's own; None where it can have none.
        as_text: whether its values can only be compared as text.
        rewrites: whether a table with rows is written anew for a column of this type and this default.
    """

    kind: str
    type: TypeEngine[Any]
    collated: str | None
    as_text: bool
    rewrites: bool


def kind_of(connection: Connection, written: str, default: str | None = None) -> Kind:
    """Return what the server makes of a type, and of a default where one is given.

    It is asked, not predicted: an empty temporary table is given such a column, and undone.

    Raises:
        InvalidChange: there is no such type, or the default does not fit it.
    """
    said = written.strip()
    given = "" if default is None else f" DEFAULT {default}"
    with scratch(connection):
        try:
            connection.execute(text("CREATE TEMPORARY TABLE dataarch_type ()"))
            before = connection.scalar(FILE)
            connection.execute(verbatim(f"ALTER TABLE pg_temp.dataarch_type ADD COLUMN value {said}{given}"))
        except (DBAPIError, DataArchError) as error:
            what = f"{said}{given}"
            raise InvalidChange(
                f"A column cannot be {what!r}: {said_by(error)}.",
                hint="Write the type and the default as SQL has them, for example: timestamptz, --default 'now()'.",
                value=what,
            ) from error
        kind, collated, as_text, after = connection.execute(FORM).one()
        return Kind(kind, tidy(_reflected(connection), collated), collated, as_text, rewrites=before != after)


def tidy(found: TypeEngine[Any], collated: str | None) -> TypeEngine[Any]:
    """Return a type as people write it in a revision, ``sa.Text()`` and not ``sa.TEXT()``; NullType for what is unsure.

    Enumerations and domains are types of the database's own: SQLAlchemy would write their definition once more. Of a
    collation it does not know the schema.
    """
    inner = getattr(found, "item_type", found)
    if isinstance(inner, Enum | postgresql.DOMAIN) or collated:
        return NullType()
    try:
        generic = found.as_generic()
        return generic if _ddl(generic) == _ddl(found) else found
    except (NotImplementedError, CompileError):
        return found


def said_by(error: DBAPIError | DataArchError) -> str:
    """Return what the server said, on one line."""
    said = error.message if isinstance(error, DataArchError) else str(error.orig)
    return said.splitlines()[0].rstrip(".")


def _reflected(connection: Connection) -> TypeEngine[Any]:
    with warnings.catch_warnings():
        # a type that SQLAlchemy does not know is no reason to stop
        warnings.simplefilter("ignore", SAWarning)
        (column,) = inspect(connection).get_columns("dataarch_type", schema=connection.scalar(HOME))
    return column["type"]


def _ddl(one: TypeEngine[Any]) -> str:
    return one.compile(dialect=postgresql.dialect())  # type: ignore[no-untyped-call]
