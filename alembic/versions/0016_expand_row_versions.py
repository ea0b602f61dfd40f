"""Versions of rows, raised by the database: whoever writes a row that was changed since it was read is told.

Revision ID: 0016
Revises: 0015
"""

from __future__ import annotations

from alembic import op

from dataarch.rollout.set_aside import SCHEMA

revision = "0016"
down_revision = "0015"
branch_labels = None
depends_on = None

KEYS = {
    "tenants": ("id",),
    "users": ("tenant_id", "id"),
    "user_profiles": ("tenant_id", "user_id"),
    "user_settings": ("tenant_id", "user_id"),
    "products": ("tenant_id", "id"),
}

FUNCTION = """
CREATE FUNCTION public.raise_version() RETURNS trigger LANGUAGE plpgsql SET search_path = pg_catalog
AS $$BEGIN NEW.version := OLD.version + 1; RETURN NEW; END$$
"""

# dataarch: allow backfill-in-schema-revision: writes only where a downgrade has kept versions
# versions beyond the first are kept while the column is away: cursors and forms of clients name them
KEPT = f"{SCHEMA}.row_versions"


def kept(table: str) -> str:
    """Return SQL that selects the versions of a table's rows that were ever changed."""
    keys = KEYS[table]
    return f"""SELECT '{table}' AS row_of, {keys[0]} AS first_key, {keys[-1]} AS last_key, version
        FROM public.{table} WHERE version > 1"""


def given_back(table: str) -> str:
    """Return SQL that gives the rows of a table their versions back."""
    keys = KEYS[table]
    return f"""UPDATE public.{table} AS row SET version = kept.version FROM {KEPT} AS kept
        WHERE kept.row_of = '{table}' AND row.{keys[0]} = kept.first_key AND row.{keys[-1]} = kept.last_key;"""


def upgrade() -> None:
    for table in KEYS:
        op.execute(f"ALTER TABLE public.{table} ADD COLUMN version bigint DEFAULT 1 NOT NULL")
    updates = "\n        ".join(given_back(table) for table in KEYS)
    op.execute(f"""
DO $$
BEGIN
    IF to_regclass('{KEPT}') IS NOT NULL THEN
        {updates}
        DROP TABLE {KEPT};
        IF NOT EXISTS (SELECT FROM pg_class WHERE relnamespace = to_regnamespace('{SCHEMA}')) THEN
            DROP SCHEMA {SCHEMA};
        END IF;
    END IF;
END $$
""")
    op.execute(FUNCTION)
    for table in KEYS:
        op.execute(f"""
CREATE TRIGGER raise_version_of_{table} BEFORE UPDATE ON public.{table}
FOR EACH ROW WHEN (old.* IS DISTINCT FROM new.*) EXECUTE FUNCTION public.raise_version()
""")


def downgrade() -> None:
    for table in KEYS:
        op.execute(f"DROP TRIGGER raise_version_of_{table} ON public.{table}")
    op.execute("DROP FUNCTION public.raise_version()")
    changed = "\n        UNION ALL ".join(kept(table) for table in KEYS)
    op.execute(f"""
DO $$
BEGIN
    IF EXISTS ({changed}) THEN
        CREATE SCHEMA IF NOT EXISTS {SCHEMA};
        CREATE TABLE {KEPT} AS {changed};
    END IF;
END $$
""")
    for table in KEYS:
        op.execute(f"ALTER TABLE public.{table} DROP COLUMN version")
