"""Every run has the versions of its pipeline and of dataarch.

Locks: SHARE UPDATE EXCLUSIVE on the table while every row is read: readers and writers go on.

It refuses until the backfill is verified: dataarch backfill verify run_versions. A table of up to 10,000 runs it fills
and compares by itself; then the writers of the table wait until it is done.

Revision ID: 0023
Revises: 0022
"""

from __future__ import annotations

from alembic import op

from dataarch.rollout.operations import require_verified

revision = "0023"
down_revision = "0022"
branch_labels = None
depends_on = None


def upgrade() -> None:
    require_verified("run_versions", at_once=10_000)
    op.execute("ALTER TABLE pipeline_runs VALIDATE CONSTRAINT ck_pipeline_runs_pipeline_version_not_null")
    op.execute("ALTER TABLE pipeline_runs VALIDATE CONSTRAINT ck_pipeline_runs_dataarch_version_not_null")
    op.execute("ALTER TABLE pipeline_runs VALIDATE CONSTRAINT ck_pipeline_runs_pipeline_version_valid")
    op.execute("ALTER TABLE pipeline_runs VALIDATE CONSTRAINT ck_pipeline_runs_dataarch_version_valid")


def downgrade() -> None:
    op.drop_constraint(op.f("ck_pipeline_runs_pipeline_version_not_null"), "pipeline_runs", type_="check")
    op.create_check_constraint(
        op.f("ck_pipeline_runs_pipeline_version_not_null"),
        "pipeline_runs",
        "pipeline_version IS NOT NULL",
        postgresql_not_valid=True,
    )
    op.drop_constraint(op.f("ck_pipeline_runs_dataarch_version_not_null"), "pipeline_runs", type_="check")
    op.create_check_constraint(
        op.f("ck_pipeline_runs_dataarch_version_not_null"),
        "pipeline_runs",
        "dataarch_version IS NOT NULL",
        postgresql_not_valid=True,
    )
    for name, condition in (
        ("ck_pipeline_runs_pipeline_version_valid", "char_length(pipeline_version) BETWEEN 1 AND 200"),
        ("ck_pipeline_runs_dataarch_version_valid", "char_length(dataarch_version) BETWEEN 1 AND 100"),
    ):
        op.drop_constraint(op.f(name), "pipeline_runs", type_="check")
        op.create_check_constraint(op.f(name), "pipeline_runs", condition, postgresql_not_valid=True)
