"""The months of the activity log, from this one to twelve ahead; rows of other months stay in the catch-alls.

Revision ID: 0006
Revises: 0005
"""

from __future__ import annotations

from alembic import op

revision = "0006"
down_revision = "0005"
branch_labels = None
depends_on = None

# the catch-all of the oldest rows becomes the only partition again; where there is none, the function makes one
MERGE = """
DO $merge$
DECLARE
    kept regclass := to_regclass('public.user_activity_log_rest_min');
    partition regclass;
    partitions regclass[];
BEGIN
    LOCK TABLE public.user_activity_log, public.users IN ACCESS EXCLUSIVE MODE;
    SELECT array_agg(inhrelid::regclass) INTO partitions
        FROM pg_inherits WHERE inhparent = 'public.user_activity_log'::regclass;
    FOREACH partition IN ARRAY partitions LOOP
        EXECUTE format('ALTER TABLE public.user_activity_log DETACH PARTITION %s', partition);
    END LOOP;
    IF kept = ANY (partitions) THEN
        ALTER TABLE public.user_activity_log
            ATTACH PARTITION public.user_activity_log_rest_min FOR VALUES FROM (MINVALUE) TO (MAXVALUE);
    ELSE
        PERFORM public.attach_activity_partition('user_activity_log_rest_min', NULL, NULL);
    END IF;
    FOREACH partition IN ARRAY array_remove(partitions, kept) LOOP
        PERFORM public.move_activity(partition, 'true');
        EXECUTE format('DROP TABLE %s', partition);
    END LOOP;
END
$merge$
"""


def upgrade() -> None:
    op.execute("SELECT public.create_activity_partition()")


def downgrade() -> None:
    op.execute(MERGE)
