"""Which partitions there are, from the server's catalog."""

from __future__ import annotations

from dataclasses import dataclass

from sqlalchemy import Connection, text

__all__ = ["Partition", "partition_names", "partitions_of"]


@dataclass(frozen=True, slots=True)
class Partition:
    """One partition as the catalog describes it."""

    name: str
    bounds: str
    row_estimate: int
    size_bytes: int
    isolated: bool


NAMES = text("SELECT relname FROM pg_class WHERE relispartition AND relkind IN ('r', 'p')")

READABLE_BOUNDS = text("SELECT set_config('timezone', 'UTC', true), set_config('datestyle', 'ISO', true)")
"""Bounds are shown, and put in order, as these settings of the transaction write them."""

SETTINGS = text("SELECT current_setting('timezone') AS zone, current_setting('datestyle') AS style")

RESTORE = text("SELECT set_config('timezone', :zone, true), set_config('datestyle', :style, true)")

PARTITIONS = text(
    """
    SELECT relname,
           pg_get_expr(relpartbound, pg_class.oid),
           greatest(reltuples, 0)::bigint,
           pg_total_relation_size(pg_class.oid),
           relrowsecurity AND EXISTS (SELECT FROM pg_policy WHERE polrelid = pg_class.oid)
    FROM pg_inherits JOIN pg_class ON pg_class.oid = inhrelid
    WHERE inhparent = to_regclass(:parent)
    ORDER BY (regexp_match(pg_get_expr(relpartbound, pg_class.oid), $$FROM \\('(.+?)'\\)$$))[1] NULLS FIRST
    """
)


def partition_names(connection: Connection) -> frozenset[str]:
    """Return the names of all tables that are partitions of others."""
    return frozenset(connection.scalars(NAMES))


def partitions_of(connection: Connection, table: str) -> list[Partition]:
    """Return the partitions of a table, the oldest first, bounds in UTC; none if it is not there or not partitioned."""
    before = connection.execute(SETTINGS).one()
    connection.execute(READABLE_BOUNDS)
    found = [Partition(*row) for row in connection.execute(PARTITIONS, {"parent": table})]
    connection.execute(RESTORE, {"zone": before.zone, "style": before.style})
    return found
