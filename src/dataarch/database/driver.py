"""Connections of psycopg that begin a transaction together with its first statement.

The engine leaves with the connection how its next transaction begins. The first ordinary statement takes that along,
in one round trip; before anything else that a program may do with the connection it is sent by itself. All traffic of
psycopg goes through ``wait()``: there nothing passes a transaction that has not begun.

A transaction that could only read need not wait for the answer to its COMMIT. It is sent as the end of a pipeline, and
the answer is read together with those to the next statements, or before anything else is done.
"""

from __future__ import annotations

import re
import select
from collections.abc import AsyncIterator, Generator, Iterator
from contextvars import ContextVar
from functools import lru_cache, partial
from time import monotonic
from typing import Any, Self

import psycopg
from psycopg import errors, generators, pq

from dataarch.database.beginning import Beginning
from dataarch.database.gathered import Answers, Gathered

__all__ = ["AsyncConnection", "Connection", "Deferring"]

FRESH = 5.0
"""Seconds after its last use for which a connection is believed in whose socket is silent."""

ORDINARY = re.compile(r"\s*(?:select|insert|update|delete|merge|with|values|explain|savepoint|show)\b", re.IGNORECASE)
"""Statements of which it is known that they can travel in a pipeline; COPY would break the connection."""


_JOINING: ContextVar[object] = ContextVar("dataarch_joining", default=None)
"""The connection on which this thread or task opens a pipeline, to begin the transaction in it."""


class Deferring(psycopg.BaseConnection[Any]):
    """What both kinds of connection know of the transaction that comes next, and of the one before.

    Attributes:
        beginning: how the transaction begins that nothing of has been sent yet; None where there is none.
        unwaited: whether the answer to the next COMMIT need not be waited for.
        unanswered: whether the answer to a COMMIT is still to be read; libpq is in pipeline mode meanwhile.
    """

    def __init__(self, *given: Any, **options: Any) -> None:
        super().__init__(*given, **options)
        self.beginning: Beginning | None = None
        self.unwaited = False
        self.unanswered = False
        self._fresh_until = 0.0
        # a connection has one socket for as long as it lives
        self._poll: select.poll | None = None

    # ── the next transaction ──────────────────────────────────────────────────────────────────────────────────────

    def believed_in(self) -> bool:
        """Return whether the server was there a moment ago, and has said nothing since that nobody asked for.

        Where it closed the connection its socket can be read. Costs no trip.
        """
        if monotonic() > self._fresh_until or self.closed:
            return False
        if not self._said_something():
            return True
        if not self.unanswered:
            return False
        try:
            # the answer to COMMIT, and behind it perhaps the end
            self.pgconn.consume_input()
        except psycopg.OperationalError:
            return False
        return not self._said_something()

    def _said_something(self) -> bool:
        if self._poll is None:
            self._poll = select.poll()
            self._poll.register(self.pgconn.socket, select.POLLIN)
        return bool(self._poll.poll(0))

    def settle(self) -> Generator[Any, Any, None]:
        """Read the answer to COMMIT, and begin the transaction that waits to be begun.

        Raises:
            psycopg.InterfaceError: another thread or task is doing the same in a pipeline.
        """
        if self.beginning is not None and self.pgconn.pipeline_status and not self.unanswered:
            raise psycopg.InterfaceError("Another thread or task begins the transaction of this connection.")
        if self.unanswered:
            yield from self._answered()
        beginning = self.beginning
        if beginning is None:
            return
        self.pgconn.send_query(beginning.batch.encode())
        results = yield from generators.execute(self.pgconn)
        self.begun()
        for result in results:
            if result.status == pq.ExecStatus.FATAL_ERROR:
                raise errors.error_from_result(result, encoding=self.info.encoding)

    def _answered(self) -> Generator[Any, Any, None]:
        for _ in ("COMMIT", "the end of its pipeline"):
            yield from generators.fetch_many(self.pgconn)
        self.pgconn.exit_pipeline_mode()
        self.unanswered = False

    def begun(self) -> None:
        """Forget how the transaction begins, if it has begun; else it must still come before anything else."""
        if self.pgconn.transaction_status != pq.TransactionStatus.IDLE:
            self.beginning = None

    @property
    def owing(self) -> bool:
        """Whether something comes before whatever this thread or task wants to do."""
        return (self.beginning is not None or self.unanswered) and _JOINING.get() is not self

    def joins(self, query: object, params: object) -> bool:
        """Return whether a statement may take the beginning of its transaction along."""
        return self.beginning is not None and isinstance(query, str) and _ordinary(query, bool(params))

    def join(self, pipeline: psycopg.Pipeline | psycopg.AsyncPipeline) -> Beginning | None:
        """Put the beginning of the transaction into a pipeline; its answers come first, a COMMIT's before them."""
        pipeline.command_queue = commands = Gathered(self.pgconn)
        pipeline.result_queue = Answers(commands)
        if self.unanswered:
            pipeline.result_queue.extend((None, None))
            self.unanswered = False
        beginning, self.beginning = self.beginning, None
        if beginning is not None:
            pipeline.command_queue.append(partial(beginning.send, self.pgconn))
            pipeline.result_queue.extend((None, None))
        return beginning

    def rejoin(self, beginning: Beginning | None) -> None:
        """Begin it again where it failed before it had begun, so that nothing runs outside of it."""
        if beginning is not None and self.pgconn.transaction_status == pq.TransactionStatus.IDLE:
            self.beginning = beginning

    # ── the end ───────────────────────────────────────────────────────────────────────────────────────────────────

    def nothing_to_end(self) -> bool:
        """Return whether no transaction is open on the server; one that has not begun is forgotten."""
        self.beginning = None
        ended = self.unanswered or self.pgconn.transaction_status == pq.TransactionStatus.IDLE
        self.unwaited = self.unwaited and not ended
        return ended

    def believe(self) -> None:
        """Note that the server was there a moment ago."""
        self._fresh_until = monotonic() + FRESH

    def doubt(self) -> None:
        """Let the next transaction begin by itself, whatever this one has left on the connection."""
        self._fresh_until = 0.0
        self.unwaited = False

    def commits_unwaited(self) -> bool:
        """Send COMMIT and return at once, where that is enough; return whether it was."""
        pgconn = self.pgconn
        unwaited, self.unwaited = self.unwaited, False
        if not unwaited or pgconn.transaction_status != pq.TransactionStatus.INTRANS or pgconn.pipeline_status:
            return False
        pgconn.enter_pipeline_mode()
        pgconn.send_query_params(b"COMMIT", None)
        pgconn.pipeline_sync()
        self.unanswered = True
        # what the socket has no room for is sent when the answer is read
        pgconn.flush()
        return True


@lru_cache(maxsize=2048)
def _ordinary(query: str, parameters: bool) -> bool:  # noqa: FBT001  # a key of the cache
    # without parameters a text may be several statements, which only a simple query can carry
    return ORDINARY.match(query) is not None and (parameters or ";" not in query)


def _nothing() -> Generator[Any, Any, None]:
    """Do nothing; but what has to come before is done."""
    yield from ()


def _settled(connection: psycopg.Connection[Any]) -> None:
    with connection.lock:
        connection.wait(_nothing())


async def _settled_async(connection: psycopg.AsyncConnection[Any]) -> None:
    async with connection.lock:
        await connection.wait(_nothing())


class Connection(Deferring, psycopg.Connection[Any]):
    """A connection whose transactions begin with their first statement."""

    def __init__(self, *given: Any, **options: Any) -> None:
        super().__init__(*given, **options)
        self.cursor_factory = Cursor
        self.server_cursor_factory = ServerCursor

    def wait(self, *given: Any, **options: Any) -> Any:
        """Do what has to come before, then what psycopg wants."""
        if self.owing:
            super().wait(self.settle())
        return super().wait(*given, **options)

    def commit(self) -> None:
        """Commit, if a transaction has begun."""
        if self.nothing_to_end():
            return
        if not self.commits_unwaited():
            super().commit()
        self.believe()

    def rollback(self) -> None:
        """Roll back, if a transaction has begun."""
        if self.nothing_to_end():
            return
        self.doubt()
        super().rollback()


class Cursor(psycopg.Cursor[Any]):
    """A cursor whose statement takes the beginning of its transaction along."""

    def execute(self, query: Any, params: Any = None, **options: Any) -> Self:
        """Run a statement; as psycopg's."""
        connection = self.connection
        if not isinstance(connection, Connection) or not connection.joins(query, params):
            return super().execute(query, params, **options)
        beginning: Beginning | None = None
        token = _JOINING.set(connection)
        try:
            with connection.pipeline() as pipeline:
                beginning = connection.join(pipeline)
                super().execute(query, params, **options)
                pipeline.sync()
        finally:
            _JOINING.reset(token)
            connection.rejoin(beginning)
        return self

    def stream(self, *given: Any, **options: Any) -> Iterator[Any]:
        """Give rows as they come; as psycopg's, which refuses to in a pipeline."""
        _settled(self.connection)
        yield from super().stream(*given, **options)


class ServerCursor(psycopg.ServerCursor[Any]):
    """A cursor of the server; psycopg refuses to open one in a pipeline."""

    def execute(self, *given: Any, **options: Any) -> Self:
        """Open it; as psycopg's."""
        _settled(self.connection)
        return super().execute(*given, **options)


class AsyncConnection(Deferring, psycopg.AsyncConnection[Any]):
    """The same for asyncio."""

    def __init__(self, *given: Any, **options: Any) -> None:
        super().__init__(*given, **options)
        self.cursor_factory = AsyncCursor
        self.server_cursor_factory = AsyncServerCursor

    async def wait(self, *given: Any, **options: Any) -> Any:
        """Do what has to come before, then what psycopg wants."""
        if self.owing:
            await super().wait(self.settle())
        return await super().wait(*given, **options)

    async def commit(self) -> None:
        """Commit, if a transaction has begun."""
        if self.nothing_to_end():
            return
        if not self.commits_unwaited():
            await super().commit()
        self.believe()

    async def rollback(self) -> None:
        """Roll back, if a transaction has begun."""
        if self.nothing_to_end():
            return
        self.doubt()
        await super().rollback()


class AsyncCursor(psycopg.AsyncCursor[Any]):
    """The same for asyncio."""

    async def execute(self, query: Any, params: Any = None, **options: Any) -> Self:
        """Run a statement; as psycopg's."""
        connection = self.connection
        if not isinstance(connection, AsyncConnection) or not connection.joins(query, params):
            return await super().execute(query, params, **options)
        beginning: Beginning | None = None
        token = _JOINING.set(connection)
        try:
            async with connection.pipeline() as pipeline:
                beginning = connection.join(pipeline)
                await super().execute(query, params, **options)
                await pipeline.sync()
        finally:
            _JOINING.reset(token)
            connection.rejoin(beginning)
        return self

    async def stream(self, *given: Any, **options: Any) -> AsyncIterator[Any]:
        """Give rows as they come; as psycopg's, which refuses to in a pipeline."""
        await _settled_async(self.connection)
        async for row in super().stream(*given, **options):
            yield row


class AsyncServerCursor(psycopg.AsyncServerCursor[Any]):
    """The same for asyncio."""

    async def execute(self, *given: Any, **options: Any) -> Self:
        """Open it; as psycopg's."""
        await _settled_async(self.connection)
        return await super().execute(*given, **options)
