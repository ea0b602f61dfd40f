"""create_activity_partition(): make months of the activity log.

Every instant lies in a month of its own or in a catch-all, so making a month means carving it out of the catch-all that
covers it. The function does so in one transaction: it detaches the catch-all, makes the month, moves the month's rows
into it, and attaches the catch-all again, narrower than it was. Rows outside the month stay where they are, except
those after it where the catch-all has to be split in two.

Nobody ever sees a row missing, because the log is locked (ACCESS EXCLUSIVE) for that moment, and with it the users that
its foreign key refers to. The locks are waited for 2 seconds at the most; then the function gives up with SQLSTATE
55P03, having changed nothing. It never waits for the second lock longer than 0.1 s with the first in its hand, so that
it takes part in no deadlock.

It runs as the owner of the tables, so that loaders may call it as the application role.

Revision ID: 0005
Revises: 0004
"""

from __future__ import annotations

from alembic import op

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None

PARTITIONS = r"""
CREATE FUNCTION public.activity_partitions() RETURNS TABLE (child regclass, lower timestamptz, upper timestamptz)
LANGUAGE sql STABLE
SET search_path = pg_catalog, public, pg_temp
SET timezone = 'UTC'
SET datestyle = 'ISO'
AS $$
    SELECT inhrelid::regclass,
           nullif(trim('''' FROM bounds[1]), 'MINVALUE')::timestamptz,
           nullif(trim('''' FROM bounds[2]), 'MAXVALUE')::timestamptz
    FROM pg_inherits
    JOIN pg_class ON pg_class.oid = inhrelid,
    LATERAL regexp_match(pg_get_expr(relpartbound, inhrelid), 'FROM \((.+)\) TO \((.+)\)') AS bounds
    WHERE inhparent = 'public.user_activity_log'::regclass AND bounds IS NOT NULL
$$
"""

# transactions of the application touch both tables in either order: whoever waits for one with the other in hand,
# and for as long as it takes, meets them in a deadlock
LOCK = """
CREATE FUNCTION public.lock_activity_log() RETURNS void
LANGUAGE plpgsql
SET search_path = pg_catalog, public, pg_temp
SET lock_timeout = '2s'
AS $$
DECLARE
    deadline timestamptz := clock_timestamp() + interval '2 seconds';
BEGIN
    LOOP
        BEGIN
            LOCK TABLE public.user_activity_log IN ACCESS EXCLUSIVE MODE;
            PERFORM set_config('lock_timeout', '100ms', true);
            LOCK TABLE public.users IN ACCESS EXCLUSIVE MODE;
            RETURN;
        EXCEPTION
            WHEN lock_not_available THEN
                IF clock_timestamp() >= deadline THEN
                    RAISE;
                END IF;
        END;
        PERFORM pg_sleep(0.02 + 0.08 * random());
        PERFORM set_config('lock_timeout',
            greatest(1, ceil(1000 * extract(epoch FROM deadline - clock_timestamp())))::bigint::text, true);
    END LOOP;
END
$$
"""

CARVE = r"""
CREATE FUNCTION public.carve_activity_partition(month timestamptz) RETURNS text
LANGUAGE plpgsql
SET search_path = pg_catalog, public, pg_temp
SET timezone = 'UTC'
SET datestyle = 'ISO'
AS $$
DECLARE
    following timestamptz := month + interval '1 month';
    name text := 'user_activity_log_' || to_char(month, 'YYYY_MM');
    name_after text := 'user_activity_log_rest_' || to_char(following, 'YYYY_MM');
    rest record;
BEGIN
    IF current_setting('transaction_isolation') <> 'read committed' THEN
        RAISE EXCEPTION 'A month cannot be made in a transaction that is %.', current_setting('transaction_isolation')
            USING ERRCODE = 'DA005',
                  DETAIL = 'Rows committed after its snapshot would be left behind.',
                  HINT = 'Begin with: SET TRANSACTION ISOLATION LEVEL READ COMMITTED';
    END IF;
    PERFORM public.lock_activity_log();
    SELECT child, lower, upper, relname INTO rest
        FROM public.activity_partitions() JOIN pg_class ON pg_class.oid = child
        WHERE (lower IS NULL OR lower < following) AND (upper IS NULL OR upper > month) LIMIT 1;
    IF rest.child IS NULL THEN
        PERFORM public.attach_activity_partition(name, month, following);
        RETURN name;
    ELSIF rest.lower = month AND rest.upper = following THEN
        RETURN NULL;
    ELSIF rest.relname NOT LIKE 'user\_activity\_log\_rest\_%' OR rest.lower > month OR rest.upper < following THEN
        RAISE EXCEPTION 'The month % lies partly or wholly in the partition %.', to_char(month, 'YYYY-MM'), rest.child
            USING ERRCODE = 'DA004', TABLE = rest.relname,
                  HINT = format('Detach it, and bring its rows back with INSERT: '
                                'ALTER TABLE user_activity_log DETACH PARTITION %s', rest.child);
    END IF;

    EXECUTE format('ALTER TABLE public.user_activity_log DETACH PARTITION %s', rest.child);
    PERFORM public.attach_activity_partition(name, month, following);
    IF rest.lower = month THEN
        PERFORM public.rename_activity_partition(rest.child, name_after);
        PERFORM public.move_activity(rest.child, format('created_at < %L', following));
        rest.lower := following;
    ELSE
        IF rest.upper IS NULL OR rest.upper > following THEN
            PERFORM public.attach_activity_partition(name_after, following, rest.upper);
        END IF;
        PERFORM public.move_activity(rest.child, format('created_at >= %L', month));
        rest.upper := month;
    END IF;
    EXECUTE format('ALTER TABLE public.user_activity_log ATTACH PARTITION %s FOR VALUES FROM (%s) TO (%s)', rest.child,
        coalesce(quote_literal(rest.lower), 'MINVALUE'), coalesce(quote_literal(rest.upper), 'MAXVALUE'));
    RETURN name;
END
$$
"""

# the columns are those that the log has now: one that a later revision or an operator adds must not be left behind
MOVE = """
CREATE FUNCTION public.move_activity(source regclass, condition text) RETURNS void
LANGUAGE plpgsql
SET search_path = pg_catalog, public, pg_temp
AS $$
DECLARE
    columns text;
BEGIN
    SELECT string_agg(quote_ident(attname), ', ' ORDER BY attnum) INTO columns FROM pg_attribute
        WHERE attrelid = 'public.user_activity_log'::regclass AND attnum > 0 AND NOT attisdropped
          AND attgenerated = '';
    EXECUTE format('WITH moved AS (DELETE FROM %1$s WHERE %2$s RETURNING %3$s)
                    INSERT INTO public.user_activity_log (%3$s) OVERRIDING SYSTEM VALUE SELECT %3$s FROM moved',
        source, condition, columns);
END
$$
"""

RENAME = """
CREATE FUNCTION public.rename_activity_partition(child regclass, name text) RETURNS void
LANGUAGE plpgsql
SET search_path = pg_catalog, public, pg_temp
AS $$
DECLARE
    old_name text := (SELECT relname FROM pg_class WHERE oid = child);
    index record;
BEGIN
    EXECUTE format('ALTER TABLE %s RENAME TO %I', child, name);
    FOR index IN
        SELECT indexrelid::regclass AS id, replace(relname, old_name, rename_activity_partition.name) AS new_name
        FROM pg_index JOIN pg_class ON pg_class.oid = indexrelid
        WHERE indrelid = child AND strpos(relname, old_name) > 0
    LOOP
        EXECUTE format('ALTER INDEX %s RENAME TO %I', index.id, index.new_name);
    END LOOP;
END
$$
"""

# a partition is reached through its parent alone: policies are not inherited, so each child gets them, and no grants
ATTACH = """
CREATE FUNCTION public.attach_activity_partition(name text, lower timestamptz, upper timestamptz) RETURNS void
LANGUAGE plpgsql
SET search_path = pg_catalog, public, pg_temp
SET timezone = 'UTC'
SET datestyle = 'ISO'
AS $$
DECLARE
    guarded boolean;
    policy record;
    holder record;
BEGIN
    IF to_regclass(format('public.%I', name)) IS NOT NULL THEN
        RAISE EXCEPTION 'There is a table % already, and it is not the partition that should have this name.', name
            USING ERRCODE = 'DA004', TABLE = name, HINT = format('Rename it: ALTER TABLE %I RENAME TO …', name);
    END IF;
    EXECUTE format('CREATE TABLE public.%I PARTITION OF public.user_activity_log FOR VALUES FROM (%s) TO (%s)',
        name, coalesce(quote_literal(lower), 'MINVALUE'), coalesce(quote_literal(upper), 'MAXVALUE'));
    SELECT relrowsecurity INTO guarded FROM pg_class WHERE oid = 'public.user_activity_log'::regclass;
    IF guarded THEN
        EXECUTE format('ALTER TABLE public.%I ENABLE ROW LEVEL SECURITY', name);
    END IF;
    FOR policy IN
        SELECT format('CREATE POLICY %I ON public.%I AS %s FOR %s TO ', polname, name,
                   CASE WHEN polpermissive THEN 'PERMISSIVE' ELSE 'RESTRICTIVE' END,
                   CASE polcmd WHEN 'r' THEN 'SELECT' WHEN 'a' THEN 'INSERT' WHEN 'w' THEN 'UPDATE'
                               WHEN 'd' THEN 'DELETE' ELSE 'ALL' END)
               || (SELECT string_agg(CASE role WHEN 0 THEN 'PUBLIC' ELSE quote_ident(pg_get_userbyid(role)) END, ', ')
                   FROM unnest(polroles) AS role)
               || coalesce(' USING (' || pg_get_expr(polqual, polrelid) || ')', '')
               || coalesce(' WITH CHECK (' || pg_get_expr(polwithcheck, polrelid) || ')', '') AS definition
        FROM pg_policy WHERE polrelid = 'public.user_activity_log'::regclass
    LOOP
        EXECUTE policy.definition;
    END LOOP;
    FOR holder IN
        SELECT DISTINCT CASE grantee WHEN 0 THEN 'PUBLIC' ELSE quote_ident(pg_get_userbyid(grantee)) END AS role
        FROM pg_class, LATERAL aclexplode(relacl)
        WHERE oid = to_regclass(format('public.%I', name)) AND grantee <> relowner
    LOOP
        EXECUTE format('REVOKE ALL ON public.%I FROM %s', name, holder.role);
    END LOOP;
END
$$
"""

CREATE = """
CREATE FUNCTION public.create_activity_partition(month date DEFAULT NULL) RETURNS SETOF text
LANGUAGE plpgsql SECURITY DEFINER
SET search_path = pg_catalog, public, pg_temp
SET timezone = 'UTC'
SET lock_timeout = '5s'
AS $$
DECLARE
    this_month timestamptz := date_trunc('month', now());
    wanted timestamptz;
    made text;
BEGIN
    IF month IS NOT NULL AND (month < date '1970-01-01' OR month >= this_month + interval '10 years 1 month') THEN
        RAISE EXCEPTION 'The month % is before 1970 or more than 10 years ahead.', month
            USING ERRCODE = 'DA003',
                  HINT = 'Its rows are kept in a catch-all partition; check the clock that made them.';
    END IF;
    PERFORM pg_advisory_xact_lock(hashtext('dataarch.create_activity_partition'));
    FOR wanted IN
        SELECT generate_series(
            date_trunc('month', coalesce(month, this_month)),
            date_trunc('month', coalesce(month, this_month + interval '12 months')),
            interval '1 month')
    LOOP
        CONTINUE WHEN EXISTS (
            SELECT FROM public.activity_partitions() WHERE lower = wanted AND upper = wanted + interval '1 month');
        made := public.carve_activity_partition(wanted);
        IF made IS NOT NULL THEN
            RETURN NEXT made;
        END IF;
    END LOOP;
END
$$
"""

COMMENT = """
COMMENT ON FUNCTION public.create_activity_partition(date) IS
'Makes the partition of a month, or, without an argument, each month from this one to twelve ahead that is missing. '
'Gives the names of those it made. Safe to repeat and to run at the same time.'
"""

FUNCTIONS = (
    "create_activity_partition(date)",
    "carve_activity_partition(timestamptz)",
    "attach_activity_partition(text, timestamptz, timestamptz)",
    "rename_activity_partition(regclass, text)",
    "move_activity(regclass, text)",
    "lock_activity_log()",
    "activity_partitions()",
)


def upgrade() -> None:
    for statement in (PARTITIONS, LOCK, MOVE, RENAME, ATTACH, CARVE, CREATE, COMMENT):
        op.execute(statement)
    for function in FUNCTIONS:
        op.execute(f"REVOKE ALL ON FUNCTION public.{function} FROM PUBLIC")


def downgrade() -> None:
    for function in FUNCTIONS:
        op.execute(f"DROP FUNCTION public.{function}")
