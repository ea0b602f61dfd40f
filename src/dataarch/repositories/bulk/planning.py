"""How the server plans the statements of a portion: what it may sort in memory, and how it finds rows that are there.

The planner takes an index's pages for far away, and would rather read a table of a million rows than look fifty
thousand of them up. But the rows that are changed and inserted want these pages next in any case.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

__all__ = ["MANY", "Planning"]

MANY = 1_000
"""Rows from which on it pays to ask for the server's settings and change them."""

SORTED_IN = "64MB"
"""What each sort and hash of many rows may take of the server's memory before it goes to files."""

AS_LARGE = 5
"""How many times as many rows as a portion a table has before to look rows up is quicker than to read all of it."""

ASK = f"""
SELECT memory, hashjoin, mergejoin, %(rows)s * {AS_LARGE} < size AS large,
       set_config('work_mem', CASE WHEN pg_size_bytes(memory) < pg_size_bytes('{SORTED_IN}') THEN '{SORTED_IN}'
                                   ELSE memory END, true)
FROM (
    SELECT current_setting('work_mem') AS memory, current_setting('enable_hashjoin') AS hashjoin,
           current_setting('enable_mergejoin') AS mergejoin,
           CASE WHEN relpages > 0 THEN reltuples / relpages ELSE 50 END
               * pg_relation_size(oid) / CAST(current_setting('block_size') AS int) AS size
    FROM pg_catalog.pg_class WHERE oid = CAST(%(table)s AS regclass) OFFSET 0
) AS before
"""

MEMORY = "SELECT set_config('work_mem', %(memory)s, true)"
JOINS = "SELECT set_config('enable_hashjoin', %(hashjoin)s, true), set_config('enable_mergejoin', %(mergejoin)s, true)"


class Planning:
    """The settings of one portion, within its transaction: what they were is restored, also where it is undone."""

    def __init__(self, run: Callable[..., Any], table: str) -> None:
        """Take what carries out a statement, and the table as SQL names it."""
        self._run, self._table = run, table
        self._before: Any = None

    def begin(self, rows: int) -> None:
        """Look at the table, and let many rows be sorted in memory."""
        if rows > MANY:
            self._before = self._run(ASK, rows=rows, table=self._table).one()

    @contextmanager
    def lookups(self) -> Iterator[None]:
        """Let statements of the block find rows of a large table by its indexes, one after the other."""
        if self._before is None or not self._before.large:
            yield
            return
        self._run(JOINS, hashjoin="off", mergejoin="off")
        yield
        self._run(JOINS, hashjoin=self._before.hashjoin, mergejoin=self._before.mergejoin)

    def end(self) -> None:
        """Let the settings be what they were."""
        if self._before is not None:
            self._run(MEMORY, memory=self._before.memory)
