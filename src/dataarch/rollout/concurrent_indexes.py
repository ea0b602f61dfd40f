"""Indexes that a concurrent build has left unfinished: they cost each write, serve no query, and take the name."""

from __future__ import annotations

import logging
import re
import time
from contextlib import nullcontext, suppress
from typing import Any

__all__ = ["CONCURRENTLY", "drop_unfinished", "sqlstate"]

logger = logging.getLogger(__name__)

NAME = r'(?:"(?:[^"]|"")+"|[\w$]+)'

CONCURRENTLY = re.compile(r"\A\s*(?:CREATE|DROP|REINDEX|ALTER|REFRESH)\b[^;]*\bCONCURRENTLY\b", re.IGNORECASE)
"""Statements whose locks keep neither readers nor writers waiting."""

CREATION = re.compile(
    r"\A\s*CREATE\s+(?:UNIQUE\s+)?INDEX\s+CONCURRENTLY\s+(?:IF\s+NOT\s+EXISTS\s+)?"
    rf"(?P<name>{NAME})\s+ON\s+(?:ONLY\s+)?(?P<table>{NAME}(?:\s*\.\s*{NAME})?)",
    re.IGNORECASE,
)

UNFINISHED = """
SELECT indexrelid::regclass::text, EXISTS (
    SELECT FROM pg_stat_progress_create_index AS build WHERE build.relid = indrelid AND pid <> pg_backend_pid())
FROM pg_index JOIN pg_class ON pg_class.oid = indexrelid
WHERE indrelid = to_regclass(%s) AND relname = (parse_ident(%s))[1] AND NOT indisvalid AND relkind = 'i'
"""


def drop_unfinished(cursor: Any, statement: str, patience: float) -> None:
    """Drop the index that a statement would make, where a former build of it was interrupted.

    Args:
        cursor: the driver's, in autocommit mode.
        statement: ``CREATE INDEX CONCURRENTLY name …``; any other does nothing.
        patience: seconds for which a build is waited for that the server still runs, its client killed; with 0 an
            error here is nobody's.

    Guarantee: touches nothing but an index of that name, on that table, that is not valid; with ``DROP INDEX
    CONCURRENTLY``, which keeps nobody waiting.
    """
    creation = CREATION.match(statement)
    if creation is None:
        return
    with suppress(Exception) if patience == 0 else nullcontext():
        deadline = time.monotonic() + patience
        while unfinished := _unfinished(cursor, creation["table"], creation["name"]):
            index, being_built = unfinished
            if not being_built:
                logger.warning("dropping the index %s, which a former build has left unfinished", index)
                cursor.execute(f"DROP INDEX CONCURRENTLY IF EXISTS {index}")
            elif time.monotonic() > deadline:
                return
            else:
                time.sleep(0.1)


def _unfinished(cursor: Any, table: str, name: str) -> tuple[str, bool] | None:
    cursor.execute(UNFINISHED, (table, name))
    found: tuple[str, bool] | None = cursor.fetchone()
    return found


def sqlstate(error: BaseException) -> str | None:
    """Return the SQLSTATE of an error of ours, of SQLAlchemy's or of a driver's."""
    original = getattr(error, "orig", None) or error
    state = getattr(original, "sqlstate", None) or getattr(original, "pgcode", None)
    return None if state is None else str(state)
