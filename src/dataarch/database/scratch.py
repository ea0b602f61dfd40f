"""Try something on the server, and leave no trace of it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from sqlalchemy import Connection

__all__ = ["scratch"]


@contextmanager
def scratch(connection: Connection) -> Iterator[None]:
    """Undo, at the end of the block, whatever it did on the server, temporary tables and settings included."""
    savepoint = connection.begin_nested()
    try:
        yield
    finally:
        savepoint.rollback()
