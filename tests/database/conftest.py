"""Databases with settings of a test's own, and two tenants that a whole file shares."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from sqlalchemy import Connection, event

from dataarch.database.unit_of_work import Database
from database.opening import ExecutedSql, OpenDatabase, tuned
from database.wire import Proxy, proxy
from fixtures.servers import Servers
from fixtures.tenants import Inhabited, inhabit


@pytest.fixture
def open_db(shared_db: Database) -> Iterator[OpenDatabase]:
    """Open the file's database once more, with other settings; closed when the test ends."""
    opened: list[Database] = []

    def open_with(**changes: object) -> Database:
        opened.append(Database(tuned(shared_db.settings, **changes)))
        return opened[-1]

    yield open_with
    for database in opened:
        database.close()


@pytest.fixture(scope="module")
def home(shared_db: Database) -> Inhabited:
    """A tenant with a row in every table, one for the whole file."""
    return inhabit(shared_db, "home")


@pytest.fixture(scope="module")
def abroad(shared_db: Database) -> Inhabited:
    """Another tenant, with the same rows."""
    return inhabit(shared_db, "abroad")


@pytest.fixture
def executed(shared_db: Database) -> Iterator[ExecutedSql]:
    """Every statement that the test sends through the file's database, as its text."""
    seen: ExecutedSql = []

    def note(
        _connection: Connection, _cursor: object, statement: str, _parameters: object, _context: Any, _many: object
    ) -> None:
        seen.append(" ".join(statement.split()))

    event.listen(shared_db.engine, "before_cursor_execute", note)
    yield seen
    event.remove(shared_db.engine, "before_cursor_execute", note)


@pytest.fixture
def superuser_url(servers: Servers, shared_db: Database) -> str:
    """The file's database for a superuser, which must switch to the application's role first."""
    database = shared_db.settings.application.database
    return servers.admin.set(database=database).render_as_string(hide_password=False)


@pytest.fixture
def wire(shared_db: Database) -> Iterator[Proxy]:
    """A proxy in front of the file's database."""
    with proxy(shared_db.settings.application) as opened:
        yield opened
