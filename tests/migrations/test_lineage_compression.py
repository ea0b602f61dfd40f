"""What a batch has written is compressed by lz4 where the server can, and by what it can where not."""

from __future__ import annotations

import pytest

from dataarch.database.settings import Settings
from fixtures.catalogs import owner_connection
from fixtures.databases import MigrateTo

pytestmark = pytest.mark.migration

OF_COLUMN = """
SELECT attcompression::text FROM pg_attribute WHERE attrelid = 'pipeline_batches'::regclass AND attname = 'rows'
"""


def compression(settings: Settings) -> str:
    with owner_connection(settings) as connection:
        ((found,),) = connection.execute(OF_COLUMN).fetchall()
    return str(found)


def can_lz4(settings: Settings) -> bool:
    with owner_connection(settings) as connection:
        found = connection.execute(
            "SELECT 'lz4' = ANY (enumvals) FROM pg_settings WHERE name = 'default_toast_compression'"
        )
        ((able,),) = found.fetchall()
    return bool(able)


def test_lineage_is_compressed_by_lz4_where_the_server_can(settings: Settings, migrate: MigrateTo) -> None:
    wanted = "l" if can_lz4(settings) else ""
    assert compression(settings) == wanted
    migrate(settings, "0024", down=True)
    assert compression(settings) == ""
    migrate(settings, "head")
    assert compression(settings) == wanted
