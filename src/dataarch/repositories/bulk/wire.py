"""The driver's connection of a session: COPY, which SQLAlchemy does not have, and statements that run meanwhile.

One implementation serves ``psycopg.Connection`` and, under ``run_sync``, ``psycopg.AsyncConnection``. Errors are named
as those of the session's own statements are; nothing here tells the unit of work what was written.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any

import psycopg
from sqlalchemy.orm import Session
from sqlalchemy.util import await_only

from dataarch.database.error_mapping import named_error
from dataarch.database.interrupts import interrupts_held
from dataarch.errors import ConstraintError

__all__ = ["Wire"]


class Wire:
    """The connection under a session, for as long as its transaction lasts."""

    def __init__(self, session: Session) -> None:
        self._driver: Any = session.connection().connection.driver_connection
        self._asynchronous = isinstance(self._driver, psycopg.AsyncConnection)

    def execute(self, statement: str, values: tuple[Any, ...] = ()) -> int:
        """Carry a statement out, and return how many rows it was about."""
        return self._asked(statement, values)[0]

    def rows(self, statement: str, values: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
        """Carry a statement out, and return its rows."""
        return self._asked(statement, values)[1]

    def copy(self, statement: str, pieces: Iterable[bytes]) -> None:
        """Write with COPY; what raises while the pieces are made ends it, and nothing of it is written."""
        with _named():
            if self._asynchronous:
                await_only(_copied_async(self._driver, statement, pieces))
                return
            with self._driver.cursor() as cursor, cursor.copy(statement.encode()) as copy:
                for piece in pieces:
                    copy.write(piece)

    @contextmanager
    def meanwhile(self, statement: str) -> Iterator[Callable[[], int]]:
        """Let a statement run during the block, which must not use the connection.

        Yields:
            What waits for the statement, and returns how many rows it was about, or raises its error. The block's end
            waits for it in any case.
        """
        if self._asynchronous:
            task = asyncio.ensure_future(_asked_async(self._driver, statement, ()))
            # a task has sent nothing yet when it is made
            await_only(asyncio.sleep(0))
            try:
                yield lambda: self._waited(task)
            finally:
                await_only(asyncio.wait([task]))
                # asked, so that an error nobody waited for is not reported as lost
                task.cancelled() or task.exception()
            return
        with interrupts_held(), ThreadPoolExecutor(1, thread_name_prefix="dataarch-bulk") as pool:
            future = pool.submit(_asked_sync, self._driver, statement, ())
            yield lambda: _outcome(future)

    def _waited(self, task: asyncio.Future[tuple[int, list[tuple[Any, ...]]]]) -> int:
        with _named():
            return await_only(task)[0]

    def _asked(self, statement: str, values: tuple[Any, ...]) -> tuple[int, list[tuple[Any, ...]]]:
        with _named():
            if self._asynchronous:
                return await_only(_asked_async(self._driver, statement, values))
            return _asked_sync(self._driver, statement, values)

    @contextmanager
    def savepoint(self, name: str) -> Iterator[None]:
        """Undo what the block did where it raises."""
        self.execute(f"SAVEPOINT {name}")
        try:
            yield
        except BaseException:
            self.execute(f"ROLLBACK TO {name}")
            self.execute(f"RELEASE {name}")
            raise
        self.execute(f"RELEASE {name}")


Answer = tuple[int, list[tuple[Any, ...]]]


def _outcome(future: Future[Answer]) -> int:
    with _named():
        return future.result()[0]


def _asked_sync(driver: Any, statement: str, values: tuple[Any, ...]) -> Answer:
    with driver.cursor() as cursor:
        cursor.execute(statement.encode(), values or None, prepare=False)
        return cursor.rowcount, cursor.fetchall() if cursor.description else []


async def _asked_async(driver: Any, statement: str, values: tuple[Any, ...]) -> Answer:
    async with driver.cursor() as cursor:
        await cursor.execute(statement.encode(), values or None, prepare=False)
        return cursor.rowcount, await cursor.fetchall() if cursor.description else []


async def _copied_async(driver: Any, statement: str, pieces: Iterable[bytes]) -> None:
    async with driver.cursor() as cursor, cursor.copy(statement.encode()) as copy:
        for piece in pieces:
            await copy.write(piece)


@contextmanager
def _named() -> Iterator[None]:
    """Name the driver's errors, which do not pass SQLAlchemy here; the cause of some would show a row's values."""
    try:
        yield
    except psycopg.Error as error:
        named = named_error(error)
        if named is None:
            raise
        raise named from (None if isinstance(named, ConstraintError) else error)
