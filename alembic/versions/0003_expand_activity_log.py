"""The user activity log, partitioned by month, with one catch-all that holds every month until months are made.

There is no DEFAULT partition: with one, PostgreSQL could not read the partitions in order, and no partition could be
detached concurrently. Catch-alls by range keep both, and no row is ever refused for want of a partition.

Revision ID: 0003
Revises: 0002
"""

from __future__ import annotations

from alembic import op

from dataarch.rollout.set_aside import set_aside, take_back

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None

TABLES = ("user_activity_log",)

LOG = """
CREATE TABLE public.user_activity_log (
    tenant_id uuid NOT NULL,
    id uuid DEFAULT uuid_v7() NOT NULL,
    user_id uuid NOT NULL,
    activity_type text NOT NULL,
    metadata jsonb DEFAULT '{}'::jsonb NOT NULL,
    created_at timestamptz DEFAULT clock_timestamp() NOT NULL,
    CONSTRAINT pk_user_activity_log PRIMARY KEY (tenant_id, id, created_at),
    CONSTRAINT fk_user_activity_log_users FOREIGN KEY (tenant_id, user_id)
        REFERENCES public.users (tenant_id, id) ON DELETE CASCADE,
    CONSTRAINT ck_user_activity_log_activity_type_valid CHECK (char_length(activity_type) BETWEEN 1 AND 100)
) PARTITION BY RANGE (created_at)
"""

CATCH_ALL = """
CREATE TABLE public.user_activity_log_rest_min PARTITION OF public.user_activity_log
    FOR VALUES FROM (MINVALUE) TO (MAXVALUE)
"""

# default privileges may have granted it to somebody, whom no policy of the log would hold back there
NO_GRANTS = """
DO $no_grants$
DECLARE
    holder text;
BEGIN
    FOR holder IN
        SELECT DISTINCT CASE grantee WHEN 0 THEN 'PUBLIC' ELSE quote_ident(pg_get_userbyid(grantee)) END
        FROM pg_class, LATERAL aclexplode(relacl)
        WHERE oid = 'public.user_activity_log_rest_min'::regclass AND grantee <> relowner
    LOOP
        EXECUTE format('REVOKE ALL ON public.user_activity_log_rest_min FROM %s', holder);
    END LOOP;
END
$no_grants$
"""


def upgrade() -> None:
    op.execute(LOG)
    op.execute(CATCH_ALL)
    op.execute(NO_GRANTS)
    op.execute(take_back(TABLES))


def downgrade() -> None:
    op.execute(set_aside(TABLES))
