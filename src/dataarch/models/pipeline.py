"""What pipelines have done: runs, how far each source is read, what was rejected, and where each row came from."""

from __future__ import annotations

from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import BigInteger, CheckConstraint, ForeignKeyConstraint, Index, text
from sqlalchemy.orm import Mapped, mapped_column

from dataarch.clock import utcnow
from dataarch.models.base import NEW_ID, Base, new_id
from dataarch.models.tenancy import TenantOwned
from dataarch.models.types import Choice, Json, Sha256, Text

__all__ = ["FORMS", "RUN_STATES", "STAGES", "PipelineBatch", "PipelineReject", "PipelineRun", "PipelineSource"]

RUN_STATES = ("running", "finished", "failed")
"""A run that was killed stays *running* until the next one of its pipeline says that it failed."""

STAGES = ("extract", "validate", "transform", "load")
"""Where a record can be rejected."""

FORMS = ("record", "text")
"""What a reject was when it was rejected."""

NONE_YET = text("0")


class PipelineRun(TenantOwned, Base):
    """One run of a pipeline; its numbers are committed with the rows that they count, and always add up."""

    __tablename__ = "pipeline_runs"
    __table_args__ = (
        ForeignKeyConstraint(["tenant_id"], ["tenants.id"], ondelete="CASCADE"),
        CheckConstraint("read = loaded + updated + unchanged + rejected", name="adds_up"),
        CheckConstraint("least(loaded, updated, unchanged, rejected) >= 0", name="not_negative"),
        CheckConstraint("removed >= 0", name="removed_not_negative"),
        CheckConstraint("(state = 'running') = (finished_at IS NULL)", name="finished_unless_running"),
        CheckConstraint("(state = 'failed') = (error IS NOT NULL)", name="error_if_failed"),
        Index("ix_pipeline_runs_pipeline", "tenant_id", "pipeline", text("started_at DESC")),
    )

    id: Mapped[UUID] = mapped_column(primary_key=True, default=new_id, server_default=text(NEW_ID))
    pipeline: Mapped[str] = mapped_column(Text(100))
    pipeline_version: Mapped[str] = mapped_column(Text(200))
    dataarch_version: Mapped[str] = mapped_column(Text(100))
    state: Mapped[str] = mapped_column(Choice(*RUN_STATES), default="running", server_default=text("'running'"))
    replay_of: Mapped[UUID | None]
    scheduled_for: Mapped[datetime | None]
    read: Mapped[int] = mapped_column(BigInteger(), default=0, server_default=NONE_YET)
    loaded: Mapped[int] = mapped_column(BigInteger(), default=0, server_default=NONE_YET)
    updated: Mapped[int] = mapped_column(BigInteger(), default=0, server_default=NONE_YET)
    unchanged: Mapped[int] = mapped_column(BigInteger(), default=0, server_default=NONE_YET)
    rejected: Mapped[int] = mapped_column(BigInteger(), default=0, server_default=NONE_YET)
    removed: Mapped[int] = mapped_column(BigInteger(), default=0, server_default=NONE_YET)
    error: Mapped[str | None] = mapped_column(Text(2000))
    started_at: Mapped[datetime] = mapped_column(default=utcnow, server_default=text("clock_timestamp()"))
    finished_at: Mapped[datetime | None]


class PipelineSource(TenantOwned, Base):
    """How far a pipeline has read one source: where the next run goes on, and what it must still begin with.

    ``begun_by`` is the run that began to read it, the last time that was done from its beginning; ``run_id`` the one
    that has read on last.
    """

    __tablename__ = "pipeline_sources"
    __table_args__ = (
        ForeignKeyConstraint(["tenant_id"], ["tenants.id"], ondelete="CASCADE"),
        CheckConstraint("records >= 0 AND bytes >= 0", name="not_negative"),
    )

    pipeline: Mapped[str] = mapped_column(Text(100), primary_key=True)
    source: Mapped[str] = mapped_column(Text(1000), primary_key=True)
    records: Mapped[int] = mapped_column(BigInteger())
    bytes: Mapped[int] = mapped_column(BigInteger())
    checksum: Mapped[str] = mapped_column(Sha256())
    state: Mapped[Any] = mapped_column(Json(), default=dict, server_default=text("'{}'::jsonb"))
    ended_at: Mapped[datetime | None]
    begun_by: Mapped[UUID]
    run_id: Mapped[UUID]
    updated_at: Mapped[datetime] = mapped_column(default=utcnow, server_default=text("clock_timestamp()"))


class PipelineBatch(TenantOwned, Base):
    """Rows of one table that one transaction of a run has written, and the part of a source that they come from.

    ``rows`` has for the id of each row which record of the batch it is, from 0. The least and the greatest id find a
    row without looking into all batches. ``number`` counts up from 1; what a transaction before wrote for rows to refer
    to counts down from -1. ``checksum`` is that of the source up to the end of the batch; a replay, which
    reads none, has no checksum.
    """

    __tablename__ = "pipeline_batches"
    __table_args__ = (
        ForeignKeyConstraint(
            ["tenant_id", "run_id"], ["pipeline_runs.tenant_id", "pipeline_runs.id"], ondelete="CASCADE"
        ),
        CheckConstraint("first_record >= 1 AND first_byte >= 0 AND bytes >= 0", name="within_source"),
        Index(None, "tenant_id", "greatest_id", "least_id"),
    )

    run_id: Mapped[UUID] = mapped_column(primary_key=True)
    number: Mapped[int] = mapped_column(BigInteger(), primary_key=True, autoincrement=False)
    source: Mapped[str] = mapped_column(Text(1000))
    first_record: Mapped[int] = mapped_column(BigInteger())
    first_byte: Mapped[int] = mapped_column(BigInteger())
    bytes: Mapped[int] = mapped_column(BigInteger())
    checksum: Mapped[str | None] = mapped_column(Sha256())
    table_name: Mapped[str] = mapped_column(Text(63))
    rows: Mapped[Any] = mapped_column(Json(), default=dict, server_default=text("'{}'::jsonb"))
    least_id: Mapped[UUID]
    greatest_id: Mapped[UUID]
    extracted_at: Mapped[datetime]
    transformed_at: Mapped[datetime]
    loaded_at: Mapped[datetime] = mapped_column(default=utcnow, server_default=text("clock_timestamp()"))


class PipelineReject(TenantOwned, Base):
    """A record that was not loaded, as it was extracted, and why.

    ``record`` is JSON in ASCII, as text: what PostgreSQL cannot hold stands in it escaped. Where its form is *text*, it
    is a string with what the source had, and no record could be made of it. ``handed_to`` is the tenant that a replay
    was about to load it for: only there can be seen whether it did.
    """

    __tablename__ = "pipeline_rejects"
    __table_args__ = (
        ForeignKeyConstraint(
            ["tenant_id", "run_id"], ["pipeline_runs.tenant_id", "pipeline_runs.id"], ondelete="CASCADE"
        ),
        CheckConstraint("number >= 1", name="number_from_one"),
        Index(None, "tenant_id", "run_id", "source", "number"),
    )

    id: Mapped[UUID] = mapped_column(primary_key=True, default=new_id, server_default=text(NEW_ID))
    run_id: Mapped[UUID]
    source: Mapped[str] = mapped_column(Text(1000))
    number: Mapped[int] = mapped_column(BigInteger())
    stage: Mapped[str] = mapped_column(Choice(*STAGES))
    field: Mapped[str | None] = mapped_column(Text(200))
    reason: Mapped[str] = mapped_column(Text(2000))
    constraint_name: Mapped[str | None] = mapped_column(Text(63))
    form: Mapped[str] = mapped_column(Choice(*FORMS), default="record", server_default=text("'record'"))
    record: Mapped[str] = mapped_column(Text(1_000_000, least=0))
    rejected_at: Mapped[datetime] = mapped_column(default=utcnow, server_default=text("clock_timestamp()"))
    replayed_by: Mapped[UUID | None]
    handed_to: Mapped[UUID | None]
