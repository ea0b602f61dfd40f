"""The months that rows need, made before the rows are written."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import timedelta

from sqlalchemy import Table

from dataarch.clock import Grain, Month, Period
from dataarch.database.origin import Origin
from dataarch.errors import InvalidMonth, PartitionRefused, Retryable
from dataarch.models import UserActivity
from dataarch.partitions.maintain import ensure_months
from dataarch.partitions.naming import partition_name
from dataarch.repositories.bulk.fields import DAY, EPOCH, MICROSECOND
from dataarch.repositories.bulk.foresight import foreseen
from dataarch.repositories.bulk.rows import RowNames
from dataarch.repositories.bulk.wire import Wire

__all__ = ["Months"]

OLDEST, NEWEST = Month(1, 1), Month(9999, 12)

PARTITIONS = """
SELECT relname FROM pg_catalog.pg_inherits JOIN pg_catalog.pg_class ON pg_class.oid = inhrelid
WHERE inhparent = %s::regclass
"""

HELD = """
SELECT EXISTS (SELECT FROM pg_catalog.pg_locks WHERE pid = pg_backend_pid() AND relation = ANY (%s::regclass[]))
"""


class Months:
    """The months of the activity log that a transaction knows to be there, or to be without a partition of their own.

    Rows of a month without one lie in a catch-all until the maintenance moves them; none is refused for that.
    """

    def __init__(self, wire: Wire, table: Table, origin: Origin | None) -> None:
        """Look which months there are; another table than the log has none that could be made here."""
        self._wire = wire
        self._table = table
        self._origin = origin
        self._sure = (0, 0)
        self._whole = f"public.{table.name}"
        self.column = "created_at" if table is UserActivity.__table__ else None
        self._there = {name for (name,) in wire.rows(PARTITIONS, (self._whole,))} if self.column else set()

    def missing(self, instants: Sequence[int]) -> set[Month]:
        """Return the months of instants, in microseconds since 2000, that are not known yet."""
        first, end = self._sure
        if not instants or (first <= min(instants) and max(instants) < end):
            return set()
        months = {Month.of(EPOCH + timedelta(days=day)) for day in {instant // DAY for instant in instants}}
        missing = {month for month in months if self._name(month) not in self._there}
        if not missing:
            self._sure = self._around(min(months))
        return missing

    def foresee(self, rows: object, names: RowNames | None = None) -> None:
        """Make the months of rows that are all there already; ``names`` is needed where rows are sequences."""
        if self.column is not None:
            found = foreseen(rows, self.column, 0 if names is None else names.place_of(self.column))
            self.make(month for month in found if self._name(month) not in self._there)

    def make(self, months: Iterable[Month]) -> None:
        """Make months where that can be done now, on a connection of its own, so that others see them at once.

        Making one needs the log and what it refers to for itself; where this transaction has read or written there,
        waiting would be in vain.
        """
        locked = [self._whole, *(f"public.{one.referred_table.name}" for one in self._table.foreign_key_constraints)]
        for month in sorted(months):
            ((held,),) = self._wire.rows(HELD, (locked,))
            if not held and self._origin is not None:
                self._try(self._origin, month)
            self._there.add(self._name(month))

    def _try(self, origin: Origin, month: Month) -> None:
        try:
            ensure_months(origin, [month])
        except (InvalidMonth, PartitionRefused, Retryable):
            # its rows go to a catch-all
            return

    def _around(self, month: Month) -> tuple[int, int]:
        """Return where the months begin and end that are there without a gap around one that is."""
        first = last = month
        while first > OLDEST and self._name(first.plus(-1)) in self._there:
            first = first.plus(-1)
        while last < NEWEST and self._name(last.plus(1)) in self._there:
            last = last.plus(1)
        begin = (first.start - EPOCH) // MICROSECOND
        return begin, (last.start + last.length - EPOCH) // MICROSECOND if last < NEWEST else begin

    def _name(self, month: Month) -> str:
        return partition_name(self._table.name, Period(month.first_day, Grain.MONTH))
