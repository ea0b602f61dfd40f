"""Functions that move, reserve and release stock, each in one round trip.

They run as who calls them, under the policies. Each locks the stock first, in a statement of its own, so that the next
one sees what was committed meanwhile; several products are locked in the order of their ids. A refusal is an outcome,
not an error: the caller's transaction goes on. Each call has a key, and the same call with the same key answers what it
answered before and changes nothing.

Revision ID: 0018
Revises: 0017
"""

from __future__ import annotations

from alembic import op

revision = "0018"
down_revision = "0017"
branch_labels = None
depends_on = None

ROLE = "dataarch_app"

TENANT = """
CREATE FUNCTION public.stock_tenant() RETURNS uuid
LANGUAGE plpgsql STABLE
AS $$
DECLARE
    tenant uuid := nullif(current_setting('dataarch.tenant_id', true), '')::uuid;
BEGIN
    IF tenant IS NULL THEN
        RAISE EXCEPTION 'No tenant is set, so there is no stock to move.'
            USING ERRCODE = 'DA002', HINT = 'Call set_tenant(uuid) in this transaction first.';
    END IF;
    RETURN tenant;
END
$$
"""

# A product without stock has no inventory row to lock; then its own row is, and the look is repeated: whoever had it
# before may have made the inventory row.
LOCKED = """
CREATE FUNCTION public.stock_locked(
    tenant uuid, product uuid, OUT known boolean, OUT quantity bigint, OUT reserved bigint, OUT last_sequence bigint
)
LANGUAGE plpgsql
AS $$
BEGIN
    FOR attempt IN 1..2 LOOP
        SELECT true, i.quantity, i.reserved, i.last_sequence INTO known, quantity, reserved, last_sequence
        FROM public.inventory AS i WHERE i.tenant_id = tenant AND i.product_id = product FOR NO KEY UPDATE;
        IF FOUND THEN
            RETURN;
        END IF;
        quantity := 0;
        reserved := 0;
        last_sequence := 0;
        IF attempt = 1 THEN
            PERFORM FROM public.products AS p WHERE p.tenant_id = tenant AND p.id = product FOR NO KEY UPDATE;
            known := FOUND;
            EXIT WHEN NOT known;
        END IF;
    END LOOP;
    known := coalesce(known, true);
END
$$
"""

EXPIRE = """
CREATE FUNCTION public.stock_expire(tenant uuid, product uuid) RETURNS bigint
LANGUAGE plpgsql
AS $$
DECLARE
    moment timestamptz := clock_timestamp();
    freed bigint;
BEGIN
    -- the caller has locked the stock
    WITH gone AS (
        UPDATE public.inventory_reservations AS r SET state = 'expired', ended_at = moment
        WHERE r.tenant_id = tenant AND r.product_id = product AND r.state = 'held' AND r.expires_at <= moment
        RETURNING r.quantity
    )
    SELECT coalesce(sum(gone.quantity), 0) INTO freed FROM gone;
    IF freed > 0 THEN
        UPDATE public.inventory AS i SET reserved = i.reserved - freed
        WHERE i.tenant_id = tenant AND i.product_id = product;
    END IF;
    RETURN freed;
END
$$
"""

MOVE = """
CREATE FUNCTION public.stock_move(
    key uuid, product uuid, change bigint, reason text, reference text, moved_at timestamptz, reservation uuid,
    OUT outcome text, OUT product_id uuid, OUT sequence bigint, OUT quantity_before bigint, OUT moved bigint,
    OUT occurred_at timestamptz, OUT available bigint, OUT freed bigint
)
LANGUAGE plpgsql
AS $$
#variable_conflict use_column
DECLARE
    tenant uuid := nullif(current_setting('dataarch.tenant_id', true), '')::uuid;
    stock record;
    earlier record;
    from_reserved bigint := 0;
BEGIN
    freed := 0;
    FOR attempt IN 1..5 LOOP
        -- as stock_locked does, which is called where there is no stock yet: most calls are spared a second function
        SELECT true AS known, i.quantity, i.reserved, i.last_sequence INTO stock
        FROM public.inventory AS i WHERE i.tenant_id = tenant AND i.product_id = product FOR NO KEY UPDATE;
        IF NOT FOUND THEN
            SELECT * INTO stock FROM public.stock_locked(public.stock_tenant(), product);
        END IF;
        SELECT m.product_id, m.sequence, m.quantity_before, m.change, m.reason, m.reference, m.occurred_at INTO earlier
        FROM public.inventory_movements AS m WHERE m.tenant_id = tenant AND m.id = key;
        IF FOUND THEN
            IF (earlier.product_id, earlier.change, earlier.reason) = (product, stock_move.change, stock_move.reason)
               AND earlier.reference IS NOT DISTINCT FROM stock_move.reference
               AND earlier.occurred_at = coalesce(moved_at, earlier.occurred_at)
               AND reservation IS NOT DISTINCT FROM (
                   SELECT r.id FROM public.inventory_reservations AS r
                   WHERE r.tenant_id = tenant AND r.product_id = product AND r.shipped_by = key)
            THEN
                outcome := 'repeated';
                product_id := product;
                sequence := earlier.sequence;
                quantity_before := earlier.quantity_before;
                moved := earlier.change;
                occurred_at := earlier.occurred_at;
            ELSE
                outcome := 'key reused';
            END IF;
            RETURN;
        END IF;
        IF EXISTS (SELECT FROM public.inventory_reservations AS r WHERE r.tenant_id = tenant AND r.id = key) THEN
            outcome := 'key reused';
            RETURN;
        ELSIF NOT stock.known THEN
            outcome := 'unknown product';
            RETURN;
        END IF;
        available := stock.quantity - stock.reserved;

        IF reservation IS NOT NULL THEN
            SELECT CASE WHEN r.state = 'held' AND r.expires_at <= clock_timestamp() THEN 'expired' ELSE r.state END,
                   r.quantity
            INTO outcome, from_reserved
            FROM public.inventory_reservations AS r
            WHERE r.tenant_id = tenant AND r.id = reservation
              AND r.product_id = product AND r.quantity = -stock_move.change;
            IF outcome = 'expired' THEN
                freed := freed + public.stock_expire(tenant, product);
            END IF;
            IF outcome IS DISTINCT FROM 'held' THEN
                outcome := coalesce(outcome, 'unknown reservation');
                RETURN;
            END IF;
        ELSIF stock_move.change < 0 AND available + stock_move.change < 0 THEN
            available := available + public.stock_expire(tenant, product);
            freed := freed + available - stock.quantity + stock.reserved;
            IF available + stock_move.change < 0 THEN
                outcome := 'insufficient';
                RETURN;
            END IF;
        ELSIF stock_move.change > 9223372036854775807 - stock.quantity THEN
            outcome := 'too much';
            available := stock.quantity;
            RETURN;
        END IF;

        product_id := product;
        sequence := stock.last_sequence + 1;
        quantity_before := stock.quantity;
        moved := stock_move.change;
        occurred_at := coalesce(moved_at, clock_timestamp());
        INSERT INTO public.inventory_movements
            (tenant_id, product_id, sequence, id, quantity_before, change, quantity_after, reason, reference,
             occurred_at)
        VALUES (tenant, stock_move.product, stock_move.sequence, stock_move.key, stock.quantity, stock_move.change,
                stock.quantity + stock_move.change, stock_move.reason, stock_move.reference, stock_move.occurred_at)
        ON CONFLICT DO NOTHING;
        EXIT WHEN FOUND;
        -- the key came meanwhile with another product, or a first movement from who does not lock: look again
        IF attempt = 5 THEN
            RAISE EXCEPTION 'Movements of product % are written without its lock.', product
                USING ERRCODE = 'serialization_failure';
        END IF;
    END LOOP;

    IF stock.last_sequence = 0 THEN
        INSERT INTO public.inventory (tenant_id, product_id, quantity, last_sequence)
        VALUES (tenant, stock_move.product, stock_move.change, 1);
    ELSE
        UPDATE public.inventory_movements AS m SET next_sequence = stock_move.sequence
        WHERE m.tenant_id = tenant AND m.product_id = stock_move.product AND m.sequence = stock.last_sequence;
        UPDATE public.inventory AS i
        SET quantity = stock.quantity + stock_move.change, last_sequence = stock_move.sequence,
            reserved = i.reserved - from_reserved
        WHERE i.tenant_id = tenant AND i.product_id = stock_move.product;
    END IF;
    IF reservation IS NOT NULL THEN
        UPDATE public.inventory_reservations AS r
        SET state = 'shipped', ended_at = clock_timestamp(), shipped_by = stock_move.key
        WHERE r.tenant_id = tenant AND r.id = reservation;
    END IF;
    outcome := 'done';
END
$$
"""

SHIP_RESERVED = """
CREATE FUNCTION public.stock_ship_reserved(
    key uuid, reservation uuid, reference text, moved_at timestamptz,
    OUT outcome text, OUT product_id uuid, OUT sequence bigint, OUT quantity_before bigint, OUT moved bigint,
    OUT occurred_at timestamptz, OUT available bigint, OUT freed bigint
)
LANGUAGE plpgsql
AS $$
#variable_conflict use_column
DECLARE
    tenant uuid := public.stock_tenant();
    held record;
BEGIN
    -- product and quantity never change; the state is looked at under the lock of the stock
    SELECT r.product_id, r.quantity INTO held
    FROM public.inventory_reservations AS r WHERE r.tenant_id = tenant AND r.id = reservation;
    IF NOT FOUND THEN
        outcome := 'unknown reservation';
        RETURN;
    END IF;
    SELECT m.* INTO outcome, product_id, sequence, quantity_before, moved, occurred_at, available, freed
    FROM public.stock_move(key, held.product_id, -held.quantity, 'sale', stock_ship_reserved.reference, moved_at,
                           reservation) AS m;
END
$$
"""

RESERVE = """
CREATE FUNCTION public.stock_reserve(
    key uuid, product uuid, wanted bigint, until timestamptz,
    OUT outcome text, OUT state text, OUT created_at timestamptz, OUT ended_at timestamptz, OUT available bigint,
    OUT freed bigint
)
LANGUAGE plpgsql
AS $$
#variable_conflict use_column
DECLARE
    tenant uuid := public.stock_tenant();
    moment timestamptz;
    stock record;
    earlier record;
BEGIN
    freed := 0;
    SELECT * INTO stock FROM public.stock_locked(tenant, product);
    moment := clock_timestamp();
    SELECT r.product_id, r.quantity, r.expires_at, r.state, r.created_at, r.ended_at INTO earlier
    FROM public.inventory_reservations AS r WHERE r.tenant_id = tenant AND r.id = key;
    IF FOUND THEN
        IF (earlier.product_id, earlier.quantity, earlier.expires_at) = (product, wanted, until) THEN
            outcome := 'repeated';
            state := earlier.state;
            created_at := earlier.created_at;
            ended_at := earlier.ended_at;
        ELSE
            outcome := 'key reused';
        END IF;
        RETURN;
    ELSIF EXISTS (SELECT FROM public.inventory_movements AS m WHERE m.tenant_id = tenant AND m.id = key) THEN
        outcome := 'key reused';
        RETURN;
    ELSIF NOT stock.known THEN
        outcome := 'unknown product';
        RETURN;
    ELSIF until <= moment THEN
        outcome := 'past';
        RETURN;
    END IF;
    available := stock.quantity - stock.reserved;
    IF available < wanted THEN
        freed := public.stock_expire(tenant, product);
        available := available + freed;
        IF available < wanted THEN
            outcome := 'insufficient';
            RETURN;
        END IF;
    END IF;
    state := 'held';
    created_at := moment;
    INSERT INTO public.inventory_reservations (tenant_id, id, product_id, quantity, expires_at, created_at)
    VALUES (tenant, stock_reserve.key, stock_reserve.product, wanted, until, moment)
    ON CONFLICT (tenant_id, id) DO NOTHING;
    IF NOT FOUND THEN
        -- it came meanwhile with another product
        outcome := 'key reused';
        RETURN;
    END IF;
    UPDATE public.inventory AS i SET reserved = i.reserved + wanted
    WHERE i.tenant_id = tenant AND i.product_id = stock_reserve.product;
    outcome := 'done';
END
$$
"""

RELEASE = """
CREATE FUNCTION public.stock_release(
    reservation uuid,
    OUT outcome text, OUT product_id uuid, OUT quantity bigint, OUT expires_at timestamptz, OUT state text,
    OUT created_at timestamptz, OUT ended_at timestamptz
)
LANGUAGE plpgsql
AS $$
#variable_conflict use_column
DECLARE
    tenant uuid := public.stock_tenant();
BEGIN
    SELECT r.product_id INTO product_id
    FROM public.inventory_reservations AS r WHERE r.tenant_id = tenant AND r.id = reservation;
    IF NOT FOUND THEN
        outcome := 'unknown reservation';
        RETURN;
    END IF;
    PERFORM public.stock_locked(tenant, stock_release.product_id);
    SELECT r.quantity, r.expires_at, r.state, r.created_at, r.ended_at
    INTO quantity, expires_at, state, created_at, ended_at
    FROM public.inventory_reservations AS r WHERE r.tenant_id = tenant AND r.id = reservation;
    outcome := CASE state WHEN 'held' THEN 'done' WHEN 'shipped' THEN 'shipped' ELSE 'repeated' END;
    IF outcome = 'done' THEN
        ended_at := clock_timestamp();
        state := CASE WHEN expires_at <= ended_at THEN 'expired' ELSE 'released' END;
        UPDATE public.inventory_reservations AS r
        SET state = stock_release.state, ended_at = stock_release.ended_at
        WHERE r.tenant_id = tenant AND r.id = reservation;
        UPDATE public.inventory AS i SET reserved = i.reserved - stock_release.quantity
        WHERE i.tenant_id = tenant AND i.product_id = stock_release.product_id;
    END IF;
END
$$
"""

MOVE_MANY = """
CREATE FUNCTION public.stock_move_many(moves json)
RETURNS TABLE (
    outcome text, product_id uuid, sequence bigint, quantity_before bigint, moved bigint, occurred_at timestamptz,
    available bigint, freed bigint, place bigint
)
LANGUAGE plpgsql
AS $$
#variable_conflict use_column
DECLARE
    tenant uuid := public.stock_tenant();
    each record;
    made record;
    outcomes text[] := '{}';
    keys uuid[] := '{}';
    freed_in_all bigint := 0;
BEGIN
    FOR each IN
        SELECT DISTINCT (m.move ->> 'product_id')::uuid AS product FROM json_array_elements(moves) AS m (move)
        ORDER BY product
    LOOP
        PERFORM public.stock_locked(tenant, each.product);
    END LOOP;
    BEGIN
        FOR each IN
            SELECT m.place, (m.move ->> 'key')::uuid AS key, (m.move ->> 'product_id')::uuid AS product,
                   (m.move ->> 'change')::bigint AS change, m.move ->> 'reason' AS reason,
                   m.move ->> 'reference' AS reference, (m.move ->> 'occurred_at')::timestamptz AS moved_at
            FROM json_array_elements(moves) WITH ORDINALITY AS m (move, place) ORDER BY m.place
        LOOP
            SELECT * INTO made FROM public.stock_move(each.key, each.product, each.change, each.reason,
                                                      each.reference, each.moved_at, NULL);
            freed_in_all := freed_in_all + made.freed;
            IF made.outcome NOT IN ('done', 'repeated') THEN
                RAISE EXCEPTION 'This movement is refused, and with it those before.' USING ERRCODE = 'DA010';
            END IF;
            outcomes := outcomes || made.outcome;
            keys := keys || each.key;
        END LOOP;
    EXCEPTION
        -- all of the block is undone, and the caller's transaction goes on
        WHEN SQLSTATE 'DA010' THEN
            outcome := made.outcome;
            product_id := each.product;
            available := made.available;
            freed := 0;
            place := each.place;
            RETURN NEXT;
            RETURN;
    END;
    RETURN QUERY
        SELECT outcomes[k.place], m.product_id, m.sequence, m.quantity_before, m.change, m.occurred_at,
               NULL::bigint, freed_in_all, k.place
        FROM unnest(keys) WITH ORDINALITY AS k (id, place)
        JOIN public.inventory_movements AS m ON m.tenant_id = tenant AND m.id = k.id
        ORDER BY k.place;
END
$$
"""

# What somebody works with is left to him: nobody is waited for, so that no other lock can be in the way.
RELEASE_EXPIRED = """
CREATE FUNCTION public.stock_release_expired(most bigint) RETURNS bigint
LANGUAGE plpgsql
AS $$
DECLARE
    tenant uuid := public.stock_tenant();
    moment timestamptz := clock_timestamp();
    due uuid[];
    products uuid[];
    released bigint;
BEGIN
    SELECT array_agg(d.id), array_agg(d.product_id) INTO due, products
    FROM (
        SELECT r.id, r.product_id FROM public.inventory_reservations AS r
        WHERE r.tenant_id = tenant AND r.state = 'held' AND r.expires_at <= moment
        ORDER BY r.expires_at LIMIT most
    ) AS d;
    SELECT array_agg(l.product_id) INTO products
    FROM (
        SELECT i.product_id FROM public.inventory AS i
        WHERE i.tenant_id = tenant AND i.product_id = ANY(products)
        ORDER BY i.product_id FOR NO KEY UPDATE SKIP LOCKED
    ) AS l;
    WITH gone AS (
        UPDATE public.inventory_reservations AS r SET state = 'expired', ended_at = moment
        WHERE r.tenant_id = tenant AND r.id = ANY(due) AND r.product_id = ANY(products) AND r.state = 'held'
        RETURNING r.product_id, r.quantity
    ), freed AS (
        UPDATE public.inventory AS i SET reserved = i.reserved - g.quantity
        FROM (SELECT gone.product_id, sum(gone.quantity) AS quantity FROM gone GROUP BY gone.product_id) AS g
        WHERE i.tenant_id = tenant AND i.product_id = g.product_id
    )
    SELECT count(*) INTO released FROM gone;
    RETURN released;
END
$$
"""

FUNCTIONS = {
    "stock_tenant()": TENANT,
    "stock_locked(uuid, uuid)": LOCKED,
    "stock_expire(uuid, uuid)": EXPIRE,
    "stock_move(uuid, uuid, bigint, text, text, timestamptz, uuid)": MOVE,
    "stock_ship_reserved(uuid, uuid, text, timestamptz)": SHIP_RESERVED,
    "stock_reserve(uuid, uuid, bigint, timestamptz)": RESERVE,
    "stock_release(uuid)": RELEASE,
    "stock_move_many(json)": MOVE_MANY,
    "stock_release_expired(bigint)": RELEASE_EXPIRED,
}


def upgrade() -> None:
    for signature, function in FUNCTIONS.items():
        op.execute(function)
        op.execute(f"REVOKE ALL ON FUNCTION public.{signature} FROM PUBLIC")
        op.execute(f"GRANT EXECUTE ON FUNCTION public.{signature} TO {ROLE}")


def downgrade() -> None:
    for signature in reversed(FUNCTIONS):
        op.execute(f"DROP FUNCTION public.{signature}")
