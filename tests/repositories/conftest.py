"""A tenant that a whole file shares, and the table of things."""

from __future__ import annotations

import pytest

from dataarch.database.unit_of_work import Database
from fixtures.tenants import Inhabited, inhabit
from repositories.things import furnish


@pytest.fixture(scope="module")
def home(shared_db: Database) -> Inhabited:
    """A tenant with a row in every table, one for the whole file."""
    return inhabit(shared_db, "home")


@pytest.fixture(scope="module")
def things(shared_db: Database) -> Database:
    """A database with the table of things."""
    furnish(shared_db)
    return shared_db
