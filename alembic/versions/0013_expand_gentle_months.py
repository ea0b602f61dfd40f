"""create_activity_partition(): wait for locks a moment at a time, and move no more rows than a moment allows.

A partition is made beside the log and attached, so that a month that no catch-all covers needs no exclusive lock. One
that has to be carved is tried for 2 seconds, 25 ms at a time: whoever waits for an exclusive lock has everybody else
queue behind. A catch-all of more than 1,000 rows, which take some 20 ms under the lock, is left to the maintenance of
the owner, which moves them in batches while others write; until then its rows stay where they are. While that
maintenance is at work, this function leaves the log to it.

Revision ID: 0013
Revises: 0012
"""

from __future__ import annotations

from alembic import context, op

revision = "0013"
down_revision = "0012"
branch_labels = None
depends_on = None

LOCK = """
CREATE OR REPLACE FUNCTION public.lock_activity_log() RETURNS void
LANGUAGE plpgsql
SET search_path = pg_catalog, public, pg_temp
SET lock_timeout = '25ms'
AS $$
DECLARE
    deadline timestamptz := clock_timestamp() + interval '2 seconds';
BEGIN
    LOOP
        BEGIN
            LOCK TABLE ONLY public.user_activity_log IN ACCESS EXCLUSIVE MODE;
            LOCK TABLE ONLY public.users IN ACCESS EXCLUSIVE MODE;
            RETURN;
        EXCEPTION
            WHEN lock_not_available THEN
                IF clock_timestamp() >= deadline THEN
                    RAISE;
                END IF;
        END;
        PERFORM pg_sleep(0.02 + 0.08 * random());
    END LOOP;
END
$$
"""

# a partition is reached through its parent alone: policies are not inherited, so each child gets them, and no grants
ATTACH = """
CREATE OR REPLACE FUNCTION public.attach_activity_partition(name text, lower timestamptz, upper timestamptz)
RETURNS void
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
    EXECUTE format('CREATE TABLE public.%I (LIKE public.user_activity_log INCLUDING DEFAULTS INCLUDING CONSTRAINTS
        INCLUDING INDEXES INCLUDING GENERATED INCLUDING STORAGE INCLUDING COMPRESSION INCLUDING STATISTICS)', name);
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
    EXECUTE format('ALTER TABLE public.user_activity_log ATTACH PARTITION public.%I FOR VALUES FROM (%s) TO (%s)',
        name, coalesce(quote_literal(lower), 'MINVALUE'), coalesce(quote_literal(upper), 'MAXVALUE'));
END
$$
"""

CARVE = r"""
CREATE OR REPLACE FUNCTION public.carve_activity_partition(month timestamptz) RETURNS text
LANGUAGE plpgsql
SET search_path = pg_catalog, public, pg_temp
SET timezone = 'UTC'
SET datestyle = 'ISO'
AS $$
DECLARE
    following timestamptz := month + interval '1 month';
    name text := 'user_activity_log_' || to_char(month, 'YYYY_MM');
    name_after text := 'user_activity_log_rest_' || to_char(following, 'YYYY_MM');
    most_rows CONSTANT int := 1000;
    rows int;
    rest record;
BEGIN
    IF current_setting('transaction_isolation') <> 'read committed' THEN
        RAISE EXCEPTION 'A month cannot be made in a transaction that is %.', current_setting('transaction_isolation')
            USING ERRCODE = 'DA005',
                  DETAIL = 'Rows committed after its snapshot would be left behind.',
                  HINT = 'Begin with: SET TRANSACTION ISOLATION LEVEL READ COMMITTED';
    END IF;
    -- whoever changes the partitions holds the advisory lock: what is found here stays so
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

    PERFORM public.lock_activity_log();
    EXECUTE format('SELECT count(*) FROM (SELECT FROM %s LIMIT %s) AS found', rest.child, most_rows + 1) INTO rows;
    IF rows > most_rows THEN
        RAISE NOTICE 'The month % is not made: its catch-all % holds more than % rows, to be moved under a lock.',
            to_char(month, 'YYYY-MM'), rest.child, most_rows
            USING HINT = 'Move them as the owner, while others write: dataarch partitions maintain';
        RETURN NULL;
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

CREATE = """
CREATE OR REPLACE FUNCTION public.create_activity_partition(month date DEFAULT NULL) RETURNS SETOF text
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
    BEGIN
        PERFORM pg_advisory_xact_lock(hashtextextended('dataarch.partitions public.user_activity_log', 0));
    EXCEPTION
        WHEN lock_not_available THEN
            RAISE NOTICE 'No month is made: a maintenance of the log is at work.'
                USING HINT = 'Nothing is lost: rows lie in a catch-all until it is done.';
            RETURN;
    END;
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


def upgrade() -> None:
    for statement in (LOCK, ATTACH, CARVE, CREATE):
        op.execute(statement)


def downgrade() -> None:
    before = context.script.get_revision("0005").module
    for statement in (before.LOCK, before.ATTACH, before.CARVE, before.CREATE):
        op.execute(statement.replace("CREATE FUNCTION", "CREATE OR REPLACE FUNCTION"))
