"""A table to retire months of, made anew for each test in one database."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from dataarch.database.settings import Settings
from dataarch.database.unit_of_work import Database
from fixtures.databases import new_database
from fixtures.retirement import Place, furnish
from fixtures.servers import Servers


@pytest.fixture(scope="session")
def retirement_database(servers: Servers) -> Iterator[Settings]:
    """An empty database that its owner may do everything in."""
    with new_database(servers) as settings:
        yield settings


@pytest.fixture
def place(retirement_database: Settings, tmp_path: Path) -> Iterator[Place]:
    """The table, with two old months, and an empty folder."""
    folder = tmp_path / "archives"
    furnish(retirement_database, folder)
    with Database(retirement_database) as db:
        yield Place(retirement_database, db, folder)
