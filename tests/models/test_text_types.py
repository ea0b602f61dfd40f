"""Text, words and slugs."""

from __future__ import annotations

import re
from enum import Enum
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from sqlalchemy import ColumnElement, select
from sqlalchemy.engine.default import DefaultDialect

from dataarch.database.unit_of_work import Database
from dataarch.errors import InvalidSlug, InvalidText
from dataarch.models import Product, User
from dataarch.models.types import SLUG_LONGEST, Choice, CurrencyCode, Slug, Text, slugify
from fixtures.tenants import Inhabited

pytestmark = pytest.mark.schema

PG = DefaultDialect()


@pytest.fixture
def db(shared_db: Database) -> Database:
    """One database for this file: each test makes tenants of its own."""
    return shared_db


class Reason(str, Enum):  # noqa: UP042  # the older way, whose str() is not its value
    SALE = "sale"


@pytest.mark.parametrize("value", ["", "12345678901", "nul\x00", "lone \ud800", "lone \udfff tail"])
def test_text_that_does_not_fit_is_refused(value: str) -> None:
    with pytest.raises(InvalidText) as refused:
        Text(10).process_bind_param(value, PG)
    assert refused.value.value == value


@pytest.mark.parametrize("value", [b"bytes", 5, 1.5, ["a"]])
def test_what_is_no_text_is_refused(value: Any) -> None:
    for kind in (Text(10), CurrencyCode(), Choice("a")):
        with pytest.raises(InvalidText):
            kind.process_bind_param(value, PG)
    with pytest.raises(InvalidSlug):
        Slug().process_bind_param(value, PG)


def test_length_is_counted_in_code_points() -> None:
    assert Text(3).process_bind_param("\U0001f5c4é\u0301", PG) == "\U0001f5c4é\u0301"


def test_a_member_of_an_enum_is_sent_as_its_value() -> None:
    for kind in (Text(10), Choice("sale")):
        sent = kind.process_bind_param(Reason.SALE, PG)
        assert (sent, type(sent)) == ("sale", str)


@pytest.mark.parametrize("kind", [Text(10), Choice("a"), CurrencyCode(), Slug()])
def test_none_stays_none(kind: Text | Choice | CurrencyCode | Slug) -> None:
    assert kind.process_bind_param(None, PG) is None


@pytest.mark.parametrize("value", ["eur", "EU", "EURO", "EUR\n", "ÄÖÜ", ""])
def test_a_currency_has_three_capital_letters_of_ascii(value: str) -> None:
    assert CurrencyCode().process_bind_param("EUR", PG) == "EUR"
    with pytest.raises(InvalidText):
        CurrencyCode().process_bind_param(value, PG)


@pytest.mark.parametrize("value", ["", "-", "a--b", "-a", "a-", "A", "é", "a b", "a\n", "a_b", "x" * 64, "\u0661"])
def test_what_is_no_slug_is_refused_and_not_mended(value: str) -> None:
    with pytest.raises(InvalidSlug, match="1 to 63"):
        Slug().process_bind_param(value, PG)


@given(text=st.text())
def test_slugify_gives_a_slug_or_refuses_by_name(text: str) -> None:
    try:
        slug = slugify(text)
    except InvalidSlug:
        assert not re.search("[a-zA-Z0-9]", text)
    else:
        assert Slug().process_bind_param(slug, PG) == slug
        assert slugify(slug) == slug


@pytest.mark.parametrize(
    ("text", "slug"),
    [
        ("Crème brûlée, 2 pcs.", "creme-brulee-2-pcs"),
        ("  WHITE  METAL LANTERN ", "white-metal-lantern"),
        (f"-{'x' * 70}", "x" * SLUG_LONGEST),
        (f"{'x' * 62}-y", "x" * 62),
    ],
)
def test_slugify_takes_accents_off_and_joins_words(text: str, slug: str) -> None:
    assert slugify(text) == slug


@pytest.mark.parametrize("text", ["", "---", "茶壺", "\ud800"])
def test_slugify_makes_nothing_up(text: str) -> None:
    with pytest.raises(InvalidSlug):
        slugify(text)


@pytest.mark.parametrize(
    ("expression", "pattern"),
    [
        (Product.slug.like("Tea %"), "'Tea %'"),
        (Product.slug.startswith("tea-"), "'tea-'"),
        (User.email.ilike("%@Example.com"), "'%@Example.com'"),
        (User.full_name.contains(""), "''"),
        (User.full_name + "", "''"),
    ],
    ids=str,
)
def test_a_pattern_need_not_be_a_value(expression: ColumnElement[bool], pattern: str) -> None:
    assert pattern in str(expression.compile(dialect=PG, compile_kwargs={"literal_binds": True}))


def test_a_value_compared_with_equals_must_be_one(db: Database, acme: Inhabited) -> None:
    with pytest.raises(InvalidSlug), db.tenant(acme.id) as session:
        session.scalars(select(Product).where(Product.slug == "No Slug"))


def test_a_pattern_finds_what_it_matches(db: Database, acme: Inhabited) -> None:
    with db.tenant(acme.id) as session:
        assert session.scalars(select(Product.slug).where(Product.slug.like("tea-%"))).all() == ["tea-pot"]
        assert session.scalars(select(User.full_name).where(User.email.endswith("@acme.example.com"))).all() == [
            "Ada Lovelace"
        ]
