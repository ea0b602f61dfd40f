"""The main job on the real data, compared with what other code finds in the same files."""

from __future__ import annotations

import gzip
import json
import os
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from decimal import Decimal
from pathlib import Path

import pytest

from dataarch.database.unit_of_work import Database
from dataarch.pipelines.outcome import Counts, Outcome
from fixtures.databases import new_database
from fixtures.servers import Servers
from fixtures.shared_data import shared_file
from pipelines.retail_support import TESTS, outcome_of, rows_of, untrue_products

pytest_plugins = ["retail_fixtures"]
pytestmark = pytest.mark.pipeline


@pytest.fixture(scope="module")
def files() -> list[Path]:
    """The files of the real data."""
    return sorted(shared_file("online-retail").glob("*.csv.gz"))


@pytest.fixture(scope="module")
def real(servers: Servers, template: str, files: list[Path]) -> Iterator[tuple[Database, Outcome]]:
    """A database with the real data, and what was counted while it was loaded."""
    with new_database(servers, template) as settings, Database(settings) as db:
        yield db, outcome_of(db, *files)


@pytest.fixture(scope="module")
def lines(files: list[Path]) -> list[list[str]]:
    """The records of the files, read by other code: none has a line break in a field, some have commas in quotes."""
    found = []
    for file in files:
        for text in gzip.decompress(file.read_bytes()).decode().splitlines()[1:]:
            left, *quoted = text.split('"')
            middle, right = (quoted[0], quoted[-1]) if quoted else ("", "")
            if not quoted:
                found.append(text.split(","))
            else:
                inner = '"'.join([middle, *quoted[1:-1]])
                found.append([*left.split(",")[:-1], inner, *right.split(",")[1:]])
    return found


def good(line: list[str]) -> bool:
    """Return whether a line can be loaded, by the few faults that the real data has."""
    number, code, _, quantity, _, price, customer, country = line
    return bool(number and code and customer and country) and int(quantity) != 0 and Decimal(price) >= 0


def test_all_77628_lines_are_loaded_duplicates_or_rejected(
    real: tuple[Database, Outcome], lines: list[list[str]]
) -> None:
    _, outcome = real
    counts = outcome.counts
    assert counts == Counts(read=77_628, loaded=48_024, unchanged=738, rejected=28_866)
    assert (len(lines), outcome.failed) == (77_628, [])
    expected = [line for line in lines if good(line)]
    assert counts.rejected == len(lines) - len(expected) == outcome.reasons.total()
    assert counts.loaded == len({tuple(line) for line in expected})


def test_each_country_with_a_customer_is_a_tenant_with_its_users_and_products(
    real: tuple[Database, Outcome], lines: list[list[str]]
) -> None:
    db, _ = real
    expected = {tuple(line) for line in lines if good(line)}
    assert len({line[7] for line in lines}) == 28
    counted = rows_of(
        db.settings,
        "SELECT name, (SELECT count(*) FROM users WHERE tenant_id = tenants.id),"
        " (SELECT count(*) FROM products WHERE tenant_id = tenants.id),"
        " (SELECT count(*) FROM user_activity_log WHERE tenant_id = tenants.id) FROM tenants"
        " WHERE slug <> 'retail-desk'",
    )
    assert counted == sorted(
        (
            country,
            str(len({line[6] for line in expected if line[7] == country})),
            str(len({line[1].upper() for line in expected if line[7] == country})),
            str(sum(line[7] == country for line in expected)),
        )
        for country in {line[7] for line in expected}
    )


def test_each_month_is_a_partition_with_the_rows_that_the_files_have(
    real: tuple[Database, Outcome], lines: list[list[str]]
) -> None:
    db, _ = real
    months = Counter(line[4][:7].replace("-", "_") for line in {tuple(line) for line in lines if good(line)})
    assert rows_of(db.settings, "SELECT tableoid::regclass, count(*) FROM user_activity_log GROUP BY 1") == [
        ("user_activity_log_2010_12", str(months["2010_12"])),
        ("user_activity_log_2011_01", str(months["2011_01"])),
    ]


def test_every_line_is_in_the_log_as_it_stands_in_its_file(
    real: tuple[Database, Outcome], lines: list[list[str]]
) -> None:
    db, _ = real
    stored = rows_of(
        db.settings,
        "SELECT metadata ->> 'invoice', metadata ->> 'stock_code', metadata ->> 'quantity',"
        " to_char(a.created_at, 'YYYY-MM-DD HH24:MI:SS'), (metadata ->> 'unit_price')::numeric(12, 2),"
        " external_id, name, activity_type FROM user_activity_log a JOIN users u USING (tenant_id)"
        " JOIN tenants t ON t.id = tenant_id WHERE u.id = user_id",
    )
    assert stored == sorted(
        (
            number, code.upper(), quantity, date, f"{Decimal(price):.2f}", customer.removesuffix(".0"), country,
            "return" if quantity.startswith("-") else "purchase",
        )
        for number, code, _, quantity, date, price, customer, country in {tuple(line) for line in lines if good(line)}
    )  # fmt: skip


def test_the_ledger_of_every_product_is_true_and_never_below_nothing(real: tuple[Database, Outcome]) -> None:
    db, outcome = real
    assert not untrue_products(db.settings)
    assert rows_of(db.settings, "SELECT count(*) FROM inventory_movements WHERE reason <> 'receipt'") == [
        (str(outcome.counts.loaded),)
    ]
    assert rows_of(db.settings, "SELECT count(*) FROM inventory_movements WHERE quantity_after < 0") == [("0",)]


def test_every_rejected_line_is_kept_as_it_stands_in_its_file(
    real: tuple[Database, Outcome], lines: list[list[str]]
) -> None:
    db, _ = real
    stored = rows_of(db.settings, "SELECT stage, field, reason, record FROM pipeline_rejects")
    names = ("InvoiceNo", "StockCode", "Description", "Quantity", "InvoiceDate", "UnitPrice", "CustomerID", "Country")
    assert Counter(tuple(json.loads(record)[name] for name in names) for *_, record in stored) == Counter(
        tuple(field.replace('""', '"') for field in line) for line in lines if not good(line)
    )
    assert {tuple(reject[:2]) for reject in stored} == {("validate", "CustomerID")}


def test_every_activity_is_in_the_lineage_once_with_the_file_and_record_that_it_came_from(
    real: tuple[Database, Outcome], files: list[Path]
) -> None:
    db, outcome = real
    traced = rows_of(
        db.settings,
        "SELECT count(*), count(DISTINCT a.id), count(DISTINCT source), count(DISTINCT run_id)"
        " FROM pipeline_batches b CROSS JOIN jsonb_each(rows) AS r JOIN user_activity_log a"
        " ON a.tenant_id = b.tenant_id AND a.id = key::uuid"
        " WHERE table_name = 'user_activity_log' AND source LIKE to_char(a.created_at, 'YYYY-MM-DD') || '.csv.gz'",
    )
    assert traced == [(*[str(outcome.counts.loaded)] * 2, str(len(files)), "1")]


def test_a_second_run_of_the_real_data_reads_nothing(real: tuple[Database, Outcome], files: list[Path]) -> None:
    db, _ = real
    again = outcome_of(db, *files)
    assert (again.counts, again.sources, again.failed) == (Counts(), 0, [])


PEAK = """
import resource, sys
from pathlib import Path
from dataarch.database.unit_of_work import Database
from pipelines.retail_support import loaded
with Database() as db:
    loaded(db, *map(Path, sys.argv[1:]), batch=5_000)
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)
"""


def peak_memory(db: Database, files: list[Path]) -> int:
    """Return the most memory that a process of its own has needed to load files."""
    done = subprocess.run(
        [sys.executable, "-c", PEAK, *map(str, files)],
        env={**os.environ, "DATAARCH_DATABASE_URL": str(db.settings.database_url), "PYTHONPATH": TESTS},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return int(done.stdout)


def test_memory_does_not_grow_with_the_number_of_files(db: Database, other_db: Database, files: list[Path]) -> None:
    largest_first = sorted(files, key=lambda file: -file.stat().st_size)
    assert peak_memory(db, largest_first) < 1.2 * peak_memory(other_db, largest_first[:9])
