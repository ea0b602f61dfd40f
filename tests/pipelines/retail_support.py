"""Files of order lines for tests, and questions to what was made of them."""

from __future__ import annotations

import os
import subprocess
import sys
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import cast

from dataarch.database.settings import Settings
from dataarch.database.unit_of_work import Database
from dataarch.pipelines.extractors.csv_files import CsvFiles
from dataarch.pipelines.feeds.retail import COLUMNS, RETAIL, OrderLine, desk_of
from dataarch.pipelines.outcome import Counts, Outcome
from dataarch.pipelines.pipeline import Pipeline
from dataarch.pipelines.records import Reject, Source
from dataarch.pipelines.runner import run
from dataarch.pipelines.work import BATCH
from fixtures.catalogs import contents, owner_connection

TESTS = str(Path(__file__).resolve().parents[1])
EXAMPLES = sorted((Path(__file__).resolve().parents[2] / "examples" / "data").glob("*.csv"))
HEADER = ",".join(COLUMNS)
LINE = ("536365", "85123A", "TEA POT", "6", "2010-12-01 08:26:00", "2.55", "17850.0", "United Kingdom")


def changed(**fields: str) -> list[str]:
    """Return the fields of a good line, some of them changed by name."""
    assert fields.keys() <= set(COLUMNS)
    return [fields.get(name, value) for name, value in zip(COLUMNS, LINE, strict=True)]


def checked(fields: list[str], pipeline: Pipeline = RETAIL) -> OrderLine | Reject:
    """Return what the pipeline's steps make of one record."""
    batch = pipeline.check([dict(zip(COLUMNS, fields, strict=True))])
    found = (*batch.rows, *batch.rejects)
    return cast("OrderLine | Reject", found[0])


def valid(**fields: str) -> OrderLine:
    """Return an order line, made of a good line with some fields changed; it must be valid."""
    line = checked(changed(**fields))
    assert not isinstance(line, Reject), line
    return line


def csv_of(*lines: Iterable[str], header: str = HEADER) -> str:
    """Return a whole file as text; no field may need quotes."""
    return "".join(f"{line}\n" for line in (header, *(",".join(fields) for fields in lines)))


class TheseFiles(CsvFiles):
    """Reads files in the order in which they are given."""

    def sources(self, given: Sequence[Path]) -> list[Source]:
        return [Source(file.name, file) for file in given]


def these_files(pipeline: Pipeline = RETAIL) -> Pipeline:
    """Return a pipeline that takes a list of files."""
    return replace(pipeline, extract=TheseFiles(columns=COLUMNS))


def outcome_of(db: Database, *files: Path, batch: int = BATCH) -> Outcome:
    """Load files, and return what became of them."""
    return run(db, these_files(), files, tenant_id=desk_of(db), batch=batch)


def loaded(db: Database, *files: Path, batch: int = BATCH) -> Counts:
    """Load files that can all be read, and return what became of their records."""
    outcome = outcome_of(db, *files, batch=batch)
    assert outcome.failed == []
    return outcome.counts


LOADER = """
import sys
from pathlib import Path
from dataarch.database.unit_of_work import Database
from pipelines.retail_support import loaded
with Database() as db:
    print("ready", flush=True)
    loaded(db, *map(Path, sys.argv[1:]), batch=300)
print("done", flush=True)
"""


def loader_process(settings: Settings, *files: Path, **variables: str) -> subprocess.Popen[str]:
    """Start a process that loads files and names each that is done; variables are added to its environment."""
    assert settings.database_url is not None
    return subprocess.Popen(
        [sys.executable, "-c", LOADER, *map(str, files)],
        env={**os.environ, "DATAARCH_DATABASE_URL": settings.database_url, "PYTHONPATH": TESTS, **variables},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def checksums(settings: Settings) -> dict[str, tuple[int, str]]:
    """Return each table's number of rows and their checksum, times and ids included, without what runs write down."""
    return {table: found for table, found in contents(settings).items() if not table.startswith("pipeline_")}


def activity(settings: Settings) -> Counter[tuple[str, ...]]:
    """Return all activity with its tenant and user by name, apart from where it stood in which file."""
    return _rows(
        settings,
        "SELECT t.slug, u.external_id, a.id, a.activity_type, a.created_at,"
        " a.metadata - '{product,source,line}'::text[] FROM user_activity_log a JOIN tenants t ON t.id = a.tenant_id"
        " JOIN users u ON u.tenant_id = a.tenant_id AND u.id = a.user_id",
    )


def ledger(settings: Settings) -> Counter[tuple[str, ...]]:
    """Return all movements with their tenant and product by name; the ids of receipts are random."""
    return _rows(
        settings,
        "SELECT t.slug, p.external_id, m.sequence, m.quantity_before, m.change, m.reason, m.reference, m.occurred_at"
        " FROM inventory_movements m JOIN tenants t ON t.id = m.tenant_id"
        " JOIN products p ON p.tenant_id = m.tenant_id AND p.id = m.product_id",
    )


def on_hand(settings: Settings) -> Counter[tuple[str, ...]]:
    """Return what is on hand of each product."""
    return _rows(
        settings,
        "SELECT t.slug, p.external_id, i.quantity FROM inventory i JOIN tenants t ON t.id = i.tenant_id"
        " JOIN products p ON p.tenant_id = i.tenant_id AND p.id = i.product_id",
    )


def untrue_products(settings: Settings) -> Counter[tuple[str, ...]]:
    """Return the products whose ledger does not add up to what is on hand; there must never be one."""
    return _rows(
        settings,
        "SELECT i.product_id, i.quantity, sum(m.change), count(*), i.last_sequence FROM inventory i"
        " LEFT JOIN inventory_movements m USING (tenant_id, product_id) GROUP BY 1, 2, 5"
        " HAVING coalesce(sum(m.change), 0) <> i.quantity OR count(m.id) <> i.last_sequence OR i.quantity < 0",
    )


def rows_of(settings: Settings, query: str) -> list[tuple[str, ...]]:
    """Return the rows of a query of the owner, as text, in order."""
    return sorted(_rows(settings, query).elements())


def _rows(settings: Settings, query: str) -> Counter[tuple[str, ...]]:
    with owner_connection(settings) as connection:
        return Counter(tuple(map(str, row)) for row in connection.execute(query.encode()))
