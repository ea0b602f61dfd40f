"""Each row knows every run that wrote it, and the search for them reads few batches."""

from __future__ import annotations

from dataclasses import replace
from hashlib import sha256
from pathlib import Path
from uuid import UUID

import psycopg
import pytest

from dataarch.database.unit_of_work import Database
from dataarch.errors import InvalidValue
from dataarch.models import Product
from dataarch.models.base import new_id
from dataarch.pipelines.extractors import CsvFiles
from dataarch.pipelines.lineage import ORIGINS, origins, searched
from dataarch.pipelines.pipeline import Pipeline
from dataarch.pipelines.records import Batch, Row, Stage, each
from dataarch.pipelines.replay import replay
from dataarch.pipelines.runner import run
from fixtures.servers import libpq
from pipelines.listed import home, pipeline, product, stored

pytestmark = pytest.mark.pipeline

BATCHES = 3_000

FILL = """
INSERT INTO pipeline_runs (tenant_id, id, pipeline, pipeline_version, dataarch_version, state, finished_at)
SELECT id, id, 'many', '1', '1', 'finished', now() FROM tenants WHERE slug LIKE 'many-%';
INSERT INTO pipeline_batches (tenant_id, run_id, number, source, first_record, first_byte, bytes, table_name, rows,
                              least_id, greatest_id, extracted_at, transformed_at)
SELECT t.id, t.id, n, 'a.csv', n, 0, 0, 'products',
       jsonb_build_object(lpad(to_hex(n * 10), 32, '0')::uuid::text, 0),
       lpad(to_hex(n * 10), 32, '0')::uuid, lpad(to_hex(n * 10 + 9), 32, '0')::uuid, now(), now()
FROM tenants AS t, generate_series(1, {batches}) AS n WHERE t.slug LIKE 'many-%';
"""


@pytest.fixture
def db(shared_db: Database) -> Database:
    """One database for this file: each test makes tenants of its own."""
    return shared_db


@pytest.fixture
def tenant_id(db: Database) -> UUID:
    return home(db)


def id_of(db: Database, tenant_id: UUID, external_id: str) -> UUID:
    found: UUID = dict(stored(db, tenant_id, Product, "external_id", "id"))[external_id]
    return found


def test_m25_a_row_tells_its_source_its_times_and_every_run_that_brought_it(
    db: Database, tenant_id: UUID, tmp_path: Path
) -> None:
    file = tmp_path / "products.csv"
    file.write_text("external_id,slug,name,price,currency\nT1,tea-1,Tea,995,GBP\nT2,tea-2,Pot,995,GBP\n")
    products = Pipeline("files", CsvFiles(), (priced,), pipeline().load, version="7")
    first = run(db, products, file, tenant_id=tenant_id, batch=1)
    whole = file.read_bytes()
    with file.open("a") as stream:
        stream.write("T3,tea-3,Cup,995,GBP\nT2,tea-2,Pan,995,GBP\n")
    second = run(db, products, file, tenant_id=tenant_id)
    with db.tenant(tenant_id) as session:
        before, after = origins(session, id_of(db, tenant_id, "T2"))
    assert [(one.run_id, one.source, one.record) for one in (before, after)] == [
        (first.run_id, "products.csv", 2),
        (second.run_id, "products.csv", 4),
    ]
    assert (before.pipeline, before.pipeline_version, before.table, before.replay_of) == (
        "files", "7", "products", None,
    )  # fmt: skip
    assert whole[before.first_byte : before.first_byte + before.bytes] == b"T2,tea-2,Pot,995,GBP\n"
    assert before.checksum == sha256(whole).hexdigest()
    assert after.checksum == sha256(file.read_bytes()).hexdigest()
    assert before.extracted_at <= before.transformed_at <= before.loaded_at <= after.extracted_at


def priced(batch: Batch) -> Batch:
    """Give prices as numbers."""
    return each(batch, Stage.TRANSFORM, lambda row: {**row, "price": int(row["price"])})


def test_m25_another_tenant_sees_nothing_of_where_a_row_came_from(db: Database, tenant_id: UUID) -> None:
    run(db, pipeline(), {"a": [product(1)]}, tenant_id=tenant_id)
    row_id = id_of(db, tenant_id, "T1")
    with db.tenant(tenant_id) as session:
        assert len(origins(session, row_id)) == 1
    with db.tenant(home(db)) as session:
        assert origins(session, row_id) == []


def test_m25_a_row_that_a_replay_has_loaded_names_the_run_that_rejected_it(db: Database, tenant_id: UUID) -> None:
    strict = replace(pipeline(), steps=(lambda batch: each(batch, Stage.VALIDATE, none_passes),))
    first = run(db, strict, {"a": [product(1), product(2)]}, tenant_id=tenant_id)
    again = replay(db, pipeline(), first.run_id, tenant_id=tenant_id)
    with db.tenant(tenant_id) as session:
        [found] = origins(session, id_of(db, tenant_id, "T2"))
    assert (found.run_id, found.replay_of, found.source, found.record) == (again.run_id, first.run_id, "a", 2)
    assert found.checksum is None


def none_passes(_row: Row) -> Row:
    raise InvalidValue("Not today.")


def test_a_row_that_no_pipeline_wrote_or_in_another_table_has_no_origin(db: Database, tenant_id: UUID) -> None:
    run(db, pipeline(), {"a": [product(1)]}, tenant_id=tenant_id)
    row_id = id_of(db, tenant_id, "T1")
    with db.tenant(tenant_id) as session:
        assert origins(session, new_id()) == []
        assert origins(session, row_id, "users") == []
        assert len(origins(session, row_id, "products")) == 1


def test_a_row_that_is_there_with_the_same_values_is_not_written_again(db: Database, tenant_id: UUID) -> None:
    run(db, pipeline(), {"a": [product(1)]}, tenant_id=tenant_id)
    run(db, pipeline(), {"b": [product(1)]}, tenant_id=tenant_id)
    with db.tenant(tenant_id) as session:
        assert [one.source for one in origins(session, id_of(db, tenant_id, "T1"))] == ["a"]


@pytest.fixture(scope="module")
def many(shared_db: Database) -> UUID:
    """A tenant, beside others, with thousands of batches."""
    tenant_id, *_ = (home(shared_db, "many") for _ in range(3))
    with psycopg.connect(libpq(shared_db.settings.owner), autocommit=True) as connection:
        connection.execute(FILL.format(batches=BATCHES))
        connection.execute("ANALYZE pipeline_batches")
    return tenant_id


@pytest.mark.parametrize("number", [1, BATCHES // 2, BATCHES])
def test_the_search_goes_by_the_index_and_reads_the_batch_of_the_row_alone(
    db: Database, many: UUID, number: int
) -> None:
    row_id = UUID(int=number * 10)
    with db.tenant(many) as session:
        [found] = origins(session, row_id)
    assert found.record == number
    plan = db.explain(ORIGINS, searched(many, row_id), tenant_id=many, analyze=True)
    assert "ix_pipeline_batches_tenant_id_greatest_id_least_id" in plan.index_names
    assert "pipeline_batches" not in plan.sequential_scans
    assert plan.buffers.hit + plan.buffers.read < 60, plan.tree
