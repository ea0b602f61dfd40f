"""The values of a column as fields of COPY BINARY; PostgreSQL, "COPY", section "Binary Format".

The type's own ``process_bind_param`` says what is valid and what is stored. A field knows a faster way for whole
columns of plain values: it gives either exactly what the type gives, or nothing; then each value takes the slow way.
"""

from __future__ import annotations

import re
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Sequence
from datetime import UTC, datetime, timedelta
from decimal import Context, Decimal, Inexact, InvalidOperation
from functools import partial
from itertools import islice, repeat
from operator import attrgetter, eq, floordiv, is_, sub
from struct import Struct
from typing import Any
from uuid import UUID

from sqlalchemy import BigInteger, Column, SmallInteger, TypeDecorator
from sqlalchemy.dialects import postgresql

from dataarch.database.row_keys import row_id
from dataarch.errors import DataArchError, InvalidText, InvalidValue, MissingValue, TenantMismatch, shown
from dataarch.models.types import BIGINT_MOST, SLUG_LONGEST, SLUG_PATTERN, Money, Text
from dataarch.models.types import storable_text as storable

__all__ = [
    "DAY",
    "EPOCH",
    "MICROSECOND",
    "MISSING",
    "Bad",
    "BooleanField",
    "Field",
    "InstantField",
    "IntegerField",
    "MoneyField",
    "PlainTextField",
    "SlugField",
    "Stream",
    "TenantField",
    "TextField",
    "UuidField",
    "WordField",
]

DIALECT = postgresql.dialect()  # type: ignore[no-untyped-call]  # SQLAlchemy's own

NULL = b"\xff\xff\xff\xff"
LONG = Struct(">i").pack
TO_BYTES: Callable[[int, int, str], bytes] = int.to_bytes  # type: ignore[assignment]  # its last argument is a Literal
EPOCH = datetime(2000, 1, 1, tzinfo=UTC)
MICROSECOND = timedelta(microseconds=1)
EXACT = Context(prec=60, traps=[Inexact, InvalidOperation])
SLUG = re.compile(SLUG_PATTERN[1:-1]).fullmatch
DAY = 86_400_000_000
"""Microseconds of a day."""

MISSING: Any = type("Missing", (), {"__repr__": lambda _: "MISSING", "__slots__": ()})()
"""Stands for a value that was not given, which None is for most columns, but not for JSON."""

Stream = Iterable[bytes]
"""One piece of each row, row by row."""

PART = 32
"""Rows of a batch that take the slow way together."""

Bad = dict[int, DataArchError]
"""Why rows are refused, by their places in the batch."""


class Field(ABC):
    """How the values of one column travel."""

    none_is_value = False

    in_parts = True
    """Whether a column can be taken part by part."""

    def __init__(self, column: Column[Any]) -> None:
        self.column = column
        self.bind: Callable[[Any], Any] = lambda value: value
        if isinstance(column.type, TypeDecorator):
            self.bind = partial(_bound, column.type)

    @abstractmethod
    def packed(self, stored: Any) -> bytes:
        """Return what the type made of a value as the server reads it, without its length."""

    @abstractmethod
    def plain(self, values: Sequence[Any]) -> tuple[Stream, ...] | None:
        """Return all values, as :meth:`one` gives each; None where one of them is not plain."""

    def one(self, value: Any) -> bytes:
        """Return one value with its length.

        Raises:
            MissingValue: there is none, and the column must have one.
            InvalidValue: the type refuses it.
        """
        if value is MISSING or (value is None and not self.none_is_value):
            return self.absent()
        packed = self.packed(self.bind(value))
        return LONG(len(packed)) + packed

    def absent(self) -> bytes:
        """Return NULL, where the column may have none."""
        if self.column.nullable:
            return NULL
        raise MissingValue(
            f"The row has no {self.column.name}, and {self.column.table.name} must have one.",
            hint="Give it a value.",
        )

    def encoded(self, values: Sequence[Any], bad: Bad) -> tuple[Stream, ...]:
        """Return the pieces of a column of one row or more, and note those that are refused; their pieces mean nothing.

        A piece that all rows share is repeated without an end.
        """
        found = self._whole(values)
        if found is not None:
            return found
        return (self._in_parts(values, bad) if self.in_parts else self._singly(values, bad),)

    def _whole(self, values: Sequence[Any]) -> tuple[Stream, ...] | None:
        return self._partly(values) if self.column.nullable else self.plain(values)

    def _in_parts(self, values: Sequence[Any], bad: Bad) -> list[bytes]:
        """Take the quick way as far as it goes: a value that is not plain costs only those around it the slow one."""
        fields: list[bytes] = []
        for start in range(0, len(values), PART):
            part = values[start : start + PART]
            found = self._whole(part)
            if found is None:
                fields += self._singly(part, bad, start)
            else:
                fields += map(b"".join, islice(zip(*found, strict=False), len(part)))
        return fields

    def _partly(self, values: Sequence[Any]) -> tuple[Stream, ...] | None:
        """Return the pieces of a column that may have gaps."""
        gaps = {id(MISSING)} if self.none_is_value else {id(MISSING), id(None)}
        absences = [id(value) in gaps for value in values]
        present = [value for value, absent in zip(values, absences, strict=True) if not absent]
        if len(present) == len(values):
            return self.plain(values)
        if not present:
            return (repeat(NULL),)
        found = self.plain(present)
        if found is None:
            return None
        fields = map(b"".join, zip(*found, strict=False))
        return ([NULL if absent else next(fields) for absent in absences],)

    def _singly(self, values: Sequence[Any], bad: Bad, first: int = 0) -> list[bytes]:
        fields: list[bytes] = []
        for at, value in enumerate(values, first):
            try:
                fields.append(self.one(value))
            except DataArchError as error:
                self.refuse(bad, at, error)
                fields.append(NULL)
            except (TypeError, ValueError, ArithmeticError, RecursionError) as odd:
                # a type meets what it was not made for: the row is refused, the others go on
                said = f"A {type(value).__name__} that cannot be stored was given ({type(odd).__name__})."
                self.refuse(bad, at, InvalidValue(said, value=value))
                fields.append(NULL)
        return fields

    def refuse(self, bad: Bad, at: int, error: DataArchError) -> None:
        """Note why a row is refused; of several reasons the first counts."""
        if at not in bad:
            error.column, error.table = self.column.name, self.column.table.description
            bad[at] = error


def _bound(kind: TypeDecorator[Any], value: Any) -> Any:
    return kind.process_bind_param(value, DIALECT)


def all_of(kind: type, values: Sequence[Any]) -> bool:
    """Return whether all values are exactly of a type; a subclass may behave in its own way."""
    return set(map(type, values)) <= {kind}


class UuidField(Field):
    """A uuid: 16 bytes."""

    prefix = LONG(16)

    def __init__(self, column: Column[Any]) -> None:
        super().__init__(column)
        self.bind = row_id

    def packed(self, stored: UUID) -> bytes:
        """Return its 16 bytes."""
        return stored.bytes

    def plain(self, values: Sequence[Any]) -> tuple[Stream, ...] | None:
        """Take UUIDs; one that all rows share is packed once."""
        if not all_of(UUID, values):
            return None
        if all(map(is_, values, repeat(values[0]))):
            return (repeat(self.prefix + values[0].bytes),)
        return repeat(self.prefix), map(TO_BYTES, map(attrgetter("int"), values), repeat(16), repeat("big"))


class TenantField(UuidField):
    """Whose row it is: one tenant's, also where the row does not say so."""

    def __init__(self, column: Column[Any], tenant_id: UUID) -> None:
        super().__init__(column)
        self.tenant_id = tenant_id

    def one(self, value: Any) -> bytes:
        """Return the tenant with its length; raises :class:`TenantMismatch` for another one."""
        given = self.tenant_id if value is None or value is MISSING else row_id(value)
        if given != self.tenant_id:
            raise TenantMismatch(
                f"The row belongs to tenant {given}, and the session to tenant {self.tenant_id}.",
                value=given,
                tenant_id=self.tenant_id,
            )
        return self.prefix + given.bytes

    def plain(self, values: Sequence[Any]) -> tuple[Stream, ...] | None:
        """Take rows that do not say, and those that say the same."""
        same = all(map(is_, values, repeat(MISSING))) or (
            all_of(UUID, values) and set(map(attrgetter("int"), values)) == {self.tenant_id.int}
        )
        return (repeat(self.one(MISSING)),) if same else None


class InstantField(Field):
    """A timestamptz: microseconds since 2000 in 8 bytes.

    Attributes:
        instants: of the batch that was encoded last, the microseconds of each row; 0 where one is refused. A column
            that may be NULL has none for its gaps.
    """

    in_parts = False
    prefix = LONG(8)
    pack = staticmethod(Struct(">q").pack)

    def __init__(self, column: Column[Any]) -> None:
        super().__init__(column)
        self.instants: list[int] = []

    def packed(self, stored: datetime) -> bytes:
        """Return its 8 bytes."""
        return self.pack((stored - EPOCH) // MICROSECOND)

    def one(self, value: Any) -> bytes:
        """Return one value with its length, and remember when it is."""
        self.instants.append(0)
        field = super().one(value)
        if len(field) > len(NULL):
            self.instants[-1] = int.from_bytes(field[4:], "big", signed=True)
        return field

    def plain(self, values: Sequence[Any]) -> tuple[Stream, ...] | None:
        """Take datetimes in UTC; no other zone, whose offset may be anything."""
        self.instants = []
        if not all_of(datetime, values) or not all(map(is_, map(attrgetter("tzinfo"), values), repeat(UTC))):
            return None
        self.instants = list(map(floordiv, map(sub, values, repeat(EPOCH)), repeat(MICROSECOND)))
        return repeat(self.prefix), map(self.pack, self.instants)


class TextField(Field):
    """Text as UTF-8."""

    def packed(self, stored: str) -> bytes:
        """Return it as UTF-8."""
        return stored.encode()

    def plain(self, values: Sequence[Any]) -> tuple[Stream, ...] | None:
        """Take text of the right length without NUL, where the type asks for no more than that."""
        kind = self.column.type
        if not isinstance(kind, Text) or not all_of(str, values) or "\x00" in "".join(values):
            return None
        lengths = set(map(len, values))
        if lengths and (min(lengths) < kind.least or max(lengths) > kind.most):
            return None
        try:
            texts = list(map(str.encode, values))
        except UnicodeEncodeError:
            return None
        return map(LONG, map(len, texts)), texts


class WordField(TextField):
    """Text that many rows share, or whose form the type examines: each different one is looked at once."""

    def plain(self, values: Sequence[Any]) -> tuple[Stream, ...] | None:
        """Take text that the type accepts."""
        if not all_of(str, values):
            return None
        try:
            known = {word: self.one(word) for word in set(values)}
        except (DataArchError, UnicodeEncodeError):
            return None
        return (map(known.__getitem__, values),)


class SlugField(TextField):
    """A slug: ASCII, so that its length is that of its bytes."""

    def plain(self, values: Sequence[Any]) -> tuple[Stream, ...] | None:
        """Take slugs."""
        if not all_of(str, values) or not all(map(SLUG, values)):
            return None
        lengths = list(map(len, values))
        return (map(LONG, lengths), map(str.encode, values)) if max(lengths) <= SLUG_LONGEST else None


class PlainTextField(WordField):
    """Text of a column that says no more than that."""

    def __init__(self, column: Column[Any]) -> None:
        super().__init__(column)
        self.bind = partial(as_text, getattr(column.type, "length", None))


def as_text(most: int | None, value: object) -> str:
    """Return text that the server can hold; raises :class:`InvalidText`."""
    if not isinstance(value, str):
        raise InvalidText(f"{shown(value)} is {type(value).__name__}, not text.", hint="Give a str.", value=value)
    if most is not None and len(value) > most:
        raise InvalidText(f"The text {shown(value)} is longer than {most} characters.", hint="Shorten it.", value=value)
    return storable(value)


class IntegerField(Field):
    """An integer of 2, 4 or 8 bytes."""

    def __init__(self, column: Column[Any]) -> None:
        super().__init__(column)
        size = 8
        if not isinstance(column.type, BigInteger | TypeDecorator):
            size = 2 if isinstance(column.type, SmallInteger) else 4
        self.pack = Struct({2: ">h", 4: ">i", 8: ">q"}[size]).pack
        self.prefix = LONG(size)
        self.most = 2 ** (8 * size - 1) - 1
        if not isinstance(column.type, TypeDecorator):
            self.bind = self._integer

    def _integer(self, value: object) -> int:
        if isinstance(value, bool) or not isinstance(value, int):
            raise InvalidValue(
                f"{shown(value)} is {type(value).__name__}, not an integer.", hint="Give an int.", value=value
            )
        if not -self.most - 1 <= value <= self.most:
            raise InvalidValue(
                f"{shown(value)} is beyond what the column holds, {-self.most - 1} to {self.most}.",
                hint="Correct the number.",
                value=value,
            )
        return value

    def packed(self, stored: int) -> bytes:
        """Return its bytes."""
        return self.pack(stored)

    def plain(self, values: Sequence[Any]) -> tuple[Stream, ...] | None:
        """Take integers within range."""
        if not values or not all_of(int, values) or min(values) < -self.most - 1 or max(values) > self.most:
            return None
        return repeat(self.prefix), map(self.pack, values)


class MoneyField(IntegerField):
    """An amount in minor units."""

    def __init__(self, column: Column[Any]) -> None:
        super().__init__(column)
        kind: Any = column.type
        self.unit = Decimal(10) ** kind.scale

    def plain(self, values: Sequence[Any]) -> tuple[Stream, ...] | None:
        """Take decimals that are whole in minor units."""
        kind = self.column.type
        if not isinstance(kind, Money) or not all_of(Decimal, values):
            return None
        try:
            # exact, or refused: neither a rounding nor an integer of a million digits gets through
            amounts = list(map(EXACT.multiply, values, repeat(self.unit)))
            if not -BIGINT_MOST <= min(amounts) <= max(amounts) <= BIGINT_MOST:
                return None
            minor = list(map(int, amounts))
        except (ArithmeticError, ValueError):
            return None
        whole = all(map(eq, minor, amounts)) and min(minor) >= kind.least
        return (repeat(self.prefix), map(self.pack, minor)) if whole else None


class BooleanField(Field):
    """A boolean: one byte."""

    def __init__(self, column: Column[Any]) -> None:
        super().__init__(column)
        self.bind = as_boolean

    def packed(self, stored: bool) -> bytes:  # noqa: FBT001  # the value itself
        """Return its byte."""
        return b"\x01" if stored else b"\x00"

    def plain(self, values: Sequence[Any]) -> tuple[Stream, ...] | None:
        """Take booleans."""
        if not all_of(bool, values):
            return None
        return (map((b"\x00\x00\x00\x01\x00", b"\x00\x00\x00\x01\x01").__getitem__, values),)


def as_boolean(value: object) -> bool:
    """Return a boolean, and nothing that merely is true; raises :class:`InvalidValue`."""
    if isinstance(value, bool):
        return value
    raise InvalidValue(f"{shown(value)} is {type(value).__name__}, not a boolean.", hint="Give a bool.", value=value)
