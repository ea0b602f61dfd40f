"""Who may be at a backfill at the same time: runs share it, a verification and a run from the beginning are alone."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, suppress

from sqlalchemy import Connection
from sqlalchemy.exc import DBAPIError

from dataarch.errors import BackfillBusy, DataArchError
from dataarch.partitions.quoting import literal
from dataarch.rollout.backfill.session import one_row, send

__all__ = ["alone"]


@contextmanager
def alone(connection: Connection, name: str, *, shared: bool = False) -> Iterator[None]:
    """Hold the backfill's lock, with other runs or alone.

    Args:
        connection: the lock goes with it, so that nobody waits for a process that was killed.
        name: the backfill's.
        shared: as one of several runs.

    Raises:
        BackfillBusy: others are in the way; nobody is waited for.

    Courtesy, not safety: what a run does is right beside any other run, and a verification is believed only if no run
    was begun meanwhile.
    """
    kind = "_shared" if shared else ""
    key = f"hashtext('dataarch.backfill'), hashtext({literal(name)})"
    granted = one_row(connection, f"SELECT pg_try_advisory_lock{kind}({key})")[0]
    connection.commit()
    if not granted:
        what = "verified, or run from the beginning," if shared else "run or verified"
        raise BackfillBusy(f"The backfill {name} is {what} by somebody else.", hint="Wait for them, then try again.")
    try:
        yield
    finally:
        with suppress(DBAPIError, DataArchError):
            connection.rollback()
            send(connection, f"SELECT pg_advisory_unlock{kind}({key})")
            connection.commit()
