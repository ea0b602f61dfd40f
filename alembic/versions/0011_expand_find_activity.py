"""find_activity(): search the metadata of a tenant's activity through the GIN index.

jsonb's ``@>`` is not leakproof, so under row-level security it cannot use an index. This function runs as the owner of
the tables, outside the policies, and carries the tenant's predicate itself. A generic plan is forced because planning
over the partitions costs more than the search.

Revision ID: 0011
Revises: 0010
"""

from __future__ import annotations

from alembic import op

revision = "0011"
down_revision = "0010"
branch_labels = None
depends_on = None

ROLE = "dataarch_app"
SIGNATURE = "find_activity(jsonb, timestamptz, timestamptz, bigint)"

FIND = """
CREATE FUNCTION public.find_activity(
    filter jsonb,
    since timestamptz DEFAULT '-infinity',
    until timestamptz DEFAULT 'infinity',
    max_rows bigint DEFAULT 1000
) RETURNS SETOF public.user_activity_log
LANGUAGE plpgsql STABLE SECURITY DEFINER
SET search_path = pg_catalog, public, pg_temp
SET plan_cache_mode = force_generic_plan
AS $$
DECLARE
    tenant uuid := nullif(current_setting('dataarch.tenant_id', true), '')::uuid;
BEGIN
    IF tenant IS NULL THEN
        RAISE EXCEPTION 'No tenant is set, so there is no activity to search.'
            USING ERRCODE = 'DA002', HINT = 'Call set_tenant(uuid) in this transaction first.';
    END IF;
    RETURN QUERY
        SELECT * FROM public.user_activity_log AS activity
        WHERE activity.tenant_id = tenant
          AND activity.metadata @> filter
          AND activity.created_at >= since AND activity.created_at < until
        ORDER BY activity.created_at DESC, activity.id
        LIMIT max_rows;
END
$$
"""


def upgrade() -> None:
    op.execute(FIND)
    op.execute(f"REVOKE ALL ON FUNCTION public.{SIGNATURE} FROM PUBLIC")
    op.execute(f"GRANT EXECUTE ON FUNCTION public.{SIGNATURE} TO {ROLE}")


def downgrade() -> None:
    op.execute(f"DROP FUNCTION public.{SIGNATURE}")
