"""Sessions of users: who is signed in, found by the hash of a token, and gone with the user.

Revision ID: 0015
Revises: 0014
"""

from __future__ import annotations

from alembic import op

from dataarch.rollout.set_aside import set_aside, take_back

revision = "0015"
down_revision = "0014"
branch_labels = None
depends_on = None

ROLE = "dataarch_app"

TABLES = ("user_sessions",)

# no index on what a touch changes, so that it writes none
SESSIONS = """
CREATE TABLE public.user_sessions (
    tenant_id uuid NOT NULL,
    token_hash text NOT NULL,
    user_id uuid NOT NULL,
    data jsonb DEFAULT '{}'::jsonb NOT NULL,
    created_at timestamptz DEFAULT clock_timestamp() NOT NULL,
    seen_at timestamptz DEFAULT clock_timestamp() NOT NULL,
    expires_at timestamptz NOT NULL,
    CONSTRAINT pk_user_sessions PRIMARY KEY (tenant_id, token_hash),
    CONSTRAINT fk_user_sessions_users FOREIGN KEY (tenant_id, user_id)
        REFERENCES public.users (tenant_id, id) ON DELETE CASCADE,
    CONSTRAINT ck_user_sessions_token_hash_valid CHECK (token_hash ~ '^[0-9a-f]{64}$'),
    CONSTRAINT ck_user_sessions_expires_after_creation CHECK (expires_at > created_at)
)
"""

OF_USER = "CREATE INDEX ix_user_sessions_tenant_id_user_id ON public.user_sessions (tenant_id, user_id)"

# after a commit the setting is '', not NULL
RULE = "tenant_id = nullif(current_setting('dataarch.tenant_id', true), '')::uuid"


def upgrade() -> None:
    op.execute(SESSIONS)
    op.execute(OF_USER)
    op.execute(take_back(TABLES))
    op.execute(f"CREATE POLICY tenant_isolation ON public.user_sessions USING ({RULE}) WITH CHECK ({RULE})")
    op.execute("ALTER TABLE public.user_sessions ENABLE ROW LEVEL SECURITY")
    # default privileges may have granted more than is meant
    op.execute(f"REVOKE ALL ON public.user_sessions FROM PUBLIC, {ROLE}")
    op.execute(f"GRANT SELECT, INSERT, UPDATE, DELETE ON public.user_sessions TO {ROLE}")


def downgrade() -> None:
    op.execute(f"REVOKE ALL ON public.user_sessions FROM {ROLE}")
    op.execute("ALTER TABLE public.user_sessions DISABLE ROW LEVEL SECURITY")
    op.execute("DROP POLICY tenant_isolation ON public.user_sessions")
    op.execute(set_aside(TABLES))
