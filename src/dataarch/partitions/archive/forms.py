"""How a column's values lie in the file: the exact Arrow type, or PostgreSQL's own text form.

The server writes and reads CSV, and so does Arrow, in compiled code on both sides. What Arrow cannot take from CSV by
itself (bytes, UUIDs and decimals of more than 38 digits) is turned a whole column at a time.
"""

from __future__ import annotations

import re
from array import array
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from dataarch.partitions.archive.library import pyarrow

__all__ = ["TEXT", "Form", "form_named", "form_of"]

TEXT = "text"

TYPES: Mapping[str, str] = {
    "bool": "bool",
    "int2": "int16",
    "int4": "int32",
    "int8": "int64",
    "float4": "float32",
    "float8": "float64",
    "bytea": "bytes",
    "timestamptz": "timestamptz",
    "timestamp": "timestamp",
    "date": "date",
    "uuid": "uuid",
}
"""What each of PostgreSQL's base types is in the file; every other is text, numeric with a precision excepted."""

SQL_TYPES: Mapping[str, str] = {form: name for name, form in TYPES.items()} | {TEXT: "text"}

OUTSIDE_THE_CALENDAR = "a value before the year 1, after the year 9999, or infinite"
NOT_A_NUMBER = "a value that is not a finite number"

NUMERIC = re.compile(r"numeric\((\d+),(\d+)\)")
DECIMAL = re.compile(r"decimal\((\d+),(\d+)\)")
MOST_DIGITS = 76
DIGITS_IN_CSV = 38
"""Arrow reads decimals of more digits from text only."""

UUID_BYTES = 16
UUID_DIGITS = 2 * UUID_BYTES


@dataclass(frozen=True, slots=True)
class Form:
    """One way to store a column.

    Attributes:
        name: as the archive's columns have it: ``int64``, ``decimal(12,2)``, ``text``, …
        sql_type: a type of the server that holds exactly the same values.
    """

    name: str
    sql_type: str

    @property
    def limit(self) -> tuple[str, str] | None:
        """SQL that is true for a value ``{}`` that the form cannot hold, and what such a value is; None if it can."""
        if self.name in {"timestamptz", "timestamp", "date"}:
            # UTC for a timestamptz, by the settings of the archiving
            return "{0} < '0001-01-01' OR {0} >= '10000-01-01'", OUTSIDE_THE_CALENDAR
        if DECIMAL.fullmatch(self.name):
            return "{0} IN ('NaN', 'Infinity', '-Infinity')", NOT_A_NUMBER
        return None

    @property
    def arrow_type(self) -> Any:
        """The type of the column in the file."""
        pa = pyarrow()
        if (digits := self._digits()) is not None:
            return (pa.decimal128 if digits[0] <= DIGITS_IN_CSV else pa.decimal256)(*digits)
        return _arrow_types(pa)[self.name]

    @property
    def csv_type(self) -> Any:
        """The type that Arrow reads from the server's CSV."""
        return pyarrow().string() if self._through_text() else self.arrow_type

    def from_csv(self, column: Any) -> Any:
        """Return a column that was read from the server's CSV as the file holds it."""
        if not self._through_text():
            return column
        texts = column.combine_chunks()
        if self.name == "bytes":
            return _bytes_of(texts)
        return _uuids_of(texts) if self.name == "uuid" else texts.cast(self.arrow_type)

    def to_csv(self, column: Any) -> Any:
        """Return a column of the file as Arrow writes it for the server."""
        if self.name == "bytes":
            return _hex_of(column.combine_chunks())
        return _digits_of(column.combine_chunks()) if self.name == "uuid" else column

    def _digits(self) -> tuple[int, int] | None:
        found = DECIMAL.fullmatch(self.name)
        return (int(found.group(1)), int(found.group(2))) if found else None

    def _through_text(self) -> bool:
        digits = self._digits()
        return self.name in {"bytes", "uuid"} or (digits is not None and digits[0] > DIGITS_IN_CSV)


def form_of(base_type: str, full_type: str) -> Form:
    """Return how values of a type are stored, as long as each is within the form's limit.

    Args:
        base_type: name of a base type of PostgreSQL's own, for example ``int8``; empty for any other.
        full_type: as ``format_type`` writes it, for example ``numeric(12,2)``.
    """
    if base_type == "numeric" and (given := NUMERIC.fullmatch(full_type)):
        precision, scale = int(given.group(1)), int(given.group(2))
        if scale <= precision <= MOST_DIGITS:
            return form_named(f"decimal({precision},{scale})")
    return form_named(TYPES.get(base_type, TEXT))


def form_named(name: str) -> Form:
    """Return a form by its name; raises KeyError where there is none."""
    if DECIMAL.fullmatch(name):
        return Form(name, name.replace("decimal", "numeric"))
    return Form(name, SQL_TYPES[name])


def _arrow_types(pa: Any) -> Mapping[str, Any]:
    return {
        "bool": pa.bool_(),
        "int16": pa.int16(),
        "int32": pa.int32(),
        "int64": pa.int64(),
        "float32": pa.float32(),
        "float64": pa.float64(),
        "bytes": pa.binary(),
        "timestamptz": pa.timestamp("us", tz="UTC"),
        "timestamp": pa.timestamp("us"),
        "date": pa.date32(),
        # before pyarrow 18: the same 16 bytes, without the mark that they are a UUID
        "uuid": pa.uuid() if hasattr(pa, "uuid") else pa.binary(UUID_BYTES),
        TEXT: pa.string(),
    }


def _bytes_of(texts: Any) -> Any:
    r"""Return bytes for texts such as ``\x00ff``."""
    pa = pyarrow()
    digits = pa.compute.utf8_slice_codeunits(texts, 2)
    _, offsets, data = digits.buffers()
    return pa.Array.from_buffers(
        pa.binary(), len(texts), [_validity(texts), _scaled(offsets, len(texts), "divide"), _unhexed(data)]
    )


def _hex_of(values: Any) -> Any:
    pa = pyarrow()
    _, offsets, data = values.buffers()
    digits = pa.Array.from_buffers(
        pa.string(), len(values), [_validity(values), _scaled(offsets, len(values), "multiply"), _hexed(data)]
    )
    return pa.compute.binary_join_element_wise(pa.scalar("\\x"), digits, "")


def _uuids_of(texts: Any) -> Any:
    pa = pyarrow()
    whole = texts.fill_null("0" * UUID_DIGITS)
    storage = pa.Array.from_buffers(pa.binary(UUID_BYTES), len(texts), [_validity(texts), _unhexed(whole.buffers()[2])])
    return pa.ExtensionArray.from_storage(pa.uuid(), storage) if hasattr(pa, "uuid") else storage


def _digits_of(values: Any) -> Any:
    pa = pyarrow()
    storage = values.storage if isinstance(values, pa.ExtensionArray) else values
    starts = array("i", range(0, UUID_DIGITS * (len(storage) + 1), UUID_DIGITS))
    return pa.Array.from_buffers(
        pa.string(), len(storage), [_validity(storage), pa.py_buffer(starts), _hexed(storage.buffers()[1])]
    )


def _validity(values: Any) -> Any:
    # the values of an array of booleans are the bitmap that says which values of another array are there
    return values.is_valid().buffers()[1]


def _scaled(offsets: Any, length: int, how: str) -> Any:
    pa = pyarrow()
    numbers = pa.Array.from_buffers(pa.int32(), length + 1, [None, offsets])
    return getattr(pa.compute, how)(numbers, pa.scalar(2, pa.int32())).buffers()[1]


def _unhexed(data: Any) -> Any:
    digits = b"" if data is None else data.to_pybytes()
    return pyarrow().py_buffer(bytes.fromhex(digits.replace(b"-", b"").decode("ascii")))


def _hexed(data: Any) -> Any:
    return pyarrow().py_buffer((b"" if data is None else data.to_pybytes()).hex().encode("ascii"))
