"""Tenants, and users with profile and settings.

Revision ID: 0002
Revises: 0001
"""

from __future__ import annotations

from alembic import op

from dataarch.rollout.set_aside import set_aside, take_back

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None

TABLES = ("user_settings", "user_profiles", "users", "tenants")

TENANTS = """
CREATE TABLE public.tenants (
    id uuid DEFAULT uuid_v7() NOT NULL,
    slug text NOT NULL,
    name text NOT NULL,
    created_at timestamptz DEFAULT clock_timestamp() NOT NULL,
    CONSTRAINT pk_tenants PRIMARY KEY (id),
    CONSTRAINT uq_tenants_slug UNIQUE (slug),
    CONSTRAINT ck_tenants_slug_valid CHECK (slug ~ '^[a-z0-9]+(-[a-z0-9]+)*$' AND char_length(slug) <= 63),
    CONSTRAINT ck_tenants_name_valid CHECK (char_length(name) BETWEEN 1 AND 200)
)
"""

ATOM = "[a-z0-9!#$%&''*+/=?^_`{|}~-]+"
LABEL = "[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?"

USERS = rf"""
CREATE TABLE public.users (
    tenant_id uuid NOT NULL,
    id uuid DEFAULT uuid_v7() NOT NULL,
    email text,
    external_id text,
    full_name text NOT NULL,
    created_at timestamptz DEFAULT clock_timestamp() NOT NULL,
    updated_at timestamptz DEFAULT clock_timestamp() NOT NULL,
    CONSTRAINT pk_users PRIMARY KEY (tenant_id, id),
    CONSTRAINT uq_users_tenant_id_email UNIQUE (tenant_id, email),
    CONSTRAINT uq_users_tenant_id_external_id UNIQUE (tenant_id, external_id),
    CONSTRAINT fk_users_tenants FOREIGN KEY (tenant_id) REFERENCES public.tenants (id) ON DELETE CASCADE,
    CONSTRAINT ck_users_identified CHECK (email IS NOT NULL OR external_id IS NOT NULL),
    CONSTRAINT ck_users_email_valid CHECK (
        email ~ '^{ATOM}(\.{ATOM})*@({LABEL}\.)+{LABEL}$'
        AND char_length(email) <= 254 AND strpos(email, '@') <= 65
    ),
    CONSTRAINT ck_users_external_id_valid CHECK (char_length(external_id) BETWEEN 1 AND 200),
    CONSTRAINT ck_users_full_name_valid CHECK (char_length(full_name) BETWEEN 1 AND 200)
)
"""

PROFILES = """
CREATE TABLE public.user_profiles (
    tenant_id uuid NOT NULL,
    user_id uuid NOT NULL,
    display_name text,
    bio text,
    avatar_url text,
    CONSTRAINT pk_user_profiles PRIMARY KEY (tenant_id, user_id),
    CONSTRAINT fk_user_profiles_users FOREIGN KEY (tenant_id, user_id)
        REFERENCES public.users (tenant_id, id) ON DELETE CASCADE,
    CONSTRAINT ck_user_profiles_display_name_valid CHECK (char_length(display_name) BETWEEN 1 AND 100),
    CONSTRAINT ck_user_profiles_bio_valid CHECK (char_length(bio) BETWEEN 1 AND 2000),
    CONSTRAINT ck_user_profiles_avatar_url_valid CHECK (char_length(avatar_url) BETWEEN 1 AND 2000)
)
"""

SETTINGS = """
CREATE TABLE public.user_settings (
    tenant_id uuid NOT NULL,
    user_id uuid NOT NULL,
    locale text DEFAULT 'en' NOT NULL,
    timezone text DEFAULT 'UTC' NOT NULL,
    preferences jsonb DEFAULT '{}'::jsonb NOT NULL,
    CONSTRAINT pk_user_settings PRIMARY KEY (tenant_id, user_id),
    CONSTRAINT fk_user_settings_users FOREIGN KEY (tenant_id, user_id)
        REFERENCES public.users (tenant_id, id) ON DELETE CASCADE,
    CONSTRAINT ck_user_settings_locale_valid CHECK (char_length(locale) BETWEEN 1 AND 35),
    CONSTRAINT ck_user_settings_timezone_valid CHECK (char_length(timezone) BETWEEN 1 AND 64)
)
"""


def upgrade() -> None:
    for table in (TENANTS, USERS, PROFILES, SETTINGS):
        op.execute(table)
    op.execute(take_back(TABLES))


def downgrade() -> None:
    op.execute(set_aside(TABLES))
