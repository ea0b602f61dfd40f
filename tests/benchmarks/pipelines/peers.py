"""Measure the upsert of a CSV file beside its peers: PYTHONPATH=tests python -m benchmarks.pipelines.peers

The work of csv_upsert.py with fewer records: products from a file, half of them there at another price. COPY of the
file and ON CONFLICT, by hand, is 1.00. dlt merges into a table that it makes itself, with the same records in it
before, and without a key or an index on them; beside it stands the same by hand. pandas has no upsert: its to_sql
fills a stage, from which ON CONFLICT is written by hand, or appends to the table while it is empty. Peers run as the
owner, whom no policy binds. Ways take turns. They are no dependencies; install them into another environment:
python -m pip install -e '.[dev]' 'dlt[postgres]' pandas. What is not there is named. No limits: ends with 0. Servers:
as in main_job.py, of a superuser.
"""

from __future__ import annotations

import argparse
import csv
import gc
import os
import platform
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from types import MappingProxyType
from typing import Any
from urllib.parse import quote
from uuid import UUID

import psycopg
from rich.console import Console
from rich.progress import Progress
from rich.table import Table
from rich.text import Text
from sqlalchemy import NullPool, Uuid, create_engine

from benchmarks.cache.near import redis_url
from benchmarks.partitions.history import admin_url, connected, fresh_database
from benchmarks.pipelines.csv_upsert import BY_HAND, MERGE, OURS, by_hand, ours, prepared, write
from benchmarks.repositories.peers_measure import Absent, Took, Turns, Way, by, measured, needed, ratio
from dataarch.caching.database import Database
from dataarch.database.settings import Settings
from dataarch.models.base import new_id

INSTALL = "not installed; in another environment: python -m pip install -e '.[dev]' 'dlt[postgres]' pandas"
PACKAGES = ("SQLAlchemy", "psycopg", "dlt", "pandas", "pyarrow")
CHUNK = 1_000
"""Rows of a statement with to_sql(method="multi")."""

DIGEST = "SELECT count(*), sum({price}), max(slug), max(name), max(currency) FROM {table}"
BARE = """
    CREATE TABLE IF NOT EXISTS bare_products (
        external_id text NOT NULL, slug text, name text, price double precision, currency text
    );
    TRUNCATE bare_products
"""
BARE_SEED = """
    INSERT INTO bare_products
    SELECT 'x' || n, 'product-' || n, 'Product number ' || n, 1.00, 'GBP' FROM generate_series(0, %s - 1, 2) AS n
"""
BARE_STAGE = "CREATE TEMP TABLE bare_stage (LIKE bare_products) ON COMMIT DROP"
BARE_MERGE = """
    MERGE INTO bare_products AS p USING bare_stage AS s ON p.external_id = s.external_id
    WHEN MATCHED THEN UPDATE SET slug = s.slug, name = s.name, price = s.price, currency = s.currency
    WHEN NOT MATCHED THEN INSERT VALUES (s.external_id, s.slug, s.name, s.price, s.currency)
"""
STAGED = MERGE.replace("FROM stage", "FROM pandas_stage").replace("price * 100", "price::numeric * 100")


@dataclass(frozen=True)
class Ground:
    """What all are measured on.

    Attributes:
        settings: of the application role and of the owner.
        owner: the owner's connection, in autocommit mode.
        db: the database as the application role.
        tenant_id: whose products they are.
        file: the records.
        count: how many they are.
        folder: where a peer may write.
    """

    settings: Settings
    owner: psycopg.Connection[Any]
    db: Database
    tenant_id: UUID
    file: Path
    count: int
    folder: Path

    def half_there(self) -> None:
        """Make the table as it is before an upsert."""
        prepared(self.owner, self.tenant_id, self.count)

    def empty(self) -> None:
        """Make the table empty."""
        self.owner.execute("TRUNCATE products CASCADE")
        self.owner.execute("CHECKPOINT")

    def check(self, table: str = "products", price: str = "price") -> None:
        """Raise where the products are not as the file has them."""
        cents = sum(n % 10_000 + 200 for n in range(self.count))
        last = max(f"{n}" for n in range(self.count))
        expected = (self.count, cents, f"product-{last}", f"Product number {last}", "GBP")
        found = self.owner.execute(DIGEST.format(table=table, price=price).encode()).fetchone()
        if found != expected:
            raise AssertionError(f"{found} is there and not {expected}")


def way(
    name: str,
    run: Callable[[], object],
    before: Callable[[], object],
    check: Callable[[], object],
    *,
    policies: bool = False,
) -> Way:
    """Return a way with what comes before and after it, which is not measured."""
    return Way(name, partial(_prepared_and_checked, by(name, run), before, check), policies)


def _prepared_and_checked(one: Way, before: Callable[[], object], check: Callable[[], object]) -> Took:
    before()
    gc.collect()  # nobody pays for what another one left
    took = one.measure()
    check()
    return took


def dataarch(stack: ExitStack, ground: Ground) -> Sequence[Way]:
    """By hand, which is what the others are measured by, and the pipeline."""
    given = (ground.db, ground.tenant_id, ground.file)
    return [
        way(BY_HAND, partial(by_hand, *given), ground.half_there, ground.check, policies=True),
        way(f"dataarch, {OURS}", partial(ours, *given), ground.half_there, ground.check, policies=True),
    ]


def bare(stack: ExitStack, ground: Ground) -> Sequence[Way]:
    """By hand into a table without key, index or rule, as dlt's is: what these cost."""

    def half_there() -> None:
        ground.owner.execute(BARE)
        ground.owner.execute(BARE_SEED, [ground.count])
        ground.owner.execute("VACUUM (ANALYZE) bare_products")
        ground.owner.execute("CHECKPOINT")

    def merged() -> None:
        with ground.owner.transaction(), ground.owner.cursor() as cursor:
            cursor.execute(BARE_STAGE)
            with cursor.copy("COPY bare_stage FROM STDIN (FORMAT csv, HEADER)") as copy:
                copy.write(ground.file.read_bytes())
            cursor.execute(BARE_MERGE)

    check = partial(ground.check, "bare_products", "round(price::numeric * 100)")
    return [way("COPY of the file + MERGE, a table without keys", merged, half_there, check)]


# ── dlt ───────────────────────────────────────────────────────────────────────────────────────────────────────────


def dlt(stack: ExitStack, ground: Ground) -> Sequence[Way]:
    """Its merge: of records as its documentation has it first, and of Arrow tables by its upsert."""
    os.environ |= {"RUNTIME__DLTHUB_TELEMETRY": "false", "RUNTIME__LOG_LEVEL": "CRITICAL"}
    needed("psycopg2", INSTALL)
    needed("dlt", INSTALL)
    return [
        _dlt_way(ground, "dlt, records, merge", "delete-insert", _records, "insert_values"),
        _dlt_way(ground, "dlt, Arrow, upsert", "upsert", _arrow, "csv"),
    ]


def _dlt_way(ground: Ground, name: str, strategy: str, read: Callable[[Path], Any], form: str) -> Way:
    library = needed("dlt", INSTALL)
    dataset = "dlt_" + strategy.replace("-", "_")

    def load(file: Path) -> None:
        pipeline = library.pipeline(
            dataset,
            pipelines_dir=str(ground.folder / dataset),
            destination=library.destinations.postgres(credentials=_dlt_url(ground.owner)),
            dataset_name=dataset,
        )
        disposition = {"disposition": "merge", "strategy": strategy}
        products = library.resource(
            read(file), name="products", primary_key="external_id", write_disposition=disposition
        )
        pipeline.run(products, loader_file_format=form).raise_on_failed_jobs()

    half = ground.folder / "half.csv"

    def half_there() -> None:
        ground.owner.execute(f"DROP SCHEMA IF EXISTS {dataset} CASCADE".encode())
        ground.owner.execute(f"DROP SCHEMA IF EXISTS {dataset}_staging CASCADE".encode())
        if not half.exists():
            _write_half(half, ground.count)
        load(half)
        ground.owner.execute(f"VACUUM (ANALYZE) {dataset}.products".encode())
        ground.owner.execute("CHECKPOINT")

    check = partial(ground.check, f"{dataset}.products", "round(price::numeric * 100)")
    return way(name, partial(load, ground.file), half_there, check)


def _write_half(file: Path, count: int) -> None:
    with file.open("w") as stream:
        stream.write("external_id,slug,name,price,currency\n")
        stream.writelines(f"x{n},product-{n},Product number {n},1.00,GBP\n" for n in range(0, count, 2))


def _records(file: Path) -> Iterator[dict[str, Any]]:
    with file.open(newline="") as stream:
        for row in csv.DictReader(stream):
            yield {**row, "price": float(row["price"])}


def _arrow(file: Path) -> Iterator[Any]:
    with needed("pyarrow.csv", INSTALL).open_csv(file) as reader:
        yield from reader


def _dlt_url(owner: psycopg.Connection[Any]) -> str:
    """Return how the owner connects; a password is asked for, and where none is needed any will do."""
    found = owner.info
    password = quote(found.password or "none", safe="")
    return f"postgresql://{found.user}:{password}@{quote(found.host, safe='')}:{found.port}/{found.dbname}"


# ── pandas ────────────────────────────────────────────────────────────────────────────────────────────────────────


def pandas(stack: ExitStack, ground: Ground) -> Sequence[Way]:
    """to_sql into a stage, and into the table where nothing has to be updated."""
    library = needed("pandas", INSTALL)
    engine = create_engine(ground.settings.owner, poolclass=NullPool)
    stack.callback(engine.dispose)

    def staged() -> None:
        with engine.begin() as connection:
            frame = library.read_csv(ground.file, dtype=str)
            frame.to_sql("pandas_stage", connection, if_exists="replace", index=False, method="multi", chunksize=CHUNK)
            connection.exec_driver_sql(STAGED, (ground.tenant_id,))

    def appended() -> None:
        with engine.begin() as connection:
            frame = library.read_csv(ground.file)
            frame["tenant_id"] = ground.tenant_id
            frame["price"] = (frame["price"] * 100).round().astype("int64")
            options: dict[str, Any] = {"index": False, "method": "multi", "chunksize": CHUNK}
            frame.to_sql("products", connection, if_exists="append", dtype={"tenant_id": Uuid()}, **options)

    return [
        way('pandas, to_sql("multi") into a stage + ON CONFLICT', staged, ground.half_there, ground.check),
        way('pandas, to_sql("multi") into the empty table: no upsert', appended, ground.empty, ground.check),
    ]


PEERS: Mapping[str, Callable[[ExitStack, Ground], Sequence[Way]]] = MappingProxyType(
    {"dataarch": dataarch, "bare": bare, "dlt": dlt, "pandas": pandas}
)


def shown(ground: Ground, ways: Sequence[Way], absent: Mapping[str, str], took: Mapping[str, Sequence[Took]]) -> Table:
    """Return the table."""
    table = Table(title=f"{ground.count:,} records of CSV, half there")
    for header in ("way", "policies", "seconds", "rows/s", "speed", "client's CPU µs a row"):
        table.add_column(header, justify="left" if header in {"way", "policies"} else "right")
    for one in ways:
        mine = took[one.name]
        seconds = median(run.seconds for run in mine)
        processor = median(run.processor for run in mine) / ground.count * 1e6
        table.add_row(
            one.name,
            "on" if one.policies else "off",
            f"{seconds:.2f}",
            f"{ground.count / seconds:,.0f}",
            f"{1 / ratio(took[BY_HAND], mine):.2f}",
            f"{processor:.1f}",
        )
    for name, why in absent.items():
        table.add_row(Text(f"{name}: {why}"))
    return table


def versions(owner: psycopg.Connection[Any]) -> str:
    """Return what is measured, with versions."""
    found = [f"PostgreSQL {owner.info.parameter_status('server_version')}", f"Python {platform.python_version()}"]
    for package in PACKAGES:
        try:
            found.append(f"{package} {version(package)}")
        except PackageNotFoundError:
            continue
    return ", ".join(found)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--rows", type=int, default=100_000)
    parser.add_argument("--repetitions", type=int, default=3)
    given = parser.parse_args()
    with ExitStack() as stack:
        folder = Path(stack.enter_context(TemporaryDirectory()))
        settings = stack.enter_context(fresh_database(admin_url()))
        owner = stack.enter_context(connected(settings.owner))
        db = stack.enter_context(Database(settings.model_copy(update={"redis_url": redis_url()})))
        tenant_id = new_id()
        owner.execute("INSERT INTO tenants (id, slug, name) VALUES (%s, 'acme', 'Acme')", [tenant_id])
        write(folder / "products.csv", given.rows)
        ground = Ground(settings, owner, db, tenant_id, folder / "products.csv", given.rows, folder)
        ways: list[Way] = []
        absent: dict[str, str] = {}
        for name, opens in PEERS.items():
            try:
                ways += opens(stack, ground)
            except Absent as why:
                absent[name] = str(why)
        progress = stack.enter_context(Progress(console=Console(stderr=True), transient=True))
        took = measured(ways, Turns(given.repetitions), progress=progress)
        console = Console(width=140)
        console.print(versions(owner))
        console.print(shown(ground, ways, absent, took))


if __name__ == "__main__":
    main()
