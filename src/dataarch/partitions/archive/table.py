"""A table as the archive sees it: its columns, and what it holds, counted and summed by the server."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

from psycopg.pq import TransactionStatus
from sqlalchemy import Connection, text
from sqlalchemy.exc import ProgrammingError

from dataarch.errors import ArchiveError
from dataarch.partitions.archive.forms import Form, form_of
from dataarch.partitions.quoting import ident

__all__ = ["INPUT", "OUTPUT", "Contents", "TableColumn", "TableNow", "contents", "locked", "pinned", "run"]

INPUT: Mapping[str, str] = MappingProxyType(
    {
        "timezone": "UTC",
        "datestyle": "ISO, YMD",
        "intervalstyle": "iso_8601",
        "lc_monetary": "C",
        "xmloption": "content",
        "array_nulls": "on",
        "row_security": "off",
    }
)
"""Settings under which the text form of a value is read as it was written; a policy raises instead of hiding rows."""

OUTPUT: Mapping[str, str] = MappingProxyType(
    {
        **INPUT,
        "extra_float_digits": "1",
        "bytea_output": "hex",
        "xmlbinary": "base64",
        "quote_all_identifiers": "off",
        "search_path": "pg_catalog",
    }
)
"""Settings under which equal values have equal text forms, on every server and for every role."""

FIND = """
SELECT format('%I.%I', nspname, relname)
FROM pg_catalog.pg_class JOIN pg_catalog.pg_namespace ON pg_namespace.oid = relnamespace
WHERE pg_class.oid = to_regclass(:table) AND relkind = 'r'
"""

COLUMNS = """
SELECT attname, format_type(atttypid, atttypmod),
       CASE WHEN typnamespace = 'pg_catalog'::regnamespace AND typtype = 'b' THEN typname ELSE '' END,
       attgenerated <> ''
FROM pg_attribute JOIN pg_type ON pg_type.oid = atttypid
WHERE attrelid = CAST(:table AS regclass) AND attnum > 0 AND NOT attisdropped
ORDER BY attnum
"""

PRIMARY_KEY = """
SELECT attname
FROM pg_index
CROSS JOIN unnest(indkey) WITH ORDINALITY AS part (number, place)
JOIN pg_attribute ON attrelid = indrelid AND attnum = number
WHERE indrelid = CAST(:table AS regclass) AND indisprimary AND place <= indnkeyatts
ORDER BY place
"""

MOST_ARGUMENTS = 90
"""Of one call; PostgreSQL takes 100."""

WORD = 2**64


@dataclass(frozen=True, slots=True)
class TableColumn:
    """A column as the table has it now; ``generated`` if the server computes it."""

    name: str
    type: str
    form: Form
    generated: bool


@dataclass(frozen=True, slots=True)
class TableNow:
    """A table as it is now; ``name`` is qualified and quoted."""

    name: str
    columns: tuple[TableColumn, ...]
    primary_key: tuple[str, ...]

    @property
    def stored(self) -> tuple[TableColumn, ...]:
        """The columns that an archive holds."""
        return tuple(column for column in self.columns if not column.generated)


@dataclass(frozen=True, slots=True)
class Contents:
    """Rows counted, and the sum of 128 bits of each row's SHA-256, in two words; the order of rows does not matter.

    A sum, so that what was added to a table is the difference of two.
    """

    rows: int
    high: int
    low: int

    def __sub__(self, other: Contents) -> Contents:
        return Contents(self.rows - other.rows, (self.high - other.high) % WORD, (self.low - other.low) % WORD)

    @property
    def checksum(self) -> str:
        """The sum as 32 hexadecimal digits."""
        return f"{self.high:016x}{self.low:016x}"


def run(connection: Connection, statement: str) -> Any:
    """Send a statement as it stands: names of tables and columns may hold colons and per cent signs."""
    return connection.exec_driver_sql(statement, execution_options={"no_parameters": True})


@contextmanager
def pinned(connection: Connection, settings: Mapping[str, str]) -> Iterator[None]:
    """Set settings for the block, and put back what they were; after an error the caller's savepoint does that."""
    names = list(settings)
    asked = text("SELECT name, current_setting(name) FROM unnest(CAST(:names AS text[])) AS name")
    before: dict[str, str] = {row[0]: row[1] for row in connection.execute(asked, {"names": names})}
    _set(connection, settings)
    yield
    _set(connection, before)


def _set(connection: Connection, settings: Mapping[str, str]) -> None:
    statement = text(
        "SELECT pg_catalog.set_config(name, value, true) "
        "FROM unnest(CAST(:names AS text[]), CAST(:values AS text[])) AS given (name, value)"
    )
    connection.execute(statement, {"names": list(settings), "values": list(settings.values())}).all()


def locked(connection: Connection, table: str) -> TableNow:
    """Keep everybody else from writing a table until the transaction ends, and return the table.

    Args:
        connection: in a transaction, READ COMMITTED.
        table: its name as SQL reads it, so an odd one in double quotes.

    Raises:
        ArchiveError: no plain table has this name; there is no transaction, or one with a snapshot of its own.

    Guarantee: SHARE ROW EXCLUSIVE: readers go on, writers and another archiving of the table wait.
    """
    name = _found(connection, table)
    run(connection, f"LOCK TABLE ONLY {name} IN SHARE ROW EXCLUSIVE MODE")
    with pinned(connection, OUTPUT):
        columns = tuple(
            TableColumn(row[0], row[1], form_of(row[2], row[1]), row[3])
            for row in connection.execute(text(COLUMNS), {"table": name})
        )
        primary_key = tuple(connection.execute(text(PRIMARY_KEY), {"table": name}).scalars())
    return TableNow(name, columns, primary_key)


def _found(connection: Connection, table: str) -> str:
    """Return a table's name, qualified and quoted; raises ArchiveError where it is none that can be locked."""
    level = connection.execute(text("SELECT current_setting('transaction_isolation')")).scalar_one()
    driver: Any = connection.connection.driver_connection
    # with an older snapshot, rows that others committed before the lock would be neither archived nor counted
    if level != "read committed" or driver.info.transaction_status != TransactionStatus.INTRANS:
        raise ArchiveError(
            f"The table {table} is archived and loaded in a transaction of level READ COMMITTED only: under any other "
            "the lock would not show what it guards.",
            hint="Begin a transaction with isolation level READ COMMITTED.",
            table=table,
        )
    try:
        with connection.begin_nested():
            found = connection.execute(text(FIND), {"table": table}).scalar_one_or_none()
    except ProgrammingError:
        # it is no name at all; newer servers find nothing instead
        found = None
    if found is None:
        raise ArchiveError(
            f"There is no plain table {table}: an archive is of a table that was a partition.",
            hint="Name it as SQL reads it, with its schema if it is not on the search path.",
            table=table,
        )
    return str(found)


def contents(
    connection: Connection, table: str, columns: Sequence[str], tests: Sequence[str] = ()
) -> tuple[Contents, tuple[bool, ...]]:
    """Count and sum what a table holds, on the server.

    Args:
        connection: with :data:`OUTPUT` pinned.
        table: qualified and quoted.
        columns: names; what others hold does not count. Their order does not matter.
        tests: SQL conditions on a row.

    Returns:
        The contents, and for each test whether any row meets it.
    """
    tested = "".join(f", {test} AS test_{number}" for number, test in enumerate(tests))
    met = "".join(f", coalesce(bool_or(test_{number}), false)" for number in range(len(tests)))
    # OFFSET 0: each row's digest is computed once, not once a word
    row = run(
        connection,
        f"""
        SELECT count(*), {_sum(1)}, {_sum(17)}{met}
        FROM (
            SELECT encode(sha256(convert_to({_row_text(columns)}, 'UTF8')), 'hex') AS digest{tested}
            FROM ONLY {table} OFFSET 0
        ) AS rows
        """,
    ).one()
    return Contents(row[0], int(row[1]) % WORD, int(row[2]) % WORD), tuple(row[3:])


def _sum(start: int) -> str:
    return f"coalesce(sum(('x' || substr(digest, {start}, 16))::bit(64)::bigint), 0)"


def _row_text(columns: Sequence[str]) -> str:
    """Return SQL for the text of a row: each value as a literal, in the order of the names; NULL differs from ''."""
    names = sorted(columns)
    calls = [names[start : start + MOST_ARGUMENTS] for start in range(0, len(names), MOST_ARGUMENTS)]
    return " || ',' || ".join(
        f"format('{','.join(['%L'] * len(call))}', {', '.join(ident(name) for name in call)})" for call in calls
    )
