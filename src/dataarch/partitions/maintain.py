"""Make the months that rows of the activity log need, as the application role, tried again where a lock is not granted.

Making a month locks the log for a moment, and gives up after 2 seconds rather than let everybody queue behind it. So
each month is one transaction, and one that could not be made is tried again a little later. What is done as the owner,
for any partitioned table, is in :mod:`dataarch.partitions.maintenance`.
"""

from __future__ import annotations

import random
import time
from collections.abc import Iterable
from contextlib import AbstractContextManager
from typing import Protocol

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from dataarch.clock import Month, utcnow
from dataarch.errors import Retryable

__all__ = ["MONTHS_AHEAD", "TRIES", "ensure_ahead", "ensure_months"]

MONTHS_AHEAD = 12
"""Months made before they begin, so that making one is never urgent."""

TRIES = 5
"""How often a month is tried before the error is raised."""

PAUSE = 0.25
"""Seconds before the second try; each later pause is twice as long, and all of them are random by half."""


class Opens(Protocol):
    """What opens units of work of no tenant: a database, or the origin of a unit of work."""

    def session(self) -> AbstractContextManager[Session]:
        """Open one."""


def ensure_months(db: Opens, months: Iterable[Month]) -> list[str]:
    """Make the partitions of months, where they are missing.

    Args:
        db: where; its application role may call the server's function that makes a month.
        months: any, in any order; the same one twice is made once.

    Returns:
        The names of the partitions that were made, the oldest first.

    Raises:
        InvalidMonth: a month before 1970 or more than 10 years ahead.
        PartitionRefused: another partition overlaps the month.
        LockTimeout: readers or writers held the log through all tries.

    Guarantee: idempotent, safe to run at the same time; what was made before an error stays. Takes ACCESS EXCLUSIVE on
    the log and on users for each month that is missing, and none for the others.
    """
    return [name for month in sorted(set(months)) for name in _made(db, month)]


def ensure_ahead(db: Opens, months_ahead: int = MONTHS_AHEAD) -> list[str]:
    """Make this month and those that follow, where they are missing; as :func:`ensure_months`."""
    this_month = Month.of(utcnow())
    return ensure_months(db, (this_month.plus(ahead) for ahead in range(months_ahead + 1)))


def _made(db: Opens, month: Month) -> list[str]:
    for attempt in range(TRIES - 1):
        try:
            return _call(db, month)
        except Retryable:
            # jitter, so that loaders that met once do not meet again
            time.sleep(PAUSE * 2**attempt * random.uniform(0.5, 1.5))  # noqa: S311
    return _call(db, month)


def _call(db: Opens, month: Month) -> list[str]:
    with db.session() as session:
        return list(session.scalars(select(func.create_activity_partition(month.first_day))))
