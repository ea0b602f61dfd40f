"""Turn records into order lines, or into rejects that say which field and why: a step of the pipeline."""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import Decimal, InvalidOperation
from functools import lru_cache
from hashlib import sha256
from operator import itemgetter
from typing import NamedTuple, TypedDict
from uuid import UUID

import msgspec

from dataarch.clock import utcnow
from dataarch.errors import InvalidSlug, InvalidValue
from dataarch.models.types import Money, slugify, storable_text
from dataarch.pipelines.pipeline import TenantName
from dataarch.pipelines.records import Batch, Row, Stage, each

__all__ = ["COLUMNS", "DESK", "OrderLine", "OrderLines"]

COLUMNS = ("InvoiceNo", "StockCode", "Description", "Quantity", "InvoiceDate", "UnitPrice", "CustomerID", "Country")

DESK = TenantName("retail-desk", "Retail desk")
"""The tenant that keeps the runs: how far the files are read, and what was rejected before its tenant was known."""

PRICE = Money(scale=2)
LONGEST = {"InvoiceNo": 100, "StockCode": 100, "Description": 500, "CustomerID": 100}
LONGEST_NAME = 200
MOST_PIECES = 1_000_000_000
LONGEST_NUMBER = 30
LONGEST_STEM = 54
KNOWN = 10_000
"""Texts that are remembered with what was made of them: most come again and again."""

# what int(), Decimal() and fromisoformat() take is wider: other scripts' digits, 1_000, 1e3, NaN, week dates
WHOLE_NUMBER = re.compile(r"[+-]?[0-9]+")
NUMBER = re.compile(r"[+-]?[0-9]+(?:\.[0-9]+)?")
DATE_AND_TIME = re.compile(
    r"[0-9]{4}-[0-9]{2}-[0-9]{2}[ T][0-9]{2}:[0-9]{2}(?::[0-9]{2}(?:\.[0-9]{1,6})?)?(?:Z|[+-][0-9]{2}:?[0-9]{2})?"
)
FLOAT_OF_WHOLE_NUMBER = re.compile(r"([0-9]+)\.0+")

YEARS_AHEAD = 9
"""The activity log has months for ten years ahead at the most; a date beyond is a mistake, not an order."""

FIELDS = itemgetter(*COLUMNS)
ALL_TEXT = {str}


class Price(NamedTuple):
    """A price in pounds, as text with two digits behind the point; and in pence, as ``products.price`` stores it."""

    text: str
    pence: int


class OrderLine(TypedDict):
    """One valid line of an order. ``quantity`` is negative for a return; ``id`` follows from the line's content.

    It has ten fields: as a dict that takes 272 bytes, and with one more 464; a hundred thousand are on their way.
    """

    id: UUID
    invoice: str
    stock_code: str
    product_slug: str
    description: str
    quantity: int
    at: datetime
    price: Price
    customer: str
    tenant: TenantName


@dataclass(frozen=True)
class OrderLines:
    """The step that makes order lines of records.

    Attributes:
        tenant_by: the column that says whose a line is.
    """

    tenant_by: str = "Country"

    def __call__(self, batch: Batch) -> Batch:
        """Return the batch with order lines; a line is rejected for the first of its fields that cannot be used."""
        return each(batch, Stage.VALIDATE, self.order_line)

    def order_line(self, row: Row) -> Row:
        """Return the order line of a record; raises :class:`InvalidValue` where it is none."""
        fields = FIELDS(row)
        whose = row[self.tenant_by]
        if set(map(type, fields)) != ALL_TEXT or not isinstance(whose, str):
            raise InvalidValue("not text", column=next(name for name in row if not isinstance(row[name], str)))
        invoice, code, description, quantity, date, price, customer, _ = fields
        invoice = _text("InvoiceNo", invoice)
        code = _text("StockCode", code.upper())
        description = _text("Description", description if description.strip() else code)
        customer = _customer(customer)
        name = _text(self.tenant_by, whose)
        instant = _instant(date)
        cost = _price(price)
        line: OrderLine = {
            "id": line_id(instant, fields),
            "invoice": invoice,
            "stock_code": code,
            "product_slug": _product_slug(code),
            "description": description,
            "quantity": _pieces(quantity, invoice),
            "at": instant.at,
            "price": cost,
            "customer": customer,
            "tenant": _tenant(self.tenant_by, name),
        }
        return line


@lru_cache(maxsize=KNOWN)
def _text(field: str, raw: str) -> str:
    value = raw.strip()
    if not value:
        raise InvalidValue("blank", column=field)
    longest = LONGEST.get(field, LONGEST_NAME)
    if len(value) > longest:
        raise InvalidValue(f"longer than {longest} characters", column=field)
    if not value.isascii() or not value.isprintable():
        try:
            storable_text(value)
        except InvalidValue:
            raise InvalidValue("text that PostgreSQL cannot hold", column=field) from None
    return value


@lru_cache(maxsize=KNOWN)
def _customer(raw: str) -> str:
    """Return a customer's number without the fraction that some program gave it: 17850.0 is 17850."""
    customer = _text("CustomerID", raw)
    as_float = FLOAT_OF_WHOLE_NUMBER.fullmatch(customer)
    return as_float[1] if as_float else customer


def _pieces(quantity: str, invoice: str) -> int:
    pieces = _whole_number(quantity)
    if pieces > 0 and invoice.startswith("C"):
        raise InvalidValue("positive on a cancellation (InvoiceNo begins with C)", column="Quantity")
    return pieces


@lru_cache(maxsize=KNOWN)
def _whole_number(raw: str) -> int:
    quantity = raw.strip()
    if not WHOLE_NUMBER.fullmatch(quantity):
        raise InvalidValue("not a whole number", column="Quantity")
    # longer than any number that is allowed, and int() refuses very long ones
    pieces = int(quantity) if len(quantity) <= LONGEST_NUMBER else 0
    if pieces == 0 or abs(pieces) > MOST_PIECES:
        raise InvalidValue("zero or beyond a thousand million", column="Quantity")
    return pieces


class Instant(NamedTuple):
    """When a line was written, and the first half of its id: a UUIDv7 begins with the milliseconds since 1970."""

    at: datetime
    milliseconds: int


@lru_cache(maxsize=KNOWN)
def _instant(raw: str) -> Instant:
    date = raw.strip()
    if not DATE_AND_TIME.fullmatch(date):
        raise InvalidValue("not a date and time of ISO 8601", column="InvoiceDate")
    try:
        at = datetime.fromisoformat(date)
        # the source writes local wall-clock time without a zone; dataarch reads it as UTC
        at = at.replace(tzinfo=UTC) if at.tzinfo is None else at.astimezone(UTC)
    except (ValueError, OverflowError):
        raise InvalidValue("not a date and time of ISO 8601", column="InvoiceDate") from None
    if at.year < 1970:
        raise InvalidValue("before 1970", column="InvoiceDate")
    if at.year > utcnow().year + YEARS_AHEAD:
        raise InvalidValue(f"more than {YEARS_AHEAD} years ahead", column="InvoiceDate")
    return Instant(at, int(at.timestamp() * 1000))


@lru_cache(maxsize=KNOWN)
def _price(raw: str) -> Price:
    text = raw.strip()
    if not NUMBER.fullmatch(text):
        raise InvalidValue("not a number", column="UnitPrice")
    try:
        pence = PRICE.minor_units(Decimal(text))
    except (InvalidValue, InvalidOperation):
        raise InvalidValue("negative, beyond bigint, or finer than a penny", column="UnitPrice") from None
    return Price(f"{pence // 100}.{pence % 100:02}", pence)


@lru_cache(maxsize=KNOWN)
def _tenant(column: str, name: str) -> TenantName:
    return TenantName(_slug(column, name, "-".join(name.lower().split())), name)


@lru_cache(maxsize=KNOWN)
def _product_slug(code: str) -> str:
    return _slug("StockCode", code, code.lower())


def _slug(field: str, text: str, plain: str) -> str:
    """Return a slug that no other text shares: where signs were lost on the way, a digest of the text follows it."""
    try:
        slug = slugify(text)
    except InvalidSlug:
        raise InvalidValue("no letter or digit of ASCII, so no slug", column=field) from None
    if slug == plain and slug != DESK.slug:
        return slug
    return f"{slug[:LONGEST_STEM].rstrip('-')}-{sha256(plain.encode()).hexdigest()[:8]}"


def line_id(instant: Instant, fields: tuple[str, ...]) -> UUID:
    """Return the id that a line always has: a UUIDv7 of its time, whose random bits are a digest of its content.

    The same line has the same id in every run, so that a row already there is recognised; two lines share one only if
    all of their fields are equal.
    """
    digest = sha256(msgspec.json.encode(fields)).digest()
    random_bits = int.from_bytes(digest[:10], "big")
    version_and_a = 0x7000 | (random_bits >> 68 & 0x0FFF)
    variant_and_b = 0x8000000000000000 | (random_bits & 0x3FFFFFFFFFFFFFFF)
    return UUID(int=instant.milliseconds << 80 | version_and_a << 64 | variant_and_b)
