"""When a backfill waits: replicas that fall behind, old transactions, and sessions that wait for locks or are many."""

from __future__ import annotations

from dataclasses import dataclass

from sqlalchemy import Connection

from dataarch.rollout.backfill.session import one_row

__all__ = ["Limits", "Pressure", "pressure_of", "why_wait"]

# what sessions of other roles do is seen by members of pg_monitor alone
PRESSURE = """
WITH others AS (
    SELECT * FROM pg_stat_activity WHERE datname = current_database() AND backend_type = 'client backend'
       AND application_name IS DISTINCT FROM current_setting('application_name')
), oldest AS (
    SELECT pid, usename, application_name, extract(epoch FROM clock_timestamp() - xact_start)::float AS seconds
    FROM others WHERE xact_start IS NOT NULL ORDER BY xact_start LIMIT 1
)
SELECT (SELECT max(extract(epoch FROM replay_lag))::float FROM pg_stat_replication) AS lag,
       (SELECT seconds FROM oldest) AS age,
       (SELECT format('%s of %s (%s)', pid, usename, coalesce(nullif(application_name, ''), 'no name')) FROM oldest)
           AS oldest,
       (SELECT count(*)::int FROM others WHERE wait_event_type = 'Lock') AS waiting,
       (SELECT count(*)::int FROM others WHERE state = 'active') AS active,
       pg_has_role(current_user, 'pg_read_all_stats', 'USAGE') AS sees_all
"""


@dataclass(frozen=True, slots=True)
class Limits:
    """What a backfill waits for, and for how long it tries; None is no limit.

    Attributes:
        lag: seconds that a replica may be behind in replaying.
        transaction: seconds that another transaction of the database may be old: while it is open, no vacuum takes away
            what batches leave behind.
        waiting: other sessions that may wait for locks at the same moment.
        active: other sessions that may be at work at the same moment.
        patience: seconds for which a batch is tried again that lacks a lock, or that the server is looked for.
    """

    lag: float | None = 10.0
    transaction: float | None = 3600.0
    waiting: int | None = 10
    active: int | None = None
    patience: float = 60.0


@dataclass(frozen=True, slots=True)
class Pressure:
    """What the server says of itself at one moment; ``sees_all`` whether the role is told of other roles' sessions."""

    lag: float | None = None
    age: float | None = None
    oldest: str | None = None
    waiting: int = 0
    active: int = 0
    sees_all: bool = True


def pressure_of(connection: Connection) -> Pressure:
    """Ask the server; one query, and no transaction stays open."""
    row = one_row(connection, PRESSURE)
    connection.commit()
    return Pressure(row.lag, row.age, row.oldest, row.waiting, row.active, row.sees_all)


def why_wait(pressure: Pressure, limits: Limits) -> str | None:
    """Return why a backfill should wait at this moment; None where it can go on."""
    reasons = (
        (pressure.lag, limits.lag, f"a replica is {pressure.lag or 0:.1f} s behind"),
        (
            pressure.age,
            limits.transaction,
            f"a transaction is {pressure.age or 0:.0f} s old: process {pressure.oldest}",
        ),
        (pressure.waiting, limits.waiting, f"{pressure.waiting} sessions wait for locks"),
        (pressure.active, limits.active, f"{pressure.active} sessions are at work"),
    )
    for found, limit, words in reasons:
        if limit is not None and found is not None and found > limit:
            return f"{words}; the limit is {limit:g}"
    return None
