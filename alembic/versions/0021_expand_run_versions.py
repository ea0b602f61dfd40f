"""The version of a pipeline's code and that of dataarch in columns of their own, in step with code_version.

Which runs an old dataarch has made is a question of its own: code_version answered it only to who takes text apart.

Rows that are there already have the new form once they are written or backfilled: a version of the application that
uses the new form comes after that.

Locks: ACCESS EXCLUSIVE on the table, for the moment that a change of the catalog takes.

Going down drops the new form; what was written to it has been written to the old one too.

Revision ID: 0021
Revises: 0020
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

from dataarch.rollout.operations import create_dual_write, drop_dual_write

revision = "0021"
down_revision = "0020"
branch_labels = None
depends_on = None

BACK = "pipeline_version || coalesce(' (dataarch ' || nullif(dataarch_version, 'unknown') || ')', '')"


def upgrade() -> None:
    # dataarch: allow downgrade-loses-data: what was written to the new form has been written to the old one too
    op.add_column("pipeline_runs", sa.Column("pipeline_version", sa.Text(), nullable=True))
    op.add_column("pipeline_runs", sa.Column("dataarch_version", sa.Text(), nullable=True))
    create_dual_write(
        "run_versions",
        "pipeline_runs",
        forward={
            "pipeline_version": "regexp_replace(code_version, ' \\(dataarch [^)]*\\)$', '')",
            "dataarch_version": "coalesce(substring(code_version FROM ' \\(dataarch ([^)]*)\\)$'), 'unknown')",
        },
        backward={"code_version": BACK},
    )
    op.create_check_constraint(
        op.f("ck_pipeline_runs_pipeline_version_not_null"),
        "pipeline_runs",
        "pipeline_version IS NOT NULL",
        postgresql_not_valid=True,
    )
    op.create_check_constraint(
        op.f("ck_pipeline_runs_dataarch_version_not_null"),
        "pipeline_runs",
        "dataarch_version IS NOT NULL",
        postgresql_not_valid=True,
    )
    op.create_check_constraint(
        op.f("ck_pipeline_runs_pipeline_version_valid"),
        "pipeline_runs",
        "char_length(pipeline_version) BETWEEN 1 AND 200",
        postgresql_not_valid=True,
    )
    op.create_check_constraint(
        op.f("ck_pipeline_runs_dataarch_version_valid"),
        "pipeline_runs",
        "char_length(dataarch_version) BETWEEN 1 AND 100",
        postgresql_not_valid=True,
    )


def downgrade() -> None:
    op.drop_constraint(op.f("ck_pipeline_runs_dataarch_version_valid"), "pipeline_runs", type_="check")
    op.drop_constraint(op.f("ck_pipeline_runs_pipeline_version_valid"), "pipeline_runs", type_="check")
    op.drop_constraint(op.f("ck_pipeline_runs_dataarch_version_not_null"), "pipeline_runs", type_="check")
    op.drop_constraint(op.f("ck_pipeline_runs_pipeline_version_not_null"), "pipeline_runs", type_="check")
    drop_dual_write("run_versions", "pipeline_runs")
    op.drop_column("pipeline_runs", "dataarch_version")
    op.drop_column("pipeline_runs", "pipeline_version")
