"""Validation: each line becomes an order line or a reject that says which field and why, and nothing else."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dataarch.clock import utcnow
from dataarch.database.unit_of_work import Database
from dataarch.errors import InvalidValue
from dataarch.pipelines.feeds.retail import COLUMNS, DESK, RETAIL, desk_of, retail
from dataarch.pipelines.outcome import Counts
from dataarch.pipelines.pipeline import TenantName
from dataarch.pipelines.records import Reject, Stage
from dataarch.pipelines.runner import run
from fixtures.shared_data import shared_file
from pipelines.retail_support import LINE, changed, checked, csv_of, loaded, rows_of, valid

pytestmark = pytest.mark.pipeline

TEXTS = ("InvoiceNo", "StockCode", "Description", "CustomerID", "Country")
ISO = "not a date and time of ISO 8601"
PRICE = "negative, beyond bigint, or finer than a penny"
MOST = "zero or beyond a thousand million"
UNSTORABLE = "text that PostgreSQL cannot hold"


def test_a_good_line_becomes_an_order_line_with_every_field() -> None:
    line = valid()
    del line["id"]  # type: ignore[misc]  # what it is, is said below
    assert line == {
        "invoice": "536365",
        "stock_code": "85123A",
        "product_slug": "85123a",
        "description": "TEA POT",
        "quantity": 6,
        "at": datetime(2010, 12, 1, 8, 26, tzinfo=UTC),
        "price": ("2.55", 255),
        "customer": "17850",
        "tenant": TenantName("united-kingdom", "United Kingdom"),
    }


@pytest.mark.parametrize(
    ("field", "value", "reason"),
    [
        ("InvoiceNo", "", "blank"),
        ("InvoiceNo", " \t ", "blank"),
        ("InvoiceNo", "x" * 101, "longer than 100 characters"),
        ("InvoiceNo", "a\0b", UNSTORABLE),
        ("StockCode", "", "blank"),
        ("StockCode", "x" * 101, "longer than 100 characters"),
        ("StockCode", "ΐ" * 40, "longer than 100 characters"),
        ("StockCode", "#!", "no letter or digit of ASCII, so no slug"),
        ("Description", "x" * 501, "longer than 500 characters"),
        ("Description", "\ud800", UNSTORABLE),
        ("CustomerID", "", "blank"),
        ("CustomerID", "1" * 101, "longer than 100 characters"),
        ("Country", "", "blank"),
        ("Country", "x" * 201, "longer than 200 characters"),
        ("Country", "日本", "no letter or digit of ASCII, so no slug"),
        ("Quantity", "", "not a whole number"),
        ("Quantity", "six", "not a whole number"),
        ("Quantity", "6.0", "not a whole number"),
        ("Quantity", "\uff16", "not a whole number"),
        ("Quantity", "1_000", "not a whole number"),
        ("Quantity", "0x10", "not a whole number"),
        ("Quantity", "--6", "not a whole number"),
        ("Quantity", "0", MOST),
        ("Quantity", "-0", MOST),
        ("Quantity", "1000000001", MOST),
        ("Quantity", "-1000000001", MOST),
        ("Quantity", "9223372036854775808", MOST),
        ("Quantity", "9" * 5000, MOST),
        ("InvoiceDate", "", ISO),
        ("InvoiceDate", "yesterday", ISO),
        ("InvoiceDate", "2010-12-01", ISO),
        ("InvoiceDate", "2010-W48-3 08:26:00", ISO),
        ("InvoiceDate", "2010-13-01 08:26:00", ISO),
        ("InvoiceDate", "2010-02-29 08:26:00", ISO),
        ("InvoiceDate", "2010-12-01 25:00:00", ISO),
        ("InvoiceDate", "2010-12-01 08:26:60", ISO),
        ("InvoiceDate", "2010-12-01\ud80008:26:00", ISO),
        ("InvoiceDate", "\uff12010-12-01 08:26:00", ISO),
        ("InvoiceDate", "01/12/2010 08:26", ISO),
        ("InvoiceDate", "0001-01-01T00:00:00+01:00", ISO),
        ("InvoiceDate", "9999-12-31T23:59:59-01:00", ISO),
        ("InvoiceDate", "0001-01-01 00:00:00", "before 1970"),
        ("InvoiceDate", "1970-01-01T00:00:00+00:01", "before 1970"),
        ("InvoiceDate", "9999-12-31 23:59:59", "more than 9 years ahead"),
        ("UnitPrice", "", "not a number"),
        ("UnitPrice", "dear", "not a number"),
        ("UnitPrice", "2,55", "not a number"),
        ("UnitPrice", "NaN", "not a number"),
        ("UnitPrice", "sNaN", "not a number"),
        ("UnitPrice", "Infinity", "not a number"),
        ("UnitPrice", "1e3", "not a number"),
        ("UnitPrice", "1e999999999", "not a number"),
        ("UnitPrice", "1_0", "not a number"),
        ("UnitPrice", "\uff11", "not a number"),
        ("UnitPrice", "-0.01", PRICE),
        ("UnitPrice", "2.555", PRICE),
        ("UnitPrice", "92233720368547758.08", PRICE),
        ("UnitPrice", "9" * 100_000, PRICE),
        ("UnitPrice", "0." + "0" * 100_000 + "1", PRICE),
    ],
)
def test_a_bad_field_is_rejected_by_name_with_its_reason(field: str, value: str, reason: str) -> None:
    record = changed(**{field: value})
    reject = checked(record)
    assert isinstance(reject, Reject)
    assert (reject.number, reject.stage, reject.field, reject.reason) == (1, Stage.VALIDATE, field, reason)
    assert reject.record == dict(zip(COLUMNS, record, strict=True))


@pytest.mark.parametrize(
    ("field", "value", "attribute", "result"),
    [
        ("Quantity", "+6", "quantity", 6),
        ("Quantity", "1000000000", "quantity", 1_000_000_000),
        ("Quantity", "-1000000000", "quantity", -1_000_000_000),
        ("UnitPrice", "0", "price", ("0.00", 0)),
        ("UnitPrice", "2.5500", "price", ("2.55", 255)),
        ("UnitPrice", "92233720368547758.07", "price", ("92233720368547758.07", 2**63 - 1)),
        ("CustomerID", "17850.0", "customer", "17850"),
        ("CustomerID", "17850.000", "customer", "17850"),
        ("CustomerID", "17850.5", "customer", "17850.5"),
        ("CustomerID", ".0", "customer", ".0"),
        ("CustomerID", "x.0", "customer", "x.0"),
        ("Description", "", "description", "85123A"),
        ("StockCode", " 85123a ", "stock_code", "85123A"),
        ("InvoiceDate", "2010-12-01T08:26", "at", datetime(2010, 12, 1, 8, 26, tzinfo=UTC)),
        ("InvoiceDate", "2010-12-01T08:26:00Z", "at", datetime(2010, 12, 1, 8, 26, tzinfo=UTC)),
        ("InvoiceDate", "2010-12-01 08:26:00.5+0530", "at", datetime(2010, 12, 1, 2, 56, 0, 500_000, tzinfo=UTC)),
        ("InvoiceDate", "1970-01-01 00:00:00", "at", datetime(1970, 1, 1, tzinfo=UTC)),
    ],
)
def test_an_unusual_but_clear_value_is_taken(field: str, value: str, attribute: str, result: object) -> None:
    line: Mapping[str, object] = valid(**{field: value})
    assert line[attribute] == result


def test_a_positive_quantity_on_a_cancellation_is_rejected_and_a_negative_one_is_a_return() -> None:
    reject = checked(changed(InvoiceNo="C1"))
    assert isinstance(reject, Reject)
    assert reject.field == "Quantity"
    assert valid(InvoiceNo="C1", Quantity="-6")["quantity"] == -6


def test_a_value_that_is_no_text_is_rejected_by_name() -> None:
    record = {**dict(zip(COLUMNS, LINE, strict=True)), "Quantity": 6}
    (reject,) = RETAIL.check([record]).rejects
    assert (reject.field, reject.reason) == ("Quantity", "not text")


def test_an_order_far_ahead_is_rejected_while_its_month_could_still_be_made() -> None:
    year = utcnow().year
    assert not isinstance(checked(changed(InvoiceDate=f"{year + 9}-12-31 23:59:59")), Reject)
    assert isinstance(checked(changed(InvoiceDate=f"{year + 10}-01-01 00:00:00")), Reject)


def test_stock_codes_that_differ_only_in_case_are_one_product() -> None:
    lower, upper = valid(StockCode="15056bl"), valid(StockCode="15056BL")
    for line in (lower, upper):
        assert (line["stock_code"], line["product_slug"]) == ("15056BL", "15056bl")


@pytest.mark.parametrize(
    ("one", "other"), [("A-1", "A.1"), ("A-1", "A 1"), ("A", "Ä"), ("A中", "A日"), ("X" * 70, "X" * 71), ("1", "1-")]
)
def test_two_stock_codes_never_share_a_slug(one: str, other: str) -> None:
    slugs = {valid(StockCode=code)["product_slug"] for code in (one, other)}
    assert len(slugs) == 2
    assert all(len(slug) <= 63 for slug in slugs)


@pytest.mark.parametrize(("one", "other"), [("Korea 中", "Korea 日"), ("Acme", "Acme!"), ("x" * 70, "x" * 71)])
def test_two_countries_never_share_a_tenant(one: str, other: str) -> None:
    assert valid(Country=one)["tenant"].slug != valid(Country=other)["tenant"].slug


def test_a_country_is_one_tenant_whatever_its_case_and_spaces() -> None:
    assert {
        valid(Country=name)["tenant"].slug for name in ("United Kingdom", "UNITED  KINGDOM", " united kingdom ")
    } == {"united-kingdom"}


def test_the_desk_is_no_shop_whatever_a_country_is_called() -> None:
    assert valid(Country=DESK.name)["tenant"].slug not in {DESK.slug, "retail desk"}


def test_the_same_line_has_the_same_id_wherever_it_stands_and_an_id_is_a_uuid_v7_of_its_time() -> None:
    record = dict(zip(COLUMNS, LINE, strict=True))
    one, other, again = RETAIL.check([record, {**record, "InvoiceNo": "2"}, record]).rows
    assert one["id"] == again["id"] == valid()["id"] != other["id"]
    assert (one["id"].version, one["id"].variant) == (7, "specified in RFC 4122")
    assert one["id"].int >> 80 == int(one["at"].timestamp() * 1000)


@pytest.mark.parametrize("column", COLUMNS)
def test_lines_that_differ_in_any_field_have_different_ids(column: str) -> None:
    others = {"Quantity": "7", "InvoiceDate": "2010-12-01 08:27:00", "UnitPrice": "2.56"}
    assert valid()["id"] != valid(**{column: others.get(column, "other")})["id"]


def test_fields_that_only_look_alike_when_joined_have_different_ids() -> None:
    one, other = valid(InvoiceNo="1\x1f2", StockCode="3"), valid(InvoiceNo="1", StockCode="2\x1f3")
    assert one["id"] != other["id"]


anything = st.text(st.characters(codec=None, exclude_categories=()), max_size=120)
likely = [st.just(value) | anything for value in LINE]
moments = st.datetimes().map(str) | st.datetimes(timezones=st.timezones()).map(datetime.isoformat)
numbers = st.integers().map(str) | st.decimals().map(str) | st.floats().map(str)


@given(st.lists(anything, min_size=8, max_size=8) | st.tuples(*likely).map(list))
def test_any_eight_strings_give_an_order_line_or_a_reject(fields: list[str]) -> None:
    assert isinstance(checked(fields), dict | Reject)


@given(moments, numbers, numbers)
def test_any_date_quantity_and_price_give_an_order_line_or_a_reject(date: str, quantity: str, price: str) -> None:
    outcome = checked(changed(InvoiceDate=date, Quantity=quantity, UnitPrice=price))
    if not isinstance(outcome, Reject):
        assert outcome["at"].utcoffset() == timedelta(0)
        assert 0 < abs(outcome["quantity"]) <= 1_000_000_000
        assert outcome["price"].pence >= 0


def naughty() -> Iterator[str]:
    """Yield strings that break software."""
    yield from json.loads(shared_file("naughty-strings", "blns.json").read_text())


def test_naughty_strings_in_any_text_field_load_or_are_rejected(db: Database, tmp_path: Path) -> None:
    outcomes = [checked(changed(**{field: text})) for text in naughty() for field in TEXTS]
    rejects = [outcome for outcome in outcomes if isinstance(outcome, Reject)]
    # a text that begins with C makes the good line a cancellation
    assert {reject.field for reject in rejects} <= {*TEXTS, "Quantity"}
    expected = {line["id"] for line in outcomes if not isinstance(line, Reject)}
    file = tmp_path / "naughty.csv"
    quoted = [
        [f'"{field.replace(chr(34), chr(34) * 2)}"' for field in changed(**{name: text})]
        for text in naughty()
        for name in TEXTS
    ]
    file.write_text(csv_of(*quoted), encoding="utf-8", newline="")
    totals = loaded(db, file)
    assert (totals.read, totals.rejected) == (len(outcomes), len(rejects))
    assert totals.loaded == len(expected) > 1000
    ids = {row[0] for row in rows_of(db.settings, "SELECT id FROM user_activity_log")}
    assert ids == {str(line_id) for line_id in expected}


def test_any_column_that_names_somebody_can_say_whose_a_line_is(db: Database, tmp_path: Path) -> None:
    file = tmp_path / "a.csv"
    file.write_text(f"{','.join(COLUMNS)},Shop\n{','.join(LINE)},Corner Shop\n{','.join(LINE)},\n")
    outcome = run(db, retail("Shop"), file, tenant_id=desk_of(db))
    assert outcome.counts == Counts(read=2, loaded=1, rejected=1)
    assert outcome.reasons == {("validate", "Shop", "blank"): 1}
    assert rows_of(db.settings, "SELECT name FROM tenants") == [("Corner Shop",), ("Retail desk",)]


@pytest.mark.parametrize("column", ["Quantity", "UnitPrice", "InvoiceDate", "Description", "StockCode", "", "日本"])
def test_a_column_that_names_nobody_cannot_say_whose_a_line_is(column: str) -> None:
    with pytest.raises(InvalidValue):
        retail(column)
