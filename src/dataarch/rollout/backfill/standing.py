"""Where backfills stand, and stopping them by hand: what ``dataarch backfill list``, ``pause`` and ``resume`` do."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from sqlalchemy import Connection, Engine

from dataarch.partitions.quoting import literal
from dataarch.rollout.backfill.books import SCHEMA, Record, Totals, all_records, record_of, totals_of
from dataarch.rollout.backfill.session import ask, send, session

__all__ = ["Failure", "failures_of", "pause", "resume", "standing"]


@dataclass(frozen=True, slots=True)
class Failure:
    """A row that could not be filled: where it is, its key as text, and what the server said."""

    table: str
    key: tuple[str, ...]
    sqlstate: str
    reason: str


def standing(connection: Connection, names: Sequence[str] = ()) -> list[tuple[Record, Totals]]:
    """Return where backfills stand: those that are named, or all of them.

    Raises:
        InvalidChange: there is none of a name.
    """
    records = [record_of(connection, name) for name in names] if names else all_records(connection)
    return [(record, totals_of(connection, record.name)) for record in records]


def failures_of(connection: Connection, name: str, limit: int) -> list[Failure]:
    """Return the rows that a backfill could not fill, in the order of their keys."""
    found = ask(
        connection,
        f"SELECT leaf_schema || '.' || leaf_name, key, sqlstate, reason FROM {SCHEMA}.backfill_failures"
        f" WHERE name = {literal(name)} ORDER BY leaf_schema, leaf_name, key LIMIT {limit}",
    )
    return [Failure(table, tuple(key), sqlstate, reason) for table, key, sqlstate, reason in found]


def pause(engine: Engine, name: str) -> Record:
    """Let those who run a backfill wait after their batch, wherever they are; idempotent."""
    return _set(engine, name, "coalesce(paused_at, now())")


def resume(engine: Engine, name: str) -> Record:
    """Let them go on; idempotent. It starts nobody: where none runs it, run it."""
    return _set(engine, name, "NULL")


def _set(engine: Engine, name: str, value: str) -> Record:
    with session(engine, name) as connection:
        record_of(connection, name)
        send(connection, f"UPDATE {SCHEMA}.backfills SET paused_at = {value} WHERE name = {literal(name)}")
        connection.commit()
        return record_of(connection, name)
