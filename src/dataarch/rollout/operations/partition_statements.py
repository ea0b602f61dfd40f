"""The statements by which a table becomes the one partition of a new one of its name, and by which it comes back.

They are answers of the catalog, asked once the table is locked: grants, policies and triggers are those of the database
that the revision runs in. Definitions are asked for while the one table has the name, and run when the other has it: so
what was the one's is made for the other word by word.
"""

from __future__ import annotations

from dataarch.partitions.naming import catch_all_name
from dataarch.partitions.quoting import ident, literal

__all__ = ["COUNTED", "MADE", "into", "out_of"]

MADE = 50
"""Statements at lower places leave an empty table of the name; the others give it what it should have."""

COUNTED = 100
"""At this place are queries for one statement each, to be run last: where an identity column goes on counting."""


def into(table: str, by: str, schema: str | None) -> str:
    """Return the query for places and statements by which a table becomes a partition of a new one."""
    return f"{_known(table, schema)}{INTO.format(by=literal(by))}{GIVEN}{COMMENTS}"


def out_of(table: str, schema: str | None) -> str:
    """Return the query for places and statements by which the one partition of a table becomes the table."""
    return f"{_known(table, schema)}{OUT_OF}{GIVEN}"


def _below(name: str) -> str:
    """Return what an index or a statistic of a name is called in the partition; what is too long is cut off."""
    whole = f"rest || '_' || {name}"
    cut = f"'ix_' || left(md5({whole}), 8) || '_' || {whole}"
    return f"(CASE WHEN octet_length({whole}) <= 63 THEN {whole} ELSE {cut} END)::name"


def _known(table: str, schema: str | None) -> str:
    rest = literal(catch_all_name(table, None))
    return f"""
WITH it AS (
    SELECT pg_class.oid, quote_ident(pg_get_userbyid(relowner)) AS owner, relname, relacl, relrowsecurity,
           relforcerowsecurity, relreplident, nspname AS home, {rest}::text AS rest,
           format('%I.%I', nspname, relname) AS whole, format('%I.%I', nspname, {rest}) AS part
    FROM pg_class JOIN pg_namespace ON pg_namespace.oid = relnamespace
    WHERE pg_class.oid = {literal(ident(table, schema))}::regclass
), {KNOWN}"""


HOLDER = "CASE grantee WHEN 0 THEN 'PUBLIC' ELSE quote_ident(pg_get_userbyid(grantee)) END"

KNOWN = f"""index AS (
    SELECT own.relname AS name, {_below("own.relname")} AS below, own.oid, indisreplident,
           EXISTS (SELECT FROM pg_constraint WHERE conindid = own.oid AND contype IN ('p', 'u')) AS constrained
    FROM it JOIN pg_index ON indrelid = it.oid JOIN pg_class AS own ON own.oid = indexrelid
), statistic AS (
    SELECT pg_statistic_ext.oid, stxname AS name, {_below("stxname")} AS below, nspname AS place
    FROM it JOIN pg_statistic_ext ON stxrelid = it.oid JOIN pg_namespace ON pg_namespace.oid = stxnamespace
), trigger AS (
    SELECT pg_trigger.oid, tgname AS name, tgenabled FROM it JOIN pg_trigger ON tgrelid = it.oid AND NOT tgisinternal
), filled AS (
    SELECT attname AS name, attidentity AS identity, format('%I.%I', nspname, relname) AS sequence, relacl, relowner,
           pg_sequence.*
    FROM (SELECT oid FROM it) AS it
    JOIN pg_depend ON refclassid = 'pg_class'::regclass AND refobjid = it.oid AND refobjsubid > 0
        AND classid = 'pg_class'::regclass AND deptype IN ('a', 'i')
    JOIN pg_sequence ON seqrelid = objid JOIN pg_class ON pg_class.oid = seqrelid
    JOIN pg_namespace ON pg_namespace.oid = relnamespace
    JOIN pg_attribute ON attrelid = it.oid AND attnum = refobjsubid
), acl AS (
    SELECT 'TABLE ' || whole AS place, '' AS columns, relacl AS acl FROM it
    UNION ALL SELECT 'TABLE ' || whole, format(' (%I)', attname), attacl FROM it JOIN pg_attribute ON attrelid = it.oid
    UNION ALL SELECT 'SEQUENCE ' || sequence, '', relacl FROM filled WHERE identity <> ''
), granted AS (
    SELECT place, columns, privilege_type, is_grantable, {HOLDER} AS holder
    FROM acl, aclexplode(acl) WHERE grantee <> (SELECT relowner FROM it JOIN pg_class USING (oid))
)"""
"""What the table has, each with its name; an acl that is not there has no rows."""

INTO = f"""
SELECT 10 AS place, format('ALTER TABLE %s ALTER %I DROP IDENTITY', whole, filled.name) AS said
    FROM it, filled WHERE identity <> ''
UNION ALL SELECT 11, format('ALTER INDEX %I.%I RENAME TO %I', home, index.name, below) FROM it, index
UNION ALL SELECT 12, format('ALTER STATISTICS %I.%I RENAME TO %I', place, name, below) FROM statistic
UNION ALL SELECT 13, format('DROP TRIGGER %I ON %s', name, whole) FROM it, trigger
UNION ALL SELECT DISTINCT 14, format('REVOKE ALL ON %s FROM %s CASCADE', place, holder)
    FROM granted WHERE place LIKE 'TABLE %'
UNION ALL SELECT 15, format('ALTER TABLE %s RENAME TO %I', whole, rest) FROM it
UNION ALL SELECT 16, format('CREATE TABLE %s (LIKE %s INCLUDING DEFAULTS INCLUDING CONSTRAINTS INCLUDING GENERATED '
        'INCLUDING STORAGE INCLUDING COMPRESSION INCLUDING COMMENTS) PARTITION BY RANGE (%I)', whole, part, {{by}})
    FROM it
UNION ALL SELECT 17, format('ALTER TABLE %s OWNER TO %s', whole, owner) FROM it
UNION ALL SELECT {MADE}, format('ALTER SEQUENCE %s OWNED BY %s.%I', sequence, whole, name)
    FROM it, filled WHERE identity = ''
UNION ALL SELECT 51, format('ALTER TABLE %s ADD CONSTRAINT %I %s', whole, conname, pg_get_constraintdef(con.oid))
    FROM it JOIN pg_constraint AS con ON conrelid = it.oid AND contype IN ('p', 'u', 'f') AND conparentid = 0
UNION ALL SELECT 52, pg_get_indexdef(oid) FROM index WHERE NOT constrained
UNION ALL SELECT 53, pg_get_statisticsobjdef(oid) FROM statistic
UNION ALL SELECT 54, format('ALTER TABLE %s ATTACH PARTITION %s FOR VALUES FROM (MINVALUE) TO (MAXVALUE)', whole, part)
    FROM it
UNION ALL SELECT 55, format('ALTER TABLE %s REPLICA IDENTITY %s', whole,
        CASE relreplident WHEN 'f' THEN 'FULL' WHEN 'n' THEN 'NOTHING'
        ELSE (SELECT format('USING INDEX %I', name) FROM index WHERE indisreplident) END)
    FROM it WHERE relreplident <> 'd'
UNION ALL SELECT 56, format('ALTER TABLE %s ENABLE ROW LEVEL SECURITY', whole) FROM it WHERE relrowsecurity
UNION ALL SELECT 57, format('ALTER TABLE %s FORCE ROW LEVEL SECURITY', whole) FROM it WHERE relforcerowsecurity
UNION ALL SELECT 58, format('CREATE POLICY %I ON %s AS %s FOR %s TO %s%s%s', polname, whole,
        CASE WHEN polpermissive THEN 'PERMISSIVE' ELSE 'RESTRICTIVE' END,
        CASE polcmd WHEN 'r' THEN 'SELECT' WHEN 'a' THEN 'INSERT' WHEN 'w' THEN 'UPDATE' WHEN 'd' THEN 'DELETE'
        ELSE 'ALL' END,
        (SELECT string_agg({HOLDER}, ', ') FROM unnest(polroles) AS grantee),
        ' USING (' || pg_get_expr(polqual, polrelid) || ')',
        ' WITH CHECK (' || pg_get_expr(polwithcheck, polrelid) || ')')
    FROM it JOIN pg_policy ON polrelid = it.oid
"""

OUT_OF = """
SELECT 10 AS place, format('ALTER TABLE %s ALTER %I DROP IDENTITY', whole, filled.name) AS said
    FROM it, filled WHERE identity <> ''
UNION ALL SELECT 11, format('ALTER TABLE %s DETACH PARTITION %s', whole, part) FROM it
UNION ALL SELECT 12, format('ALTER SEQUENCE %s OWNED BY %s.%I', sequence, part, name)
    FROM it, filled WHERE identity = ''
UNION ALL SELECT 13, format('DROP TABLE %s', whole) FROM it
UNION ALL SELECT 14, format('ALTER TABLE %s RENAME TO %I', part, relname) FROM it
UNION ALL SELECT 15, format('ALTER INDEX %I.%I RENAME TO %I', home, below.relname, index.name)
    FROM it, index JOIN pg_inherits ON inhparent = index.oid JOIN pg_class AS below ON below.oid = inhrelid
UNION ALL SELECT 16, format('ALTER STATISTICS %I.%I RENAME TO %I', place, below, name) FROM it, statistic
    WHERE EXISTS (SELECT FROM pg_statistic_ext WHERE stxname = below AND stxrelid = to_regclass(part))
"""

GIVEN = f"""
UNION ALL SELECT 60, format('ALTER TABLE %s ALTER %I ADD GENERATED %s AS IDENTITY (SEQUENCE NAME %s START WITH %s '
        'INCREMENT BY %s MINVALUE %s MAXVALUE %s CACHE %s %s)', whole, name,
        CASE identity WHEN 'a' THEN 'ALWAYS' ELSE 'BY DEFAULT' END, sequence, seqstart, seqincrement, seqmin, seqmax,
        seqcache, CASE WHEN seqcycle THEN 'CYCLE' ELSE 'NO CYCLE' END)
    FROM it, filled WHERE identity <> ''
UNION ALL SELECT 61, format('GRANT %s%s ON %s TO %s%s', privilege_type, columns, place, holder,
        CASE WHEN is_grantable THEN ' WITH GRANT OPTION' END)
    FROM granted
UNION ALL SELECT 62, pg_get_triggerdef(oid) FROM trigger
UNION ALL SELECT 63, format('ALTER TABLE %s %s TRIGGER %I', whole,
        CASE tgenabled WHEN 'D' THEN 'DISABLE' WHEN 'R' THEN 'ENABLE REPLICA' ELSE 'ENABLE ALWAYS' END, name)
    FROM it, trigger WHERE tgenabled <> 'O'
UNION ALL SELECT 64, format('COMMENT ON TRIGGER %I ON %s IS %L', name, whole, description)
    FROM it, trigger JOIN pg_description ON objoid = trigger.oid AND classoid = 'pg_trigger'::regclass
UNION ALL SELECT {COUNTED}, format('SELECT format(%L, %L, last_value, is_called) FROM %s', 'SELECT setval(%L, %s, %L)',
        sequence, sequence)
    FROM filled WHERE identity <> ''
"""
"""What goes to whichever table has the name: the partition has no triggers, grants and numbers of its own."""

COMMENTS = """
UNION ALL SELECT 70, format('COMMENT ON TABLE %s IS %L', whole, description)
    FROM it JOIN pg_description ON objoid = it.oid AND classoid = 'pg_class'::regclass AND objsubid = 0
UNION ALL SELECT 71, format('COMMENT ON INDEX %I.%I IS %L', home, name, description)
    FROM it, index JOIN pg_description ON objoid = index.oid AND classoid = 'pg_class'::regclass
UNION ALL SELECT 72, format('COMMENT ON CONSTRAINT %I ON %s IS %L', conname, whole, description)
    FROM it JOIN pg_constraint AS con ON conrelid = it.oid AND contype IN ('p', 'u', 'f')
    JOIN pg_description ON objoid = con.oid AND classoid = 'pg_constraint'::regclass
UNION ALL SELECT 73, format('COMMENT ON POLICY %I ON %s IS %L', polname, whole, description)
    FROM it JOIN pg_policy ON polrelid = it.oid
    JOIN pg_description ON objoid = pg_policy.oid AND classoid = 'pg_policy'::regclass
UNION ALL SELECT 74, format('COMMENT ON STATISTICS %I.%I IS %L', place, name, description)
    FROM statistic JOIN pg_description ON objoid = statistic.oid AND classoid = 'pg_statistic_ext'::regclass
"""
