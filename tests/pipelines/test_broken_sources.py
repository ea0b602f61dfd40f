"""A source that cannot even be taken up again does not stop the others, and is read when it is mended."""

from __future__ import annotations

import gzip
from dataclasses import replace
from pathlib import Path
from uuid import UUID

import pytest

from dataarch.database.unit_of_work import Database
from dataarch.models import PipelineRun, Product
from dataarch.pipelines.extractors import CsvFiles
from dataarch.pipelines.loaders.replace import Replace
from dataarch.pipelines.loaders.upsert import Upsert
from dataarch.pipelines.outcome import Counts
from dataarch.pipelines.pipeline import Loader
from dataarch.pipelines.runner import run
from dataarch.pipelines.validators.model_rules import valid
from pipelines.listed import home, pipeline, stored

pytestmark = pytest.mark.pipeline

HEADER = "external_id,slug,name,price,currency\n"
LOADERS: dict[str, Loader] = {
    "by batches": Upsert(Product, key="external_id"),
    "as a whole": Replace(Product, {"currency": "GBP"}),
}


@pytest.fixture
def tenant_id(shared_db: Database) -> UUID:
    return home(shared_db)


def lines(*numbers: int) -> bytes:
    return "".join(f"T{n},tea-{n},Tea {n},9.95,GBP\n" for n in numbers).encode()


@pytest.mark.parametrize("load", LOADERS)
def test_a_file_that_was_read_and_is_damaged_since_does_not_stop_the_others(
    shared_db: Database, tenant_id: UUID, tmp_path: Path, load: str
) -> None:
    files = replace(pipeline(load=LOADERS[load]), extract=CsvFiles(), steps=(valid(Product),))
    whole = gzip.compress(HEADER.encode() + lines(1, 2))
    (tmp_path / "a.csv.gz").write_bytes(whole)
    run(shared_db, files, tmp_path, tenant_id=tenant_id)
    (tmp_path / "a.csv.gz").write_bytes(whole[:-20])
    (tmp_path / "b.csv").write_bytes(HEADER.encode() + lines(3))
    outcome = run(shared_db, files, tmp_path, tenant_id=tenant_id)
    assert [failed.source for failed in outcome.failed] == ["a.csv.gz"]
    assert (outcome.counts.read, outcome.counts.loaded) == (1, 1)
    assert ("T3",) in stored(shared_db, tenant_id, Product, "external_id")
    assert ("failed",) in stored(shared_db, tenant_id, PipelineRun, "state")
    (tmp_path / "a.csv.gz").write_bytes(whole)
    assert run(shared_db, files, tmp_path, tenant_id=tenant_id).counts == Counts()


@pytest.mark.parametrize("name", ["na\0me", "na\ud800me", "na\x1bme"], ids=["NUL", "half a pair", "escape"])
def test_a_header_that_no_server_could_keep_stops_its_file_and_not_the_others(
    shared_db: Database, tenant_id: UUID, tmp_path: Path, name: str
) -> None:
    files = replace(pipeline(), extract=CsvFiles(encoding="utf-7"), steps=(valid(Product, extra="ignore"),))
    header = HEADER.replace("name", f"name,{name}")
    (tmp_path / "a.csv").write_bytes(f"{header}T1,tea-1,Tea,x,9.95,GBP\n".encode("utf-7"))
    (tmp_path / "b.csv").write_bytes(HEADER.encode() + lines(2))
    outcome = run(shared_db, files, tmp_path, tenant_id=tenant_id)
    [failed] = outcome.failed
    assert failed.source == "a.csv"
    assert "which cannot be printed" in failed.error.message
    assert stored(shared_db, tenant_id, Product, "external_id") == [("T2",)]
