"""What the application's role may do, to the letter, whatever privileges the server grants by default."""

from __future__ import annotations

import psycopg
import pytest

from dataarch.database.settings import APP_ROLE, Settings
from fixtures.databases import MigrateTo
from fixtures.servers import libpq

pytestmark = pytest.mark.schema

ALL = {"SELECT", "INSERT", "UPDATE", "DELETE"}
MEANT = {
    "tenants": ALL,
    "users": ALL,
    "user_profiles": ALL,
    "user_settings": ALL,
    "user_sessions": ALL,
    "user_activity_log": ALL,
    "products": ALL,
    "inventory": ALL - {"DELETE"},
    "inventory_movements": {"SELECT", "INSERT"},
    "inventory_reservations": {"SELECT", "INSERT"},
    "pipeline_runs": {"SELECT", "INSERT"},
    "pipeline_sources": {"SELECT", "INSERT", "DELETE"},
    "pipeline_batches": {"SELECT", "INSERT"},
    "pipeline_rejects": {"SELECT", "INSERT"},
}
COUNTS = ("state", "read", "loaded", "updated", "unchanged", "rejected", "removed", "error", "finished_at")
HOW_FAR = ("records", "bytes", "checksum", "state", "ended_at", "begun_by", "run_id", "updated_at")
GRANTED = """
SELECT relname, privilege_type FROM pg_class, LATERAL aclexplode(relacl)
WHERE relnamespace = 'public'::regnamespace AND relkind IN ('r', 'p') AND grantee <> relowner
"""
COLUMNS = """
SELECT attrelid::regclass::text, attname, privilege_type FROM pg_attribute, LATERAL aclexplode(attacl)
WHERE grantee = to_regrole(%s)
"""


def granted(settings: Settings) -> dict[str, set[str]]:
    found: dict[str, set[str]] = {}
    with psycopg.connect(libpq(settings.owner)) as connection:
        for table, privilege in connection.execute(GRANTED):
            found.setdefault(table, set()).add(privilege)
    return found


def test_the_application_may_do_what_is_meant_and_nothing_else(settings: Settings) -> None:
    assert granted(settings) == MEANT


def test_the_application_may_change_single_columns_of_what_is_otherwise_written_once(
    settings: Settings,
) -> None:
    with psycopg.connect(libpq(settings.owner)) as connection:
        assert set(connection.execute(COLUMNS, [APP_ROLE])) == {
            ("inventory_movements", "next_sequence", "UPDATE"),
            ("inventory_reservations", "state", "UPDATE"),
            ("inventory_reservations", "ended_at", "UPDATE"),
            ("inventory_reservations", "shipped_by", "UPDATE"),
            ("pipeline_rejects", "replayed_by", "UPDATE"),
            ("pipeline_rejects", "handed_to", "UPDATE"),
            *(("pipeline_runs", column, "UPDATE") for column in COUNTS),
            *(("pipeline_sources", column, "UPDATE") for column in HOW_FAR),
        }


def test_default_privileges_do_not_widen_what_the_application_may_do(
    empty_database: Settings, settings: Settings, migrate: MigrateTo
) -> None:
    with psycopg.connect(libpq(empty_database.owner), autocommit=True) as connection:
        connection.execute(f"ALTER DEFAULT PRIVILEGES GRANT ALL ON TABLES TO {APP_ROLE}, PUBLIC")
    migrate(empty_database, "head")
    found = granted(empty_database)
    # the table that Alembic itself keeps is no tenant's
    found.pop("alembic_version", None)
    assert found == MEANT
