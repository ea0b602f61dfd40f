"""One database for each file of tests; each test works in a transaction that is rolled back."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from sqlalchemy import Connection

from dataarch.database.engine import owner_engine
from dataarch.database.settings import Settings
from fixtures.databases import new_database
from fixtures.servers import Servers
from partitions.archive.archive_support import events, transaction


@pytest.fixture(scope="module")
def archives_database(servers: Servers) -> Iterator[Settings]:
    """A database without tables, for a whole file of tests."""
    with new_database(servers) as settings:
        yield settings


@pytest.fixture
def connection(archives_database: Settings) -> Iterator[Connection]:
    """A transaction of the owner that leaves nothing behind."""
    engine = owner_engine(archives_database)
    try:
        with engine.connect() as connection:
            yield connection
            connection.rollback()
    finally:
        engine.dispose()


@pytest.fixture
def detached(connection: Connection) -> str:
    """The name of a table with 1,000 rows, such as a month that was detached."""
    events(connection)
    return "events_2020_01"


@pytest.fixture
def committed(empty_database: Settings) -> Settings:
    """A database of its own, in which the same table is committed, for tests with more than one connection."""
    with transaction(empty_database) as connection:
        events(connection)
    return empty_database


@pytest.fixture
def file(tmp_path: Path) -> Path:
    """Where the archive shall lie."""
    return tmp_path / "events_2020_01.parquet"
