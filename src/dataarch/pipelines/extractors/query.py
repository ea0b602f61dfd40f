"""Records of a SQL query, on any database that SQLAlchemy reaches, in the order of a key."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager
from dataclasses import dataclass
from datetime import date, datetime
from decimal import Decimal
from hashlib import sha256
from typing import Any
from uuid import UUID

from sqlalchemy import (
    URL,
    Connection,
    Engine,
    NullPool,
    Select,
    column,
    create_engine,
    literal_column,
    select,
    text,
)
from sqlalchemy.engine import make_url
from sqlalchemy.exc import ArgumentError, NoSuchModuleError, SQLAlchemyError

from dataarch.database.settings import POSTGRESQL_NAMES, database_url
from dataarch.errors import DependencyMissing, InvalidText, InvalidUrl, InvalidValue, shown
from dataarch.models.types import storable_text
from dataarch.pipelines.extractors.files import printable
from dataarch.pipelines.extractors.json_lines import JsonLines
from dataarch.pipelines.extractors.opening import Unreadable
from dataarch.pipelines.extractors.reading import check_size
from dataarch.pipelines.records import Batch, Position, Row, Source

__all__ = ["Query"]

KEYS: dict[str, tuple[type, Any]] = {
    "integer": (int, int),
    "text": (str, str),
    "uuid": (UUID, UUID),
    "time": (datetime, datetime.fromisoformat),
    "date": (date, date.fromisoformat),
    "decimal": (Decimal, Decimal),
}
"""What a key may be, and how it comes back from text; a datetime is a date, too, so it stands before."""


@dataclass(frozen=True, slots=True)
class Query:
    """Reads the result of a query in the order of a key, and goes on behind the last key that was read.

    Attributes:
        url: of the database, or an engine. Engines made for a URL are closed again.
        statement: SQL that gives rows; ``:name`` stands for a parameter, as in SQLAlchemy's ``text()``.
        key: a column of the result, without NULL and different in each row, that new rows have greater values of.
        name: what the source is known by from run to run; without it, a digest of the statement.

    A row that was read is not read again when it changes: take a key that changes with it. Rows that are committed
    late with a smaller key than the last one are missed: leave the newest out of the statement where that can happen.

    The rows come through a cursor of the server where there are such, in one transaction, in memory that does not grow.
    """

    url: str | URL | Engine
    statement: str
    key: str = "id"
    name: str = ""

    def __post_init__(self) -> None:
        if not isinstance(self.url, Engine):
            object.__setattr__(self, "url", _url(self.url))
        if not self.statement.strip() or not self.key:
            raise InvalidValue("A query needs a statement and a key.", hint="Name a column of its result as the key.")

    def sources(self, given: Any = None) -> list[Source]:
        """Return the query as the only source; ``given`` are values for its parameters, by name, or nothing."""
        if not isinstance(given, Mapping | None):
            raise InvalidValue(
                f"{shown(given)} are no parameters of a query.", hint="Give a dict by their names.", value=given
            )
        name = self.name or f"query {sha256(self.statement.encode()).hexdigest()[:16]}"
        parameters = dict(given or {})
        told = "&".join(f"{key}={parameters[key]}" for key in sorted(parameters))
        return [Source(printable(f"{name}?{told}" if told else name), parameters)]

    def resume(self, source: Source, position: Position) -> Position:  # noqa: ARG002  a result has no bytes to compare
        """Return the position: what has a greater key is new."""
        return position

    def read(self, source: Source, position: Position, size: int) -> Iterator[Batch]:
        """Read the result behind a position, at most ``size`` records at a time.

        Raises:
            FeedError: the database refuses the query or cannot be reached, or the key is NULL or not unique.
        """
        check_size(size)
        try:
            with _asked(), self._connected() as connection:
                yield from self._batches(connection, source, position, size)
        except Unreadable as broken:
            raise broken.told(source) from broken

    def parse(self, text: str) -> Row:
        """Return the record of a text: a JSON object. Nothing that a query gives is ever rejected."""
        return JsonLines().parse(text)

    @contextmanager
    def _connected(self) -> Iterator[Connection]:
        if isinstance(self.url, Engine):
            with self.url.connect() as connection:
                yield connection
            return
        try:
            engine = create_engine(self.url, poolclass=NullPool)
        except (NoSuchModuleError, ImportError) as missing:
            raise DependencyMissing(
                f"The driver for this database cannot be loaded: {missing}.",
                hint="Install it, or name another in the URL.",
            ) from missing
        try:
            with engine.connect() as connection:
                yield connection
        finally:
            engine.dispose()

    def _batches(self, connection: Connection, source: Source, position: Position, size: int) -> Iterator[Batch]:
        given = text(self.statement.strip().rstrip(";"))
        table = given.columns(column(self.key)).subquery("dataarch_rows")
        key = table.c[self.key]
        statement: Select[Any] = select(literal_column("*")).select_from(table)
        last = _key(position.state)
        behind = statement if last is None else statement.where(key >= last)  # shows whether it is unique
        place = position
        options = connection.execution_options(yield_per=size)
        with closing(options.execute(behind.order_by(key), source.place)) as result:
            _check_names(list(result.keys()))
            for part in result.mappings().partitions(size):
                rows: list[Row] = [dict(row) for row in part]
                if place is position and last is not None and rows[0][self.key] == last:
                    del rows[0]
                last = self._checked(rows, last)
                after = self._after(place, rows, last)
                yield Batch(source, place, after, rows, list(range(place.records + 1, after.records + 1)), rows)
                place = after
        if connection.execution_options(yield_per=1).execute(statement.where(key.is_(None)), source.place).first():
            raise Unreadable(f"has rows whose key {shown(self.key)} is NULL", "Leave them out, or name another key.")
        yield Batch(source, place, self._after(place, [], last, end=True), [], [], [])

    def _checked(self, rows: list[Row], last: Any) -> Any:
        """Return the last key of rows that follow a row with the key ``last``."""
        for row in rows:
            key = row[self.key]
            if key is not None and key == last:
                raise Unreadable(
                    f"has two rows whose key {shown(self.key)} is {shown(key)}",
                    "Name a key that is different in each row.",
                )
            if key is None:
                raise Unreadable(
                    f"has rows whose key {shown(self.key)} is NULL", "Leave them out, or name another key."
                )
            last = key
        return last

    def _after(self, place: Position, rows: list[Row], last: Any, *, end: bool = False) -> Position:
        state = {} if last is None else {"key": _kept(last, self.key)}
        return Position(records=place.records + len(rows), state=state, end=end)


def _check_names(names: list[str]) -> None:
    if len(set(names)) < len(names):
        twice = next(name for at, name in enumerate(names) if name in names[:at])
        raise Unreadable(f"has two columns named {shown(twice)}", "Give one of them another name with AS.")


def _url(given: str | URL) -> URL:
    try:
        url = make_url(given)
    except (ArgumentError, ValueError):
        raise InvalidUrl("The URL of a query's database cannot be read.") from None
    return database_url(given) if url.drivername in POSTGRESQL_NAMES else url


@contextmanager
def _asked() -> Iterator[None]:
    try:
        yield
    except SQLAlchemyError as error:
        why = str(getattr(error, "orig", None) or error).strip().partition("\n")[0]
        raise Unreadable(f"cannot be read ({why})", "Check the statement, its key and the database.") from error


def _kept(value: Any, name: str) -> list[str]:
    for kind, (made, _) in KEYS.items():
        if isinstance(value, made) and not isinstance(value, bool):
            return [kind, _storable(value.isoformat() if isinstance(value, date) else str(value), name)]
    raise Unreadable(
        f"has a key {shown(name)} of type {type(value).__name__}, which cannot be kept",
        "Name a key of whole numbers, text, UUIDs, dates, times or decimals.",
    )


def _storable(text_of: str, name: str) -> str:
    try:
        return storable_text(text_of)
    except InvalidText as broken:
        raise Unreadable(
            f"has a key {shown(name)} that holds what cannot be kept: {broken.message.removesuffix('.')}",
            "Name another key, or leave such rows out.",
        ) from None


def _key(state: Mapping[str, Any]) -> Any:
    if "key" not in state:
        return None
    kind, value = state["key"]
    return KEYS[kind][1](value)
