"""A reject says which tenant a replay was about to load it for, so that one after a kill looks there first.

Locks: ACCESS EXCLUSIVE on the table, for the moment that a change of the catalog takes.

Revision ID: 0026
Revises: 0025
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0026"
down_revision = "0025"
branch_labels = None
depends_on = None

ROLE = "dataarch_app"


def upgrade() -> None:
    # dataarch: allow downgrade-loses-data: it counts only while a replay that was killed has not been repeated
    op.add_column("pipeline_rejects", sa.Column("handed_to", sa.Uuid(), nullable=True))
    op.execute(f"GRANT UPDATE (handed_to) ON public.pipeline_rejects TO {ROLE}")


def downgrade() -> None:
    op.drop_column("pipeline_rejects", "handed_to")
