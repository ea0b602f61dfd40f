"""Column types that refuse in Python what the database would refuse, and bring the CHECK for those who go around.

Every type here stays on leakproof operators (text equality, bigint, timestamptz): under row-level security nothing
else can use an index. So there is no ENUM and no NUMERIC.
"""

from __future__ import annotations

import re
import unicodedata
from datetime import UTC, datetime
from decimal import Context, Decimal
from typing import Any, Protocol, runtime_checkable

from email_validator import EmailNotValidError, validate_email
from sqlalchemy import BigInteger, DateTime, Dialect, type_coerce, types
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.sql import operators

from dataarch.clock import aware
from dataarch.errors import InvalidEmail, InvalidMoney, InvalidSlug, InvalidText, InvalidValue, shown
from dataarch.models.json_values import storable

__all__ = [
    "Checked",
    "Choice",
    "CurrencyCode",
    "Email",
    "Json",
    "Money",
    "Sha256",
    "Slug",
    "Text",
    "UtcDateTime",
    "slugify",
    "storable_text",
]

BIGINT_MOST = 2**63 - 1

COMPARISONS = frozenset({operators.eq, operators.ne, operators.lt, operators.le, operators.gt, operators.ge})
COMPARISONS |= {operators.in_op, operators.not_in_op, operators.is_distinct_from, operators.is_not_distinct_from}
GIVING_AMOUNTS = frozenset({operators.add, operators.sub, operators.mul, operators.neg})
SCALING = frozenset({operators.mul, operators.truediv, operators.floordiv, operators.mod})
LARGEST_EXPONENT = 19
WIDE = Context(prec=60)
EMAIL_LONGEST = 254
LOCAL_PART_LONGEST = 64
SLUG_LONGEST = 63

SLUG_PATTERN = "^[a-z0-9]+(-[a-z0-9]+)*$"
DOMAIN_LABEL = "[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?"
LOCAL_ATOM = "[a-z0-9!#$%&''*+/=?^_`{|}~-]+"
EMAIL_PATTERN = rf"^{LOCAL_ATOM}(\.{LOCAL_ATOM})*@({DOMAIN_LABEL}\.)+{DOMAIN_LABEL}$"


@runtime_checkable
class Checked(Protocol):
    """A type that knows the CHECK its columns need."""

    def check(self, column: str) -> str:
        """Return the condition in SQL for a column of this name."""
        ...


def storable_text(value: str) -> str:
    """Return text that PostgreSQL can hold; raises :class:`InvalidText` for NUL and for lone surrogates."""
    if "\x00" in value:
        raise InvalidText(
            f"The text {shown(value)} contains NUL (U+0000), which PostgreSQL cannot hold.",
            hint="Remove it or replace it.",
            value=value,
        )
    try:
        value.encode()
    except UnicodeEncodeError as broken:
        raise InvalidText(
            f"The text {shown(value)} contains a lone surrogate at index {broken.start}, which is not Unicode text.",
            hint="Decode the source with the right encoding, or replace it.",
            value=value,
        ) from None
    # plain text: the driver would send a member of an Enum by its name
    return str.__str__(value)


class Words(types.TypeDecorator[str]):
    """What the types on text share: a pattern, as in ``column.like("tea%")``, need not be a value itself."""

    impl = types.Text
    cache_ok = True

    def coerce_compared_value(self, op: Any, value: Any) -> types.TypeEngine[Any]:  # noqa: ARG002
        """Take the other operand of = and its kind as a value of this type, of everything else as plain text."""
        return self if op in COMPARISONS else types.Text()


class Text(Words):
    """Text of ``least`` to ``most`` characters, counted as code points, without NUL."""

    cache_ok = True

    def __init__(self, most: int, *, least: int = 1) -> None:
        super().__init__()
        self.most = most
        self.least = least

    def process_bind_param(self, value: str | None, dialect: Dialect) -> str | None:  # noqa: ARG002
        """Return the value, or raise :class:`InvalidText`."""
        if value is None:
            return None
        if not isinstance(value, str):
            raise InvalidText(f"{shown(value)} is {type(value).__name__}, not text.", hint="Give a str.", value=value)
        if not self.least <= len(value) <= self.most:
            raise InvalidText(
                f"The text {shown(value)} has {len(value)} characters, but {self.least} to {self.most} are allowed.",
                hint="Shorten it." if value else "Give it a value.",
                value=value,
            )
        return storable_text(value)

    def check(self, column: str) -> str:
        """Return the condition on the length."""
        return f"char_length({column}) BETWEEN {self.least} AND {self.most}"


class Choice(Words):
    """Text that is one of a few words; an ENUM would cost every index under row-level security."""

    cache_ok = True

    def __init__(self, *words: str) -> None:
        super().__init__()
        self.words = words

    def process_bind_param(self, value: str | None, dialect: Dialect) -> str | None:  # noqa: ARG002
        """Return the value, or raise :class:`InvalidText`."""
        if value is None:
            return None
        if value not in self.words:
            raise InvalidText(
                f"{shown(value)} is none of the words allowed here.", hint=f"Use {', '.join(self.words)}.", value=value
            )
        # the word itself: the driver would send a member of an Enum by its name
        return self.words[self.words.index(value)]

    def check(self, column: str) -> str:
        """Return the condition on the word."""
        words = ", ".join(f"'{word}'" for word in self.words)
        return f"{column} IN ({words})"


class CurrencyCode(Words):
    """A currency by its three letters (ISO 4217), as in EUR."""

    cache_ok = True

    def process_bind_param(self, value: object, dialect: Dialect) -> str | None:  # noqa: ARG002
        """Return the value, or raise :class:`InvalidText`."""
        if value is None or (isinstance(value, str) and re.fullmatch("[A-Z]{3}", value)):
            return value
        raise InvalidText(f"{shown(value)} is not a currency.", hint="Use three letters, as in EUR.", value=value)

    def check(self, column: str) -> str:
        """Return the condition on the letters."""
        return f"{column} ~ '^[A-Z]{{3}}$'"


class Sha256(Words):
    """A SHA-256 as 64 digits of a to f and 0 to 9."""

    cache_ok = True

    def process_bind_param(self, value: object, dialect: Dialect) -> str | None:  # noqa: ARG002
        """Return the value, or raise :class:`InvalidText`; the message does not show it: it may be what was hashed."""
        if value is None or (isinstance(value, str) and re.fullmatch("[0-9a-f]{64}", value)):
            return value
        raise InvalidText("What was given is no SHA-256.", hint="Give hashlib.sha256(…).hexdigest().")

    def check(self, column: str) -> str:
        """Return the condition on the digits."""
        return f"{column} ~ '^[0-9a-f]{{64}}$'"


class Slug(Words):
    """A name for URLs: 1 to 63 of a-z and 0-9, with single hyphens between them."""

    cache_ok = True

    def process_bind_param(self, value: object, dialect: Dialect) -> str | None:  # noqa: ARG002
        """Return the value, or raise :class:`InvalidSlug`; nothing is changed silently."""
        if value is None or (
            isinstance(value, str) and len(value) <= SLUG_LONGEST and re.fullmatch(SLUG_PATTERN[1:-1], value)
        ):
            return value
        raise InvalidSlug(
            f"{shown(value)} is not a slug: 1 to {SLUG_LONGEST} of a-z and 0-9, with single hyphens between them.",
            hint="slugify(text) makes one.",
            value=value,
        )

    def check(self, column: str) -> str:
        """Return the condition on characters and length."""
        return f"{column} ~ '{SLUG_PATTERN}' AND char_length({column}) <= {SLUG_LONGEST}"


def slugify(text: str) -> str:
    """Return a slug for a text: accents taken off, lower case, runs of anything else as one hyphen, 63 at the most.

    Raises:
        InvalidSlug: no letter or digit of ASCII is left, or it is no text.
    """
    if not isinstance(text, str):
        raise InvalidSlug(f"{shown(text)} is {type(text).__name__}, not text.", hint="Give a str.", value=text)
    plain = unicodedata.normalize("NFKD", text).encode("ascii", "ignore").decode("ascii").lower()
    slug = re.sub(r"[^a-z0-9]+", "-", plain)[: SLUG_LONGEST + 1].strip("-")[:SLUG_LONGEST].rstrip("-")
    if not slug:
        raise InvalidSlug(
            f"No slug can be made of {shown(text)}: it has no letter or digit of ASCII.",
            hint="Choose one by hand.",
            value=text,
        )
    return slug


class Email(Words):
    """An e-mail address that can be written to over the Internet, in lower case, its domain in ASCII (IDNA 2008).

    Accepted is the dot-atom form of RFC 5321; quoted local parts, comments, address literals and non-ASCII local parts
    are refused (docs/reference/email.md says why, category by category).
    """

    cache_ok = True

    def process_bind_param(self, value: str | None, dialect: Dialect) -> str | None:  # noqa: ARG002
        """Return the address in the one form that is stored, or raise :class:`InvalidEmail`."""
        return None if value is None else normalized_email(value)

    def check(self, column: str) -> str:
        """Return the condition on form and length."""
        return (
            f"{column} ~ '{EMAIL_PATTERN}' AND char_length({column}) <= {EMAIL_LONGEST}"
            f" AND strpos({column}, '@') <= {LOCAL_PART_LONGEST + 1}"
        )


def normalized_email(value: str) -> str:
    """Return an address as it is stored; raises :class:`InvalidEmail` with the reason."""
    if not isinstance(value, str):
        raise InvalidEmail(f"{shown(value)} is {type(value).__name__}, not an e-mail address.", value=value)
    try:
        # strict: a local part of more than 64 characters is refused, as the CHECK does
        found = validate_email(value, check_deliverability=False, allow_smtputf8=False, strict=True)
    except EmailNotValidError as invalid:
        raise InvalidEmail(
            f"{shown(value)} is not an e-mail address: {invalid}",
            hint="Give one like name@example.com.",
            value=value,
        ) from None
    # without SMTPUTF8 the library always gives the ASCII form
    return str(found.ascii_email).lower()


class AmountComparator(types.TypeDecorator.Comparator[Decimal], BigInteger.Comparator[int]):
    """Arithmetic on amounts that gives an amount, where it would give bare minor units."""

    def operate(self, op: Any, *other: Any, **kwargs: Any) -> Any:
        """Return the expression, as an amount where it is one."""
        made = super().operate(op, *other, **kwargs)
        return type_coerce(made, self.type) if op in GIVING_AMOUNTS else made


class Money(types.TypeDecorator[Decimal]):
    """An exact amount: ``Decimal`` in Python, integer minor units (bigint) in the database.

    NUMERIC is not leakproof, so under row-level security no index on it would be used; bigint is.
    """

    impl = BigInteger
    cache_ok = True
    comparator_factory = AmountComparator

    def __init__(self, *, scale: int = 2, least: int = 0) -> None:
        """Take the number of decimal places, and the least amount in minor units."""
        super().__init__()
        self.scale = scale
        self.least = least

    def process_bind_param(self, value: Decimal | int | None, dialect: Dialect) -> int | None:  # noqa: ARG002
        """Return minor units, or raise :class:`InvalidMoney`; nothing is rounded."""
        return None if value is None else self.minor_units(value)

    def minor_units(self, amount: Decimal | int) -> int:
        """Return an amount in minor units, or raise :class:`InvalidMoney`; nothing is rounded."""
        if isinstance(amount, bool) or not isinstance(amount, Decimal | int):
            raise InvalidMoney(
                f"{shown(amount)} is {type(amount).__name__}; money is exact.", hint="Give a Decimal.", value=amount
            )
        exact = Decimal(amount)
        # tested before scaling: Decimal("1E+999999") would otherwise become an integer of a million digits
        if not exact.is_finite() or (exact and exact.adjusted() > LARGEST_EXPONENT):
            raise InvalidMoney(
                f"{shown(amount)} is no amount that bigint holds.", hint="Give a smaller amount.", value=amount
            )
        # comparison is exact whatever the context's precision; quantize alone would round
        rounded = exact.quantize(Decimal(1).scaleb(-self.scale), context=WIDE)
        if rounded != exact:
            raise InvalidMoney(
                f"{shown(exact)} has more than {self.scale} decimal places, and money is never rounded silently.",
                hint="Round it yourself, the way your books want it.",
                value=amount,
            )
        minor = int(rounded.scaleb(self.scale, context=WIDE))
        if not self.least <= minor <= BIGINT_MOST:
            raise InvalidMoney(
                f"{shown(exact)} is not between {self._amount(self.least)} and {self._amount(BIGINT_MOST)}.",
                hint="Correct the amount.",
                value=amount,
            )
        return minor

    def _amount(self, minor: int) -> Decimal:
        # from text, because arithmetic would round to the precision that the caller's context has
        return Decimal(f"{minor}E-{self.scale}")

    def process_result_value(self, value: int | None, dialect: Dialect) -> Decimal | None:  # noqa: ARG002
        """Return the amount with its decimal places."""
        return None if value is None else self._amount(value)

    def coerce_compared_value(self, op: Any, value: Any) -> types.TypeEngine[Any]:
        """Take the other operand as an amount, and a factor as the number it is.

        Raises:
            InvalidMoney: the result in SQL would not be exact; compute it in Python.
        """
        if op not in SCALING:
            return self
        if op is operators.mul and isinstance(value, int) and not isinstance(value, bool):
            return BigInteger()
        raise InvalidMoney(
            f"Money {op.__name__} {shown(value)} is not exact in SQL.", hint="Compute it in Python.", value=value
        )

    def check(self, column: str) -> str:
        """Return the condition on the amount."""
        return f"{column} >= {self.least}"


class UtcDateTime(types.TypeDecorator[datetime]):
    """An instant: timestamptz in the database, aware and in UTC in Python."""

    impl = DateTime(timezone=True)
    cache_ok = True

    def process_bind_param(self, value: datetime | None, dialect: Dialect) -> datetime | None:  # noqa: ARG002
        """Return the instant in UTC, or raise :class:`NaiveDatetime`, or :class:`InvalidValue` for any other value."""
        if value is None:
            return None
        if not isinstance(value, datetime):
            raise InvalidValue(
                f"{shown(value)} is {type(value).__name__}, not an instant.", hint="Give a datetime.", value=value
            )
        try:
            return aware(value)
        except OverflowError:
            raise InvalidValue(
                f"The datetime {shown(value)} lies outside the years 1 to 9999 in UTC.",
                hint="Correct it, or use None for an open end.",
                value=value,
            ) from None

    def process_result_value(self, value: datetime | None, dialect: Dialect) -> datetime | None:  # noqa: ARG002
        """Return the instant in UTC, whatever the session's time zone."""
        # in UTC already, as units of work have it: called once a value, so nothing more is asked
        return value if value is None or value.tzinfo is UTC else aware(value)


class Json(types.TypeDecorator[Any]):
    """Any JSON value, as jsonb; what would not come back equal is refused with :class:`InvalidJson`."""

    impl = JSONB(none_as_null=False)
    cache_ok = True
    should_evaluate_none = True

    def process_bind_param(self, value: Any, dialect: Dialect) -> Any:  # noqa: ARG002
        """Return the value as it is stored, or raise :class:`InvalidJson` with the path of the culprit."""
        return storable(value)

    def coerce_compared_value(self, op: Any, value: Any) -> Any:
        """Compare as jsonb does: an index or a path beside the value stays what it is."""
        return self.impl_instance.coerce_compared_value(op, value)
