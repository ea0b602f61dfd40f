"""The SQL of the loader: an activity and a movement for each line that is on the stage, all lines at once.

Stock of a product is worked out for all of its lines in the order of their times. With ``total`` the sum of the changes
up to a line, and ``on_hand`` what was there before, the receipts up to a day are what keeps the lowest point until then
from falling below nothing: ``received = greatest(0, -(on_hand + least total until the end of the day))``. The day's
receipt is what that is more than the day before, and is booked before the day's first line.
"""

from __future__ import annotations

from sqlalchemy import Column, Integer, MetaData, Table, Uuid

from dataarch.models.types import Text, UtcDateTime

__all__ = [
    "ADD_ACTIVITY",
    "ADD_NEW_ACTIVITY",
    "ANY_THERE",
    "HOLD_STOCK",
    "LINES",
    "MAKE_STAGE",
    "MOVE_STOCK",
    "ONE_FEED_A_TENANT",
    "RECEIPT",
    "STAGE",
]

RECEIPT = "feed: needed by the day's orders"
"""How a receipt of the feed is marked, in ``reference``."""

LINES = Table(
    "dataarch_retail_lines",
    MetaData(),
    Column("id", Uuid(), nullable=False),
    Column("user_id", Uuid(), nullable=False),
    Column("product_id", Uuid(), nullable=False),
    Column("at", UtcDateTime(), nullable=False),
    Column("quantity", Integer(), nullable=False),
    Column("invoice", Text(100), nullable=False),
    Column("stock_code", Text(100), nullable=False),
    Column("price", Text(30), nullable=False),
)
"""The stage; what its rows begin with is their place among the lines."""

STAGE = f"pg_temp.{LINES.name}"

RECEIPT_ID = "encode(set_byte(uuid_send(id), 15, 255 - get_byte(uuid_send(id), 15)), 'hex')::uuid"
"""A receipt's id follows from that of the line before which it is booked: its last byte is the other way round."""

ONE_FEED_A_TENANT = "SELECT pg_advisory_xact_lock(hashtextextended('dataarch.feed.' || %s::text, 0))"

MAKE_STAGE = f"""
CREATE TEMP TABLE {LINES.name} (
    position bigint, id uuid, user_id uuid, product_id uuid, at timestamptz, quantity int, invoice varchar(100),
    stock_code varchar(100), price varchar(30)
) ON COMMIT DROP
"""

ANY_THERE = """
SELECT EXISTS (SELECT FROM user_activity_log
               WHERE tenant_id = %s AND id BETWEEN %s AND %s AND created_at BETWEEN %s AND %s)
"""
"""Whether activity lies among ids and times: those of lines go up together."""

ADD_ACTIVITY = f"""
INSERT INTO user_activity_log (tenant_id, id, user_id, activity_type, metadata, created_at)
SELECT %s, id, user_id, CASE WHEN quantity > 0 THEN 'purchase' ELSE 'return' END,
       jsonb_build_object('invoice', invoice, 'product', product_id, 'stock_code', stock_code,
                          'quantity', quantity, 'unit_price', price),
       at
FROM {STAGE}
"""

ADD_NEW_ACTIVITY = f"""
WITH new AS ({ADD_ACTIVITY} ON CONFLICT (tenant_id, id, created_at) DO NOTHING RETURNING id)
DELETE FROM {STAGE} AS line WHERE NOT EXISTS (SELECT FROM new WHERE new.id = line.id) RETURNING position
"""
"""Returns the places of the lines that were there already, and takes them off the stage."""

HOLD_STOCK = f"""
SELECT count(*) FROM (
    SELECT FROM inventory WHERE tenant_id = %s AND product_id IN (SELECT product_id FROM {STAGE})
    ORDER BY product_id FOR UPDATE
) AS held
"""

MOVE_STOCK = f"""
WITH line AS (
    SELECT product_id, line.id, invoice, at, -line.quantity AS change,
           (at AT TIME ZONE 'UTC')::date AS day,
           coalesce(stock.quantity, 0) AS on_hand, coalesce(stock.last_sequence, 0) AS before,
           row_number() OVER in_order AS place,
           count(*) OVER (PARTITION BY product_id) AS places,
           sum(-line.quantity) OVER in_order AS total
    FROM {STAGE} AS line LEFT JOIN (SELECT * FROM inventory WHERE tenant_id = %s) AS stock USING (product_id)
    WINDOW in_order AS (PARTITION BY product_id ORDER BY at, position ROWS UNBOUNDED PRECEDING)
), needed AS (
    SELECT *, greatest(0, -(on_hand + min(total) OVER (PARTITION BY product_id ORDER BY day))) AS received FROM line
), booked AS (
    SELECT *, received - lag(received, 1, 0::bigint) OVER (PARTITION BY product_id ORDER BY place) AS receipt
    FROM needed
), numbered AS (
    SELECT *, before + place + count(*) FILTER (WHERE receipt > 0) OVER (PARTITION BY product_id ORDER BY place)
              AS sequence,
           on_hand + received + total - change AS quantity
    FROM booked
), successor AS (
    UPDATE inventory_movements AS movement SET next_sequence = movement.sequence + 1
    FROM numbered
    WHERE place = 1 AND before > 0 AND movement.tenant_id = %s AND movement.product_id = numbered.product_id
      AND movement.sequence = before
), stock AS (
    INSERT INTO inventory (tenant_id, product_id, quantity, last_sequence)
    SELECT %s, product_id, quantity + change, sequence FROM numbered WHERE place = places
    ON CONFLICT (tenant_id, product_id) DO UPDATE
    SET quantity = EXCLUDED.quantity, last_sequence = EXCLUDED.last_sequence
)
INSERT INTO inventory_movements (tenant_id, product_id, sequence, next_sequence, id, quantity_before, change,
                                 quantity_after, reason, reference, occurred_at)
SELECT %s, product_id, sequence, CASE WHEN place = places THEN 0 ELSE sequence + 1 END, id, quantity, change,
       quantity + change, CASE WHEN change < 0 THEN 'sale' ELSE 'return' END, invoice, at
FROM numbered
UNION ALL
SELECT %s, product_id, sequence - 1, sequence, {RECEIPT_ID}, quantity - receipt, receipt, quantity, 'receipt',
       '{RECEIPT.replace("'", "''")}', at
FROM numbered WHERE receipt > 0
"""
