"""What a run writes down of itself, in the transaction of the rows that it tells of.

A run is one row in each tenant that it loads rows for, all with the same id. The tenant that it is run for keeps how
far each source is read; each other tenant keeps how far its own rows are, so that none is loaded twice after a run was
killed between two of them.
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache, lru_cache
from importlib.metadata import version
from typing import Any
from uuid import UUID

import msgspec
from sqlalchemy import TextClause, text

from dataarch.clock import utcnow
from dataarch.database.unit_of_work import Database, TenantSession
from dataarch.errors import PipelineBusy
from dataarch.models.base import new_id
from dataarch.models.types import storable_text
from dataarch.pipelines.outcome import Counts
from dataarch.pipelines.pipeline import Written
from dataarch.pipelines.reading import Ready
from dataarch.pipelines.records import Position, Reject

__all__ = ["KILLED", "Books", "HowFar", "Run", "guarded"]

KILLED = "It was killed."
"""What is stored as the error of a run that never ended."""

PATIENCE = 1.0
"""Seconds to wait for the lock: the server may not have noticed yet that the process which had it was killed."""

LONGEST_REASON = 2_000
LONGEST_FIELD = 200
LONGEST_RECORD = 1_000_000
REST_WITHOUT_END = "SET LOCAL idle_in_transaction_session_timeout = 0"
"""The transaction that holds the lock waits for the whole run."""

LOCK = text(
    "SELECT pg_try_advisory_xact_lock(hashtextextended('dataarch.pipeline.' || :tenant || '.' || :pipeline, 0))"
)

ELSEWHERE = "(hashtextextended('dataarch.elsewhere.' || CAST(:run_for AS text) || '.' || :pipeline, 0))"
"""What a run writes for tenants other than its own."""

WRITE_ELSEWHERE = text(f"SELECT pg_advisory_xact_lock_shared{ELSEWHERE}")
NOTHING_ELSEWHERE = text(f"SELECT pg_advisory_xact_lock{ELSEWHERE}")

ABANDON = text(
    """
    UPDATE pipeline_runs SET state = 'failed', finished_at = clock_timestamp(), error = :killed
    WHERE tenant_id = :tenant AND pipeline = :pipeline AND state = 'running' AND id <> :run RETURNING id
    """
)

HOW_FAR = text(
    """
    SELECT source, records, bytes, checksum, state, ended_at IS NOT NULL AS ended, begun_by FROM pipeline_sources
    WHERE tenant_id = :tenant AND pipeline = :pipeline AND source = ANY(:sources) ORDER BY source FOR NO KEY UPDATE
    """
)

BEGIN = """
    INSERT INTO pipeline_runs AS r (tenant_id, id, pipeline, pipeline_version, dataarch_version, replay_of,
                                    scheduled_for, read, loaded, updated, unchanged, rejected, removed)
    VALUES (:tenant, :run, :pipeline, :version, :dataarch, :replay_of, :scheduled_for, :read, :loaded, :updated,
            :unchanged, :rejected, :removed)
    ON CONFLICT (tenant_id, id)
"""

BE_THERE = text(f"{BEGIN} DO NOTHING")

COUNT = text(
    f"""
    {BEGIN} DO UPDATE
    SET read = r.read + EXCLUDED.read, loaded = r.loaded + EXCLUDED.loaded, updated = r.updated + EXCLUDED.updated,
        unchanged = r.unchanged + EXCLUDED.unchanged, rejected = r.rejected + EXCLUDED.rejected,
        removed = r.removed + EXCLUDED.removed
    """
)

MOVE = text(
    """
    INSERT INTO pipeline_sources (tenant_id, pipeline, source, records, bytes, checksum, state, ended_at, begun_by,
                                  run_id)
    SELECT :tenant, :pipeline, source, records, bytes, checksum, state, ended_at, begun_by, :run
    FROM json_to_recordset(CAST(:rows AS json)) AS given (source text, records bigint, bytes bigint, checksum text,
                                                          state jsonb, ended_at timestamptz, begun_by uuid)
    ON CONFLICT (tenant_id, pipeline, source) DO UPDATE
    SET records = EXCLUDED.records, bytes = EXCLUDED.bytes, checksum = EXCLUDED.checksum, state = EXCLUDED.state,
        ended_at = EXCLUDED.ended_at, begun_by = EXCLUDED.begun_by, run_id = EXCLUDED.run_id,
        updated_at = clock_timestamp()
    """
)

LINEAGE = text(
    """
    INSERT INTO pipeline_batches (tenant_id, run_id, number, source, first_record, first_byte, bytes, checksum,
                                  table_name, rows, least_id, greatest_id, extracted_at, transformed_at)
    SELECT :tenant, :run, :direction * (last.number + row_number() OVER ()), source, first_record, first_byte, bytes,
           checksum, "table", rows, least, greatest, extracted_at, transformed_at
    FROM json_to_recordset(CAST(:rows AS json)) AS given (source text, first_record bigint, first_byte bigint,
                                                          bytes bigint, checksum text, "table" text, rows jsonb,
                                                          least uuid, greatest uuid, extracted_at timestamptz,
                                                          transformed_at timestamptz)
    CROSS JOIN (
        SELECT greatest(max(:direction * number), 0) AS number FROM pipeline_batches
        WHERE tenant_id = :tenant AND run_id = :run
    ) AS last
    """
)

REJECT = text(
    """
    INSERT INTO pipeline_rejects (tenant_id, run_id, id, source, number, stage, field, reason, constraint_name, form,
                                  record)
    SELECT :tenant, :run, id, source, number, stage, field, reason, constraint_name, form, record
    FROM json_to_recordset(CAST(:rows AS json)) AS given (id uuid, source text, number bigint, stage text, field text,
                                                          reason text, constraint_name text, form text, record text)
    """
)

END = text(
    """
    UPDATE pipeline_runs SET state = :state, error = :error, finished_at = clock_timestamp()
    WHERE tenant_id = :tenant AND id = :run AND state = 'running'
    """
)


@dataclass(frozen=True, slots=True)
class Run:
    """A run, as its rows tell of it; the same in every tenant."""

    id: UUID
    pipeline: str
    version: str
    replay_of: UUID | None = None
    scheduled_for: Any = None


@dataclass(frozen=True, slots=True)
class HowFar:
    """How far a source was read, and by which run that was begun."""

    position: Position
    begun_by: UUID | None = None


@contextmanager
def guarded(db: Database, tenant_id: UUID, pipeline: str) -> Iterator[None]:
    """Let nobody else run a pipeline for a tenant meanwhile.

    Raises:
        PipelineBusy: somebody does.

    The lock lies in a transaction of its own: it goes with the process, however that ends. Should its connection be
    lost, the position of the source still tells two runs apart: the one that comes second is refused.
    """
    with db.tenant(tenant_id) as session:
        deadline = time.monotonic() + PATIENCE
        while not session.scalar(LOCK, {"tenant": str(tenant_id), "pipeline": pipeline}):
            if time.monotonic() > deadline:
                raise busy(pipeline, tenant_id)
            time.sleep(PATIENCE / 20)
        # last: a query's portal keeps its snapshot until the next statement, and nothing could be cleaned up meanwhile
        session.execute(text(REST_WITHOUT_END))
        yield


def busy(pipeline: str, tenant_id: UUID) -> PipelineBusy:
    """Return the error of a run that somebody else's is in the way of."""
    return PipelineBusy(
        f"The pipeline {pipeline} is running for this tenant already.",
        hint="Wait until that run has ended: dataarch pipeline runs.",
        tenant_id=tenant_id,
    )


@dataclass(frozen=True, slots=True)
class Books:
    """What is written down of a run within one unit of work of a tenant."""

    session: TenantSession
    run: Run

    @property
    def whose(self) -> Mapping[str, Any]:
        """The parameters that every statement has: the tenant and the run."""
        return {"tenant": self.session.tenant_id, "run": self.run.id}

    def begin(self) -> list[UUID]:
        """Write down that the run has begun, and that earlier ones which never ended were killed; return these."""
        killed = [UUID(str(one)) for one in self._do(ABANDON, pipeline=self.run.pipeline, killed=KILLED).scalars()]
        self.count(Counts())
        return killed

    def write_elsewhere(self, run_for: UUID) -> None:
        """Let the next run for a tenant begin when this transaction, which is of another tenant, has ended.

        The lock on the run goes with its process; what was sent to the server by then may be committed later.
        """
        self._do(WRITE_ELSEWHERE, run_for=run_for, pipeline=self.run.pipeline)

    def wait_for_elsewhere(self) -> None:
        """Wait until what a run that was killed has sent to other tenants is committed, or undone.

        For the run's own tenant :meth:`begin` waits: each transaction there counts in the run's row.
        """
        self._do(NOTHING_ELSEWHERE, run_for=self.session.tenant_id, pipeline=self.run.pipeline)

    def rest(self) -> None:
        """Let the transaction wait for another one, however long that takes."""
        self.session.execute(text(REST_WITHOUT_END))

    def count(self, counts: Counts) -> None:
        """Add what became of some records."""
        self._begun(COUNT, counts)

    def be_there(self) -> None:
        """See that the run is written down, and wait for nobody who counts."""
        self._begun(BE_THERE, Counts())

    def _begun(self, statement: TextClause, counts: Counts) -> None:
        run = self.run
        self._do(
            statement,
            pipeline=run.pipeline,
            version=run.version,
            dataarch=this_version(),
            replay_of=run.replay_of,
            scheduled_for=run.scheduled_for,
            read=counts.read,
            loaded=counts.loaded,
            updated=counts.updated,
            unchanged=counts.unchanged,
            rejected=counts.rejected,
            removed=counts.removed,
        )

    def how_far(self, source: str) -> HowFar:
        """Return how far a source was read; the row is locked until the end of the transaction."""
        return self.how_far_in([source])[source]

    def how_far_in(self, sources: Iterable[str]) -> dict[str, HowFar]:
        """Return how far each of some sources was read; their rows are locked until the end of the transaction."""
        names = list(dict.fromkeys(sources))
        far = {name: HowFar(Position()) for name in names}
        for found in self._do(HOW_FAR, pipeline=self.run.pipeline, sources=names):
            position = Position(found.records, found.bytes, found.checksum, found.state, end=found.ended)
            far[found.source] = HowFar(position, found.begun_by)
        return far

    def move(self, source: str, position: Position, begun_by: UUID) -> None:
        """Write down how far a source is read now."""
        self.move_in({source: HowFar(position, begun_by)})

    def move_in(self, sources: Mapping[str, HowFar]) -> None:
        """Write down how far some sources are read now."""
        rows = [
            {
                "source": source,
                "records": now.position.records,
                "bytes": now.position.bytes,
                "checksum": now.position.checksum,
                "state": now.position.state,
                "ended_at": utcnow() if now.position.end else None,
                "begun_by": now.begun_by,
            }
            for source, now in sorted(sources.items())
        ]
        if rows:
            self._do(MOVE, pipeline=self.run.pipeline, rows=json.dumps(rows, default=str))

    def lineage(self, told: Iterable[tuple[Ready, Written]], *, ahead: bool = False) -> None:
        """Write down which rows came of which records of each batch.

        Rows of the run are numbered from 1 on, by whoever has counted in the same transaction; those ``ahead`` of other
        rows from -1 down, so that neither waits for the other.
        """
        replayed = self.run.replay_of is not None
        if rows := [lineage_row(one, ids, replayed=replayed) for one, ids in told if len(ids.ids)]:
            self._do(LINEAGE, rows=msgspec.json.encode(rows).decode(), direction=-1 if ahead else 1)

    def reject(self, rejects: Iterable[tuple[str, Reject]]) -> None:
        """Keep records that were not loaded, each with the source that it comes from."""
        if rows := [reject_row(source, one) for source, one in rejects]:
            self._do(REJECT, rows=msgspec.json.encode(rows).decode())

    def end(self, error: str | None = None) -> None:
        """Write down that the run has ended, well or with an error."""
        state = "finished" if error is None else "failed"
        self._do(END, state=state, error=None if error is None else kept(error, LONGEST_REASON))

    def _do(self, statement: TextClause, **values: Any) -> Any:
        return self.session.execute(statement, {**self.whose, **values})


@cache
def this_version() -> str:
    """Return the version of dataarch; to look it up reads files."""
    return version("dataarch")


def lineage_row(ready: Ready, written: Written, *, replayed: bool) -> Mapping[str, Any]:
    """Return which rows came of which records of a batch, as it is stored."""
    batch = ready.batch
    first = batch.before.records + 1
    ids = written.ids.texts
    places = (batch.numbers[place] - first for place in written.ids.places)
    pairs = ",".join([f'"{one}":{place}' for one, place in zip(ids, places, strict=True)])
    return {
        "source": batch.source.name,
        "first_record": first,
        "first_byte": batch.before.bytes,
        "bytes": batch.after.bytes - batch.before.bytes,
        "checksum": None if replayed else batch.after.checksum,
        "table": written.table,
        "rows": msgspec.Raw(f"{{{pairs}}}".encode()),
        "least": min(ids),
        "greatest": max(ids),
        "extracted_at": ready.extracted_at,
        "transformed_at": ready.transformed_at,
    }


def reject_row(source: str, reject: Reject) -> Mapping[str, Any]:
    """Return a reject as it is stored."""
    record = as_json(reject.record)
    form = "text" if isinstance(reject.record, str) else "record"
    if len(record) > LONGEST_RECORD:
        # escapes can make a sign six times as long
        record, form = json.dumps(record[: LONGEST_RECORD // 8]), "text"
    return {
        "id": new_id(),
        "source": source,
        "number": reject.number,
        "stage": reject.stage,
        "field": kept(reject.field, LONGEST_FIELD),
        "reason": kept(reject.told, LONGEST_REASON) or "Nobody has said why.",
        "constraint_name": reject.constraint[:63] or None,
        "form": form,
        "record": record,
    }


def as_json(record: object) -> str:
    """Return a record as JSON in ASCII; most are nothing but text in it, for which there is a quicker way."""
    if type(record) is dict and set(map(type, record.values())) <= {str}:
        try:
            quick = msgspec.json.encode(record)
        except ValueError:
            # a lone surrogate, which JSON in ASCII can hold
            return json.dumps(record)
        if quick.isascii():
            return quick.decode()
    return json.dumps(record, default=plain)


def plain(value: object) -> str:
    """Return what JSON has no form for as text."""
    return value.hex() if isinstance(value, bytes | bytearray) else str(value)


@lru_cache(maxsize=1000)
def kept(words: str, most: int) -> str | None:
    """Return text as PostgreSQL can hold it: what it cannot is escaped, and too much is cut off."""
    safe = words.encode("utf-8", "backslashreplace").decode().replace("\x00", "\\x00")
    return storable_text(safe[:most]) or None
