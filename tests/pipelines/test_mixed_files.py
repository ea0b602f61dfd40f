"""Files that were not written alike: each record is loaded once, or rejected, or its file stops by name."""

from __future__ import annotations

import gzip
from dataclasses import replace
from pathlib import Path
from uuid import UUID

import pytest

from dataarch.database.unit_of_work import Database
from dataarch.models import PipelineReject, PipelineSource, Product
from dataarch.pipelines.extractors import CsvFiles
from dataarch.pipelines.outcome import Counts
from dataarch.pipelines.pipeline import Pipeline
from dataarch.pipelines.runner import run
from dataarch.pipelines.validators.model_rules import valid
from pipelines.listed import home, pipeline, stored

pytestmark = pytest.mark.pipeline

COLUMNS = ("external_id", "slug", "name", "price", "currency")
NAMES = ",".join(COLUMNS)
ANY, NAMED = "any columns", "named columns"
PIPELINES = {
    ANY: replace(pipeline(), extract=CsvFiles(), steps=(valid(Product),)),
    NAMED: replace(pipeline(), extract=CsvFiles(columns=COLUMNS), steps=(valid(Product),)),
}


@pytest.fixture
def tenant_id(shared_db: Database) -> UUID:
    return home(shared_db)


def line(number: int, name: str = "Tea") -> str:
    return f"T{number},tea-{number},{name},9.95,GBP"


WRITTEN = {
    "01-mark.csv": f"\ufeff{NAMES}\n{line(1)}\n".encode(),
    "02-order.csv": b"currency,price,name,slug,external_id\r\nGBP,9.95,Tea,tea-2,T2\r\n",
    "03-latin.csv": f"{NAMES}\n{line(3)}\n{line(4, 'Café')}\n{line(5)}\n".encode("cp1252"),
    "04-more.csv": f"{NAMES},colour\n{line(6)},blue\n".encode(),
    "05-less.csv": f"{NAMES.removesuffix(',currency')}\n{line(7).removesuffix(',GBP')}\n".encode(),
    "06-ends.csv": "\r".join([NAMES, line(8), line(9, '"Tea\r\npot"') + "\n" + line(10), ""]).encode(),
    "07-other.csv": f"{NAMES}\n{line(11)}\n".encode("utf-16"),
    "08-cut.csv.gz": gzip.compress(b"".join(f"{one}\n".encode() for one in (NAMES, *map(line, range(12, 5000)))))[
        :-300
    ],
    "09-twice.csv": f"{NAMES}\n{line(5000)}\n{NAMES}\n{line(5001)}\n".encode(),
}


def write(folder: Path, **mended: bytes) -> None:
    for name, content in {**WRITTEN, **mended}.items():
        (folder / name).write_bytes(content)


def load(db: Database, products: Pipeline, folder: Path, tenant_id: UUID) -> tuple[Counts, dict[str, str]]:
    outcome = run(db, products, folder, tenant_id=tenant_id)
    return outcome.counts, {failed.source: failed.error.message for failed in outcome.failed}


def loaded(db: Database, tenant_id: UUID) -> list[int]:
    rows = [int(code[1:]) for (code,) in stored(db, tenant_id, Product, "external_id")]
    assert len(set(rows)) == len(rows)
    return sorted(rows)


@pytest.mark.parametrize("columns", PIPELINES)
def test_files_that_were_not_written_alike_are_read_side_by_side(
    shared_db: Database, tenant_id: UUID, tmp_path: Path, columns: str
) -> None:
    write(tmp_path)
    counts, failed = load(shared_db, PIPELINES[columns], tmp_path, tenant_id)
    rows = loaded(shared_db, tenant_id)
    assert rows[:8] == [1, 2, 3, 5, 8, 9, 10, 12]
    # of the file that is cut off all whole records before, in their order
    assert rows[7:-2] == list(range(12, 12 + len(rows) - 9))
    assert rows[-2:] == [5000, 5001]
    assert len(rows) > 1000
    rejects = stored(shared_db, tenant_id, PipelineReject, "source", "number", "stage", "field")
    wanted = [("03-latin.csv", 2, "extract", None), ("09-twice.csv", 2, "validate", "price")]
    told = {"07-other.csv": "is UTF-16 text", "08-cut.csv.gz": "is cut off"}
    if columns == ANY:
        # the header says nothing: each record does
        wanted[1:1] = [("04-more.csv", 1, "validate", None), ("05-less.csv", 1, "validate", "currency")]
    else:
        told |= {"04-more.csv": "it has 'colour', which nobody expects", "05-less.csv": "it lacks 'currency'"}
    assert rejects == wanted
    assert counts == Counts(read=len(rows) + len(rejects), loaded=len(rows), rejected=len(rejects))
    assert failed.keys() == told.keys()
    assert all(words in failed[name] for name, words in told.items())
    assert load(shared_db, PIPELINES[columns], tmp_path, tenant_id)[0] == Counts()


def test_once_they_are_mended_every_record_is_there_once(shared_db: Database, tenant_id: UUID, tmp_path: Path) -> None:
    write(tmp_path)
    load(shared_db, PIPELINES[NAMED], tmp_path, tenant_id)
    whole = "".join(f"{one}\n" for one in (NAMES, *map(line, range(12, 5000))))
    mended = {
        "03-latin.csv": f"{NAMES}\n{line(3)}\n{line(4, 'Café')}\n{line(5)}\n".encode(),
        "04-more.csv": f"{NAMES}\n{line(6)}\n".encode(),
        "05-less.csv": f"{NAMES}\n{line(7)}\n".encode(),
        "07-other.csv": f"{NAMES}\n{line(11)}\n".encode(),
        "08-cut.csv.gz": gzip.compress(whole.encode()),
        "09-twice.csv": f"{NAMES}\n{line(5000)}\n{line(5001)}\n".encode(),
    }
    write(tmp_path, **mended)
    before = len(loaded(shared_db, tenant_id))
    counts, failed = load(shared_db, PIPELINES[NAMED], tmp_path, tenant_id)
    assert (failed, counts.rejected) == ({}, 0)
    assert loaded(shared_db, tenant_id) == list(range(1, 5002))
    # corrected files count again; what was packed and cut off goes on where it was
    assert counts == Counts(read=5001 - before + 4, loaded=5001 - before, unchanged=4)
    assert {ended for (ended,) in stored(shared_db, tenant_id, PipelineSource, "ended_at")} != {None}
    assert load(shared_db, PIPELINES[NAMED], tmp_path, tenant_id)[0] == Counts()
