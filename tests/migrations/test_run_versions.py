"""A change of dataarch's own goes all the way: the version of a run's code is split while both versions of it write."""

from __future__ import annotations

from typing import Any

import psycopg
import pytest

from dataarch.database.engine import owner_engine
from dataarch.database.settings import Settings
from dataarch.errors import NotVerified
from dataarch.models.base import new_id
from dataarch.rollout.backfill import run, verify
from fixtures.catalogs import owner_connection
from fixtures.databases import MigrateTo
from fixtures.servers import libpq

pytestmark = pytest.mark.migration

OLD = ("1 (dataarch 0.1.0)", "7 (beta) (dataarch 0.2.0)", "2")


def tenant(settings: Settings) -> object:
    tenant_id = new_id()
    with owner_connection(settings) as connection:
        connection.execute(
            "INSERT INTO tenants (id, slug, name) VALUES (%s, %s, 'Acme')", [tenant_id, f"acme-{tenant_id.hex}"]
        )
    return tenant_id


def write(settings: Settings, tenant_id: object, **given: str) -> None:
    """Write a run as some version of the application does."""
    names, values = ", ".join(given), ", ".join(["%s"] * len(given))
    with owner_connection(settings) as connection:
        statement = f"INSERT INTO pipeline_runs (tenant_id, pipeline, {names}) VALUES (%s, 'products', {values})"
        connection.execute(statement.encode(), [tenant_id, *given.values()])


def versions(settings: Settings, columns: str) -> list[tuple[Any, ...]]:
    with psycopg.connect(libpq(settings.owner)) as connection:
        return connection.execute(f"SELECT {columns} FROM pipeline_runs ORDER BY 1".encode()).fetchall()


@pytest.mark.parametrize("large", [False, True])
def test_m27_the_versions_of_runs_are_split_and_put_together_again(
    empty_database: Settings, migrate: MigrateTo, *, large: bool
) -> None:
    settings, both = empty_database, "pipeline_version, dataarch_version"
    migrate(settings, "0020")
    tenant_id = tenant(settings)
    for one in OLD:
        write(settings, tenant_id, code_version=one)
    if large:
        fill_many(settings, tenant_id)
    migrate(settings, "0022")
    assert set(versions(settings, both)) == {(None, None)}
    # both versions of the application run now
    write(settings, tenant_id, code_version="3 (dataarch 0.3.0)")
    write(settings, tenant_id, pipeline_version="4", dataarch_version="0.4.0")
    whole = sorted([*OLD, "3 (dataarch 0.3.0)", "4 (dataarch 0.4.0)"])
    many = [("many (dataarch 0.0.1)",)] * large
    assert versions(settings, "DISTINCT code_version") == sorted([(one,) for one in whole] + many)
    if large:
        with pytest.raises(NotVerified, match="never run"):
            migrate(settings, "head")
        engine = owner_engine(settings)
        run(engine, "run_versions")
        assert verify(engine, "run_versions").differing == 0
        engine.dispose()
    migrate(settings, "head")
    split = [("1", "0.1.0"), ("2", "unknown"), ("3", "0.3.0"), ("4", "0.4.0"), ("7 (beta)", "0.2.0")]
    assert versions(settings, f"DISTINCT {both}") == sorted(split + [("many", "0.0.1")] * large)
    for _ in range(2):
        migrate(settings, "0020", down=True)
        assert versions(settings, "DISTINCT code_version") == sorted([(one,) for one in whole] + many)
        if large:
            with owner_connection(settings) as connection:
                connection.execute("DELETE FROM pipeline_runs WHERE code_version LIKE 'many%%'")
            large, many = False, []
        migrate(settings, "head")
        assert versions(settings, both) == split


def fill_many(settings: Settings, tenant_id: object) -> None:
    """Write more runs than the gate fills by itself."""
    with owner_connection(settings) as connection:
        connection.execute(
            "INSERT INTO pipeline_runs (tenant_id, pipeline, code_version)"
            " SELECT %s, 'products', 'many (dataarch 0.0.1)' FROM generate_series(1, 10000)",
            [tenant_id],
        )
