"""The models and the revisions describe the same tables: compared on two databases, one made by each."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from sqlalchemy import text

from dataarch.database.unit_of_work import Database
from dataarch.models import Base
from fixtures.databases import new_database
from fixtures.servers import Servers

pytestmark = pytest.mark.schema

TABLES = [table.name for table in Base.metadata.sorted_tables]

COLUMNS = """
SELECT attname, format_type(atttypid, atttypmod), attnotnull, attgenerated, attidentity, pg_get_expr(adbin, adrelid)
FROM pg_attribute LEFT JOIN pg_attrdef ON adrelid = attrelid AND adnum = attnum
WHERE attrelid = to_regclass(:table) AND attnum > 0 AND NOT attisdropped ORDER BY attname
"""
CONSTRAINTS = """
SELECT conname, contype, condeferrable, condeferred, pg_get_constraintdef(oid)
FROM pg_constraint WHERE conrelid = to_regclass(:table) AND contype <> 't' ORDER BY conname
"""
INDEXES = """
SELECT indexname, indexdef FROM pg_indexes WHERE schemaname = 'public' AND tablename = :table ORDER BY indexname
"""
PARTITIONING = "SELECT pg_get_partkeydef(to_regclass(:table)), relkind FROM pg_class WHERE oid = to_regclass(:table)"

UUID_V7 = "CREATE FUNCTION public.uuid_v7() RETURNS uuid LANGUAGE sql VOLATILE AS 'SELECT gen_random_uuid()'"


@pytest.fixture(scope="module")
def from_models(servers: Servers) -> Iterator[Database]:
    """A database that SQLAlchemy made from the models alone."""
    with new_database(servers) as settings, Database(settings) as database:
        with database.owner() as owner:
            owner.execute(text(UUID_V7))
            Base.metadata.create_all(owner.connection())
        yield database


@pytest.mark.parametrize(
    "kind", [COLUMNS, CONSTRAINTS, INDEXES, PARTITIONING], ids=["column", "constraint", "index", "key"]
)
@pytest.mark.parametrize("table", TABLES)
def test_models_and_revisions_make_the_same_table(
    shared_db: Database, from_models: Database, table: str, kind: str
) -> None:
    described = []
    for database in (shared_db, from_models):
        with database.owner() as owner:
            described.append([tuple(row) for row in owner.execute(text(kind), {"table": table})])
    assert described[0] == described[1]
    assert kind is INDEXES or described[0]


def test_the_database_has_no_table_that_the_models_do_not_know(shared_db: Database) -> None:
    with shared_db.owner() as owner:
        found = owner.scalars(
            text(
                "SELECT relname FROM pg_class WHERE relkind IN ('r', 'p') AND NOT relispartition"
                " AND relnamespace = 'public'::regnamespace"
            )
        ).all()
    assert set(found) == {*TABLES, "alembic_version"}
