"""A table that a revision has partitioned is one with partitions from there on, and not before."""

from __future__ import annotations

from pathlib import Path

import pytest
from sqlalchemy import Column, DateTime, MetaData, Table, Uuid

from rollout.checks.lint_support import Folder

pytestmark = pytest.mark.migration

CONCURRENTLY = """
with op.get_context().autocommit_block():
    op.create_index("{name}", "{table}", ["tenant_id", "id"], postgresql_concurrently=True)
"""
MADE = 'op.execute("CREATE TABLE visits (tenant_id uuid, id uuid, at timestamptz, PRIMARY KEY (tenant_id, id, at))")'
PARTITIONED = """
op.partition_table("visits", "at")
op.enable_tenant_isolation("visits")
"""


def models() -> MetaData:
    """Return the models as they are in the end."""
    metadata = MetaData()
    columns = (Column("tenant_id", Uuid, primary_key=True), Column("at", DateTime, primary_key=True))
    Table("visits", metadata, *columns, postgresql_partition_by="RANGE (at)")
    return metadata


@pytest.mark.parametrize("known", [None, models()], ids=["revisions alone", "models, too"])
@pytest.mark.parametrize("with_squawk", [False, True])
def test_its_indexes_may_be_built_concurrently_before_and_not_after(
    tmp_path: Path, known: MetaData | None, *, with_squawk: bool
) -> None:
    folder = Folder(tmp_path / "migrations")
    folder.write(MADE)
    folder.write(CONCURRENTLY.format(name="before", table="visits"))
    folder.write(PARTITIONED)
    folder.write(CONCURRENTLY.format(name="after", table="visits"))
    found = [one for one in folder.found(only=(), models=known, with_squawk=with_squawk) if "visits" in one.what]
    assert [(one.rule, one.file) for one in found if one.rule == "index-on-partitioned-table"] == [
        ("index-on-partitioned-table", folder.written[-1])
    ]


def test_an_index_under_a_lock_is_still_told_of_before(tmp_path: Path) -> None:
    folder = Folder(tmp_path / "migrations")
    folder.write(MADE)
    under_a_lock = folder.write('op.create_index("before", "visits", ["tenant_id", "id"])')
    folder.write(PARTITIONED)
    found = folder.found(only=(str(under_a_lock),), with_squawk=True)
    assert "require-concurrent-index-creation" in {one.rule for one in found}
