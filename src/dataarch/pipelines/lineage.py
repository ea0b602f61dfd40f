"""Where a row comes from: each run that wrote it, the record of the source it was, and when."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import text

from dataarch.database.unit_of_work import TenantSession

__all__ = ["Origin", "origins"]

ORIGINS = """
WITH around AS MATERIALIZED (
    SELECT * FROM pipeline_batches WHERE tenant_id = :tenant AND greatest_id >= :row AND least_id <= :row
)
SELECT batch.run_id, pipeline, pipeline_version, dataarch_version, replay_of, batch.source, table_name AS "table",
       first_record + (rows ->> :key)::bigint AS record, first_byte, bytes, checksum,
       extracted_at, transformed_at, loaded_at
FROM around AS batch
JOIN pipeline_runs AS run ON run.tenant_id = batch.tenant_id AND run.id = batch.run_id
WHERE run.tenant_id = :tenant AND jsonb_exists(rows, :key) AND (CAST(:table AS text) IS NULL OR table_name = :table)
ORDER BY loaded_at, batch.run_id, number
"""
"""The index leads to the batches whose ids lie around the row's: the comparison of UUIDs is leakproof, so that it may
be used under row-level security. Of these alone the rows are looked into. Without the first step the planner would
rather go through all batches of the runs: it takes the two comparisons for a quarter of the table."""


@dataclass(frozen=True, slots=True)
class Origin:
    """One write of a row by a pipeline.

    Attributes:
        run_id: the run that brought the row, or these values of it.
        pipeline: its pipeline.
        pipeline_version: of the pipeline's code.
        dataarch_version: of dataarch, or ``unknown``.
        replay_of: the run that had rejected the record, where this one was a replay.
        source: what was read: a file, by its name below what was given.
        table: the row's table.
        record: which record of the source the row was, from 1.
        first_byte: where the bytes of its batch begin in the source, unpacked, from 0.
        bytes: how many there are; 0 where the source has none.
        checksum: SHA-256 of the source from its beginning to the end of the batch; None of a replay, whose records
            come from the run that it replays.
        extracted_at: when the batch was read.
        transformed_at: when it had been through the steps.
        loaded_at: when it was written; committed soon after, or not at all.
    """

    run_id: UUID
    pipeline: str
    pipeline_version: str
    dataarch_version: str
    replay_of: UUID | None
    source: str
    table: str
    record: int
    first_byte: int
    bytes: int
    checksum: str | None
    extracted_at: datetime
    transformed_at: datetime
    loaded_at: datetime


def origins(session: TenantSession, row_id: UUID, table: str | None = None) -> list[Origin]:
    """Return every write of a row by a pipeline, the newest last.

    Args:
        session: a unit of work of the row's tenant; other tenants find nothing.
        row_id: the row's ``id``.
        table: the name of its table; without it, all are searched: ids are unique.

    A row that no pipeline wrote has none; a record that changed nothing of a row did not write it. Runs that were
    deleted are gone from here too.
    """
    found = session.execute(text(ORIGINS), searched(session.tenant_id, row_id, table))
    return [Origin(**row) for row in found.mappings()]


def searched(tenant_id: UUID, row_id: UUID, table: str | None = None) -> Mapping[str, Any]:
    """Return the parameters of the search."""
    return {"tenant": tenant_id, "row": row_id, "key": str(row_id), "table": table}
