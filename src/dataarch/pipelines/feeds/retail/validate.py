"""Turn raw lines into order lines, or into rejects that say which field and why."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import Decimal, InvalidOperation
from functools import lru_cache
from hashlib import sha256
from uuid import UUID

import msgspec

from dataarch.clock import utcnow
from dataarch.errors import InvalidSlug, InvalidValue
from dataarch.models.types import Money, slugify, storable_text
from dataarch.pipelines.feeds.retail.extract import COLUMNS, RawLine

__all__ = ["OrderLine", "Reject", "order_line"]

PRICE = Money(scale=2)
LONGEST = {"InvoiceNo": 100, "StockCode": 100, "Description": 500, "CustomerID": 100, "Country": 200}
MOST_PIECES = 1_000_000_000
LONGEST_NUMBER = 30
LONGEST_STEM = 54

# what int(), Decimal() and fromisoformat() take is wider: other scripts' digits, 1_000, 1e3, NaN, week dates
WHOLE_NUMBER = re.compile(r"[+-]?[0-9]+")
NUMBER = re.compile(r"[+-]?[0-9]+(?:\.[0-9]+)?")
DATE_AND_TIME = re.compile(
    r"[0-9]{4}-[0-9]{2}-[0-9]{2}[ T][0-9]{2}:[0-9]{2}(?::[0-9]{2}(?:\.[0-9]{1,6})?)?(?:Z|[+-][0-9]{2}:?[0-9]{2})?"
)
FLOAT_OF_WHOLE_NUMBER = re.compile(r"([0-9]+)\.0+")

YEARS_AHEAD = 9
"""The activity log has months for ten years ahead at the most; a date beyond is a mistake, not an order."""


@dataclass(frozen=True, slots=True)
class OrderLine:
    """One valid line of an order. ``quantity`` is negative for a return; ``id`` follows from the line's content."""

    id: UUID
    number: int
    invoice: str
    stock_code: str
    product_slug: str
    description: str
    quantity: int
    at: datetime
    price: Decimal
    customer: str
    country: str
    tenant_slug: str

    @property
    def price_in_pence(self) -> int:
        """The price as ``products.price`` stores it."""
        return PRICE.minor_units(self.price)


@dataclass(frozen=True, slots=True)
class Reject:
    """A line that cannot be loaded: where it stands, which field, and why."""

    file: str
    number: int
    field: str
    reason: str
    value: str


class Refused(Exception):  # never leaves this file
    """One field of a line cannot be used."""

    def __init__(self, field: str, reason: str, value: str = "") -> None:
        self.field = field
        self.reason = reason
        self.value = value
        super().__init__(reason)


def order_line(file: str, raw: RawLine) -> OrderLine | Reject:
    """Return the order line, or the reject that says what is wrong with its first bad field."""
    try:
        return _order_line(raw)
    except Refused as refused:
        return Reject(file, raw.number, refused.field, refused.reason, refused.value)


def _order_line(raw: RawLine) -> OrderLine:
    if len(raw.fields) != len(COLUMNS):
        raise Refused("", f"{len(raw.fields)} fields instead of {len(COLUMNS)}", ",".join(raw.fields)[:200])
    invoice, code, description, quantity, date, price, customer, country = (field.strip() for field in raw.fields)
    code = code.upper()
    description = description or code
    _check_texts(InvoiceNo=invoice, StockCode=code, Description=description, CustomerID=customer, Country=country)
    at = _instant(date)
    return OrderLine(
        number=raw.number,
        invoice=invoice,
        stock_code=code,
        product_slug=_product_slug(code),
        description=description,
        quantity=_pieces(quantity, invoice),
        at=at,
        price=_price(price),
        customer=_customer(customer),
        country=country,
        tenant_slug=_tenant_slug(country),
        id=line_id(at, raw.fields),
    )


def _check_texts(**fields: str) -> None:
    for field, value in fields.items():
        if not value:
            raise Refused(field, "blank")
        if len(value) > LONGEST[field]:
            raise Refused(field, f"longer than {LONGEST[field]} characters", value[:200])
        if not value.isascii() or not value.isprintable():
            _check_storable(field, value)


def _check_storable(field: str, value: str) -> None:
    try:
        storable_text(value)
    except InvalidValue as refused:
        raise Refused(field, "text that PostgreSQL cannot hold", ascii(refused.value)[:200]) from None


def _pieces(quantity: str, invoice: str) -> int:
    if not WHOLE_NUMBER.fullmatch(quantity):
        raise Refused("Quantity", "not a whole number", quantity[:200])
    # longer than any number that is allowed, and int() refuses very long ones
    pieces = int(quantity) if len(quantity) <= LONGEST_NUMBER else 0
    if pieces == 0 or abs(pieces) > MOST_PIECES:
        raise Refused("Quantity", "zero or beyond a thousand million", quantity[:200])
    if pieces > 0 and invoice.startswith("C"):
        raise Refused("Quantity", "positive on a cancellation (InvoiceNo begins with C)", quantity)
    return pieces


def _instant(date: str) -> datetime:
    if not DATE_AND_TIME.fullmatch(date):
        raise Refused("InvoiceDate", "not a date and time of ISO 8601", date[:200])
    try:
        at = datetime.fromisoformat(date)
        # the source writes local wall-clock time without a zone; dataarch reads it as UTC
        at = at.replace(tzinfo=UTC) if at.tzinfo is None else at.astimezone(UTC)
    except (ValueError, OverflowError):
        raise Refused("InvoiceDate", "not a date and time of ISO 8601", date[:200]) from None
    if at.year < 1970:
        raise Refused("InvoiceDate", "before 1970", date[:200])
    if at.year > utcnow().year + YEARS_AHEAD:
        raise Refused("InvoiceDate", f"more than {YEARS_AHEAD} years ahead", date[:200])
    return at


def _price(text: str) -> Decimal:
    if not NUMBER.fullmatch(text):
        raise Refused("UnitPrice", "not a number", text[:200])
    try:
        price = Decimal(text)
        PRICE.minor_units(price)
    except (InvalidValue, InvalidOperation):
        raise Refused("UnitPrice", "negative, beyond bigint, or finer than a penny", text[:200]) from None
    return price


def _customer(customer: str) -> str:
    """Return a customer's number without the fraction that some program gave it: 17850.0 is 17850."""
    as_float = FLOAT_OF_WHOLE_NUMBER.fullmatch(customer)
    return as_float[1] if as_float else customer


@lru_cache(maxsize=4096)
def _tenant_slug(country: str) -> str:
    return _slug("Country", country, "-".join(country.lower().split()))


@lru_cache(maxsize=4096)
def _product_slug(code: str) -> str:
    return _slug("StockCode", code, code.lower())


def _slug(field: str, text: str, plain: str) -> str:
    """Return a slug that no other text shares: where signs were lost on the way, a digest of the text follows it."""
    try:
        slug = slugify(text)
    except InvalidSlug:
        raise Refused(field, "no letter or digit of ASCII, so no slug", text[:200]) from None
    if slug == plain:
        return slug
    return f"{slug[:LONGEST_STEM].rstrip('-')}-{sha256(plain.encode()).hexdigest()[:8]}"


def line_id(at: datetime, fields: Sequence[str]) -> UUID:
    """Return the id that a line always has: a UUIDv7 of its time, whose random bits are a digest of its content.

    The same line has the same id in every run, so that a row already there is recognised; two lines share one only if
    all of their fields are equal.
    """
    digest = sha256(msgspec.json.encode(fields)).digest()
    milliseconds = int(at.timestamp() * 1000)
    random_bits = int.from_bytes(digest[:10], "big")
    version_and_a = 0x7000 | (random_bits >> 68 & 0x0FFF)
    variant_and_b = 0x8000000000000000 | (random_bits & 0x3FFFFFFFFFFFFFFF)
    return UUID(int=milliseconds << 80 | version_and_a << 64 | variant_and_b)
