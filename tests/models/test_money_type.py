"""Money is exact or refused."""

from __future__ import annotations

import operator
from decimal import Context, Decimal, localcontext

import pytest
from hypothesis import given
from hypothesis import strategies as st
from sqlalchemy import select
from sqlalchemy.engine.default import DefaultDialect

from dataarch.database.unit_of_work import Database
from dataarch.errors import InvalidMoney
from dataarch.models import Product
from dataarch.models.types import BIGINT_MOST, Money
from fixtures.tenants import Inhabited

pytestmark = pytest.mark.schema

PG = DefaultDialect()
MOST = Decimal("92233720368547758.07")


@pytest.fixture
def db(shared_db: Database) -> Database:
    """One database for this file: each test makes tenants of its own."""
    return shared_db


@given(minor=st.integers(0, BIGINT_MOST), scale=st.integers(0, 4), precision=st.integers(1, 40))
def test_an_amount_comes_back_equal_whatever_the_precision_in_force(minor: int, scale: int, precision: int) -> None:
    money = Money(scale=scale)
    amount = Decimal(f"{minor}E-{scale}")
    with localcontext(Context(prec=precision)):
        assert money.process_bind_param(amount, PG) == minor
        back = money.process_result_value(minor, PG)
    assert back == amount
    assert back.as_tuple().exponent == -scale


@pytest.mark.parametrize(
    ("amount", "minor"),
    [(Decimal("9.95"), 995), (3, 300), (Decimal("1.10000000000000000000000000000000000"), 110), (Decimal("-0"), 0),
     (Decimal("0E+999999999"), 0), (Decimal("0E-999999999"), 0), (Decimal("1E+3"), 100_000), (MOST, BIGINT_MOST)],
)  # fmt: skip
def test_an_amount_is_stored_in_minor_units(amount: Decimal | int, minor: int) -> None:
    assert Money().process_bind_param(amount, PG) == minor


@pytest.mark.parametrize(
    "amount",
    [
        1.5, True, "9.95", None.__class__, Decimal("NaN"), Decimal("sNaN"), Decimal("Infinity"), Decimal("-Infinity"),
        Decimal("9.995"), Decimal("0.001"), Decimal("1E-999999999"), Decimal("1E+999999999"), Decimal("-1E+999999999"),
        Decimal("-0.01"), -1, MOST + Decimal("0.01"), 10**4000, Decimal("1." + "0" * 100 + "1"),
    ],
    ids=lambda amount: ascii(amount)[:30] if not isinstance(amount, int) else f"{amount.bit_length()} bits",
)  # fmt: skip
def test_what_is_no_exact_amount_is_refused_at_once_and_shown_short(amount: object) -> None:
    with pytest.raises(InvalidMoney) as refused:
        Money().process_bind_param(amount, PG)  # type: ignore[arg-type]  # what a careless caller does
    assert len(str(refused.value)) < 300


def test_none_stays_none() -> None:
    assert Money().process_bind_param(None, PG) is None
    assert Money().process_result_value(None, PG) is None


def test_an_amount_may_be_below_zero_where_the_column_says_so() -> None:
    assert Money(least=-(10**6)).process_bind_param(Decimal("-9.95"), PG) == -995


def test_an_addend_is_an_amount_and_a_factor_is_not(db: Database, acme: Inhabited) -> None:
    with db.tenant(acme.id) as session:
        computed = session.execute(select(Product.price, Product.price + Decimal("0.05"), Product.price * 3)).one()
    assert computed == (Decimal("9.95"), Decimal("10.00"), Decimal("29.85"))


def test_an_amount_is_found_by_comparison(db: Database, acme: Inhabited) -> None:
    with db.tenant(acme.id) as session:
        for condition in (Product.price == Decimal("9.95"), Product.price.between(9, 10), Product.price.in_([9, MOST])):
            found = session.scalars(select(Product.price).where(condition)).all()
            assert found == ([] if "IN" in str(condition) else [Decimal("9.95")])


def test_what_sql_would_round_is_refused() -> None:
    for op, other in ((operator.mul, Decimal("1.2")), (operator.mul, 1.5), (operator.truediv, 3), (operator.mod, 2)):
        with pytest.raises(InvalidMoney, match="not exact in SQL"):
            op(Product.price, other)
