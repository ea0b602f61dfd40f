"""The versions of a run's pipeline and of dataarch are columns of their own, and code_version goes.

It refuses until the backfill is verified: dataarch backfill verify run_versions; then the backfill is forgotten.

Locks: ACCESS EXCLUSIVE on the table, for the moment that a change of the catalog takes.

With it go: ck_pipeline_runs_code_version_valid.

After it a version of the application that uses code_version as it was fails. Going down brings it back with its
values, computed from the new form, but writes every row under ACCESS EXCLUSIVE.

Revision ID: 0024
Revises: 0023
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

from dataarch.rollout.operations import (
    create_dual_write,
    drop_dual_write,
    forget_backfill,
    require_verified,
    start_backfill,
)

revision = "0024"
down_revision = "0023"
branch_labels = None
depends_on = None

BACK = "pipeline_version || coalesce(' (dataarch ' || nullif(dataarch_version, 'unknown') || ')', '')"

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
    # dataarch: allow ban-drop-column: every row was compared, and no version uses the old form any more
    # dataarch: allow adding-not-nullable-field: the CHECK that is valid saves the scan
    # dataarch: allow ban-drop-constraint: NOT NULL takes the place of the CHECK
    require_verified("run_versions", at_once=10_000)
    drop_dual_write("run_versions", "pipeline_runs")
    op.alter_column("pipeline_runs", "pipeline_version", nullable=False)
    op.drop_constraint(op.f("ck_pipeline_runs_pipeline_version_not_null"), "pipeline_runs", type_="check")
    op.alter_column("pipeline_runs", "dataarch_version", nullable=False)
    op.drop_constraint(op.f("ck_pipeline_runs_dataarch_version_not_null"), "pipeline_runs", type_="check")
    op.drop_column("pipeline_runs", "code_version")
    forget_backfill("run_versions", "pipeline_runs", sets=SETS, matches=MATCHES)


def downgrade() -> None:
    op.add_column("pipeline_runs", sa.Column("code_version", sa.Text(), nullable=True))
    op.execute(f"UPDATE pipeline_runs SET code_version = {BACK}")
    op.alter_column("pipeline_runs", "code_version", nullable=False)
    op.create_check_constraint(
        op.f("ck_pipeline_runs_pipeline_version_not_null"),
        "pipeline_runs",
        "pipeline_version IS NOT NULL",
    )
    op.alter_column("pipeline_runs", "pipeline_version", nullable=True)
    op.create_check_constraint(
        op.f("ck_pipeline_runs_dataarch_version_not_null"),
        "pipeline_runs",
        "dataarch_version IS NOT NULL",
    )
    op.alter_column("pipeline_runs", "dataarch_version", nullable=True)
    op.execute(
        (
            "ALTER TABLE pipeline_runs ADD CONSTRAINT ck_pipeline_runs_code_version_valid CHECK "
            "(((char_length(code_version) >= 1) AND (char_length(code_version) <= 200)))"
        ),
    )
    create_dual_write(
        "run_versions",
        "pipeline_runs",
        forward=SETS,
        backward={"code_version": BACK},
    )
    start_backfill("run_versions", "pipeline_runs", sets=SETS, matches=MATCHES)
