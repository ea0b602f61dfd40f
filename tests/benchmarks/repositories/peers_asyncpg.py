"""asyncpg, on a loop of its own; it is measured inside of the loop."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any

from benchmarks.repositories.peers_ground import (
    ACTIVITY_COLUMNS,
    LATEST,
    PRODUCT_COLUMNS,
    UPSERT,
    WANTED,
    Ground,
    minor,
    values,
)
from benchmarks.repositories.peers_measure import Way, needed, timed_async

__all__ = ["ingest", "latest", "upsert"]

INSERT = f"INSERT INTO user_activity_log ({', '.join(ACTIVITY_COLUMNS)}) VALUES ($1, $2, $3, $4, $5, $6)"

JSONB_VERSION = b"\x01"
"""The byte with which the binary form of jsonb begins."""


@dataclass(frozen=True)
class Opened:
    """A connection, and the loop it lives on."""

    runner: asyncio.Runner
    connection: Any

    def way(self, name: str, run: Callable[[], Awaitable[object]]) -> Way:
        """Return a way that is one coroutine."""
        return Way(name, lambda: self.runner.run(timed_async(run)))


def _opened(stack: ExitStack, ground: Ground) -> Opened:
    asyncpg = needed("asyncpg")
    runner = stack.enter_context(asyncio.Runner())
    login = ground.login()
    connection = runner.run(asyncpg.connect(database=login.pop("dbname"), **login))
    stack.callback(lambda: runner.run(connection.close()))
    runner.run(
        connection.set_type_codec(
            "jsonb",
            schema="pg_catalog",
            format="binary",
            encoder=lambda value: JSONB_VERSION + json.dumps(value).encode(),
            decoder=lambda data: json.loads(data[1:]),
        )
    )
    return Opened(runner, connection)


def ingest(stack: ExitStack, ground: Ground) -> Sequence[Way]:
    """COPY of records, and executemany."""
    opened = _opened(stack, ground)
    connection = opened.connection

    async def copied() -> None:
        records = [values(row, ACTIVITY_COLUMNS) for row in ground.rows]
        async with connection.transaction():
            await connection.copy_records_to_table("user_activity_log", records=records, columns=ACTIVITY_COLUMNS)

    async def executed() -> None:
        async with connection.transaction():
            await connection.executemany(INSERT, [values(row, ACTIVITY_COLUMNS) for row in ground.rows])

    return [
        opened.way("asyncpg, copy_records_to_table", copied),
        opened.way("asyncpg, executemany", executed),
    ]


def latest(stack: ExitStack, ground: Ground) -> Sequence[Way]:
    """A prepared statement."""
    opened = _opened(stack, ground)
    transaction = opened.connection.transaction()
    opened.runner.run(transaction.start())
    stack.callback(lambda: opened.runner.run(transaction.commit()))
    statement = opened.runner.run(opened.connection.prepare(LATEST.format("$1", "$2", "$3")))

    async def fetched() -> object:
        return await statement.fetch(ground.tenant_id, ground.user_id, WANTED)

    return [opened.way("asyncpg, prepared, records", fetched)]


def upsert(stack: ExitStack, ground: Ground) -> Sequence[Way]:
    """executemany of ON CONFLICT."""
    opened = _opened(stack, ground)
    connection = opened.connection
    rows = minor(ground.rows)
    statement = UPSERT.format(f"VALUES ({', '.join(f'${n}' for n in range(1, len(PRODUCT_COLUMNS) + 1))})")

    async def executed() -> None:
        async with connection.transaction():
            await connection.executemany(statement, [values(row, PRODUCT_COLUMNS) for row in rows])

    return [opened.way("asyncpg, executemany of ON CONFLICT", executed)]
