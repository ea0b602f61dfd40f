"""Runs that are there already get the versions of their pipeline and of dataarch.

This registers the work. Then: dataarch backfill run run_versions, and: dataarch backfill verify
run_versions.

Locks: none that a reader or a writer waits for; while it runs, the rows of one small batch.

Revision ID: 0022
Revises: 0021
"""

from __future__ import annotations

from dataarch.rollout.operations import forget_backfill, start_backfill

revision = "0022"
down_revision = "0021"
branch_labels = None
depends_on = None

SETS = {
    "pipeline_version": "regexp_replace(code_version, ' \\(dataarch [^)]*\\)$', '')",
    "dataarch_version": "coalesce(substring(code_version FROM ' \\(dataarch ([^)]*)\\)$'), 'unknown')",
}

MATCHES = (
    "(pipeline_version IS NOT DISTINCT FROM (regexp_replace(code_version, ' \\(dataarch [^)]*\\)$', '')) "
    "AND dataarch_version IS NOT DISTINCT FROM (coalesce(substring(code_version FROM ' \\(dataarch "
    "([^)]*)\\)$'), 'unknown'))) OR (code_version IS NOT DISTINCT FROM (pipeline_version || "
    "coalesce(' (dataarch ' || nullif(dataarch_version, 'unknown') || ')', '')))"
)


def upgrade() -> None:
    start_backfill("run_versions", "pipeline_runs", sets=SETS, matches=MATCHES)


def downgrade() -> None:
    forget_backfill("run_versions", "pipeline_runs", sets=SETS, matches=MATCHES)
