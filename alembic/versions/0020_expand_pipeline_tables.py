"""What pipelines have done: runs, how far each source is read, rejects, and the rows that each batch has written.

Revision ID: 0020
Revises: 0019
"""

from __future__ import annotations

from alembic import op

from dataarch.rollout.set_aside import set_aside, take_back

revision = "0020"
down_revision = "0019"
branch_labels = None
depends_on = None

ROLE = "dataarch_app"

TABLES = ("pipeline_rejects", "pipeline_batches", "pipeline_sources", "pipeline_runs")

RUNS = """
CREATE TABLE public.pipeline_runs (
    tenant_id uuid NOT NULL,
    id uuid DEFAULT uuid_v7() NOT NULL,
    pipeline text NOT NULL,
    version text NOT NULL,
    state text DEFAULT 'running' NOT NULL,
    replay_of uuid,
    scheduled_for timestamptz,
    read bigint DEFAULT 0 NOT NULL,
    loaded bigint DEFAULT 0 NOT NULL,
    updated bigint DEFAULT 0 NOT NULL,
    unchanged bigint DEFAULT 0 NOT NULL,
    rejected bigint DEFAULT 0 NOT NULL,
    removed bigint DEFAULT 0 NOT NULL,
    error text,
    started_at timestamptz DEFAULT clock_timestamp() NOT NULL,
    finished_at timestamptz,
    CONSTRAINT pk_pipeline_runs PRIMARY KEY (tenant_id, id),
    CONSTRAINT fk_pipeline_runs_tenants FOREIGN KEY (tenant_id) REFERENCES public.tenants (id) ON DELETE CASCADE,
    CONSTRAINT ck_pipeline_runs_pipeline_valid CHECK (char_length(pipeline) BETWEEN 1 AND 100),
    CONSTRAINT ck_pipeline_runs_version_valid CHECK (char_length(version) BETWEEN 1 AND 200),
    CONSTRAINT ck_pipeline_runs_state_valid CHECK (state IN ('running', 'finished', 'failed')),
    CONSTRAINT ck_pipeline_runs_error_valid CHECK (char_length(error) BETWEEN 1 AND 2000),
    CONSTRAINT ck_pipeline_runs_adds_up CHECK (read = loaded + updated + unchanged + rejected),
    CONSTRAINT ck_pipeline_runs_not_negative CHECK (least(loaded, updated, unchanged, rejected) >= 0),
    CONSTRAINT ck_pipeline_runs_removed_not_negative CHECK (removed >= 0),
    CONSTRAINT ck_pipeline_runs_finished_unless_running CHECK ((state = 'running') = (finished_at IS NULL)),
    CONSTRAINT ck_pipeline_runs_error_if_failed CHECK ((state = 'failed') = (error IS NOT NULL))
)
"""

LATEST_RUNS = "CREATE INDEX ix_pipeline_runs_pipeline ON public.pipeline_runs (tenant_id, pipeline, started_at DESC)"

SOURCES = """
CREATE TABLE public.pipeline_sources (
    tenant_id uuid NOT NULL,
    pipeline text NOT NULL,
    source text NOT NULL,
    records bigint NOT NULL,
    bytes bigint NOT NULL,
    checksum text NOT NULL,
    state jsonb DEFAULT '{}'::jsonb NOT NULL,
    ended_at timestamptz,
    begun_by uuid NOT NULL,
    run_id uuid NOT NULL,
    updated_at timestamptz DEFAULT clock_timestamp() NOT NULL,
    CONSTRAINT pk_pipeline_sources PRIMARY KEY (tenant_id, pipeline, source),
    CONSTRAINT fk_pipeline_sources_tenants FOREIGN KEY (tenant_id) REFERENCES public.tenants (id) ON DELETE CASCADE,
    CONSTRAINT ck_pipeline_sources_pipeline_valid CHECK (char_length(pipeline) BETWEEN 1 AND 100),
    CONSTRAINT ck_pipeline_sources_source_valid CHECK (char_length(source) BETWEEN 1 AND 1000),
    CONSTRAINT ck_pipeline_sources_checksum_valid CHECK (checksum ~ '^[0-9a-f]{64}$'),
    CONSTRAINT ck_pipeline_sources_not_negative CHECK (records >= 0 AND bytes >= 0)
)
"""

BATCHES = """
CREATE TABLE public.pipeline_batches (
    tenant_id uuid NOT NULL,
    run_id uuid NOT NULL,
    number bigint NOT NULL,
    source text NOT NULL,
    first_record bigint NOT NULL,
    first_byte bigint NOT NULL,
    bytes bigint NOT NULL,
    table_name text NOT NULL,
    rows jsonb DEFAULT '{}'::jsonb NOT NULL,
    least_id uuid NOT NULL,
    greatest_id uuid NOT NULL,
    extracted_at timestamptz NOT NULL,
    transformed_at timestamptz NOT NULL,
    loaded_at timestamptz DEFAULT clock_timestamp() NOT NULL,
    CONSTRAINT pk_pipeline_batches PRIMARY KEY (tenant_id, run_id, number),
    CONSTRAINT fk_pipeline_batches_pipeline_runs FOREIGN KEY (tenant_id, run_id)
        REFERENCES public.pipeline_runs (tenant_id, id) ON DELETE CASCADE,
    CONSTRAINT ck_pipeline_batches_source_valid CHECK (char_length(source) BETWEEN 1 AND 1000),
    CONSTRAINT ck_pipeline_batches_table_name_valid CHECK (char_length(table_name) BETWEEN 1 AND 63),
    CONSTRAINT ck_pipeline_batches_within_source CHECK (first_record >= 1 AND first_byte >= 0 AND bytes >= 0)
)
"""
REJECTS = """
CREATE TABLE public.pipeline_rejects (
    tenant_id uuid NOT NULL,
    id uuid DEFAULT uuid_v7() NOT NULL,
    run_id uuid NOT NULL,
    source text NOT NULL,
    number bigint NOT NULL,
    stage text NOT NULL,
    field text,
    reason text NOT NULL,
    constraint_name text,
    form text DEFAULT 'record' NOT NULL,
    record text NOT NULL,
    rejected_at timestamptz DEFAULT clock_timestamp() NOT NULL,
    replayed_by uuid,
    CONSTRAINT pk_pipeline_rejects PRIMARY KEY (tenant_id, id),
    CONSTRAINT fk_pipeline_rejects_pipeline_runs FOREIGN KEY (tenant_id, run_id)
        REFERENCES public.pipeline_runs (tenant_id, id) ON DELETE CASCADE,
    CONSTRAINT ck_pipeline_rejects_source_valid CHECK (char_length(source) BETWEEN 1 AND 1000),
    CONSTRAINT ck_pipeline_rejects_number_from_one CHECK (number >= 1),
    CONSTRAINT ck_pipeline_rejects_stage_valid CHECK (stage IN ('extract', 'validate', 'transform', 'load')),
    CONSTRAINT ck_pipeline_rejects_field_valid CHECK (char_length(field) BETWEEN 1 AND 200),
    CONSTRAINT ck_pipeline_rejects_reason_valid CHECK (char_length(reason) BETWEEN 1 AND 2000),
    CONSTRAINT ck_pipeline_rejects_constraint_name_valid CHECK (char_length(constraint_name) BETWEEN 1 AND 63),
    CONSTRAINT ck_pipeline_rejects_record_valid CHECK (char_length(record) BETWEEN 0 AND 1000000),
    CONSTRAINT ck_pipeline_rejects_form_valid CHECK (form IN ('record', 'text'))
)
"""

OF_RUN = """
CREATE INDEX ix_pipeline_rejects_tenant_id_run_id_source_number
    ON public.pipeline_rejects (tenant_id, run_id, source, number)
"""

# after a commit the setting is '', not NULL
RULE = "tenant_id = nullif(current_setting('dataarch.tenant_id', true), '')::uuid"

COUNTS = "state, read, loaded, updated, unchanged, rejected, removed, error, finished_at"
HOW_FAR = "records, bytes, checksum, state, ended_at, begun_by, run_id, updated_at"
GRANTS = {
    "pipeline_runs": f"SELECT, INSERT, UPDATE ({COUNTS})",
    "pipeline_sources": f"SELECT, INSERT, UPDATE ({HOW_FAR}), DELETE",
    "pipeline_batches": "SELECT, INSERT",
    "pipeline_rejects": "SELECT, INSERT, UPDATE (replayed_by)",
}


def upgrade() -> None:
    for statement in (RUNS, LATEST_RUNS, SOURCES, BATCHES, REJECTS, OF_RUN):
        op.execute(statement)
    op.execute(take_back(TABLES))
    for table, privileges in GRANTS.items():
        op.execute(f"CREATE POLICY tenant_isolation ON public.{table} USING ({RULE}) WITH CHECK ({RULE})")
        op.execute(f"ALTER TABLE public.{table} ENABLE ROW LEVEL SECURITY")
        # default privileges may have granted more than is meant
        op.execute(f"REVOKE ALL ON public.{table} FROM PUBLIC, {ROLE}")
        op.execute(f"GRANT {privileges} ON public.{table} TO {ROLE}")


def downgrade() -> None:
    for table in TABLES:
        op.execute(f"REVOKE ALL ON public.{table} FROM {ROLE}")
        op.execute(f"ALTER TABLE public.{table} DISABLE ROW LEVEL SECURITY")
        op.execute(f"DROP POLICY tenant_isolation ON public.{table}")
    op.execute(set_aside(TABLES))
