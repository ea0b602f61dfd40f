"""Rows as the bytes of COPY BINARY, column by column, with the rows that are refused set apart."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain, compress, repeat
from struct import Struct
from typing import Any
from uuid import UUID

from sqlalchemy import Boolean, Column, Integer, String, Table, Uuid
from sqlalchemy.dialects.postgresql import JSONB

from dataarch.errors import ConfigurationError
from dataarch.models.tenancy import tenant_column
from dataarch.models.types import Choice, CurrencyCode, Json, Money, Sha256, Slug, Text, UtcDateTime, Words
from dataarch.repositories.bulk.fields import (
    Bad,
    BooleanField,
    Field,
    InstantField,
    IntegerField,
    MoneyField,
    PlainTextField,
    SlugField,
    Stream,
    TenantField,
    TextField,
    UuidField,
    WordField,
)
from dataarch.repositories.bulk.json_field import JsonField
from dataarch.repositories.bulk.outcome import Refused
from dataarch.repositories.bulk.rows import RowNames

__all__ = ["HEADER", "TRAILER", "Encoded", "Encoder", "field_of"]

HEADER = b"PGCOPY\n\xff\r\n\0" + bytes(8)
"""What COPY BINARY begins with."""

TRAILER = b"\xff\xff"
"""What it ends with."""

POSITION = Struct(">iq").pack

BY_TYPE: tuple[tuple[type, type[Field]], ...] = (
    (Uuid, UuidField),
    (UtcDateTime, InstantField),
    (Text, TextField),
    (Choice, WordField),
    (CurrencyCode, WordField),
    (Sha256, WordField),
    (Slug, SlugField),
    (Words, WordField),
    (Money, MoneyField),
    (Json, JsonField),
    (JSONB, JsonField),
    (Integer, IntegerField),
    (Boolean, BooleanField),
    (String, PlainTextField),
)
"""The field of each type; the first that fits counts."""


@dataclass(frozen=True, slots=True)
class Encoded:
    """Rows as bytes.

    Attributes:
        data: the good rows as COPY BINARY has them, without :data:`HEADER` and :data:`TRAILER`.
        rows: how many good ones there are.
        refused: the others.
        defaulted: by the name of each column with a default, how many rows did not give it.
        instants: by the name of each column of instants that is never NULL, the microseconds since 2000 of good rows.
    """

    data: bytes
    rows: int
    refused: tuple[Refused, ...]
    defaulted: Mapping[str, int]
    instants: Mapping[str, Sequence[int]]


class Encoder:
    """Turns rows of one table into bytes; made once for a table and its columns, and used batch by batch.

    A row is a mapping by the names of attributes or of columns, an instance of the model, or a sequence in the order of
    the columns. A value that is not given is the column's default in Python, else NULL; None counts as not given where
    the column has a default, and in a column of JSON it is JSON's null. A name that is no column's refuses the row.

    Not to be shared between threads.
    """

    def __init__(
        self,
        table: Table,
        columns: Sequence[str] | None = None,
        *,
        tenant_id: UUID | None = None,
        numbered: bool = False,
    ) -> None:
        """Prepare for a table.

        Args:
            table: where the rows belong.
            columns: names of its columns in the order in which they are written; by default all that are not computed.
            tenant_id: whose rows they are: a row that does not say so gets it, one of another tenant is refused.
            numbered: whether each row begins with its position, as a bigint, before the columns.

        Raises:
            ConfigurationError: there is no such column, or nobody knows how its type travels.
        """
        names = [column.name for column in table.columns if column.computed is None] if columns is None else columns
        self.table = table
        self.columns = tuple(_column(table, name) for name in names)
        self._fields = [field_of(column, tenant_id) for column in self.columns]
        self._numbered = numbered
        self.names = RowNames(table, self.columns)
        self._head = Struct(">h").pack(len(self.columns) + numbered)

    def encode(self, rows: Sequence[Any], start: int = 0) -> Encoded:
        """Return rows as bytes; those that a type refuses are set apart, and cost the others nothing.

        Args:
            rows: any number that fits into memory.
            start: the position of the first one.
        """
        if not rows:
            return Encoded(b"", 0, (), {}, {})
        bad: Bad = {}
        streams: list[Stream] = [repeat(self._head, len(rows))]
        if self._numbered:
            streams.append(map(POSITION, repeat(8), range(start, start + len(rows))))
        instants: dict[str, Sequence[int]] = {}
        columns, defaulted = self.names.columns(rows, bad)
        for field, values in zip(self._fields, columns, strict=True):
            streams.extend(field.encoded(values, bad))
            if isinstance(field, InstantField) and not field.column.nullable:
                instants[field.column.name] = field.instants
        pieces: Iterable[tuple[bytes, ...]] = zip(*streams, strict=False)
        if bad:
            good = [at not in bad for at in range(len(rows))]
            pieces = compress(pieces, good)
            instants = {name: list(compress(found, good)) for name, found in instants.items()}
        refused = tuple(Refused(start + at, rows[at], bad[at]) for at in sorted(bad))
        data = b"".join(chain.from_iterable(pieces))
        return Encoded(data, len(rows) - len(bad), refused, defaulted, instants)


def _column(table: Table, name: str) -> Column[Any]:
    found = table.columns.get(name)
    if found is None or found.computed is not None:
        raise ConfigurationError(f"{table.description} has no column {name} that can be written.", column=name)
    return found


def field_of(column: Column[Any], tenant_id: UUID | None = None) -> Field:
    """Return how a column travels; raises :class:`ConfigurationError` where nobody knows how its type does."""
    if tenant_id is not None and column is tenant_column(column.table):
        return TenantField(column, tenant_id)
    for kind, field in BY_TYPE:
        if isinstance(column.type, kind):
            return field(column)
    raise ConfigurationError(
        f"How a {type(column.type).__name__} travels in COPY is not known: column {column.name}.",
        hint="Write this table with session.add_all().",
        table=column.table.description,
        column=column.name,
    )
