"""Where rows go: a tenant's table, the key that says which row is meant, and the columns that are given."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from sqlalchemy import (
    CheckConstraint,
    Column,
    Connection,
    Index,
    PrimaryKeyConstraint,
    Table,
    UniqueConstraint,
    Uuid,
    inspect,
)
from sqlalchemy.dialects import postgresql

from dataarch.database.row_keys import key_columns
from dataarch.database.tenancy import INTERNAL
from dataarch.errors import InvalidValue
from dataarch.models import Base, TenantOwned
from dataarch.models.base import NEW_ID
from dataarch.models.partitioning import partitioning_of

__all__ = [
    "NEVER_UPDATED",
    "Target",
    "Unique",
    "checks_of_database",
    "key_of",
    "made_in_python",
    "names_of",
    "table_written",
    "uniques",
]

CHECKS = """
SELECT conname, pg_catalog.pg_get_expr(conbin, conrelid) FROM pg_catalog.pg_constraint
WHERE conrelid = CAST(%s AS regclass) AND contype = 'c' AND conname <> ALL (%s) ORDER BY conname
"""

NEVER_UPDATED = "created_at"
"""The column that says since when a row is there."""


@dataclass(frozen=True, slots=True)
class Unique:
    """A constraint, or an index, that lets no two rows have the same values.

    Attributes:
        name: its own.
        columns: without the tenant.
        by_tenant: whether it holds within a tenant.
        primary: whether it is the primary key.
    """

    name: str
    columns: tuple[Column[Any], ...]
    by_tenant: bool
    primary: bool = False


@dataclass(frozen=True)
class Target:
    """What one portion of rows does to a table.

    Attributes:
        table: where they go.
        key: the columns that say which row is meant, without the tenant; none where every row is a new one.
        given: the columns that the rows have values for, without the tenant.
        says_tenant: whether the rows say whose they are.
        checks: name and condition of each CHECK that the database has and the model has not.
    """

    table: Table
    key: tuple[Column[Any], ...]
    given: tuple[Column[Any], ...]
    says_tenant: bool = False
    checks: tuple[tuple[str, str], ...] = ()

    @property
    def filled(self) -> tuple[Column[Any], ...]:
        """The columns that nobody gives, and that get their values in Python: the server has none for them."""
        return tuple(
            column
            for column in _writable(self.table)
            if column not in self.given and made_in_python(column) and column.server_default is None
        )

    @property
    def numbered(self) -> Column[Any] | None:
        """The column of ids that nobody gives, if there is one: each new row gets one."""
        free = (c for c in self.identity if c not in self.given and str(_server_default(c)) == NEW_ID)
        return next(free, None)

    @property
    def staged(self) -> tuple[Column[Any], ...]:
        """The columns that are written."""
        return self.given + self.filled

    @property
    def travelling(self) -> tuple[Column[Any], ...]:
        """The columns of the stage."""
        return ((self.table.columns["tenant_id"],) if self.says_tenant else ()) + self.staged

    @property
    def identity(self) -> tuple[Column[Any], ...]:
        """The primary key, without the tenant."""
        return key_columns(self.table)

    @property
    def id_column(self) -> Column[Any] | None:
        """The one column of the primary key that holds a UUID, if there is just one."""
        ids = [column for column in self.identity if isinstance(column.type, Uuid)]
        return ids[0] if len(ids) == 1 else None

    @property
    def changing(self) -> tuple[Column[Any], ...]:
        """The columns of a row that is there which get the values given; its id and its time of creation stay."""
        kept = {*self.key, *self.identity}
        return tuple(column for column in self.given if column not in kept and column.name != NEVER_UPDATED)

    @property
    def touched(self) -> tuple[Column[Any], ...]:
        """The columns of a row that is there which change because others do, as ``updated_at``."""
        return tuple(c for c in _writable(self.table) if c.onupdate is not None and c not in self.given)

    @property
    def required(self) -> tuple[Column[Any], ...]:
        """The columns that a new row must have, and that neither the caller nor a default gives."""
        return tuple(
            column
            for column in _writable(self.table)
            if not column.nullable
            and column not in self.staged
            and column.server_default is None
            and column.identity is None
            and column is not self.table.autoincrement_column
        )

    @property
    def others(self) -> tuple[Unique, ...]:
        """What else must be unique, as far as something of it is given."""
        return tuple(
            unique
            for unique in uniques(self.table)
            if set(unique.columns) != set(self.key) and not set(unique.columns).isdisjoint(self.given)
        )


def _writable(table: Table) -> Iterator[Column[Any]]:
    return (column for column in table.columns if column.computed is None and column.name != "tenant_id")


def _server_default(column: Column[Any]) -> Any:
    return getattr(column.server_default, "arg", None)


def made_in_python(column: Column[Any]) -> bool:
    """Return whether a column has a default that Python makes."""
    default: Any = column.default
    return default is not None and (default.is_callable or default.is_scalar)


def table_written(model: type[Base]) -> Table:
    """Return the table of a model whose rows belong to tenants.

    Raises:
        InvalidValue: it is no such model, or it has more than one table.
    """
    given: Any = model
    if not (isinstance(given, type) and issubclass(given, TenantOwned)):
        raise InvalidValue(
            f"{getattr(model, '__name__', model)!r} is no model whose rows belong to a tenant.",
            hint="Give a class that derives from TenantOwned and Base.",
        )
    mapper: Any = inspect(model)
    if len(mapper.tables) != 1:
        raise InvalidValue(
            f"{model.__name__} lies in {len(mapper.tables)} tables.", hint="Write each of them by itself."
        )
    table: Table = mapper.local_table
    return table


@lru_cache(maxsize=256)
def uniques(table: Table) -> tuple[Unique, ...]:
    """Return what must be unique in a table; the primary key first, then in the order of their names."""
    found = [_unique(one.name, one.columns, primary=False) for one in _constraints(table)]
    primary = _unique(table.primary_key.name, table.primary_key.columns, primary=True)
    return (primary, *sorted(found, key=lambda one: one.name))


def _constraints(table: Table) -> Iterator[UniqueConstraint | Index]:
    for constraint in table.constraints:
        if isinstance(constraint, UniqueConstraint) and not isinstance(constraint, PrimaryKeyConstraint):
            yield constraint
    for index in table.indexes:
        plain = all(isinstance(part, Column) for part in index.expressions)
        if index.unique and plain and index.dialect_options["postgresql"]["where"] is None:
            yield index


def _unique(name: Any, columns: Iterable[Column[Any]], *, primary: bool) -> Unique:
    all_of_them = tuple(columns)
    others = tuple(column for column in all_of_them if column.name != "tenant_id")
    return Unique(str(name), others, by_tenant=len(others) < len(all_of_them), primary=primary)


def key_of(model: type[Base], key: str | Sequence[str]) -> tuple[Column[Any], ...]:
    """Return the columns of a key, without the tenant.

    Raises:
        InvalidValue: no constraint lets only one row of a tenant have it, or the table is partitioned.
    """
    table = table_written(model)
    if partitioning_of(table) is not None:
        raise InvalidValue(
            f"{table.name} is partitioned: its rows are added, and never changed by a key.", hint="Use ingest()."
        )
    wanted = {key} if isinstance(key, str) else set(key)
    known = names_of(model)
    columns = {known[name].name for name in wanted - {"tenant_id"} if name in known}
    for unique in uniques(table):
        if (
            columns
            and unique.by_tenant
            and {column.name for column in unique.columns} == columns
            and wanted <= known.keys()
        ):
            return unique.columns
    keys = [", ".join(c.name for c in unique.columns) for unique in uniques(table) if unique.by_tenant]
    raise InvalidValue(
        f"No constraint of {table.name} lets only one row of a tenant have {', '.join(sorted(map(str, wanted)))}.",
        hint=f"Keys are: {'; '.join(keys)}.",
        table=table.name,
    )


@lru_cache(maxsize=256)
def names_of(model: type[Base]) -> dict[str, Column[Any]]:
    """Return the columns of a model by the names that rows may have for them: of attributes, and of columns."""
    mapper: Any = inspect(model)
    by_column = {column.name: column for column in mapper.local_table.columns}
    by_attribute = {prop.key: prop.columns[0] for prop in mapper.column_attrs}
    return {name: column for name, column in {**by_column, **by_attribute}.items() if column.computed is None}


def checks_of_database(connection: Connection, table: Table) -> tuple[tuple[str, str], ...]:
    """Return name and condition of each CHECK that the database has and the model has not, as psycopg leaves them."""
    known = [str(one.name) for one in table.constraints if isinstance(one, CheckConstraint)]
    dialect = postgresql.dialect()  # type: ignore[no-untyped-call]  # SQLAlchemy's own
    name = str(dialect.identifier_preparer.format_table(table))
    found = connection.exec_driver_sql(CHECKS, (name, known), execution_options={INTERNAL: True})
    return tuple((check, condition.replace("%", "%%")) for check, condition in found)
