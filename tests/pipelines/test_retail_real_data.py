"""The main job on the real data, compared with what other code finds in the same files."""

from __future__ import annotations

import gzip
import os
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from decimal import Decimal
from pathlib import Path

import pytest

from dataarch.database.unit_of_work import Database
from dataarch.pipelines.feeds.retail import Totals, source_files
from fixtures.databases import new_database
from fixtures.servers import Servers
from fixtures.shared_data import shared_file
from pipelines.retail_support import loaded, rows_of, untrue_products

pytestmark = pytest.mark.pipeline


@pytest.fixture(scope="module")
def files() -> list[Path]:
    """The files of the real data."""
    return source_files(shared_file("online-retail"))


@pytest.fixture(scope="module")
def real(servers: Servers, template: str, files: list[Path]) -> Iterator[tuple[Database, Totals]]:
    """A database with the real data, and what was counted while it was loaded."""
    with new_database(servers, template) as settings, Database(settings) as db:
        yield db, loaded(db, *files)


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
    real: tuple[Database, Totals], lines: list[list[str]]
) -> None:
    _, totals = real
    assert totals.read == len(lines) == 77_628
    assert totals.read == totals.loaded + totals.duplicates + totals.rejected
    assert totals.failed == []
    expected = [line for line in lines if good(line)]
    assert totals.rejected == len(lines) - len(expected) == totals.reasons.total()
    assert totals.loaded == len({tuple(line) for line in expected})


def test_each_country_with_a_customer_is_a_tenant_with_its_users_and_products(
    real: tuple[Database, Totals], lines: list[list[str]]
) -> None:
    db, _ = real
    expected = {tuple(line) for line in lines if good(line)}
    assert len({line[7] for line in lines}) == 28
    counted = rows_of(
        db.settings,
        "SELECT name, (SELECT count(*) FROM users WHERE tenant_id = tenants.id),"
        " (SELECT count(*) FROM products WHERE tenant_id = tenants.id),"
        " (SELECT count(*) FROM user_activity_log WHERE tenant_id = tenants.id) FROM tenants",
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
    real: tuple[Database, Totals], lines: list[list[str]]
) -> None:
    db, _ = real
    months = Counter(line[4][:7].replace("-", "_") for line in {tuple(line) for line in lines if good(line)})
    assert rows_of(db.settings, "SELECT tableoid::regclass, count(*) FROM user_activity_log GROUP BY 1") == [
        ("user_activity_log_2010_12", str(months["2010_12"])),
        ("user_activity_log_2011_01", str(months["2011_01"])),
    ]


def test_every_line_is_in_the_log_as_it_stands_in_its_file(
    real: tuple[Database, Totals], lines: list[list[str]]
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


def test_the_ledger_of_every_product_is_true_and_never_below_nothing(real: tuple[Database, Totals]) -> None:
    db, totals = real
    assert not untrue_products(db.settings)
    assert rows_of(db.settings, "SELECT count(*) FROM inventory_movements WHERE reason <> 'receipt'") == [
        (str(totals.loaded),)
    ]
    assert rows_of(db.settings, "SELECT count(*) FROM inventory_movements WHERE quantity_after < 0") == [("0",)]


def test_a_second_run_of_the_real_data_loads_nothing(real: tuple[Database, Totals], files: list[Path]) -> None:
    db, first = real
    again = loaded(db, *files)
    assert (again.read, again.loaded) == (77_628, 0)
    assert again.duplicates == first.loaded + first.duplicates
    assert again.rejected == first.rejected


PEAK = """
import resource, sys
from pathlib import Path
from dataarch.database.unit_of_work import Database
from dataarch.pipelines.feeds.retail import FileLoaded, load_files
with Database() as db:
    outcomes = list(load_files(db, map(Path, sys.argv[1:]), lambda reject: None))
assert all(isinstance(outcome, FileLoaded) for outcome in outcomes)
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)
"""


def peak_memory(db: Database, files: list[Path]) -> int:
    """Return the most memory that a process of its own has needed to load files."""
    done = subprocess.run(
        [sys.executable, "-c", PEAK, *map(str, files)],
        env={**os.environ, "DATAARCH_DATABASE_URL": str(db.settings.database_url)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return int(done.stdout)


def test_memory_does_not_grow_with_the_number_of_files(
    real: tuple[Database, Totals], db: Database, files: list[Path]
) -> None:
    largest = max(files, key=lambda file: file.stat().st_size)
    few, many = ([largest, *files[:count]] for count in (8, len(files)))
    assert peak_memory(db, many) < 1.2 * peak_memory(db, few)
