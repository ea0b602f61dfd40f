"""Sessions are found by their token and by their user with an index, as the application role."""

from __future__ import annotations

from collections.abc import Iterator
from uuid import UUID

import psycopg
import pytest

from dataarch.database.unit_of_work import Database
from fixtures.databases import new_database
from fixtures.servers import Servers, libpq

pytestmark = pytest.mark.performance

FILL = """
INSERT INTO tenants (id, slug, name)
    SELECT md5('t' || t)::uuid, 't-' || t, 'Tenant ' || t FROM generate_series(1, 10) AS t;
INSERT INTO users (tenant_id, id, external_id, full_name)
    SELECT md5('t' || t)::uuid, md5('u' || u)::uuid, u, 'User ' || u
    FROM generate_series(1, 10) AS t, generate_series(1, 500) AS u;
INSERT INTO user_sessions (tenant_id, token_hash, user_id, expires_at)
    SELECT md5('t' || n % 10 + 1)::uuid, md5(n::text) || md5('x' || n), md5('u' || n / 10 % 500 + 1)::uuid,
           now() + interval '1 day'
    FROM generate_series(1, 20000) AS n;
"""

QUERIES = {
    "pk_user_sessions": (
        "SELECT * FROM user_sessions WHERE tenant_id = md5('t7')::uuid AND token_hash = md5('66') || md5('x66')"
    ),
    "ix_user_sessions_tenant_id_user_id": (
        "SELECT token_hash FROM user_sessions WHERE tenant_id = md5('t7')::uuid AND user_id = md5('u7')::uuid"
        " ORDER BY token_hash"
    ),
}


@pytest.fixture(scope="module")
def filled(servers: Servers, template: str) -> Iterator[tuple[Database, UUID]]:
    """A database with sessions enough that the planner cares, and one of its tenants."""
    with new_database(servers, template) as settings, Database(settings) as db:
        with psycopg.connect(libpq(settings.owner), autocommit=True) as connection:
            connection.execute(FILL)
            connection.execute("VACUUM (ANALYZE)")
            row = connection.execute("SELECT md5('t7')::uuid").fetchone()
        assert row is not None
        yield db, row[0]


@pytest.mark.parametrize("index", QUERIES)
def test_sessions_are_found_with_an_index(filled: tuple[Database, UUID], index: str) -> None:
    db, tenant = filled
    plan = db.explain(QUERIES[index], tenant_id=tenant)
    assert plan.indexes == (index,)
    assert plan.sequential_scans == ()
