"""A second clean database beside the test's own, to compare with."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from dataarch.database.unit_of_work import Database
from fixtures.databases import new_database
from fixtures.servers import Servers


@pytest.fixture
def other_db(servers: Servers, template: str) -> Iterator[Database]:
    """Another clean database at the newest revision."""
    with new_database(servers, template) as settings, Database(settings) as database:
        yield database
