"""Compare what is in the table with what the backfill makes of it, for every row, while writers go on.

Rows are read in chunks along the key, each chunk by one statement: what is compared was there at one moment. A row that
comes, or is changed, behind the chunk that is read is the dual write's to keep in step; the gate asks for it.
"""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from sqlalchemy import Connection, Engine
from sqlalchemy.exc import DBAPIError

from dataarch.errors import BackfillBusy, DataArchError, LockTimeout, NotVerified
from dataarch.partitions.quoting import literal
from dataarch.rollout.backfill.alone import alone
from dataarch.rollout.backfill.batch import is_of_a_row, said
from dataarch.rollout.backfill.books import SCHEMA, Record, record_of
from dataarch.rollout.backfill.progress import OnProgress, Progress
from dataarch.rollout.backfill.session import ask, named, one_row, send, session
from dataarch.rollout.backfill.shape import Leaf, Shape, shape_of
from dataarch.rollout.backfill.statements import Key, Statements, array
from dataarch.rollout.dual_write import in_force

__all__ = ["Verified", "verify"]

CHUNK = 5_000
"""Rows that one statement compares."""

KEPT = 20
"""Differences that the books keep."""

CUT = 80
"""Signs of a value that are kept of a difference."""

PATIENCE = 60.0
"""Seconds for which a chunk is tried again that lacks a lock."""


@dataclass(frozen=True, slots=True)
class Verified:
    """What a verification has found.

    Attributes:
        name: the backfill's.
        rows: that the table has.
        compared: of them that are concerned.
        differing: of those that are not what they should be.
        checksum: of all keys and values that were compared, in the order of the keys.
        differences: the first of them: ``table``, ``key``, ``columns``, ``found`` and ``expected``, values cut; or
            ``reason``, where an expression fails.
        seconds: that it took.
    """

    name: str
    rows: int
    compared: int
    differing: int
    checksum: str
    differences: Sequence[Mapping[str, Any]]
    seconds: float


def verify(engine: Engine, name: str, *, on_progress: OnProgress | None = None) -> Verified:
    """Compare every row, and write down what was found.

    Args:
        engine: as for :func:`dataarch.rollout.backfill.run`.
        name: the backfill's.
        on_progress: called after each chunk.

    Returns:
        What was found; where nothing differs, the backfill is verified, and what it had failed on is forgotten.

    Raises:
        InvalidChange: no such backfill, or its table is not as it was.
        NotVerified: it has not finished.
        BackfillBusy: it is run at this moment, or was run meanwhile.

    Guarantee: changes no row of the table, and locks none. Safe to repeat.
    """
    with session(engine, name) as connection:
        record_of(connection, name)
        with alone(connection, name):
            record = record_of(connection, name)
            connection.commit()
            if record.finished_at is None:
                raise NotVerified(
                    f"The backfill {name} has not finished, so rows are bound to differ.",
                    hint=f"Run: dataarch backfill run {name}.",
                    table=record.table_name,
                )
            found = _Comparison(connection, record, on_progress or (lambda _progress: None))
            found.compare()
            return found.write_down()


@dataclass
class _Comparison:
    connection: Connection
    record: Record
    on_progress: OnProgress
    rows: int = 0
    compared: int = 0
    differing: int = 0
    chunks: int = 0
    differences: list[Mapping[str, Any]] = field(default_factory=list)
    checksum: Any = field(default_factory=hashlib.sha256)
    began: float = field(default_factory=time.monotonic)

    def compare(self) -> None:
        """Walk through all tables that hold rows, those too that came meanwhile."""
        send(self.connection, f"DELETE FROM {SCHEMA}.backfill_chunks WHERE name = {literal(self.record.name)}")
        self.connection.commit()
        walked: set[tuple[str, str]] = set()
        while True:
            shape = shape_of(self.connection, self.record.definition, self.record.schema_name)
            self.connection.commit()
            left = [leaf for leaf in shape.leaves if leaf.place not in walked]
            if not left:
                return
            for leaf in left:
                walked.add(leaf.place)
                self._leaf(Statements(self.record.definition, shape), leaf)

    def _leaf(self, statements: Statements, leaf: Leaf) -> None:
        reached: Key | None = None
        size = CHUNK
        while True:
            chunk, failed = self._chunk(statements, leaf, reached, size)
            if failed and size > 1:
                # a row whose expression fails is somewhere in it
                size = max(1, size // 4)
                continue
            last = tuple(chunk.last) if chunk.last is not None else None
            if last is None:
                return
            self._count(statements.shape, leaf, chunk, last, failed)
            reached, size = last, min(CHUNK, size * 2)

    def _chunk(self, statements: Statements, leaf: Leaf, reached: Key | None, size: int) -> tuple[Any, str]:
        """Return what the next rows are like; where an expression fails, the words, and of one row its key."""
        deadline = time.monotonic() + PATIENCE
        while True:
            try:
                return one_row(self.connection, statements.chunk(leaf.place, reached, None, size)), ""
            except (DBAPIError, DataArchError) as wrong:
                self.connection.rollback()
                error = named(wrong)
                if is_of_a_row(error):
                    return (_only(self.connection, statements, leaf, reached) if size == 1 else None), said(error)
                if not isinstance(error, LockTimeout) or time.monotonic() > deadline:
                    raise error from wrong.__cause__
            time.sleep(0.2)

    def _count(self, shape: Shape, leaf: Leaf, chunk: Any, last: Key, failed: str) -> None:
        differing = 1 if failed else chunk.differing
        checksum = "failed" if failed else chunk.checksum
        self.chunks += 1
        self.rows += chunk.rows
        self.compared += 1 if failed else chunk.compared
        self.differing += differing
        self.checksum.update(f"{leaf.place}{last}{checksum}".encode())
        self.differences += self._described(shape, leaf, chunk, last, failed)
        del self.differences[KEPT:]
        send(
            self.connection,
            f"INSERT INTO {SCHEMA}.backfill_chunks VALUES ({literal(self.record.name)}, {self.chunks},"
            f" {literal(leaf.schema)}, {literal(leaf.name)}, {array(last)}, {chunk.rows}, {differing},"
            f" {literal(checksum)})",
        )
        self.connection.commit()
        seconds = time.monotonic() - self.began
        estimated = max(self.rows, sum(one.estimate for one in shape.leaves))
        self.on_progress(
            Progress(
                self.record.name,
                seen=self.rows,
                failed=self.differing,
                batches=self.chunks,
                estimated=estimated,
                rate=self.rows / seconds if seconds else 0.0,
                last=chunk.rows,
            )
        )

    def _described(self, shape: Shape, leaf: Leaf, chunk: Any, last: Key, failed: str) -> Iterator[Mapping[str, Any]]:
        table = f"{leaf.schema}.{leaf.name}"
        if failed:
            yield {"table": table, "key": _cut(last), "reason": failed}
            return
        columns = [one.name for one in shape.filled]
        for one in json.loads(chunk.differences or "[]"):
            found, expected = _cut(one["found"]), _cut(one["expected"])
            yield {"table": table, "key": _cut(one["key"]), "columns": columns, "found": found, "expected": expected}

    def write_down(self) -> Verified:
        """Keep what was found, if nobody has run the backfill meanwhile."""
        found = Verified(
            self.record.name,
            self.rows,
            self.compared,
            self.differing,
            self.checksum.hexdigest(),
            tuple(self.differences),
            time.monotonic() - self.began,
        )
        name, digest = literal(found.name), literal(self.record.digest)
        kept_in_step = in_force(self.connection, found.name)
        kept = send(
            self.connection,
            f"UPDATE {SCHEMA}.backfills SET verified_at = {'now()' if not found.differing else 'NULL'},"
            f" verified_rows = {found.rows}, verified_digest = {digest}, checksum = {literal(found.checksum)},"
            f" differing = {found.differing}, differences = {literal(json.dumps(found.differences))}::jsonb,"
            f" dual_write = dual_write OR {kept_in_step}"
            f" WHERE name = {name} AND digest = {digest} AND runs = {self.record.runs} AND finished_at IS NOT NULL",
        )
        if not kept.rowcount:
            self.connection.rollback()
            raise BackfillBusy(f"The backfill {found.name} was run while it was verified.", hint="Verify it again.")
        if not found.differing:
            # all rows were compared, those too that it had failed on
            send(self.connection, f"DELETE FROM {SCHEMA}.backfill_failures WHERE name = {name}")
        self.connection.commit()
        return found


@dataclass(frozen=True, slots=True)
class _Only:
    last: Key | None
    rows: int


def _only(connection: Connection, statements: Statements, leaf: Leaf, reached: Key | None) -> _Only:
    """Return the key of the next row, whose expression fails."""
    found = ask(connection, statements.end(leaf.place, reached, None, 1))
    return _Only(tuple(found[0].key), 1) if found else _Only(None, 0)


def _cut(values: Sequence[str | None]) -> list[str | None]:
    return [one if one is None or len(one) <= CUT else f"{one[: CUT - 1]}…" for one in values]
