"""Names, keys and types follow the rules of the house, in the migrated database itself."""

from __future__ import annotations

import re

import pytest
from sqlalchemy import text

from dataarch.database.unit_of_work import Database
from dataarch.models import Base

pytestmark = pytest.mark.schema

TABLES = [table.name for table in Base.metadata.sorted_tables]
PREFIX = {"p": "pk", "u": "uq", "f": "fk", "c": "ck"}
BY_HAND = {"idx_tenant_user_created", "idx_metadata_gin", "idx_active_users"}

CONSTRAINTS = """
SELECT conname, contype, confrelid::regclass::text AS referred, confdeltype, confupdtype,
       (SELECT array_agg(attname ORDER BY place) FROM unnest(conkey) WITH ORDINALITY AS key (number, place)
        JOIN pg_attribute ON attrelid = conrelid AND attnum = number) AS columns,
       (SELECT array_agg(attname ORDER BY place) FROM unnest(confkey) WITH ORDINALITY AS key (number, place)
        JOIN pg_attribute ON attrelid = confrelid AND attnum = number) AS referred_columns
FROM pg_constraint WHERE conrelid = to_regclass(:table) AND contype IN ('p', 'u', 'f', 'c')
"""
TYPES = """
SELECT attname, typname, typtype FROM pg_attribute JOIN pg_type ON pg_type.oid = atttypid
WHERE attrelid = to_regclass(:table) AND attnum > 0 AND NOT attisdropped
"""
ALLOWED = {"uuid", "text", "int8", "timestamptz", "jsonb"}


@pytest.mark.parametrize("table", TABLES)
def test_every_constraint_is_named_by_the_convention(shared_db: Database, table: str) -> None:
    with shared_db.owner() as owner:
        for constraint in owner.execute(text(CONSTRAINTS), {"table": table}):
            prefix = PREFIX[constraint.contype]
            assert re.fullmatch(rf"{prefix}_{table}(_\w+)?", constraint.conname)


@pytest.mark.parametrize("table", TABLES)
def test_every_index_is_that_of_a_constraint_or_named_by_hand(shared_db: Database, table: str) -> None:
    with shared_db.owner() as owner:
        found = owner.scalars(text("SELECT indexname FROM pg_indexes WHERE tablename = :table"), {"table": table}).all()
    assert [
        name for name in found if not re.fullmatch(rf"(pk|uq|ix)_{table}(_\w+)?", name) and name not in BY_HAND
    ] == []


@pytest.mark.parametrize("table", [name for name in TABLES if name != "tenants"])
def test_tenant_id_comes_first_in_every_key_and_reference(shared_db: Database, table: str) -> None:
    with shared_db.owner() as owner:
        keys = [row for row in owner.execute(text(CONSTRAINTS), {"table": table}) if row.contype != "c"]
    assert keys
    for key in keys:
        assert key.columns[0] == "tenant_id", key
        assert key.referred_columns is None or key.referred_columns[0] == (
            "id" if key.referred == "tenants" else "tenant_id"
        )


@pytest.mark.parametrize("table", TABLES)
def test_no_reference_changes_the_row_that_holds_it(shared_db: Database, table: str) -> None:
    with shared_db.owner() as owner:
        references = [row for row in owner.execute(text(CONSTRAINTS), {"table": table}) if row.contype == "f"]
    assert {(row.confdeltype, row.confupdtype) for row in references} <= {("c", "a"), ("a", "a")}


@pytest.mark.parametrize("table", TABLES)
def test_every_column_has_a_type_whose_operators_keep_their_index_under_row_level_security(
    shared_db: Database, table: str
) -> None:
    with shared_db.owner() as owner:
        types = owner.execute(text(TYPES), {"table": table}).all()
    assert {row.typname for row in types} <= ALLOWED
    assert {row.typtype for row in types} == {"b"}
    assert all(row.typname == "timestamptz" for row in types if row.attname.endswith("_at"))
