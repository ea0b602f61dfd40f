"""What keeps a table from becoming partitioned by time.

It is asked of the catalog before there is any file, and again when the revision runs: another database may have a view,
a trigger or a foreign key that the first one lacks.
"""

from __future__ import annotations

from dataarch.partitions.naming import catch_all_name
from dataarch.partitions.quoting import ident, literal

__all__ = ["dependents", "obstacles"]


def obstacles(table: str, by: str, schema: str | None) -> str:
    """Return a query for what is in the way, as ``why`` and ``hint``: no row where nothing is.

    Args:
        table: name of a table that is there.
        by: name of the column that it is to be partitioned by.
        schema: the table's schema; by default the search path finds it.
    """
    return _asked(OBSTACLES, table, by, schema)


def dependents(table: str, schema: str | None) -> str:
    """Return the same query for other tables, views and functions that depend on the table, partitioned or not."""
    return _asked((REFERRING, DEPENDING), table, "", schema)


def _asked(what: tuple[str, ...], table: str, by: str, schema: str | None) -> str:
    each = "\nUNION ALL\n".join(f"SELECT {place}, {one.strip()}" for place, one in enumerate(what))
    return f"""
WITH it AS (
    SELECT pg_class.oid, relname, relnamespace, relkind, relpersistence, relhasrules, reloftype, reltype,
           (SELECT typarray FROM pg_type WHERE pg_type.oid = reltype) AS array_type,
           attname, attnum, atttypid, attgenerated, {literal(catch_all_name(table, None))}::name AS rest
    FROM pg_class LEFT JOIN pg_attribute ON attrelid = pg_class.oid AND attname = {literal(by)}
    WHERE pg_class.oid = {literal(ident(table, schema))}::regclass
), keyed AS (
    SELECT indexrelid::regclass AS name, attname, indisprimary, indimmediate, indisreplident
    FROM it JOIN pg_index ON indrelid = it.oid AND indisunique
        AND NOT EXISTS (SELECT FROM generate_series(0, indnkeyatts - 1) AS place WHERE indkey[place] = attnum)
), found (place, why, hint) AS (
{each}
)
SELECT why, hint FROM found ORDER BY place, why
""".strip()


REFERRING = """
    format('the foreign key %I of %s refers to it, and none can refer to a key without the time', conname,
           conrelid::regclass),
    'Drop that foreign key in a revision before; the application then looks itself whether the row is there.'
    FROM it JOIN pg_constraint ON confrelid = it.oid AND contype = 'f' AND conparentid = 0
    """

DEPENDING = """
    format('%s depends on it, and would not know the table that takes its name',
           coalesce((SELECT pg_describe_object('pg_class'::regclass, ev_class, 0) FROM pg_rewrite
                     WHERE classid = 'pg_rewrite'::regclass AND pg_rewrite.oid = objid),
                    pg_describe_object(classid, objid, 0))),
    'Drop it in a revision before, and make it again in one after.'
    FROM it JOIN (SELECT DISTINCT refclassid, refobjid, classid, objid FROM pg_depend WHERE deptype = 'n') AS depending
        ON refclassid = 'pg_class'::regclass AND refobjid = it.oid
            OR refclassid = 'pg_type'::regclass AND refobjid IN (reltype, array_type)
    WHERE it.oid IS DISTINCT FROM CASE classid
            WHEN 'pg_class'::regclass THEN (SELECT indrelid FROM pg_index WHERE indexrelid = objid)
            WHEN 'pg_attrdef'::regclass THEN (SELECT adrelid FROM pg_attrdef WHERE pg_attrdef.oid = objid)
            WHEN 'pg_policy'::regclass THEN (SELECT polrelid FROM pg_policy WHERE pg_policy.oid = objid)
            WHEN 'pg_trigger'::regclass THEN (SELECT tgrelid FROM pg_trigger WHERE pg_trigger.oid = objid)
            WHEN 'pg_statistic_ext'::regclass
                THEN (SELECT stxrelid FROM pg_statistic_ext WHERE pg_statistic_ext.oid = objid) END
        AND NOT EXISTS (SELECT FROM pg_constraint WHERE classid = 'pg_constraint'::regclass
                            AND pg_constraint.oid = objid AND it.oid IN (conrelid, confrelid))
    """

OBSTACLES = (
    """
    'it is partitioned already', 'There is nothing to do.' FROM it WHERE relkind = 'p'
    """,
    """
    'it is temporary, or of a type', 'Name a table of its own columns.'
    FROM it WHERE relkind = 'r' AND (relpersistence = 't' OR reloftype <> 0)
    """,
    """
    format('%I is of type %s, which has no months', attname, atttypid::regtype),
    'Name a column of type timestamptz, timestamp or date; dataarch revision change-type makes one of another.'
    FROM it WHERE atttypid NOT IN ('timestamptz'::regtype, 'timestamp'::regtype, 'date'::regtype)
    """,
    """
    format('%I is a generated column, and PostgreSQL partitions by none', attname), 'Name a column that is written.'
    FROM it WHERE attgenerated <> ''
    """,
    """
    format('%s inherits from %s', inhrelid::regclass, inhparent::regclass), 'First: ALTER TABLE … NO INHERIT …'
    FROM it JOIN pg_inherits ON it.oid IN (inhrelid, inhparent) WHERE relkind = 'r'
    """,
    REFERRING,
    """
    format('%s is unique without %I, and each partition looks only among its own rows', name, attname),
    'Where it is enough to be unique together with the time: dataarch revision add-unique with the time as last column,'
    ' and then drop this one. Where it is not, keep those values in a table of their own.'
    FROM keyed WHERE NOT indisprimary
    """,
    """
    format('its primary key %s is deferrable, which no index takes over', name),
    'Drop it, and add it again NOT DEFERRABLE, in a revision before.'
    FROM keyed WHERE indisprimary AND NOT indimmediate
    """,
    """
    format('its replica identity is %s, in whose place another index comes', name),
    'First: ALTER TABLE … REPLICA IDENTITY DEFAULT, which is the primary key too.'
    FROM keyed WHERE indisprimary AND indisreplident
    """,
    """
    format('%I is an exclusion constraint, and each partition looks only among its own rows', conname),
    'Drop it in a revision before.'
    FROM it JOIN pg_constraint ON conrelid = it.oid AND contype = 'x'
    """,
    """
    format('the index %s is not valid: its build has failed', indexrelid::regclass),
    'Drop it, and build it again: DROP INDEX CONCURRENTLY …'
    FROM it JOIN pg_index ON indrelid = it.oid AND NOT indisvalid WHERE relkind = 'r'
    """,
    """
    format('%I is not valid yet, and partitions can have no such constraint from the table', conname),
    'In a revision before: ALTER TABLE … VALIDATE CONSTRAINT …'
    FROM it JOIN pg_constraint ON conrelid = it.oid AND NOT convalidated
    """,
    """
    format('%I is NO INHERIT, and partitions inherit every rule', conname), 'Drop it, and add it without NO INHERIT.'
    FROM it JOIN pg_constraint ON conrelid = it.oid AND contype IN ('c', 'n') AND connoinherit
    """,
    """
    format('%I is an identity column, which partitioned tables have from PostgreSQL 17 on', identity.attname),
    'Upgrade the server; or, in a revision before, DROP IDENTITY and SET DEFAULT nextval(…) of a sequence.'
    FROM it JOIN pg_attribute AS identity ON attrelid = it.oid AND attidentity <> ''
    WHERE current_setting('server_version_num')::int < 170000
    """,
    """
    'it has rules, which are not carried over', 'DROP RULE first; a trigger does the same.'
    FROM it WHERE relhasrules AND EXISTS (SELECT FROM pg_rewrite WHERE ev_class = it.oid)
    """,
    """
    format('the trigger %I is FOR EACH ROW and has transition tables, as none of a partition may', tgname),
    'Make it FOR EACH STATEMENT in a revision before.'
    FROM it JOIN pg_trigger ON tgrelid = it.oid AND tgtype & 1 = 1 AND coalesce(tgoldtable, tgnewtable) IS NOT NULL
    """,
    r"""
    format('the trigger %I sets %I, and no trigger may bring a row to another partition', tgname, attname),
    'Give the column a DEFAULT instead, in a revision before.'
    FROM it JOIN pg_trigger ON tgrelid = it.oid AND tgtype & 3 = 3 AND NOT tgisinternal
    JOIN pg_proc ON pg_proc.oid = tgfoid
        AND prosrc ~* ('\mnew\s*\.\s*"?' || regexp_replace(attname, '(\W)', '\\\1', 'g') || '"?\s*:=')
    """,
    """
    format('the publication %I has it by name, and would publish nothing of other partitions', pubname),
    'First: ALTER PUBLICATION … DROP TABLE …; afterwards ADD TABLE … again, with publish_via_partition_root = true.'
    FROM it JOIN pg_publication_rel ON prrelid = it.oid JOIN pg_publication ON pg_publication.oid = prpubid
    """,
    """
    format('the publication %I would publish it under the names of its partitions', pubname),
    'First: ALTER PUBLICATION … SET (publish_via_partition_root = true)'
    FROM it JOIN pg_namespace ON pg_namespace.oid = relnamespace
    JOIN pg_publication_tables ON schemaname = nspname AND tablename = relname
    JOIN pg_publication USING (pubname) WHERE NOT pubviaroot AND relkind = 'r'
    """,
    """
    format('the subscription %I writes it, and would not know the table that takes its name', subname),
    'Take the table out of what is published, and ALTER SUBSCRIPTION … REFRESH PUBLICATION; add it again afterwards.'
    FROM it JOIN pg_subscription_rel ON srrelid = it.oid JOIN pg_subscription ON pg_subscription.oid = srsubid
    """,
    DEPENDING,
    """
    format('there is a relation %I already, as the partition with its rows is to be called', rest), 'Rename that one.'
    FROM it WHERE EXISTS (
        SELECT FROM pg_class AS taken WHERE taken.relnamespace = it.relnamespace AND taken.relname = rest)
    """,
)
"""What is in the way, and what to do, each with where it is found: in the order in which they are told."""
