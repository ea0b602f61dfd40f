"""The partitions of the activity log, as the tests of `dataarch partitions` arrange and see them."""

from __future__ import annotations

from dataarch.clock import Month, utcnow
from dataarch.database.settings import Settings
from fixtures.months import add_writer, all_rows, bounds, owner, write

THIS_MONTH = Month.of(utcnow())
LOG = "user_activity_log"
WIDE = {"COLUMNS": "200"}


def names(settings: Settings) -> list[str]:
    with owner(settings) as connection:
        return [name for name, _, _ in bounds(connection)]


def drop_month(settings: Settings, ahead: int) -> str:
    """Leave a month without a partition."""
    name = f"{LOG}_{THIS_MONTH.plus(ahead)}"
    with owner(settings) as connection:
        connection.execute(f"DROP TABLE {name}")
    return name


def filled_history(settings: Settings) -> tuple[int, str]:
    """Write a few rows of long ago, and of months that a policy keeps; all lie in the oldest catch-all."""
    with owner(settings) as connection:
        writer = add_writer(connection)
        kept = [THIS_MONTH.plus(-ago).start for ago in (1, 24)]
        write(connection, writer, "2019-12-31 23:59:59+00", "2020-01-01", "2020-03-15", *kept)
        return all_rows(connection)
