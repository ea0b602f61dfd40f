"""Move rows between the server and a file, in bounded memory: COPY in CSV on one side, Arrow on the other."""

from __future__ import annotations

import io
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import psycopg
from sqlalchemy import Connection
from sqlalchemy.exc import DataError

from dataarch.database.error_mapping import named_error
from dataarch.errors import ArchiveError, ConstraintError
from dataarch.partitions.archive.forms import Form
from dataarch.partitions.archive.library import pyarrow
from dataarch.partitions.quoting import ident

__all__ = ["copied_in", "copied_out", "errors_named"]

GROUP_ROWS = 65_536
GROUP_BYTES = 32 * 1024 * 1024
"""A group of rows, which is what memory holds at a time, ends with whichever comes first."""


def copied_out(connection: Connection, table: str, columns: Sequence[tuple[str, Form]]) -> Iterator[Any]:
    """Yield every row of a table as Arrow tables of bounded size, ready for the file.

    Args:
        connection: with the settings of output pinned.
        table: qualified and quoted.
        columns: names and forms, in the order that the file has them.
    """
    names = ", ".join(ident(name) for name, _ in columns)
    statement = f"COPY (SELECT {names} FROM ONLY {table}) TO STDOUT (FORMAT csv, ENCODING 'UTF8')"
    lines: list[Any] = []
    size = 0
    with errors_named(), _cursor(connection) as cursor, cursor.copy(statement) as copy:
        # the protocol sends each row as one message
        for line in copy:
            lines.append(line)
            size += len(line)
            if len(lines) == GROUP_ROWS or size >= GROUP_BYTES:
                yield _parsed(b"".join(lines), columns)
                lines, size = [], 0
        if lines:
            yield _parsed(b"".join(lines), columns)


def copied_in(connection: Connection, table: str, columns: Sequence[tuple[str, Form]], groups: Iterator[Any]) -> None:
    """Write the rows of a file into a table.

    Args:
        connection: with the settings of input pinned.
        table: qualified and quoted.
        columns: names and forms of those that are written.
        groups: Arrow tables as the file has them; they may hold more columns.

    Raises:
        ArchiveError: the table's types do not take a value.
        ConstraintError: a constraint of the table refuses a row.
    """
    names = ", ".join(ident(name) for name, _ in columns)
    statement = f"COPY {table} ({names}) FROM STDIN (FORMAT csv, ENCODING 'UTF8')"
    with errors_named(), _cursor(connection) as cursor, cursor.copy(statement) as copy:
        for group in groups:
            copy.write(_written(group, columns))


def _cursor(connection: Connection) -> psycopg.Cursor[Any]:
    driver: Any = connection.connection.driver_connection
    cursor: psycopg.Cursor[Any] = driver.cursor()
    return cursor


@contextmanager
def errors_named() -> Iterator[None]:
    """Name errors of moving rows, which do not pass SQLAlchemy; a refused value is people's data, and not shown."""
    try:
        yield
    except psycopg.DataError as error:
        raise _other_type(error.sqlstate) from None
    except DataError as error:
        raise _other_type(getattr(error.orig, "sqlstate", None)) from None
    except psycopg.Error as error:
        named = named_error(error)
        if named is None:
            raise
        raise named from (None if isinstance(named, ConstraintError) else error)


def _other_type(state: str | None) -> ArchiveError:
    return ArchiveError(
        f"The server refused a value of a column (SQLSTATE {state}): its type is not what it was. Nothing was changed.",
        hint="Load it into a table whose columns have the archive's types, then change those.",
        sqlstate=state,
    )


def _parsed(lines: bytes, columns: Sequence[tuple[str, Form]]) -> Any:
    pa = pyarrow()
    given = pa.csv.read_csv(
        pa.py_buffer(lines),
        # one block: a value of any length may not straddle two
        read_options=pa.csv.ReadOptions(
            column_names=[name for name, _ in columns], block_size=len(lines), use_threads=False
        ),
        parse_options=pa.csv.ParseOptions(newlines_in_values=True, ignore_empty_lines=False),
        # the server quotes an empty string, and never a NULL
        convert_options=pa.csv.ConvertOptions(
            column_types={name: form.csv_type for name, form in columns},
            null_values=[""],
            true_values=["t"],
            false_values=["f"],
            strings_can_be_null=True,
            quoted_strings_can_be_null=False,
        ),
    )
    stored = [form.from_csv(given.column(place)) for place, (_, form) in enumerate(columns)]
    return pa.table(stored, names=[name for name, _ in columns])


def _written(group: Any, columns: Sequence[tuple[str, Form]]) -> bytes:
    pa = pyarrow()
    ready = pa.table([form.to_csv(group.column(name)) for name, form in columns], names=[name for name, _ in columns])
    lines = io.BytesIO()
    # texts are quoted whatever they hold, NULL is not: so the server tells one from the other
    pa.csv.write_csv(ready, lines, pa.csv.WriteOptions(include_header=False, quoting_style="needed"))
    return lines.getvalue()
