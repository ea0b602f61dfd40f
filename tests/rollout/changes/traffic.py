"""Versions of an application at work: writers and readers without pause, who note all that fails or is not as written.

Half of a version's workers use its classes through SQLAlchemy's sessions, half SQL of their own through psycopg. Both
have the server prepare each statement when it is first run, and name every column: a prepared ``SELECT *`` fails as
soon as a column comes, whatever brings it.
"""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Protocol

import psycopg
from sqlalchemy import create_engine, make_url, select
from sqlalchemy.orm import Session
from sqlalchemy.pool import StaticPool

from rollout.changes.traffic_books import Book, Facts, Form

__all__ = ["WORKERS", "Orm", "Population", "Sql", "Threads", "Worker", "differing"]

PAUSE = 0.002
"""Seconds between two of a worker's turns."""

TOGETHER = 5
"""Rows that are written at once now and then."""

BREATH = 12
"""Turns of each worker between two steps of a change."""

Rows = list[tuple[int, Facts]]


class Hands(Protocol):
    """A way to read and write rows, by a connection of its own."""

    def one(self, form: Form, number: int) -> Facts | None:
        """Read a row by its key."""

    def several(self, form: Form, first: int, last: int) -> Rows:
        """Read the rows between two numbers."""

    def add(self, form: Form, rows: Mapping[int, Facts]) -> None:
        """Write new rows."""

    def put(self, form: Form, number: int, attributes: Facts) -> None:
        """Write a row, whether it is there or not."""

    def change(self, form: Form, number: int, attributes: Facts) -> None:
        """Change attributes of a row, having read it in the same transaction."""

    def remove(self, form: Form, number: int) -> None:
        """Delete a row."""

    def close(self) -> None:
        """Give the connection back."""


class Sql:
    """SQL as one writes it by hand."""

    def __init__(self, url: str) -> None:
        # as servers of applications do: each statement is prepared
        self.connection = psycopg.connect(url, autocommit=True, prepare_threshold=0)

    def one(self, form: Form, number: int) -> Facts | None:
        found = self._run(f"{self._selected(form)} WHERE {self._is_row(form)}", form.key(number)).fetchone()
        return None if found is None else self._row(form, found)[1]

    def several(self, form: Form, first: int, last: int) -> Rows:
        statement = f"{self._selected(form)} WHERE id BETWEEN %(first)s AND %(last)s ORDER BY id"
        return [self._row(form, one) for one in self._run(statement, {"first": first, "last": last})]

    def add(self, form: Form, rows: Mapping[int, Facts]) -> None:
        if len(rows) == 1:
            ((number, attributes),) = rows.items()
            self._run(self._insert(form), {**form.key(number), **attributes})
            return
        names = ", ".join(self._names(form).values())
        with self.connection.cursor() as cursor, cursor.copy(f"COPY {form.table} ({names}) FROM STDIN".encode()) as to:
            for number, attributes in rows.items():
                to.write_row([*form.key(number).values(), *attributes.values()])

    def put(self, form: Form, number: int, attributes: Facts) -> None:
        sets = ", ".join(f"{name} = EXCLUDED.{name}" for one, name in self._names(form).items() if one in attributes)
        statement = f"{self._insert(form)} ON CONFLICT ({', '.join(form.keys)}) DO UPDATE SET {sets}"
        self._run(statement, {**form.key(number), **attributes})

    def change(self, form: Form, number: int, attributes: Facts) -> None:
        sets = ", ".join(f"{self._names(form)[one]} = %({one})s" for one in attributes)
        statement = f"UPDATE {form.table} SET {sets} WHERE {self._is_row(form)}"
        with self.connection.transaction():
            self.one(form, number)
            self._run(statement, {**form.key(number), **attributes})

    def remove(self, form: Form, number: int) -> None:
        self._run(f"DELETE FROM {form.table} WHERE {self._is_row(form)}", form.key(number))

    def close(self) -> None:
        self.connection.close()

    def _run(self, statement: str, values: Mapping[str, Any]) -> psycopg.Cursor[Any]:
        return self.connection.execute(statement.encode(), values)

    def _names(self, form: Form) -> dict[str, str]:
        """The columns by attribute, as SQL has them."""
        return {one: one for one in form.keys} | {one: column.name for one, column in form.columns.items()}

    def _selected(self, form: Form) -> str:
        read = [getattr(column.type, "sql", "{}").format(column.name) for column in form.columns.values()]
        return f"SELECT {', '.join(['id', *read])} FROM {form.table}"

    def _insert(self, form: Form) -> str:
        names = self._names(form)
        marks = ", ".join(f"%({one})s" for one in names)
        return f"INSERT INTO {form.table} ({', '.join(names.values())}) VALUES ({marks})"

    def _is_row(self, form: Form) -> str:
        return " AND ".join(f"{one} = %({one})s" for one in form.keys)

    def _row(self, form: Form, found: Sequence[Any]) -> tuple[int, Facts]:
        return found[0], dict(zip(form.columns, found[1:], strict=True))


class Orm:
    """SQLAlchemy's sessions, each a transaction that is committed."""

    def __init__(self, url: str) -> None:
        self.engine = create_engine(
            make_url(url).set(drivername="postgresql+psycopg"),
            connect_args={"prepare_threshold": 0},
            poolclass=StaticPool,
            # a rollback would throw the prepared statements away
            pool_reset_on_return=None,
        )

    def one(self, form: Form, number: int) -> Facts | None:
        with self._session() as session:
            found = session.get(form.model, tuple(form.key(number).values()))
            session.commit()
            return None if found is None else self._row(form, found)[1]

    def several(self, form: Form, first: int, last: int) -> Rows:
        asked = select(form.model).where(form.model.id.between(first, last)).order_by(form.model.id)
        with self._session() as session:
            found = session.scalars(asked).all()
            session.commit()
            return [self._row(form, one) for one in found]

    def add(self, form: Form, rows: Mapping[int, Facts]) -> None:
        with self._session() as session:
            session.add_all(form.model(**form.key(number), **attributes) for number, attributes in rows.items())
            session.commit()

    def put(self, form: Form, number: int, attributes: Facts) -> None:
        with self._session() as session:
            session.merge(form.model(**form.key(number), **attributes))
            session.commit()

    def change(self, form: Form, number: int, attributes: Facts) -> None:
        with self._session() as session:
            found = session.get_one(form.model, tuple(form.key(number).values()))
            for name, value in attributes.items():
                setattr(found, name, value)
            session.commit()

    def remove(self, form: Form, number: int) -> None:
        with self._session() as session:
            session.delete(session.get_one(form.model, tuple(form.key(number).values())))
            session.commit()

    def close(self) -> None:
        self.engine.dispose()

    def _session(self) -> Session:
        return Session(self.engine, expire_on_commit=False)

    def _row(self, form: Form, found: Any) -> tuple[int, Facts]:
        return found.id, {name: getattr(found, name) for name in form.columns}


WORKERS: tuple[tuple[str, Callable[[str], Hands], bool], ...] = (
    ("a writer by SQL", Sql, True),
    ("a reader by SQL", Sql, False),
    ("a writer by sessions", Orm, True),
    ("a reader by sessions", Orm, False),
)
"""Who works for a version: what each is called, its way to the rows, and whether it writes."""


@dataclass
class Worker:
    """One who writes, or reads, without pause.

    Attributes:
        who: for what is noted.
        by: its way to the rows.
        writes: whether it writes, or only reads.
        tables: what its version knows, each with the book of the table.
        url: the database.
        chance: its dice.
        filled: whether every row must have the new form.
        failed: statements that failed, and rows that were not as written.
        turns: how often it was its turn.
        told: called with the seconds of each turn.
        pause: seconds between two turns.
    """

    who: str
    by: Callable[[str], Hands]
    writes: bool
    tables: Sequence[tuple[Form, Book]]
    url: str
    chance: random.Random
    filled: Callable[[], bool]
    told: Callable[[float], None] = lambda _seconds: None
    failed: list[str] = field(default_factory=list)
    turns: int = 0
    pause: float = PAUSE

    def work(self, ended: Callable[[], bool]) -> None:
        """Work until it is time to end."""
        hands = self.by(self.url)
        while not ended():
            form, book = self.chance.choice(self.tables)
            began = time.perf_counter()
            try:
                self._write(hands, form, book) if self.writes else self._read(hands, form, book)
            except Exception as error:  # noqa: BLE001  # whatever it is, it must not be
                self.failed.append(f"{self.who}, {form.table}: {type(error).__name__}: {error}")
                hands.close()
                hands = self.by(self.url)
            self.told(time.perf_counter() - began)
            self.turns += 1
            time.sleep(self.pause)
        hands.close()

    def _read(self, hands: Hands, form: Form, book: Book) -> None:
        first = book.some_row(self.chance)
        if self.chance.random() < 0.5:
            self.failed += compared(form, book, [first], lambda: self._only(hands, form, first), filled=self.filled)
        else:
            numbers, read = range(first, first + 20), partial(hands.several, form, first, first + 19)
            self.failed += compared(form, book, numbers, read, filled=self.filled)

    def _only(self, hands: Hands, form: Form, number: int) -> Rows:
        found = hands.one(form, number)
        return [] if found is None else [(number, found)]

    def _write(self, hands: Hands, form: Form, book: Book) -> None:
        if self.chance.random() < 0.1:
            self._add(hands, form, book, TOGETHER if self.chance.random() < 0.3 else 1)
            return
        number = book.some_row(self.chance)
        with book.having(number) as mine:
            if mine:
                self._write_one(hands, form, book, number)

    def _add(self, hands: Hands, form: Form, book: Book, how_many: int) -> None:
        numbers = [book.new_row() for _ in range(how_many)]
        with ExitStack() as all_of_them:
            for number in numbers:
                all_of_them.enter_context(book.having(number))
            said = {number: book.invented(self.chance, form, None) for number in numbers}
            hands.add(form, {number: form.attributes(facts) for number, facts in said.items()})
            for number, facts in said.items():
                book.put(number, facts)

    def _write_one(self, hands: Hands, form: Form, book: Book, number: int) -> None:
        before, dice = book.says(number), self.chance.random()
        facts: Facts | None = book.invented(self.chance, form, before)
        assert facts is not None
        if before is None or dice < 0.2:
            hands.put(form, number, form.attributes(facts))
        elif dice < 0.3 and form.deletes:
            hands.remove(form, number)
            facts = None
        else:
            fact = self.chance.choice([name for name in facts if form.knows(name)])
            facts = {**before, fact: facts[fact]}
            hands.change(form, number, form.changed(fact, facts))
        book.put(number, facts)


def compared(
    form: Form, book: Book, numbers: Iterable[int], read: Callable[[], Rows], *, filled: Callable[[], bool]
) -> list[str]:
    """Read rows, and return which of them are not what they must be; those that are written meanwhile are left out."""
    strictly, before = filled(), book.turns(numbers)
    said = {number: book.says(number) for number in before}
    rows = read()
    found = dict(rows)
    wrong = [] if len(found) == len(rows) else [f"{form.table}: a row was read twice: {rows}"]
    return wrong + [
        f"{form.table}, row {number}: {found.get(number)}, but was written {said[number]}"
        for number in sorted(book.undisturbed(before))
        if not form.agrees(found.get(number), said[number], filled=strictly)
    ]


def differing(url: str, form: Form, book: Book) -> list[str]:
    """Return which rows are not what the book says, one by one, also while writers go on."""
    hands, wrong, step = Sql(url), list[str](), 500
    for first in range(1, book.newest + 1, step):
        left, read = set(range(first, first + step)), partial(hands.several, form, first, first + step - 1)
        while left and not wrong:
            before = book.turns(left)
            wrong = compared(form, book, before, read, filled=lambda: True)
            left -= book.undisturbed(before)
    hands.close()
    return wrong


class Population(Protocol):
    """A version at work, by threads or processes."""

    forms: Sequence[Form]

    def start(self) -> None:
        """Begin, or begin again."""

    def breathe(self) -> None:
        """Wait until each of the workers has done something more."""

    def stop(self) -> None:
        """Let all of them end."""

    def fill(self) -> None:
        """Tell them that every row has the new form from now on."""

    def differing(self) -> list[str]:
        """Return rows that are not what the books say."""


class Threads:
    """A version with two writers and two readers, each a thread."""

    def __init__(self, who: str, forms: Sequence[Form], books: Mapping[str, Book], url: str) -> None:
        self.forms = forms
        self.books = books
        self.url = url
        self.failed: list[str] = []
        self.filled = threading.Event()
        self._ended = threading.Event()
        self._threads: list[threading.Thread] = []
        tables = [(form, books[form.table]) for form in forms]
        self.workers = [
            Worker(
                f"{who}, {what}",
                by,
                writes,
                tables,
                url,
                random.Random(seed),
                self.filled.is_set,
                failed=self.failed,
            )
            for seed, (what, by, writes) in enumerate(WORKERS)
        ]

    def start(self) -> None:
        """Begin, or begin again."""
        self._ended.clear()
        self._threads = [
            threading.Thread(target=one.work, args=(self._ended.is_set,), daemon=True) for one in self.workers
        ]
        for one in self._threads:
            one.start()

    def breathe(self) -> None:
        """Wait until each of the workers has done something more; none of them may have ended."""
        wanted = [one.turns + BREATH for one in self.workers] if self._threads else []
        while any(one.turns < turns for one, turns in zip(self.workers, wanted, strict=False)):
            if not all(thread.is_alive() for thread in self._threads):
                raise AssertionError(f"a worker has ended: {self.failed}")
            time.sleep(PAUSE)

    def stop(self) -> None:
        """Let all of them end."""
        self._ended.set()
        for one in self._threads:
            one.join()
        self._threads = []

    def fill(self) -> None:
        """Tell them that every row has the new form from now on."""
        self.filled.set()

    def differing(self) -> list[str]:
        """Return rows that are not what the books say."""
        return [one for form in self.forms for one in differing(self.url, form, self.books[form.table])]
