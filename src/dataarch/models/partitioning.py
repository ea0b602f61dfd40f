"""How a model says that it is partitioned by time; :mod:`dataarch.partitions` makes and retires the partitions."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from sqlalchemy import Table
from sqlalchemy.dialects import postgresql

from dataarch.clock import Grain
from dataarch.errors import InvalidPartitioning

__all__ = ["Partitioning", "Policy", "partitioned", "partitioning_of", "table_of"]

KEY = "dataarch_partitioning"

QUOTE: Callable[[str], str] = postgresql.dialect().identifier_preparer.quote  # type: ignore[no-untyped-call]  # SQLAlchemy's
"""Puts a name in double quotes where PostgreSQL needs them."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Policy:
    """Which partitions there should be.

    Attributes:
        premake: periods made before they begin, counted from the present one, so that making one is never urgent.
        keep: whole periods that stay behind the present one; None keeps all. Older ones are retired.
        archive: whether a retired partition is written to a Parquet file.
        drop: whether a retired partition is dropped, once it is archived where it should be; otherwise it stays as a
            table of its own.

    Raises:
        InvalidPartitioning: a negative number.
    """

    premake: int = 12
    keep: int | None = None
    archive: bool = True
    drop: bool = True

    def __post_init__(self) -> None:
        for name, value in (("premake", self.premake), ("keep", self.keep)):
            if value is not None and value < 0:
                raise InvalidPartitioning(f"A partition policy cannot have {name} = {value}.", value=value)


@dataclass(frozen=True, slots=True)
class Partitioning:
    """A table's partitions: one a period of ``column``, and catch-alls by range for every other instant."""

    column: str
    grain: Grain = Grain.MONTH
    policy: Policy = field(default_factory=Policy)

    @property
    def partition_by(self) -> str:
        """What follows ``PARTITION BY`` in the table's definition."""
        return f"RANGE ({QUOTE(self.column)})"


def partitioned(column: str, *, grain: Grain = Grain.MONTH, policy: Policy | None = None) -> dict[str, Any]:
    """Return the table arguments that partition a model by the period of a column, in UTC.

    The last item of ``__table_args__``, or the keyword arguments of a :class:`~sqlalchemy.Table`.

    Args:
        column: name of a NOT NULL column of type timestamptz (or date, or timestamp, read as UTC); it belongs to the
            primary key and to every unique constraint, as PostgreSQL demands of partitioned tables.
        grain: how long each period is.
        policy: which partitions there should be; by default 12 periods ahead, and none is ever retired.
    """
    partitioning = Partitioning(column, Grain(grain), policy or Policy())
    return {"postgresql_partition_by": partitioning.partition_by, "info": {KEY: partitioning}}


def partitioning_of(table: Table) -> Partitioning | None:
    """Return how a table is partitioned by time; None if it does not say so.

    Raises:
        InvalidPartitioning: the column is not there, may be NULL, or is missing in the primary key.
    """
    partitioning: Partitioning | None = table.info.get(KEY)
    if partitioning is None:
        return None
    column = table.columns.get(partitioning.column)
    if column is None or column.nullable or not (column.primary_key or not table.primary_key.columns):
        raise InvalidPartitioning(
            f"The table {table.name} cannot be partitioned by {partitioning.column}: it has no such column, or the "
            "column may be NULL or is not in the primary key.",
            hint="Make it NOT NULL and part of the primary key.",
            table=table.name,
            column=partitioning.column,
        )
    return partitioning


def table_of(model: object) -> Table:
    """Return the table of a declarative model, or a table as it is; raises :class:`InvalidPartitioning` for others."""
    table = getattr(model, "__table__", model)
    if not isinstance(table, Table):
        raise InvalidPartitioning(f"{model!r} is neither a model with a table of its own nor a table.", value=model)
    return table
