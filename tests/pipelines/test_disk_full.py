"""A disk that is really full: the run ends by name, nothing is lost or doubled, and the next run completes it.

The table lies in a cluster of the test's own, in a tablespace on a small file system that is made larger then.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest
from alembic import command
from psycopg.sql import SQL

from dataarch.database.unit_of_work import Database
from dataarch.errors import DiskFull
from dataarch.models import PipelineBatch, PipelineReject, PipelineRun, PipelineSource, Product
from dataarch.pipelines.extractors import CsvFiles
from dataarch.pipelines.loaders.replace import Replace
from dataarch.pipelines.loaders.upsert import Upsert
from dataarch.pipelines.pipeline import Loader, Pipeline
from dataarch.pipelines.runner import run
from dataarch.pipelines.validators.model_rules import valid
from fixtures.clusters import Cluster, own_cluster
from fixtures.databases import alembic_config, new_database
from fixtures.small_disks import execute, small_disk
from pipelines.listed import home, pipeline, stored

pytestmark = pytest.mark.pipeline

RECORDS = 12_000
BATCH = 1_000
SMALL = "2m"
"""Room for some batches of the products and their indexes, and not for all."""

LOADERS: dict[str, Loader] = {
    "by batches": Upsert(Product, key="external_id"),
    "as a whole": Replace(Product, {"currency": "GBP"}),
}


@pytest.fixture
def cluster() -> Iterator[Cluster]:
    with own_cluster() as made:
        yield made


@pytest.fixture
def own_db(cluster: Cluster) -> Iterator[Database]:
    """A migrated database of the own cluster."""
    with new_database(cluster.servers()) as settings:
        command.upgrade(alembic_config(settings), "head")
        with Database(settings) as db:
            yield db


@pytest.fixture
def feed(tmp_path: Path) -> Path:
    """A file with a reject in each hundred records."""
    lines = [f"T{n},{'No Slug' if n % 100 == 7 else f'tea-{n}'},Tea {n},9.95,GBP" for n in range(RECORDS)]
    (tmp_path / "feed.csv").write_text("\n".join(["external_id,slug,name,price,currency", *lines, ""]))
    return tmp_path / "feed.csv"


def end_state(db: Database, tenant_id: UUID) -> tuple[Any, ...]:
    """Return what a pipeline has left: rows, rejects, sums of all runs, how far it read, where rows are from."""
    sums = ("read", "loaded", "updated", "unchanged", "rejected")
    numbers = [sum(row) for row in zip(*stored(db, tenant_id, PipelineRun, *sums), strict=True)]
    codes = dict(stored(db, tenant_id, Product, "id", "external_id"))
    origins = sorted(
        (codes[UUID(one)], first + place)
        for first, rows in stored(db, tenant_id, PipelineBatch, "first_record", "rows")
        for one, place in rows.items()
    )
    return (
        stored(db, tenant_id, Product, "external_id", "slug", "name"),
        stored(db, tenant_id, PipelineReject, "number", "reason"),
        stored(db, tenant_id, PipelineSource, "records", "checksum"),
        numbers,
        origins,
    )


@pytest.mark.parametrize("way", LOADERS)
def test_a_disk_that_is_full_ends_the_run_by_name_and_once_there_is_room_the_next_one_completes_it(
    cluster: Cluster, own_db: Database, feed: Path, way: str
) -> None:
    products: Pipeline = replace(pipeline(load=LOADERS[way]), extract=CsvFiles(), steps=(valid(Product),))
    undisturbed, disturbed = home(own_db), home(own_db)
    run(own_db, products, feed, tenant_id=undisturbed, batch=BATCH)
    wanted = end_state(own_db, undisturbed)
    database = str(own_db.settings.owner.database)
    execute(cluster, database, SQL("TRUNCATE products CASCADE"))
    with small_disk(cluster, database, "products", SMALL) as disk:
        for _ in range(2):
            # the second time there is no more room than before
            with pytest.raises(DiskFull) as full:
                run(own_db, products, feed, tenant_id=disturbed, batch=BATCH)
            assert full.value.sqlstate == "53100"
            assert "No space left on device" in str(full.value)
            assert "Make room on the server's disk, and run it again" in str(full.value)
        kept = stored(own_db, disturbed, PipelineRun, "loaded")
        rows = len(stored(own_db, disturbed, Product, "id"))
        assert sum(loaded for (loaded,) in kept) == rows
        assert rows % (BATCH * 99 // 100) == 0
        assert (rows > 0) == (way == "by batches")
        assert len(stored(own_db, disturbed, PipelineReject, "id")) == rows // 99
        disk.make_room()
        outcome = run(own_db, products, feed, tenant_id=disturbed, batch=BATCH)
        assert outcome.counts.read == RECORDS - rows - rows // 99
        assert end_state(own_db, disturbed) == wanted
        assert run(own_db, products, feed, tenant_id=disturbed, batch=BATCH).counts.read == 0
