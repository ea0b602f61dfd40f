"""Tables to archive, and what is in them, seen with plain SQL."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import Any

from sqlalchemy import Connection

from dataarch.database.engine import owner_engine
from dataarch.database.settings import Settings
from dataarch.partitions.archive import ArchiveOf

OF = ArchiveOf("events", "events_2020_01", datetime(2020, 1, 1, tzinfo=UTC), datetime(2020, 2, 1, tzinfo=UTC))

EVENTS = """
CREATE TABLE events_2020_01 (
    tenant_id uuid NOT NULL,
    id uuid NOT NULL,
    user_id uuid,
    activity_type text NOT NULL,
    metadata jsonb NOT NULL,
    created_at timestamptz NOT NULL,
    doubled bigint GENERATED ALWAYS AS (length(activity_type) * 2) STORED,
    PRIMARY KEY (tenant_id, id, created_at)
)
"""

FILL = """
INSERT INTO events_2020_01
SELECT md5('t' || n % 7)::uuid, md5('i' || n)::uuid, CASE WHEN n % 5 > 0 THEN md5('u' || n)::uuid END,
       (ARRAY['login', 'purchase', ''])[n % 3 + 1], jsonb_build_object('n', n, 'text', repeat('x', n % 40)),
       timestamptz '2020-01-01 00:00:00+00' + n * interval '7.000001 seconds'
FROM generate_series(1, {rows}) AS n
"""


@contextmanager
def transaction(settings: Settings) -> Iterator[Connection]:
    """A transaction of the owner, committed at its end."""
    engine = owner_engine(settings)
    try:
        with engine.begin() as connection:
            yield connection
    finally:
        engine.dispose()


def sql(connection: Connection, statement: str) -> Any:
    """Run a statement exactly as it stands."""
    return connection.exec_driver_sql(statement, execution_options={"no_parameters": True})


def events(connection: Connection, rows: int = 1000) -> None:
    """Make a table such as a detached month of activity, with rows that are the same each time."""
    sql(connection, EVENTS)
    sql(connection, FILL.format(rows=rows))


def count(connection: Connection, table: str) -> int:
    """How many rows a table has."""
    return int(sql(connection, f"SELECT count(*) FROM {table}").scalar_one())


def differences(connection: Connection, one: str, other: str) -> int:
    """How many rows are in one of two tables only, compared by their text, repeated rows each time."""
    rows = "SELECT (whole_row)::text FROM {0} AS whole_row"
    first, second = rows.format(one), rows.format(other)
    return int(
        sql(
            connection,
            f"SELECT count(*) FROM (({first} EXCEPT ALL {second}) UNION ALL ({second} EXCEPT ALL {first})) AS d",
        ).scalar_one()
    )
