"""The role that the application runs as, and what it may do.

Roles belong to the whole cluster: the role is made where it is absent, and dropped by the downgrade only where no other
database needs it. It may log in, because Citus refuses SET ROLE to a role that may not; it has no password until an
operator gives it one. The policies are in force already, so there is no moment at which it could see too much. It gets
nothing on partitions, and on the ledger no more than writing movements needs.

Revision ID: 0010
Revises: 0009
"""

from __future__ import annotations

from alembic import op

revision = "0010"
down_revision = "0009"
branch_labels = None
depends_on = None

ROLE = "dataarch_app"

CREATE_ROLE = f"""
DO $role$
BEGIN
    IF EXISTS (SELECT FROM pg_roles WHERE rolname = '{ROLE}' AND (rolsuper OR rolbypassrls)) THEN
        RAISE EXCEPTION 'The role {ROLE} bypasses row-level security: every tenant would see every row.'
            USING ERRCODE = 'DA006',
                  HINT = 'Run as a superuser: ALTER ROLE {ROLE} NOSUPERUSER NOBYPASSRLS';
    END IF;
    IF NOT EXISTS (SELECT FROM pg_roles WHERE rolname = '{ROLE}') THEN
        CREATE ROLE {ROLE} LOGIN NOSUPERUSER NOBYPASSRLS NOCREATEDB NOCREATEROLE NOINHERIT;
    END IF;
EXCEPTION
    WHEN duplicate_object OR unique_violation THEN
        NULL; -- another database's upgrade made it at the same time
    WHEN insufficient_privilege THEN
        RAISE EXCEPTION 'The role {ROLE} does not exist, and % may not create roles.', current_user
            USING ERRCODE = 'insufficient_privilege',
                  HINT = 'Run as a superuser, then upgrade again: '
                         'CREATE ROLE {ROLE} LOGIN NOSUPERUSER NOBYPASSRLS NOCREATEDB NOCREATEROLE NOINHERIT';
END
$role$
"""

TABLES = (
    "public.inventory_movements, public.inventory, public.products, public.user_activity_log,"
    " public.user_settings, public.user_profiles, public.users, public.tenants"
)

# default privileges may have granted more than is meant, TRUNCATE among it, which no policy guards
GRANTS = (
    f"REVOKE ALL ON {TABLES} FROM PUBLIC, {ROLE}",
    f"GRANT USAGE ON SCHEMA public TO {ROLE}",
    f"GRANT SELECT, INSERT, UPDATE, DELETE ON public.tenants, public.users, public.user_profiles, public.user_settings,"
    f" public.user_activity_log, public.products TO {ROLE}",
    f"GRANT SELECT, INSERT, UPDATE ON public.inventory TO {ROLE}",
    f"GRANT SELECT, INSERT, UPDATE (next_sequence) ON public.inventory_movements TO {ROLE}",
    f"GRANT EXECUTE ON FUNCTION public.set_tenant(uuid), public.find_tenant(text),"
    f" public.create_activity_partition(date) TO {ROLE}",
)

REVOKES = (
    f"REVOKE ALL ON FUNCTION public.create_activity_partition(date), public.find_tenant(text), public.set_tenant(uuid)"
    f" FROM {ROLE}",
    f"REVOKE ALL ON {TABLES} FROM {ROLE}",
    f"REVOKE USAGE ON SCHEMA public FROM {ROLE}",
)

DROP_ROLE = f"""
DO $role$
BEGIN
    IF NOT EXISTS (SELECT FROM pg_stat_activity WHERE usename = '{ROLE}' AND datname <> current_database()) THEN
        DROP ROLE {ROLE};
    END IF;
EXCEPTION
    WHEN dependent_objects_still_exist OR insufficient_privilege OR object_in_use THEN
        RAISE NOTICE 'The role {ROLE} stays: another database needs it, or another role made it.';
END
$role$
"""


def upgrade() -> None:
    op.execute(CREATE_ROLE)
    for grant in GRANTS:
        op.execute(grant)


def downgrade() -> None:
    for revoke in REVOKES:
        op.execute(revoke)
    op.execute(DROP_ROLE)
