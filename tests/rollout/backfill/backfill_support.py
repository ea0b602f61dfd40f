"""Tables with backfills on them, for tests: each test makes its own in a database that a file shares."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import count
from typing import Any

import psycopg
from sqlalchemy import Engine

from dataarch.database.engine import owner_engine
from dataarch.database.settings import Settings
from dataarch.rollout.backfill import Definition, Limits, Options, Outcome, Pace, Progress, register, run, verify
from dataarch.rollout.backfill.verify import Verified
from fixtures.catalogs import owner_connection
from fixtures.databases import new_database
from fixtures.servers import Servers

NUMBERS = count(1)


@dataclass
class Ground:
    """A database of the owner's."""

    settings: Settings
    engine: Engine

    def do(self, *statements: str) -> None:
        """Run statements as the owner."""
        with owner_connection(self.settings) as connection:
            for statement in statements:
                connection.execute(statement.encode())

    def rows(self, query: str) -> list[tuple[Any, ...]]:
        """Return what a query gives."""
        with owner_connection(self.settings) as connection:
            return list(connection.execute(query.encode()).fetchall())

    def value(self, query: str) -> Any:
        """Return the only value that a query gives."""
        [(value,)] = self.rows(query)
        return value

    def connect(self) -> psycopg.Connection[tuple[object, ...]]:
        """Return a connection of the owner."""
        return owner_connection(self.settings)

    def register(self, table: str, sets: dict[str, str], *, name: str | None = None, **given: Any) -> str:
        """Register a backfill, and return its name."""
        name = name or f"backfill-{next(NUMBERS)}"
        with self.engine.begin() as connection:
            register(connection, Definition.of(name, table, sets, **given))
        return name

    def run(self, name: str, *, told: list[Progress] | None = None, **options: Any) -> Outcome:
        """Run a backfill to its end."""
        return run(self.engine, name, Options(**options), on_progress=None if told is None else told.append)

    def verify(self, name: str) -> Verified:
        """Compare every row."""
        return verify(self.engine, name)

    def users(self, table: str, rows: int) -> None:
        """Make a table of so many users whose ``display_name`` is to be filled, and analyze it."""
        self.do(
            f"CREATE TABLE {table} (id bigint PRIMARY KEY, full_name text NOT NULL, display_name text)",
            f"INSERT INTO {table} SELECT n, 'User ' || n FROM generate_series(1, {rows}) AS n",
            f"ANALYZE {table}",
        )


SETS = {"display_name": "full_name"}

SMALL = Pace(seconds=10.0, most=100, first=100)
"""Batches of 100 rows."""

UNTROUBLED = Limits(lag=None, transaction=None, waiting=None)


@contextmanager
def ground_of(servers: Servers) -> Iterator[Ground]:
    """Make a database for backfills."""
    with new_database(servers) as settings:
        engine = owner_engine(settings)
        try:
            yield Ground(settings, engine)
        finally:
            engine.dispose()


def count_updates(ground: Ground, table: str) -> None:
    """Have each update of a row counted, in a table of its own."""
    ground.do(
        f"CREATE TABLE {table}_updates (id text)",
        f"CREATE FUNCTION {table}_count() RETURNS trigger LANGUAGE plpgsql AS"
        f" $$BEGIN INSERT INTO {table}_updates VALUES (NEW.id); RETURN NEW; END$$",
        f"CREATE TRIGGER counted AFTER UPDATE ON {table} FOR EACH ROW EXECUTE FUNCTION {table}_count()",
    )


def not_done(ground: Ground, tables: Sequence[str], what: str = "display_name IS DISTINCT FROM full_name") -> int:
    """Return how many rows are not what they should be."""
    return sum(int(ground.value(f"SELECT count(*) FROM {table} WHERE {what}")) for table in tables)
