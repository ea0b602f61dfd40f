"""`dataarch pipeline run --param`: values for the parameters of a query, as text or of a type."""

from __future__ import annotations

import json
import sqlite3
from datetime import UTC, date, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest

from cli.cli_support import dataarch, refusal
from dataarch.cli.pipeline_input import parameters_of
from dataarch.database.settings import Settings
from dataarch.database.unit_of_work import Database
from dataarch.errors import ConfigurationError
from dataarch.models import PipelineSource, Product, Tenant
from pipelines.listed import home, stored

pytestmark = pytest.mark.pipeline

FEEDS = """
from dataarch import Product
from dataarch.pipelines.extractors import CsvFiles, Query
from dataarch.pipelines.loaders.upsert import Upsert
from dataarch.pipelines.pipeline import Pipeline
from dataarch.pipelines.transformers.fields import dropped
from dataarch.pipelines.validators.model_rules import valid

STATEMENT = "SELECT * FROM items WHERE id > :low AND currency = :currency"
STEPS = (dropped("id"), valid(Product))
LOAD = Upsert(Product, key="external_id")
ITEMS = Pipeline("items", Query("sqlite:///shop.db", STATEMENT, name="items"), STEPS, LOAD)
FILES = Pipeline("files", CsvFiles(), STEPS, LOAD)
"""


@pytest.fixture
def settings(shared_db: Database) -> Settings:
    """One database for this file: each test makes tenants of its own."""
    return shared_db.settings


@pytest.fixture
def tenant_id(shared_db: Database) -> UUID:
    return home(shared_db)


@pytest.fixture
def slug(shared_db: Database, tenant_id: UUID) -> str:
    [(found,)] = stored(shared_db, tenant_id, Tenant, "slug")
    return str(found)


@pytest.fixture
def shop(tmp_path: Path) -> Path:
    """A folder with a module of pipelines and a database of 12 items, every second one in euros."""
    (tmp_path / "feeds.py").write_text(FEEDS)
    rows = [(n, f"T{n}", f"tea-{n}", "Tea", "9.95", "EUR" if n % 2 else "GBP") for n in range(1, 13)]
    with sqlite3.connect(tmp_path / "shop.db") as connection:
        connection.execute(
            "CREATE TABLE items (id integer, external_id text, slug text, name text, price text, currency text)"
        )
        connection.executemany("INSERT INTO items VALUES (?, ?, ?, ?, ?, ?)", rows)
    connection.close()
    return tmp_path


def test_a_query_is_given_its_parameters_and_each_set_of_them_is_a_source(
    shared_db: Database, settings: Settings, shop: Path, slug: str, tenant_id: UUID
) -> None:
    run = ("pipeline", "run", "feeds:ITEMS", "--tenant", slug, "--json", "--param", "currency=EUR", "--param")
    first = dataarch(settings, shop, *run, "low:integer=6")
    assert (first.code, first.complaints) == (0, "")
    # as text a 9 comes behind an 11, and SQLite finds no number behind any text
    assert stored(shared_db, tenant_id, Product, "external_id") == [("T11",), ("T7",), ("T9",)]
    assert json.loads(dataarch(settings, shop, *run, "low:integer=6").printed)["read"] == 0
    assert json.loads(dataarch(settings, shop, *run, "low:integer=0").printed)["read"] == 6
    assert stored(shared_db, tenant_id, PipelineSource, "source", "records") == [
        ("items?currency=EUR&low=0", 6),
        ("items?currency=EUR&low=6", 3),
    ]


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (("ITEMS", "--param", "low"), 2, "'low' gives no parameter. Write it as name=value or name:type=value"),
        (("ITEMS", "products.csv", "--param", "low=1"), 2, "A source or parameters, not both."),
        (("FILES", "--param", "low=1"), 2, "The pipeline files cannot be given parameters: "),
        (("ITEMS", "--param", "low:integer=1"), 1, "A value is required for bind parameter 'currency'"),
    ],
)
def test_parameters_that_say_nothing_are_refused(
    settings: Settings, shop: Path, slug: str, arguments: tuple[str, ...], code: int, words: str
) -> None:
    (shop / "products.csv").touch()
    name, *more = arguments
    ended = dataarch(settings, shop, "pipeline", "run", f"feeds:{name}", *more, "--tenant", slug)
    assert words in refusal(ended, code)


@pytest.mark.parametrize(
    ("written", "value"),
    [
        ("a=1", "1"),
        ("a=", ""),
        ("a=x=y:integer", "x=y:integer"),
        ("a:text= 1", " 1"),
        ("a:integer=-1", -1),
        ("a:decimal=1.50", Decimal("1.50")),
        ("a:date=2026-01-02", date(2026, 1, 2)),
        ("a:time=2026-01-02T03:04:05Z", datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)),
        ("a:uuid=00000000-0000-7000-8000-000000000001", UUID("00000000-0000-7000-8000-000000000001")),
    ],
)
def test_text_becomes_a_value_of_the_type_that_is_named(written: str, value: Any) -> None:
    found = parameters_of([written])
    assert found == {"a": value}
    assert type(found["a"]) is type(value)


@pytest.mark.parametrize(
    ("written", "words"),
    [
        (["=1"], "gives no parameter"),
        (["a b=1"], "gives no parameter"),
        (["a:float=1"], "'float' is no type of a parameter. Use text, integer, decimal, date, time or uuid."),
        (["a:integer=1.5"], "'1.5' is no integer."),
        (["a:decimal=NaN"], "'NaN' is no decimal."),
        (["a:date=soon"], "'soon' is no date."),
        (["a:time=2026-01-02T03:04:05"], "The time '2026-01-02T03:04:05' has no offset. Write Z or +01:00 behind it."),
        (["a:uuid=7"], "'7' is no uuid."),
        (["a=1", "a:integer=2"], "The parameter 'a' is given twice."),
    ],
)
def test_what_is_no_parameter_is_refused(written: list[str], words: str) -> None:
    with pytest.raises(ConfigurationError) as refused:
        parameters_of(written)
    assert words in str(refused.value)
