"""Reservations of stock: what a product has promised stands in its inventory row, within what is on hand.

Nobody can reserve or take too much, whoever writes. A reservation is held until it is shipped, released or expired.
Stock may move from one product to another, for the reason transfer.

Revision ID: 0017
Revises: 0016
"""

from __future__ import annotations

from alembic import op

from dataarch.rollout.set_aside import set_aside, take_back

revision = "0017"
down_revision = "0016"
branch_labels = None
depends_on = None

ROLE = "dataarch_app"

TABLES = ("inventory_reservations",)

# dataarch: allow constraint-missing-not-valid: published before the rule; each check reads the inventory once
# dataarch: allow ban-drop-constraint: the wider rule takes its place in the same statement
# of a quantity below 0 the other rule tells
RESERVED = """
ALTER TABLE public.inventory
    ADD COLUMN reserved bigint DEFAULT 0 NOT NULL,
    ADD CONSTRAINT ck_inventory_reserved_within_quantity CHECK (reserved BETWEEN 0 AND greatest(quantity, 0))
"""

RESERVATIONS = """
CREATE TABLE public.inventory_reservations (
    tenant_id uuid NOT NULL,
    id uuid DEFAULT uuid_v7() NOT NULL,
    product_id uuid NOT NULL,
    quantity bigint NOT NULL,
    state text DEFAULT 'held' NOT NULL,
    expires_at timestamptz NOT NULL,
    created_at timestamptz DEFAULT clock_timestamp() NOT NULL,
    ended_at timestamptz,
    shipped_by uuid,
    CONSTRAINT pk_inventory_reservations PRIMARY KEY (tenant_id, id),
    CONSTRAINT fk_inventory_reservations_inventory FOREIGN KEY (tenant_id, product_id)
        REFERENCES public.inventory (tenant_id, product_id) ON DELETE CASCADE,
    CONSTRAINT ck_inventory_reservations_quantity_positive CHECK (quantity > 0),
    CONSTRAINT ck_inventory_reservations_expires_after_creation CHECK (expires_at > created_at),
    CONSTRAINT ck_inventory_reservations_ended_unless_held CHECK ((state = 'held') = (ended_at IS NULL)),
    CONSTRAINT ck_inventory_reservations_shipped_by_movement CHECK ((state = 'shipped') = (shipped_by IS NOT NULL)),
    CONSTRAINT ck_inventory_reservations_state_valid CHECK (state IN ('held', 'shipped', 'released', 'expired'))
)
"""

# what a product has held, and what of it has expired; an ended reservation leaves it
HELD = """
CREATE INDEX ix_inventory_reservations_held
    ON public.inventory_reservations (tenant_id, product_id, expires_at) WHERE state = 'held'
"""
EXPIRING = """
CREATE INDEX ix_inventory_reservations_expiring
    ON public.inventory_reservations (tenant_id, expires_at) WHERE state = 'held'
"""

REASONS = "ck_inventory_movements_reason_valid"
WITH_TRANSFER = f"""
ALTER TABLE public.inventory_movements DROP CONSTRAINT {REASONS},
    ADD CONSTRAINT {REASONS} CHECK (reason IN ('receipt', 'sale', 'return', 'adjustment', 'transfer'))
"""

# Where a movement has the word, the wider rule stays: a narrower one would refuse to tell it its successor's number.
WITHOUT_TRANSFER = f"""
DO $$
BEGIN
    LOCK TABLE public.inventory_movements IN ACCESS EXCLUSIVE MODE;
    IF NOT EXISTS (SELECT FROM public.inventory_movements WHERE reason = 'transfer') THEN
        ALTER TABLE public.inventory_movements DROP CONSTRAINT {REASONS},
            ADD CONSTRAINT {REASONS} CHECK (reason IN ('receipt', 'sale', 'return', 'adjustment'));
    END IF;
END
$$
"""

# dataarch: allow backfill-in-schema-revision: writes only rows that a downgrade has set aside, and what they reserve
# The second half of taking reservations back. What was sold while they were away is gone: the oldest keep what is left.
RESERVE_AGAIN = """
DO $$
BEGIN
    UPDATE public.inventory_reservations AS r SET state = 'released', ended_at = clock_timestamp()
    FROM (
        SELECT tenant_id, product_id, id,
               sum(quantity) OVER (PARTITION BY tenant_id, product_id ORDER BY created_at, id) AS with_older
        FROM public.inventory_reservations WHERE state = 'held'
    ) AS h JOIN public.inventory AS i ON i.tenant_id = h.tenant_id AND i.product_id = h.product_id
    WHERE r.tenant_id = h.tenant_id AND r.id = h.id AND h.with_older > i.quantity;
    UPDATE public.inventory AS i SET reserved = h.held
    FROM (
        SELECT tenant_id, product_id, sum(quantity) AS held
        FROM public.inventory_reservations WHERE state = 'held' GROUP BY tenant_id, product_id
    ) AS h
    WHERE i.tenant_id = h.tenant_id AND i.product_id = h.product_id;
END
$$
"""

# after a commit the setting is '', not NULL
RULE = "tenant_id = nullif(current_setting('dataarch.tenant_id', true), '')::uuid"


def upgrade() -> None:
    op.execute(RESERVED)
    op.execute(WITH_TRANSFER)
    for statement in (RESERVATIONS, HELD, EXPIRING):
        op.execute(statement)
    op.execute(take_back(TABLES))
    op.execute(RESERVE_AGAIN)
    op.execute(f"CREATE POLICY tenant_isolation ON public.inventory_reservations USING ({RULE}) WITH CHECK ({RULE})")
    op.execute("ALTER TABLE public.inventory_reservations ENABLE ROW LEVEL SECURITY")
    # default privileges may have granted more than is meant
    op.execute(f"REVOKE ALL ON public.inventory_reservations FROM PUBLIC, {ROLE}")
    op.execute(f"GRANT SELECT, INSERT, UPDATE (state, ended_at, shipped_by) ON public.inventory_reservations TO {ROLE}")


def downgrade() -> None:
    op.execute(f"REVOKE ALL ON public.inventory_reservations FROM {ROLE}")
    op.execute("ALTER TABLE public.inventory_reservations DISABLE ROW LEVEL SECURITY")
    op.execute("DROP POLICY tenant_isolation ON public.inventory_reservations")
    op.execute(set_aside(TABLES))
    op.execute(WITHOUT_TRANSFER)
    op.execute("ALTER TABLE public.inventory DROP COLUMN reserved")
