"""Which partitions there are, from the server's catalog."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from sqlalchemy import Connection, text

from dataarch.partitions.layout import FIRST, LAST, Range

__all__ = ["Partition", "marks_of", "partitions_of", "readable_times"]

MARK = "dataarch.partitions "
"""What begins a comment that says what the maintenance is doing with a table; JSON follows."""

SETTINGS = text("SELECT current_setting('timezone') AS zone, current_setting('datestyle') AS style")

SET = text("SELECT set_config('timezone', :zone, false), set_config('datestyle', :style, false)")

BOUND = re.compile(r"FOR VALUES FROM \((?:'(?P<lower>[^']+)'|MINVALUE)\) TO \((?:'(?P<upper>[^']+)'|MAXVALUE)\)")

PARTITIONS = text(
    """
    WITH parent AS (
        SELECT oid, relrowsecurity, (SELECT count(*) FROM pg_index WHERE indrelid = pg_class.oid) AS indexes
        FROM pg_class WHERE oid = to_regclass(:parent)
    ), policies AS (
        SELECT polrelid, array_agg(policy) AS every, array_agg(policy) FILTER (WHERE polpermissive) AS permissive
        FROM pg_policy, LATERAL (
            SELECT ROW(polpermissive, polcmd, ARRAY(SELECT unnest(polroles) ORDER BY 1),
                       pg_get_expr(polqual, polrelid), pg_get_expr(polwithcheck, polrelid))::text AS policy
        ) AS said
        WHERE polrelid IN (SELECT oid FROM parent UNION ALL
                           SELECT inhrelid FROM pg_inherits JOIN parent ON inhparent = parent.oid)
        GROUP BY polrelid
    )
    SELECT child.relname AS name,
           nspname AS schema,
           pg_get_expr(child.relpartbound, child.oid) AS bounds,
           nullif(child.reltuples, -1)::bigint AS row_estimate,
           (SELECT sum(pg_total_relation_size(relid)) FROM pg_partition_tree(child.oid))::bigint AS size_bytes,
           child.relrowsecurity AND mine.every IS NOT NULL AS isolated,
           NOT parent.relrowsecurity OR (
               child.relrowsecurity
               AND coalesce(mine.every, '{}') @> coalesce(theirs.every, '{}')
               AND coalesce(theirs.every, '{}') @> coalesce(mine.permissive, '{}')
           ) AS guarded_like_parent,
           parent.indexes = (
               SELECT count(*) FROM pg_index AS own
               JOIN pg_inherits AS attached ON attached.inhrelid = own.indexrelid
               JOIN pg_index AS whole ON whole.indexrelid = attached.inhparent AND whole.indrelid = parent.oid
               WHERE own.indrelid = child.oid AND own.indisvalid AND own.indisready
           ) AS indexed,
           inhdetachpending AS detach_pending,
           child.relkind = 'r' AS plain,
           obj_description(child.oid, 'pg_class') AS comment
    FROM parent
    JOIN pg_inherits ON inhparent = parent.oid
    JOIN pg_class AS child ON child.oid = inhrelid
    JOIN pg_namespace ON pg_namespace.oid = child.relnamespace
    LEFT JOIN policies AS mine ON mine.polrelid = child.oid
    LEFT JOIN policies AS theirs ON theirs.polrelid = parent.oid
    """
)

MARKED = text(
    """
    SELECT relname, nspname, description
    FROM pg_description
    JOIN pg_class ON pg_class.oid = objoid AND NOT relispartition
    JOIN pg_namespace ON pg_namespace.oid = relnamespace
    WHERE classoid = 'pg_class'::regclass AND objsubid = 0 AND starts_with(description, :mark)
    ORDER BY relname
    """
)


@dataclass(frozen=True, slots=True)
class Partition:
    """One partition as the catalog describes it.

    Attributes:
        name: without its schema.
        lower: first instant, inclusive; None is MINVALUE.
        upper: first instant after it; None is MAXVALUE.
        bounds: the same as PostgreSQL writes it, in UTC; ``DEFAULT`` for a default partition.
        row_estimate: rows by the statistics; None before the first ANALYZE.
        size_bytes: with its indexes and whatever lies below it.
        isolated: whether row-level security is enabled and has a policy.
        guarded: whether it has the parent's policies, whatever their names, and lets nobody see more than they do.
        indexed: whether each index of the parent has a valid one attached here.
        detach_pending: a concurrent detach was begun and not finished.
        plain: whether it is an ordinary table, and no partitioned or foreign one.
        mark: what the maintenance has noted about it.
    """

    name: str
    lower: datetime | None
    upper: datetime | None
    schema: str = "public"
    bounds: str = ""
    row_estimate: int | None = None
    size_bytes: int = 0
    isolated: bool = False
    guarded: bool = True
    indexed: bool = True
    detach_pending: bool = False
    plain: bool = True
    mark: dict[str, Any] | None = field(default=None, hash=False)

    @property
    def is_default(self) -> bool:
        """Whether it is a DEFAULT partition, whose bounds say nothing."""
        return self.bounds == "DEFAULT"

    @property
    def range(self) -> Range:
        """The instants that lie in it."""
        return Range(self.lower, self.upper)


@contextmanager
def readable_times(connection: Connection) -> Iterator[None]:
    """Let the server write times in UTC and ISO 8601 for a while; the session's settings come back afterwards."""
    before = connection.execute(SETTINGS).one()
    connection.execute(SET, {"zone": "UTC", "style": "ISO"})
    try:
        yield
    finally:
        connection.execute(SET, {"zone": before.zone, "style": before.style})


def partitions_of(connection: Connection, table: str) -> list[Partition]:
    """Return the partitions of a table, the oldest first; none if it is not there or not partitioned.

    Args:
        connection: anybody's who may read the catalog.
        table: the parent, with its schema or as the search path finds it.
    """
    with readable_times(connection):
        rows = connection.execute(PARTITIONS, {"parent": table}).all()
    found = [_partition(row) for row in rows]
    return sorted(found, key=lambda one: (one.is_default, one.range.low))


def marks_of(connection: Connection) -> list[tuple[str, str, dict[str, Any]]]:
    """Return each table that the maintenance has marked and that is no partition: its schema, name and mark."""
    rows = connection.execute(MARKED, {"mark": MARK}).all()
    return [(schema, name, mark) for name, schema, comment in rows if (mark := _mark(comment)) is not None]


def _partition(row: Any) -> Partition:
    matched = BOUND.fullmatch(row.bounds)
    return Partition(
        name=row.name,
        schema=row.schema,
        bounds=row.bounds,
        lower=_instant(matched["lower"]) if matched else None,
        upper=_instant(matched["upper"]) if matched else None,
        row_estimate=row.row_estimate,
        size_bytes=row.size_bytes,
        isolated=row.isolated,
        guarded=row.guarded_like_parent,
        indexed=row.indexed,
        detach_pending=row.detach_pending,
        plain=row.plain,
        mark=_mark(row.comment),
    )


def _mark(comment: str | None) -> dict[str, Any] | None:
    if comment is None or not comment.startswith(MARK):
        return None
    try:
        found: dict[str, Any] = json.loads(comment.removeprefix(MARK))
    except ValueError:
        # somebody wrote this comment by hand: it is no mark of ours
        return None
    return found


def _instant(written: str | None) -> datetime | None:
    """Return a bound as PostgreSQL writes it; what lies beyond Python's calendar becomes its nearest instant."""
    if written is None:
        return None
    if written == "-infinity" or written.endswith(" BC"):
        return FIRST
    try:
        instant = datetime.fromisoformat(written)
    except ValueError:
        # infinity, or a year of five digits
        return LAST
    return instant.replace(tzinfo=UTC) if instant.tzinfo is None else instant.astimezone(UTC)
