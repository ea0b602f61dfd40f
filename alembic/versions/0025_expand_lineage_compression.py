"""Which rows a batch has written is compressed by lz4, where the server can: it takes a tenth of the time of pglz.

New values alone; those that are there stay as they are, and are read as ever.

Locks: ACCESS EXCLUSIVE on the table, for the moment that a change of the catalog takes.

Revision ID: 0025
Revises: 0024
"""

from __future__ import annotations

from alembic import op

revision = "0025"
down_revision = "0024"
branch_labels = None
depends_on = None

COMPRESS = """
DO $$
BEGIN
    ALTER TABLE public.pipeline_batches ALTER COLUMN rows SET COMPRESSION lz4;
EXCEPTION WHEN feature_not_supported THEN
    -- a server that was built without it goes on with what it has
    NULL;
END
$$
"""


def upgrade() -> None:
    op.execute(COMPRESS)


def downgrade() -> None:
    op.execute("ALTER TABLE public.pipeline_batches ALTER COLUMN rows SET COMPRESSION default")
