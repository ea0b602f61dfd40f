"""Databases with months of activity in them, for benchmarks: as many months, and as many rows, as asked for."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import count
from typing import Any
from uuid import UUID

import psycopg
from alembic import command
from sqlalchemy import URL

from dataarch.clock import Month, utcnow
from dataarch.database.embedded import EmbeddedServer
from dataarch.database.settings import APP_ROLE, Settings, database_url
from dataarch.rollout.revisions import revisions

__all__ = [
    "TENANTS",
    "USERS",
    "Person",
    "admin_url",
    "connected",
    "fill",
    "fresh_database",
    "make_months",
    "people",
    "settle",
]

TENANTS = 20
USERS = 50
NUMBERS = count(1)

SETTLE = f"""
INSERT INTO tenants (id, slug, name)
    SELECT md5('t' || t)::uuid, 't-' || t, 'Tenant ' || t FROM generate_series(1, {TENANTS}) AS t;
INSERT INTO users (tenant_id, id, external_id, full_name)
    SELECT md5('t' || t)::uuid, md5('u' || t || '-' || u)::uuid, u, 'User ' || u
    FROM generate_series(1, {TENANTS}) AS t, generate_series(1, {USERS}) AS u
"""

# in the order of time, as a log grows: user 1 of tenant 1 writes one row in so many, user 2 sixty of the newest
CROWD = f"""
WITH known AS (
    SELECT (SELECT array_agg(md5('t' || t)::uuid ORDER BY t) FROM generate_series(1, {TENANTS}) AS t) AS tenants,
           (SELECT array_agg(md5('u' || t || '-' || u)::uuid ORDER BY t, u)
            FROM generate_series(1, {TENANTS}) AS t, generate_series(1, {USERS}) AS u) AS persons
)
INSERT INTO user_activity_log (tenant_id, id, user_id, activity_type, metadata, created_at)
    SELECT tenants[tenant], lpad(to_hex(n), 32, '0')::uuid, persons[(tenant - 1) * {USERS} + person], 'view',
           '{{"page": 1}}',
           %(oldest)s::timestamptz + n * ((%(newest)s::timestamptz - %(oldest)s::timestamptz) / (%(rows)s::int + 1))
    FROM known, generate_series(1, %(rows)s::int) AS n,
    LATERAL (SELECT %(rows)s::int - n AS back) AS b,
    LATERAL (SELECT back < %(recent)s::int AND back %% (%(recent)s::int / 60) = 1 AS rare) AS r,
    LATERAL (SELECT CASE WHEN rare OR n %% %(every)s::int = 0 THEN 1 ELSE n %% {TENANTS} + 1 END AS tenant,
                    CASE WHEN rare THEN 2 WHEN n %% %(every)s::int = 0 THEN 1
                         ELSE n / {TENANTS} %% {USERS - 3} + 4 END AS person) AS p
"""

OLDEST = """
INSERT INTO user_activity_log (tenant_id, user_id, activity_type, created_at)
    SELECT md5('t1')::uuid, md5('u1-3')::uuid, 'view',
           %(oldest)s::timestamptz + n * interval '1 hour'
    FROM generate_series(1, 3) AS n
"""

MONTHS_OF_THE_RARE = 4

SECONDARY = """
SELECT indexrelid::regclass::text, replace(pg_get_indexdef(indexrelid), ' ON ONLY ', ' ON ')
FROM pg_index WHERE indrelid = 'user_activity_log'::regclass AND NOT indisprimary
"""

PARTITIONS = "SELECT inhrelid::regclass::text FROM pg_inherits WHERE inhparent = 'user_activity_log'::regclass"


@dataclass(frozen=True)
class Person:
    """A user whose latest activities are asked for."""

    kind: str
    tenant_id: UUID
    user_id: UUID


def admin_url() -> URL:
    """Return the URL of a role that may make databases: of the environment, or of the embedded server."""
    settings = Settings.load()
    if settings.database_url is not None or settings.owner_url is not None:
        return settings.owner
    status = EmbeddedServer(settings.server_dir).start()
    assert status.admin_url is not None
    return database_url(status.admin_url)


def connected(url: URL) -> psycopg.Connection[tuple[Any, ...]]:
    """Return a connection in autocommit mode, in UTC."""
    text = url.set(drivername="postgresql").render_as_string(hide_password=False)
    return psycopg.connect(text, autocommit=True, options="-c timezone=UTC")


@contextmanager
def fresh_database(admin: URL) -> Iterator[Settings]:
    """Make a database at the newest revision, and drop it at the end."""
    name = f"dataarch_bench_{os.getpid()}_{next(NUMBERS)}"
    with connected(admin) as connection:
        connection.execute(f"CREATE DATABASE {name}".encode())
    try:
        urls = {role: admin.set(username=role, database=name) for role in (APP_ROLE, admin.username)}
        texts = {role: url.render_as_string(hide_password=False) for role, url in urls.items()}
        settings = Settings(database_url=texts[APP_ROLE], owner_url=texts[admin.username])
        command.upgrade(revisions(settings), "head")
        yield settings
    finally:
        with connected(admin) as connection:
            connection.execute(f"DROP DATABASE {name} WITH (FORCE)".encode())


def make_months(connection: psycopg.Connection[Any], months: int) -> Month:
    """Make a log of so many months, this one the newest; return the oldest."""
    newest = Month.of(utcnow())
    for back in range(months):
        connection.execute("SELECT create_activity_partition(%s)", [newest.plus(-back).first_day])
    return newest.plus(1 - months)


def settle(connection: psycopg.Connection[Any]) -> None:
    """Make the tenants and their users."""
    connection.execute(SETTLE)


def fill(connection: psycopg.Connection[Any], months: int, rows: int, *, every: int = 100) -> None:
    """Write rows evenly over months that end now: each 100th by the busy user, 60 by the rare, 3 by the dormant one.

    The connection is a superuser's: foreign keys are not checked, nothing is logged, and indexes are built at the end,
    which loads several times as fast.
    """
    oldest, newest = make_months(connection, months).start, utcnow()
    settle(connection)
    recent = rows * min(months, MONTHS_OF_THE_RARE) // months
    crowd = {"oldest": oldest, "newest": newest, "rows": rows, "recent": recent, "every": every}
    connection.execute("SET session_replication_role = replica")
    for (partition,) in connection.execute(PARTITIONS).fetchall():
        connection.execute(f"ALTER TABLE {partition} SET UNLOGGED".encode())
    indexes = connection.execute(SECONDARY).fetchall()
    for name, _ in indexes:
        connection.execute(f"DROP INDEX {name}".encode())
    connection.execute(CROWD, crowd)
    connection.execute(OLDEST, {"oldest": oldest})
    for _, definition in indexes:
        connection.execute(definition.encode())
    connection.execute("VACUUM (ANALYZE)")


def people(connection: psycopg.Connection[Any]) -> list[Person]:
    """Return the three users that are asked about."""
    ids = connection.execute(
        "SELECT md5('t1')::uuid, md5('u1-1')::uuid, md5('u1-2')::uuid, md5('u1-3')::uuid"
    ).fetchone()
    assert ids is not None
    return [Person(kind, ids[0], user) for kind, user in zip(("busy", "rare", "dormant"), ids[1:], strict=True)]
