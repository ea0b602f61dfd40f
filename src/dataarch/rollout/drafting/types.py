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
from dataarch.rollout.operations.statements import verbatim

__all__ = ["Kind", "kind_of", "said_by", "tidy"]

HOME = text("SELECT nspname FROM pg_namespace WHERE oid = pg_my_temp_schema()")

FORM = text(
    """
    SELECT format_type(atttypid, atttypmod), pg_relation_filenode(attrelid)
    FROM pg_attribute WHERE attrelid = 'pg_temp.dataarch_type'::regclass AND attname = 'value'
    """
)

FILE = text("SELECT pg_relation_filenode('pg_temp.dataarch_type'::regclass)")


@dataclass(frozen=True, slots=True)
class Kind:
    """A type, as the server understands what was written.

    Attributes:
        kind: as the server writes it.
        type: the same for SQLAlchemy; NullType where it does not know it.
        rewrites: whether a table with rows is written anew for a column of this type and this default.
    """

    kind: str
    type: TypeEngine[Any]
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
        kind, after = connection.execute(FORM).one()
        return Kind(str(kind), _reflected(connection), bool(before != after))


def tidy(found: TypeEngine[Any]) -> TypeEngine[Any]:
    """Return a type as people write it in a revision, ``sa.Text()`` and not ``sa.TEXT()``; NullType for what is unsure.

    Enumerations and domains are types of the database's own: SQLAlchemy would write their definition once more.
    """
    inner = getattr(found, "item_type", found)
    if isinstance(inner, Enum | postgresql.DOMAIN):
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
    return tidy(column["type"])


def _ddl(one: TypeEngine[Any]) -> str:
    return one.compile(dialect=postgresql.dialect())  # type: ignore[no-untyped-call]
