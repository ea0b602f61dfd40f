"""Products.

Revision ID: 0007
Revises: 0006
"""

from __future__ import annotations

from alembic import op

from dataarch.rollout.set_aside import set_aside, take_back

revision = "0007"
down_revision = "0006"
branch_labels = None
depends_on = None

TABLES = ("products",)

PRODUCTS = """
CREATE TABLE public.products (
    tenant_id uuid NOT NULL,
    id uuid DEFAULT uuid_v7() NOT NULL,
    slug text NOT NULL,
    external_id text,
    name text NOT NULL,
    price bigint NOT NULL,
    currency text NOT NULL,
    created_at timestamptz DEFAULT clock_timestamp() NOT NULL,
    updated_at timestamptz DEFAULT clock_timestamp() NOT NULL,
    CONSTRAINT pk_products PRIMARY KEY (tenant_id, id),
    CONSTRAINT uq_products_tenant_id_slug UNIQUE (tenant_id, slug),
    CONSTRAINT uq_products_tenant_id_external_id UNIQUE (tenant_id, external_id),
    CONSTRAINT fk_products_tenants FOREIGN KEY (tenant_id) REFERENCES public.tenants (id) ON DELETE CASCADE,
    CONSTRAINT ck_products_slug_valid CHECK (slug ~ '^[a-z0-9]+(-[a-z0-9]+)*$' AND char_length(slug) <= 63),
    CONSTRAINT ck_products_external_id_valid CHECK (char_length(external_id) BETWEEN 1 AND 200),
    CONSTRAINT ck_products_name_valid CHECK (char_length(name) BETWEEN 1 AND 500),
    CONSTRAINT ck_products_price_valid CHECK (price >= 0),
    CONSTRAINT ck_products_currency_valid CHECK (currency ~ '^[A-Z]{3}$')
)
"""


def upgrade() -> None:
    op.execute(PRODUCTS)
    op.execute(take_back(TABLES))


def downgrade() -> None:
    op.execute(set_aside(TABLES))
