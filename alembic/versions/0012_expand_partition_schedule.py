"""Schedule create_activity_partition() with pg_cron, where this database has that extension.

Elsewhere ``dataarch partitions maintain`` does the same from any scheduler.

Revision ID: 0012
Revises: 0011
"""

from __future__ import annotations

from alembic import op

revision = "0012"
down_revision = "0011"
branch_labels = None
depends_on = None

JOB = "dataarch_activity_partitions"

SCHEDULE = f"""
DO $schedule$
BEGIN
    IF EXISTS (SELECT FROM pg_extension WHERE extname = 'pg_cron') THEN
        EXECUTE 'SELECT cron.schedule($1, $2, $3)'
            USING '{JOB}', '17 3 * * *', 'SELECT public.create_activity_partition()';
    END IF;
END
$schedule$
"""

UNSCHEDULE = f"""
DO $unschedule$
BEGIN
    IF EXISTS (SELECT FROM pg_extension WHERE extname = 'pg_cron') THEN
        EXECUTE 'SELECT cron.unschedule(jobid) FROM cron.job WHERE jobname = $1' USING '{JOB}';
    END IF;
END
$unschedule$
"""


def upgrade() -> None:
    op.execute(SCHEDULE)


def downgrade() -> None:
    op.execute(UNSCHEDULE)
