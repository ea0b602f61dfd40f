"""M27: the version of a row that was changed is the same after a downgrade and an upgrade."""

from __future__ import annotations

import pytest

from dataarch.database.settings import Settings
from fixtures.catalogs import owner_connection
from fixtures.databases import MigrateTo
from fixtures.rows import fill

pytestmark = pytest.mark.migration

VERSIONED = ("tenants", "users", "user_profiles", "user_settings", "products")
CHANGES = {
    "tenants": "name = name || '!'",
    "users": "full_name = full_name || '!'",
    "user_profiles": "bio = coalesce(bio, '') || '!'",
    "user_settings": "timezone = timezone || '!'",
    "products": "name = name || '!'",
}


def versions(settings: Settings) -> dict[str, list[tuple[object, ...]]]:
    with owner_connection(settings) as connection:
        return {
            table: connection.execute(
                f"SELECT to_jsonb(t) - 'version', version FROM {table} AS t ORDER BY 1::text"
            ).fetchall()
            for table in VERSIONED
        }


@pytest.mark.parametrize("down_to", ["0015", "0002", "base"])
def test_m27_versions_of_changed_rows_come_back(settings: Settings, migrate: MigrateTo, down_to: str) -> None:
    fill(settings)
    fill(settings)
    with owner_connection(settings) as connection:
        for table, change in CHANGES.items():
            for times in range(3):
                connection.execute(
                    f"UPDATE {table} SET {change} WHERE ctid IN (SELECT ctid FROM {table} ORDER BY 1 LIMIT %s)", [times]
                )
    before = versions(settings)
    assert {version for rows in before.values() for _, version in rows} >= {1, 2, 3}
    for _ in range(2):
        migrate(settings, down_to, down=True)
        migrate(settings, "head")
        assert versions(settings) == before
    with owner_connection(settings) as connection:
        assert connection.execute("SELECT to_regnamespace('dataarch_set_aside')").fetchone() == (None,)


def test_the_trigger_goes_with_the_downgrade(settings: Settings, migrate: MigrateTo) -> None:
    fill(settings)
    migrate(settings, "0015", down=True)
    with owner_connection(settings) as connection:
        connection.execute("UPDATE users SET full_name = 'without a version'")
