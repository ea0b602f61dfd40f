"""Make ids on the server: uuid_v7().

PostgreSQL 18 has uuidv7(); older servers get the same from SQL (RFC 9562, section 5.7): 48 bits of milliseconds, the
version, and random bits. The function is PARALLEL SAFE and VOLATILE, as a default must be.

Revision ID: 0001
Revises: none
"""

from __future__ import annotations

from alembic import op

from dataarch.rollout.set_aside import SCHEMA

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None

# the first 6 bytes of a random UUID are overlaid with the time; version 4 becomes version 7 by setting two more bits
BEFORE_18 = """
    SELECT encode(set_bit(set_bit(
        overlay(
            uuid_send(gen_random_uuid())
            PLACING substring(int8send((extract(epoch FROM clock_timestamp()) * 1000)::bigint) FROM 3)
            FROM 1 FOR 6
        ), 52, 1), 53, 1), 'hex')::uuid
"""


def upgrade() -> None:
    op.execute(
        f"""
        DO $upgrade$
        BEGIN
            IF to_regprocedure('{SCHEMA}.uuid_v7()') IS NOT NULL THEN
                ALTER FUNCTION {SCHEMA}.uuid_v7() SET SCHEMA public;
            ELSIF current_setting('server_version_num')::int >= 180000 THEN
                CREATE FUNCTION public.uuid_v7() RETURNS uuid LANGUAGE sql VOLATILE PARALLEL SAFE
                    AS $$ SELECT pg_catalog.uuidv7() $$;
            ELSE
                CREATE FUNCTION public.uuid_v7() RETURNS uuid LANGUAGE sql VOLATILE PARALLEL SAFE
                    AS $$ {BEFORE_18} $$;
            END IF;
        END
        $upgrade$
        """
    )


def downgrade() -> None:
    # tables that were set aside still have the function in their defaults
    op.execute(
        f"""
        DO $downgrade$
        BEGIN
            IF to_regnamespace('{SCHEMA}') IS NOT NULL THEN
                ALTER FUNCTION public.uuid_v7() SET SCHEMA {SCHEMA};
            ELSE
                DROP FUNCTION public.uuid_v7();
            END IF;
        END
        $downgrade$
        """
    )
