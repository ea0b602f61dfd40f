"""Row-level security: a tenant sees and writes its own rows, and set_tenant() says which tenant it is.

Security is enabled, not forced: the owner stands outside it for migrations and for functions that carry the tenant's
predicate themselves, and the application is never the owner. Partitions do not inherit policies, so each has its own.

A transaction belongs to one tenant: set_tenant() refuses another one. On Citus a SET clause makes it send the setting
to the workers; elsewhere the clause is left away: an owner who is no superuser may not name an unknown parameter.

Revision ID: 0009
Revises: 0008
"""

from __future__ import annotations

from alembic import op

revision = "0009"
down_revision = "0008"
branch_labels = None
depends_on = None

SET_TENANT = """
CREATE FUNCTION public.set_tenant(tenant uuid) RETURNS void
LANGUAGE plpgsql
AS $$
DECLARE
    present text := nullif(pg_catalog.current_setting('dataarch.tenant_id', true), '');
BEGIN
    IF tenant IS NULL OR present::uuid <> tenant THEN
        RAISE EXCEPTION 'This transaction belongs to tenant %, not to %.', present, tenant
            USING ERRCODE = 'DA001', HINT = 'Open a second session for the other tenant.';
    END IF;
    EXECUTE pg_catalog.format('SET LOCAL dataarch.tenant_id = %L', tenant);
END
$$
"""

ON_CITUS = """
DO $citus$
BEGIN
    IF EXISTS (SELECT FROM pg_extension WHERE extname = 'citus') THEN
        ALTER FUNCTION public.set_tenant(uuid) SET citus.propagate_set_commands = 'local';
    END IF;
END
$citus$
"""

FIND_TENANT = """
CREATE FUNCTION public.find_tenant(slug text) RETURNS uuid
LANGUAGE sql STABLE SECURITY DEFINER
SET search_path = pg_catalog, public, pg_temp
AS $$ SELECT id FROM public.tenants WHERE tenants.slug = find_tenant.slug $$
"""

TABLES = {
    "tenants": "id",
    "users": "tenant_id",
    "user_profiles": "tenant_id",
    "user_settings": "tenant_id",
    "user_activity_log": "tenant_id",
    "products": "tenant_id",
    "inventory": "tenant_id",
    "inventory_movements": "tenant_id",
}


def condition(column: str) -> str:
    # after a commit the setting is '', not NULL
    return f"{column} = nullif(current_setting('dataarch.tenant_id', true), '')::uuid"


def each_partition(*actions: str) -> str:
    """Return SQL that runs actions, with %s for the name, on each partition of the log."""
    executes = "\n".join(f"        EXECUTE format($q${action}$q$, partition);" for action in actions)
    return f"""
DO $partitions$
DECLARE
    partition regclass;
BEGIN
    FOR partition IN
        SELECT inhrelid::regclass FROM pg_inherits WHERE inhparent = 'public.user_activity_log'::regclass
    LOOP
{executes}
    END LOOP;
END
$partitions$
"""


def upgrade() -> None:
    op.execute(SET_TENANT)
    op.execute(ON_CITUS)
    op.execute(FIND_TENANT)
    for function in ("set_tenant(uuid)", "find_tenant(text)"):
        op.execute(f"REVOKE ALL ON FUNCTION public.{function} FROM PUBLIC")
    for table, column in TABLES.items():
        rule = condition(column)
        op.execute(f"CREATE POLICY tenant_isolation ON public.{table} USING ({rule}) WITH CHECK ({rule})")
        op.execute(f"ALTER TABLE public.{table} ENABLE ROW LEVEL SECURITY")
    rule = condition("tenant_id")
    op.execute(
        each_partition(
            f"CREATE POLICY tenant_isolation ON %s USING ({rule}) WITH CHECK ({rule})",
            "ALTER TABLE %s ENABLE ROW LEVEL SECURITY",
        )
    )


def downgrade() -> None:
    op.execute(each_partition("ALTER TABLE %s DISABLE ROW LEVEL SECURITY", "DROP POLICY tenant_isolation ON %s"))
    for table in reversed(TABLES):
        op.execute(f"ALTER TABLE public.{table} DISABLE ROW LEVEL SECURITY")
        op.execute(f"DROP POLICY tenant_isolation ON public.{table}")
    op.execute("DROP FUNCTION public.find_tenant(text)")
    op.execute("DROP FUNCTION public.set_tenant(uuid)")
