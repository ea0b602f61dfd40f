"""Loading: every line once, per tenant, whatever the files and their order, with a ledger that is always true."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from dataarch.clock import utcnow
from dataarch.database.unit_of_work import Database
from dataarch.errors import FeedError, SlugTaken
from dataarch.models import Product, Tenant
from dataarch.models.base import new_id
from dataarch.pipelines.feeds.retail import DESK
from dataarch.pipelines.feeds.retail.statements import RECEIPT
from dataarch.pipelines.outcome import Counts
from pipelines.retail_support import (
    EXAMPLES,
    HEADER,
    LINE,
    activity,
    changed,
    checksums,
    csv_of,
    loaded,
    on_hand,
    outcome_of,
    rows_of,
    untrue_products,
)

pytest_plugins = ["retail_fixtures"]
pytestmark = pytest.mark.pipeline


def write(folder: Path, name: str, *lines: list[str]) -> Path:
    """Write a file of these lines."""
    file = folder / name
    file.write_text(csv_of(*lines))
    return file


def test_the_sample_is_loaded_and_every_line_is_accounted_for(db: Database) -> None:
    outcome = outcome_of(db, *EXAMPLES)
    assert outcome.counts == Counts(read=531, loaded=501, unchanged=6, rejected=24)
    assert (outcome.sources, outcome.reasons.total()) == (3, 24)
    assert sum(activity(db.settings).values()) == 501
    assert not untrue_products(db.settings)


def test_countries_become_tenants_customers_users_and_stock_codes_products(db: Database, tmp_path: Path) -> None:
    loaded(
        db,
        write(
            tmp_path,
            "a.csv",
            changed(),
            changed(CustomerID="17851", StockCode="85123a", Description="LATER NAME", UnitPrice="9"),
            changed(Country="France", InvoiceNo="C2", Quantity="-1"),
        ),
    )
    assert rows_of(db.settings, "SELECT slug, name FROM tenants") == [
        ("france", "France"),
        tuple(DESK),
        ("united-kingdom", "United Kingdom"),
    ]
    users = "SELECT slug, external_id, full_name, email FROM users JOIN tenants ON tenants.id = tenant_id"
    assert rows_of(db.settings, users) == [
        ("france", "17850", "Customer 17850", "None"),
        ("united-kingdom", "17850", "Customer 17850", "None"),
        ("united-kingdom", "17851", "Customer 17851", "None"),
    ]
    products = (
        "SELECT t.slug, p.slug, external_id, p.name, price, currency FROM products p JOIN tenants t ON t.id = tenant_id"
    )
    assert rows_of(db.settings, products) == [
        ("france", "85123a", "85123A", "TEA POT", "255", "GBP"),
        ("united-kingdom", "85123a", "85123A", "TEA POT", "255", "GBP"),
    ]


def test_a_line_becomes_an_activity_and_a_movement(db: Database, tmp_path: Path) -> None:
    loaded(db, write(tmp_path, "a.csv", changed(), changed(InvoiceNo="C2", Quantity="-2")))
    what = "metadata ->> 'invoice', metadata ->> 'stock_code', metadata ->> 'quantity', metadata ->> 'unit_price'"
    assert rows_of(db.settings, f"SELECT activity_type, created_at, {what} FROM user_activity_log") == [
        ("purchase", "2010-12-01 08:26:00+00:00", "536365", "85123A", "6", "2.55"),
        ("return", "2010-12-01 08:26:00+00:00", "C2", "85123A", "-2", "2.55"),
    ]
    assert rows_of(
        db.settings, "SELECT sequence, quantity_before, change, reason, reference FROM inventory_movements"
    ) == [
        ("1", "0", "6", "receipt", RECEIPT),
        ("2", "6", "-6", "sale", "536365"),
        ("3", "0", "2", "return", "C2"),
    ]


def test_an_activity_names_the_product_of_its_movement(db: Database) -> None:
    loaded(db, *EXAMPLES)
    astray = (
        "SELECT a.id FROM user_activity_log a"
        " LEFT JOIN inventory_movements m ON m.tenant_id = a.tenant_id AND m.id = a.id"
        " WHERE m.product_id IS DISTINCT FROM (a.metadata ->> 'product')::uuid"
        " OR m.change <> -(a.metadata ->> 'quantity')::bigint OR m.occurred_at <> a.created_at"
    )
    assert rows_of(db.settings, astray) == []


def test_receipts_are_marked_and_nothing_else_is(db: Database) -> None:
    loaded(db, *EXAMPLES)
    marked = "SELECT DISTINCT reason, reference FROM inventory_movements WHERE reason = 'receipt' OR reference = '{}'"
    assert rows_of(db.settings, marked.format(RECEIPT.replace("'", "''"))) == [("receipt", RECEIPT)]
    per_day = (
        "SELECT product_id, occurred_at::date, count(*) FROM inventory_movements WHERE reason = 'receipt'"
        " GROUP BY 1, 2 HAVING count(*) > 1"
    )
    assert rows_of(db.settings, per_day) == []


def test_each_row_that_was_made_is_known_by_the_record_that_brought_it(db: Database, tmp_path: Path) -> None:
    france = changed(Country="France")
    loaded(db, write(tmp_path, "a.csv", changed(Quantity="0"), france, changed(), changed(), changed(InvoiceNo="2")))
    made = (
        "SELECT t.slug, table_name, source, first_record + value::bigint,"
        " (SELECT metadata ->> 'invoice' FROM user_activity_log WHERE id = key::uuid),"
        " coalesce((SELECT external_id FROM users WHERE id = key::uuid), "
        "          (SELECT external_id FROM products WHERE id = key::uuid))"
        " FROM pipeline_batches JOIN tenants t ON t.id = tenant_id, jsonb_each_text(rows)"
    )
    assert rows_of(db.settings, made) == [
        ("france", "products", "a.csv", "2", "None", "85123A"),
        ("france", "user_activity_log", "a.csv", "2", "536365", "None"),
        ("france", "users", "a.csv", "2", "None", "17850"),
        ("united-kingdom", "products", "a.csv", "3", "None", "85123A"),
        ("united-kingdom", "user_activity_log", "a.csv", "3", "536365", "None"),
        ("united-kingdom", "user_activity_log", "a.csv", "5", "2", "None"),
        ("united-kingdom", "users", "a.csv", "3", "None", "17850"),
    ]


def test_a_second_run_of_the_same_files_changes_no_row_and_no_time(db: Database) -> None:
    loaded(db, *EXAMPLES)
    before = checksums(db.settings)
    assert loaded(db, *EXAMPLES) == Counts()
    assert checksums(db.settings) == before


def test_the_same_lines_under_another_name_are_duplicates(db: Database, tmp_path: Path) -> None:
    loaded(db, EXAMPLES[0])
    before = checksums(db.settings)
    other = tmp_path / "other name.csv"
    shutil.copy(EXAMPLES[0], other)
    found = loaded(db, other)
    assert (found.loaded, found.read) == (0, found.unchanged + found.rejected)
    assert checksums(db.settings) == before


def test_of_a_file_that_has_grown_only_the_new_lines_are_loaded(db: Database, tmp_path: Path) -> None:
    lines = EXAMPLES[0].read_text().splitlines(keepends=True)
    growing = tmp_path / "growing.csv"
    growing.write_text("".join(lines[:60]))
    first = loaded(db, growing)
    growing.write_text("".join(lines))
    second = loaded(db, growing)
    assert (first.read, second.read) == (59, len(lines) - 60)
    assert sum(activity(db.settings).values()) == first.loaded + second.loaded
    assert not untrue_products(db.settings)


def test_a_line_that_stands_twice_in_a_file_is_loaded_once_and_counted_as_a_duplicate(
    db: Database, tmp_path: Path
) -> None:
    totals = loaded(db, write(tmp_path, "a.csv", changed(), changed(InvoiceNo="2"), changed()))
    assert (totals.loaded, totals.unchanged) == (2, 1)


def test_the_order_of_the_files_changes_no_activity_and_no_sum_of_sales(db: Database, other_db: Database) -> None:
    loaded(db, *EXAMPLES)
    loaded(other_db, *reversed(EXAMPLES))
    assert activity(db.settings) == activity(other_db.settings)
    sold = (
        "SELECT p.external_id, t.slug, sum(change) FROM inventory_movements m JOIN tenants t ON t.id = m.tenant_id"
        " JOIN products p ON p.tenant_id = m.tenant_id AND p.id = m.product_id WHERE reason <> 'receipt' GROUP BY 1, 2"
    )
    assert rows_of(db.settings, sold) == rows_of(other_db.settings, sold)
    assert not untrue_products(other_db.settings)


def test_of_a_file_that_is_cut_off_the_whole_lines_are_loaded_and_the_rest_when_it_is_whole(
    db: Database, other_db: Database, tmp_path: Path
) -> None:
    whole = EXAMPLES[1].read_bytes()
    broken = tmp_path / EXAMPLES[1].name
    broken.write_bytes(whole[: len(whole) // 2].rstrip(b"\n"))
    outcome = outcome_of(db, EXAMPLES[0], broken, EXAMPLES[2])
    (failed,) = outcome.failed
    assert isinstance(failed.error, FeedError)
    assert failed.error.source == broken.name
    assert "all whole records before are read" in failed.error.message
    loaded(other_db, *EXAMPLES)
    broken.write_bytes(whole)
    second = loaded(db, EXAMPLES[0], broken, EXAMPLES[2])
    assert outcome.counts.read + second.read == 531
    assert activity(db.settings) == activity(other_db.settings)
    assert not untrue_products(db.settings)


def test_a_file_with_other_columns_is_refused_and_the_others_are_loaded(db: Database, tmp_path: Path) -> None:
    other = tmp_path / "other.csv"
    other.write_text("a,b\n1,2\n")
    outcome = outcome_of(db, other, write(tmp_path, "good.csv", changed()))
    assert outcome.counts == Counts(read=1, loaded=1)
    assert [failed.source for failed in outcome.failed] == ["other.csv"]


def test_a_file_without_any_valid_line_makes_no_tenant(db: Database, tmp_path: Path) -> None:
    (tmp_path / "header.csv").write_text(f"{HEADER}\n")
    totals = loaded(db, tmp_path / "header.csv", write(tmp_path, "bad.csv", changed(Quantity="0")))
    assert (totals.read, totals.rejected) == (1, 1)
    assert rows_of(db.settings, "SELECT slug FROM tenants") == [(DESK.slug,)]


def test_lines_of_the_farthest_months_that_pass_validation_are_loaded(db: Database, tmp_path: Path) -> None:
    years = ("1970-01-01", f"{utcnow().year + 9}-12-31")
    file = write(tmp_path, "a.csv", *(changed(InvoiceDate=f"{day} 00:00:00") for day in years))
    assert loaded(db, file).loaded == 2
    partitions = "SELECT tableoid::regclass FROM user_activity_log"
    months = [f"user_activity_log_{day[:4]}_{day[5:7]}" for day in years]
    assert rows_of(db.settings, partitions) == [(month,) for month in months]


def test_the_months_behind_one_that_is_missing_are_made_with_it(db: Database, tmp_path: Path) -> None:
    made = "SELECT right(relname, 7) FROM pg_class WHERE relname ~ '^user_activity_log_(1999|20[01])' AND relkind = 'r'"
    assert loaded(db, write(tmp_path, "a.csv", changed(InvoiceDate="2010-11-30 23:59:59"))).loaded == 1
    assert rows_of(db.settings, f"{made} ORDER BY 1") == [("2010_11",), ("2010_12",), ("2011_01",), ("2011_02",)]
    # those that are there are not followed by any
    assert loaded(db, write(tmp_path, "b.csv", changed(InvoiceDate="2010-12-31 23:59:59"))).loaded == 1
    assert rows_of(db.settings, f"SELECT count(*) FROM ({made}) AS made") == [("4",)]


@pytest.mark.parametrize("batch", [1, 7, 100])
def test_batches_of_any_size_make_the_same_activity_stock_and_sums(
    db: Database, other_db: Database, batch: int
) -> None:
    assert loaded(other_db, *EXAMPLES, batch=10_000) == loaded(db, *EXAMPLES, batch=batch)
    assert activity(db.settings) == activity(other_db.settings)
    assert on_hand(db.settings) == on_hand(other_db.settings)
    # a receipt of a day that lies in two batches is in two parts
    received = (
        "SELECT p.external_id, t.slug, occurred_at::date, reason = 'receipt', sum(change) FROM inventory_movements m"
        " JOIN tenants t ON t.id = m.tenant_id JOIN products p ON p.tenant_id = m.tenant_id AND p.id = m.product_id"
        " GROUP BY 1, 2, 3, 4"
    )
    assert rows_of(db.settings, received) == rows_of(other_db.settings, received)
    assert not untrue_products(db.settings)


def test_a_product_that_the_tenant_has_already_is_used_whatever_its_slug(db: Database, tmp_path: Path) -> None:
    tenant = new_id()
    with db.tenant(tenant) as session:
        session.add(Tenant(id=tenant, slug="united-kingdom", name="UK"))
        session.flush()
        session.add(Product(slug="my-own", external_id=LINE[1], name="Mine", price=1, currency="EUR"))
    assert loaded(db, write(tmp_path, "a.csv", changed())).loaded == 1
    assert rows_of(db.settings, "SELECT slug, name FROM products") == [("my-own", "Mine")]
    assert rows_of(db.settings, "SELECT name FROM tenants") == [(DESK.name,), ("UK",)]


def test_a_slug_that_another_product_has_is_a_named_error_and_nothing_is_written(db: Database, tmp_path: Path) -> None:
    tenant = new_id()
    with db.tenant(tenant) as session:
        session.add(Tenant(id=tenant, slug="united-kingdom", name="UK"))
        session.flush()
        session.add(Product(slug="85123a", name="In the way", price=1, currency="EUR"))
    with pytest.raises(SlugTaken) as caught:
        loaded(db, write(tmp_path, "a.csv", changed()))
    assert caught.value.constraint == "uq_products_tenant_id_slug"
    assert not activity(db.settings)
    assert not on_hand(db.settings)


def test_stock_that_is_on_hand_is_sold_before_the_feed_books_a_receipt(db: Database, tmp_path: Path) -> None:
    back = changed(InvoiceNo="C1", Quantity="-10")
    sold = changed(InvoiceDate="2010-12-02 08:00:00", Quantity="15")
    loaded(db, write(tmp_path, "a.csv", back))
    loaded(db, write(tmp_path, "b.csv", sold))
    changes = rows_of(db.settings, "SELECT sequence, change, reason FROM inventory_movements")
    assert changes == [("1", "10", "return"), ("2", "5", "receipt"), ("3", "-15", "sale")]
