"""Inventory and its ledger of movements, kept true by constraints alone.

Each movement refers to its predecessor's quantity after, each predecessor names its successor, and the inventory row
refers to the one movement that has none: the quantity on hand is always the sum of all changes. The foreign keys are
checked at commit, because the rows of one movement refer to each other.

Revision ID: 0008
Revises: 0007
"""

from __future__ import annotations

from alembic import op

from dataarch.rollout.set_aside import set_aside, take_back

revision = "0008"
down_revision = "0007"
branch_labels = None
depends_on = None

TABLES = ("inventory", "inventory_movements")

INVENTORY = """
CREATE TABLE public.inventory (
    tenant_id uuid NOT NULL,
    product_id uuid NOT NULL,
    quantity bigint NOT NULL,
    last_sequence bigint NOT NULL,
    next_sequence bigint GENERATED ALWAYS AS (0) STORED NOT NULL,
    CONSTRAINT pk_inventory PRIMARY KEY (tenant_id, product_id),
    CONSTRAINT fk_inventory_products FOREIGN KEY (tenant_id, product_id)
        REFERENCES public.products (tenant_id, id) ON DELETE CASCADE,
    CONSTRAINT ck_inventory_quantity_not_negative CHECK (quantity >= 0)
)
"""

MOVEMENTS = """
CREATE TABLE public.inventory_movements (
    tenant_id uuid NOT NULL,
    product_id uuid NOT NULL,
    sequence bigint NOT NULL,
    previous_sequence bigint GENERATED ALWAYS AS (nullif(sequence - 1, 0)) STORED,
    next_sequence bigint DEFAULT 0 NOT NULL,
    id uuid DEFAULT uuid_v7() NOT NULL,
    quantity_before bigint NOT NULL,
    change bigint NOT NULL,
    quantity_after bigint NOT NULL,
    reason text NOT NULL,
    reference text,
    occurred_at timestamptz DEFAULT clock_timestamp() NOT NULL,
    created_at timestamptz DEFAULT clock_timestamp() NOT NULL,
    CONSTRAINT pk_inventory_movements PRIMARY KEY (tenant_id, product_id, sequence),
    CONSTRAINT uq_inventory_movements_tenant_id_id UNIQUE (tenant_id, id),
    CONSTRAINT uq_inventory_movements_ledger_entry
        UNIQUE (tenant_id, product_id, sequence, quantity_after, next_sequence),
    CONSTRAINT fk_inventory_movements_inventory FOREIGN KEY (tenant_id, product_id)
        REFERENCES public.inventory (tenant_id, product_id) ON DELETE CASCADE DEFERRABLE INITIALLY DEFERRED,
    CONSTRAINT fk_inventory_movements_previous
        FOREIGN KEY (tenant_id, product_id, previous_sequence, quantity_before, sequence)
        REFERENCES public.inventory_movements (tenant_id, product_id, sequence, quantity_after, next_sequence)
        DEFERRABLE INITIALLY DEFERRED,
    CONSTRAINT ck_inventory_movements_adds_up CHECK (quantity_after = quantity_before + change),
    CONSTRAINT ck_inventory_movements_quantity_after_not_negative CHECK (quantity_after >= 0),
    CONSTRAINT ck_inventory_movements_starts_from_nothing
        CHECK (sequence > 1 OR (sequence = 1 AND quantity_before = 0)),
    CONSTRAINT ck_inventory_movements_changes_something CHECK (change <> 0),
    CONSTRAINT ck_inventory_movements_reason_fits_change
        CHECK ((reason <> 'sale' OR change < 0) AND (reason NOT IN ('receipt', 'return') OR change > 0)),
    CONSTRAINT ck_inventory_movements_reason_valid CHECK (reason IN ('receipt', 'sale', 'return', 'adjustment')),
    CONSTRAINT ck_inventory_movements_reference_valid CHECK (char_length(reference) BETWEEN 1 AND 200)
)
"""

LAST_MOVEMENT = """
ALTER TABLE public.inventory ADD CONSTRAINT fk_inventory_last_movement
    FOREIGN KEY (tenant_id, product_id, last_sequence, quantity, next_sequence)
    REFERENCES public.inventory_movements (tenant_id, product_id, sequence, quantity_after, next_sequence)
    DEFERRABLE INITIALLY DEFERRED
"""


def upgrade() -> None:
    for statement in (INVENTORY, MOVEMENTS, LAST_MOVEMENT):
        op.execute(statement)
    op.execute(take_back(TABLES))


def downgrade() -> None:
    op.execute(set_aside(TABLES))
