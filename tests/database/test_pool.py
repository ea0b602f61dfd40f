"""Connections of the pool: the one that was used last is used next, so that few are warm and the others can go."""

from __future__ import annotations

from contextlib import ExitStack

import pytest
from sqlalchemy import text

from dataarch.database.unit_of_work import Database, TenantSession
from fixtures.tenants import Inhabited

pytestmark = pytest.mark.integrity


def backend(session: TenantSession) -> int:
    """Return the process of the server that a unit of work talks to."""
    return int(session.scalar(text("SELECT pg_backend_pid()")) or 0)


def test_units_of_work_one_after_the_other_use_one_connection(db: Database, home: Inhabited) -> None:
    with ExitStack() as at_once:
        several = {backend(at_once.enter_context(db.tenant(home.id))) for _ in range(4)}
    assert len(several) == 4
    used = set()
    for _ in range(6):
        with db.tenant(home.id) as session:
            used.add(backend(session))
    assert len(used) == 1
