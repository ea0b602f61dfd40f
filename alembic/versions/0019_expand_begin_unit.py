"""How a unit of work begins, as one call: the connection cleaned, the time-outs, the role and the tenant.

What took a dozen statements is one message of the protocol, so that it can travel with BEGIN and with the first
statement in one round trip. It does nothing that its caller could not do by itself, and is as set_tenant() is: for
the unit of work alone, which refuses statements that name it.

Revision ID: 0019
Revises: 0018
"""

from __future__ import annotations

from alembic import op

revision = "0019"
down_revision = "0018"
branch_labels = None
depends_on = None

ROLE = "dataarch_app"

SIGNATURE = "begin_unit(uuid, text, int4, int4, int4)"

# CLOSE ALL would be a statement of PL/pgSQL itself; SET takes no variables; the role comes before the tenant, because
# it is the role that may set one
BEGIN_UNIT = """
CREATE FUNCTION public.begin_unit(
    tenant uuid, acting_role text, statement_ms int4, lock_ms int4, idle_ms int4
) RETURNS void
LANGUAGE plpgsql
AS $$
BEGIN
    RESET SESSION AUTHORIZATION;
    RESET ALL;
    EXECUTE 'CLOSE ALL';
    DISCARD TEMP;
    UNLISTEN *;
    PERFORM pg_catalog.pg_advisory_unlock_all(),
            pg_catalog.set_config('timezone', 'UTC', true),
            pg_catalog.set_config('statement_timeout', statement_ms::pg_catalog.text, true),
            pg_catalog.set_config('lock_timeout', lock_ms::pg_catalog.text, true),
            pg_catalog.set_config('idle_in_transaction_session_timeout', idle_ms::pg_catalog.text, true);
    IF acting_role IS NOT NULL THEN
        PERFORM pg_catalog.set_config('role', acting_role, true);
    END IF;
    IF tenant IS NOT NULL THEN
        PERFORM public.set_tenant(tenant);
    END IF;
END
$$
"""


def upgrade() -> None:
    op.execute(BEGIN_UNIT)
    op.execute(f"REVOKE ALL ON FUNCTION public.{SIGNATURE} FROM PUBLIC")
    op.execute(f"GRANT EXECUTE ON FUNCTION public.{SIGNATURE} TO {ROLE}")


def downgrade() -> None:
    op.execute(f"DROP FUNCTION public.{SIGNATURE}")
