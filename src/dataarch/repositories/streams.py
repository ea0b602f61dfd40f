"""Read any number of rows in the memory of one batch."""

from __future__ import annotations

from collections.abc import Generator
from typing import Any

from sqlalchemy import CompoundSelect, Select
from sqlalchemy.orm import Session

from dataarch.errors import InvalidValue, shown

__all__ = ["LARGEST_BATCH", "stream"]

LARGEST_BATCH = 100_000
"""Rows."""


def stream(session: Session, statement: Any, *, batch: int = 1000) -> Generator[Any, None, None]:
    """Give the rows of a statement one by one, from a cursor on the server.

    Args:
        session: that of a unit of work, which has to last until the rows are read. Under asyncio, read them in a
            function that ``session.run_sync`` runs.
        statement: a select, or a union of them.
        batch: how many rows are fetched in one round trip, and held at a time.

    Returns:
        Items as ``session.scalars`` gives them where one thing is selected, else rows as of ``session.execute``.

    Raises:
        InvalidValue: it is no select, or the batch is none.

    Guarantee: reads only. Nothing is sent before the first row is asked for. Memory is that of one batch: the session
    keeps no object that nobody else holds and nobody changed. All rows are as of the moment of the first. The cursor is
    closed at the end, at an error, and when the iterator is closed or forgotten.
    """
    if not isinstance(statement, Select | CompoundSelect):
        raise InvalidValue(f"A {type(statement).__name__} has no rows to stream.", hint="Give a select(…).")
    if not 1 <= batch <= LARGEST_BATCH:
        raise InvalidValue(
            f"Rows cannot be streamed by {shown(batch)}.", hint=f"Give a batch of 1 to {LARGEST_BATCH:,}.", value=batch
        )
    return _rows(session, statement, batch)


def _rows(session: Session, statement: Any, batch: int) -> Generator[Any, None, None]:
    result = session.execute(statement, execution_options={"yield_per": batch})
    try:
        yield from result.scalars() if len(result.keys()) == 1 else result
    finally:
        result.close()
