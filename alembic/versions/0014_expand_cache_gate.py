"""The gate of the cache: by its rows all processes agree on whether anybody may read what is remembered.

A writer that cannot reach the cache closes the gate here, in the database that it writes to, and commits when every
reader must have noticed. The states follow each other: closed, opening (writers announce their changes to the new
epoch, nobody reads yet), open. It opens when all transactions have ended that may have been written without an
announcement. A kind of value that is made from single rows is declared here, so that writers of these rows know of it,
and is used when the same has happened since. No row is a tenant's or holds anybody's data, so a downgrade drops them:
the next upgrade begins closed.

Revision ID: 0014
Revises: 0013
"""

from __future__ import annotations

from alembic import op

revision = "0014"
down_revision = "0013"
branch_labels = None
depends_on = None

ROLE = "dataarch_app"

GATE = """
CREATE TABLE dataarch_cache.gate (
    name text DEFAULT 'cache' NOT NULL,
    state text DEFAULT 'closed' NOT NULL,
    epoch text DEFAULT '' NOT NULL,
    server text DEFAULT '' NOT NULL,
    horizon int8,
    lease_ms int8 DEFAULT 2000 NOT NULL,
    seen_at timestamptz,
    CONSTRAINT pk_gate PRIMARY KEY (name),
    CONSTRAINT ck_gate_one_row CHECK (name = 'cache'),
    CONSTRAINT ck_gate_state_known CHECK (state IN ('closed', 'opening', 'open')),
    CONSTRAINT ck_gate_lease_sensible CHECK (lease_ms BETWEEN 10 AND 60000)
)
"""

KINDS = """
CREATE TABLE dataarch_cache.kinds (
    declaration text NOT NULL,
    used_at timestamptz DEFAULT clock_timestamp() NOT NULL,
    seen_at timestamptz,
    horizon int8,
    usable boolean DEFAULT false NOT NULL,
    CONSTRAINT pk_kinds PRIMARY KEY (declaration)
)
"""

# The ages are reckoned here, so that no two machines have to agree on the time: from when a state was first seen by a
# later transaction, because the commit that brings it may take its time, and who looks meanwhile sees the one before.
# They end at the caller's statement, because the snapshots of its transactions may be as old as that. A horizon is the
# id of a transaction: those that had begun to write before have smaller ones. The end of a snapshot would not do, it
# comes after those that are over. Whoever comes second leaves all steps to the first, who has the row of the gate.
LOOK = """
CREATE FUNCTION public.cache_gate(
    INOUT server text, declarations text[] DEFAULT '{}', OUT state text, OUT epoch text, OUT lease_ms int8,
    OUT age_ms float8, OUT declared text[], OUT usable text[]
)
LANGUAGE plpgsql SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    gate dataarch_cache.gate;
    answers text := server; -- the server of the cache that answers the caller; NULL where none does
    lease interval;
    over bool;
BEGIN
    IF pg_is_in_recovery() THEN
        RAISE read_only_sql_transaction USING MESSAGE = 'a standby knows neither the gate nor the newest rows';
    END IF;
    SELECT * INTO gate FROM dataarch_cache.gate;
    IF NOT FOUND THEN
        INSERT INTO dataarch_cache.gate DEFAULT VALUES ON CONFLICT DO NOTHING;
        SELECT * INTO gate FROM dataarch_cache.gate;
    ELSIF gate.seen_at IS NULL OR answers IS NOT NULL AND (gate.state <> 'open' OR gate.server <> answers)
          OR EXISTS (SELECT FROM dataarch_cache.kinds AS k
                     WHERE NOT k.usable OR k.used_at < clock_timestamp() - interval '1 day') THEN
        SELECT * INTO gate FROM dataarch_cache.gate FOR UPDATE SKIP LOCKED;
        IF FOUND THEN
            lease := gate.lease_ms * interval '1 ms';
            over := coalesce(statement_timestamp() - gate.seen_at >= lease, false);
            IF gate.state <> 'closed' AND gate.server <> answers THEN
                UPDATE dataarch_cache.gate SET state = 'closed', horizon = NULL, seen_at = NULL
                RETURNING * INTO gate;
            ELSIF gate.seen_at IS NULL THEN
                UPDATE dataarch_cache.gate SET seen_at = clock_timestamp()
                RETURNING * INTO gate;
            ELSIF gate.state = 'closed' AND over AND answers IS NOT NULL THEN
                UPDATE dataarch_cache.gate
                SET state = 'opening', epoch = replace(gen_random_uuid()::text, '-', ''), server = answers,
                    horizon = NULL, seen_at = NULL
                RETURNING * INTO gate;
            ELSIF gate.state = 'opening' AND over AND answers IS NOT NULL THEN
                IF gate.horizon IS NULL THEN
                    -- from now on every writer announces; those before may still have to commit
                    UPDATE dataarch_cache.gate SET horizon = pg_current_xact_id()::text::int8
                    RETURNING * INTO gate;
                ELSIF pg_snapshot_xmin(pg_current_snapshot())::text::int8 >= gate.horizon THEN
                    UPDATE dataarch_cache.gate SET state = 'open', seen_at = NULL
                    RETURNING * INTO gate;
                END IF;
            END IF;

            UPDATE dataarch_cache.kinds AS k SET usable = true
            WHERE NOT k.usable AND k.horizon <= pg_snapshot_xmin(pg_current_snapshot())::text::int8;
            UPDATE dataarch_cache.kinds AS k SET horizon = pg_current_xact_id()::text::int8
            WHERE k.horizon IS NULL AND statement_timestamp() - k.seen_at >= lease;
            UPDATE dataarch_cache.kinds AS k SET seen_at = clock_timestamp() WHERE k.seen_at IS NULL;
            UPDATE dataarch_cache.kinds AS k SET used_at = clock_timestamp()
            WHERE k.declaration = ANY(declarations) AND k.used_at < clock_timestamp() - interval '1 day';
            -- nothing is remembered for longer than 7 days
            DELETE FROM dataarch_cache.kinds AS k WHERE k.used_at < clock_timestamp() - interval '15 days';
        ELSE
            SELECT * INTO gate FROM dataarch_cache.gate;
        END IF;
    END IF;

    -- last, so that a kind is seen by a later transaction
    INSERT INTO dataarch_cache.kinds (declaration)
    SELECT given FROM unnest(declarations) AS given
    WHERE NOT EXISTS (SELECT FROM dataarch_cache.kinds AS k WHERE k.declaration = given)
    ORDER BY given ON CONFLICT DO NOTHING;

    SELECT coalesce(array_agg(k.declaration ORDER BY k.declaration), '{}'),
           coalesce(array_agg(k.declaration ORDER BY k.declaration) FILTER (WHERE k.usable), '{}')
    INTO declared, usable FROM dataarch_cache.kinds AS k;
    server := gate.server;
    state := gate.state;
    epoch := gate.epoch;
    lease_ms := gate.lease_ms;
    age_ms := greatest(0, extract(epoch FROM statement_timestamp() - gate.seen_at) * 1000);
END
$$
"""

CLOSE = """
CREATE FUNCTION public.close_cache_gate(closed_epoch text) RETURNS void
LANGUAGE sql SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$
    UPDATE dataarch_cache.gate SET state = 'closed', horizon = NULL, seen_at = NULL
    WHERE state <> 'closed' AND epoch = coalesce(closed_epoch, epoch)
$$
"""

FUNCTIONS = ("cache_gate(text, text[])", "close_cache_gate(text)")


# dataarch: allow downgrade-loses-data: the gate holds no row of anybody's; the next upgrade begins with a closed one
def upgrade() -> None:
    op.execute("CREATE SCHEMA dataarch_cache")
    op.execute(GATE)
    op.execute(KINDS)
    op.execute(LOOK)
    op.execute(CLOSE)
    for function in FUNCTIONS:
        op.execute(f"REVOKE ALL ON FUNCTION public.{function} FROM PUBLIC")
        op.execute(f"GRANT EXECUTE ON FUNCTION public.{function} TO {ROLE}")


def downgrade() -> None:
    for function in FUNCTIONS:
        op.execute(f"DROP FUNCTION public.{function}")
    op.execute("DROP SCHEMA dataarch_cache CASCADE")
