"""Whether a dual write is in force: there, switched on everywhere, and as it was made."""

from __future__ import annotations

from sqlalchemy import Connection, text

from dataarch.partitions.quoting import literal
from dataarch.rollout.dual_write.marks import DIGEST, MARK

__all__ = ["faults", "faults_sql", "in_force"]

# one statement, which sets the search path back: it is the same on a connection that commits each statement
FAULTS = f"""
WITH before AS MATERIALIZED (SELECT pg_catalog.current_setting('search_path') AS path),
pinned AS MATERIALIZED (
    SELECT pg_catalog.set_config('search_path', 'pg_catalog', true) AS done FROM before WHERE path IS NOT NULL
),
found AS MATERIALIZED (
    SELECT tgrelid::regclass::text AS place,
           pg_catalog.obj_description(pg_trigger.oid, 'pg_trigger') AS said,
           '{MARK}, sha256 ' || {DIGEST} AS says,
           ARRAY(
               SELECT member::regclass::text
               FROM (SELECT tgrelid UNION SELECT relid FROM pg_catalog.pg_partition_tree(tgrelid)) AS tree (member)
               WHERE NOT EXISTS (
                   SELECT FROM pg_catalog.pg_trigger AS its
                   WHERE its.tgrelid = member AND its.tgname = pg_trigger.tgname AND its.tgfoid = pg_trigger.tgfoid
                     AND its.tgenabled IN ('O', 'A'))
           ) AS silent
    FROM pinned CROSS JOIN pg_catalog.pg_trigger
    JOIN pg_catalog.pg_class ON pg_class.oid = tgrelid JOIN pg_catalog.pg_namespace ON pg_namespace.oid = relnamespace
    WHERE tgname = {{name}} AND tgparentid = 0 AND NOT tgisinternal AND done = 'pg_catalog'
      AND pg_catalog.obj_description(pg_trigger.oid, 'pg_trigger') LIKE '{MARK}%'
      AND ({{schema}} IS NULL OR nspname = {{schema}})
),
faults (rank, about, fault) AS MATERIALIZED (
    SELECT 1, '', 'There is no dual write ' || {{name}} || '.' WHERE NOT EXISTS (SELECT FROM found)
    UNION ALL
    SELECT 2, one, 'The trigger ' || {{name}} || ' does not fire on ' || one || '.'
    FROM found, pg_catalog.unnest(silent) AS one
    UNION ALL
    SELECT 3, place,
           'The trigger ' || {{name}} || ' of ' || place || ', or a function of it, was changed after it was made.'
    FROM found WHERE said IS DISTINCT FROM says
    UNION ALL
    SELECT DISTINCT 4, who, 'Triggers are silent for ' || who || ': session_replication_role is replica.'
    FROM pg_catalog.pg_db_role_setting, pg_catalog.unnest(setconfig) AS setting,
    LATERAL (SELECT CASE setrole WHEN 0 THEN 'all roles' ELSE pg_catalog.pg_get_userbyid(setrole) END) AS whose (who)
    WHERE setdatabase IN (0, (SELECT oid FROM pg_catalog.pg_database WHERE datname = pg_catalog.current_database()))
      AND setting = 'session_replication_role=replica' AND EXISTS (SELECT FROM found)
)
SELECT told, pg_catalog.set_config('search_path', path, true)
FROM before, (SELECT coalesce(pg_catalog.array_agg(fault ORDER BY rank, about), '{{{{}}}}') FROM faults) AS one (told)
""".strip()


def faults_sql(name: str, schema: str | None = None) -> str:
    """Return a query that gives what :func:`faults` does, as the array in its first column: for scripts."""
    return FAULTS.format(name=literal(name), schema="NULL" if schema is None else literal(schema))


def in_force(connection: Connection, name: str, *, schema: str | None = None) -> bool:
    """Tell whether a dual write does its work: see :func:`faults`."""
    return not faults(connection, name, schema=schema)


def faults(connection: Connection, name: str, *, schema: str | None = None) -> list[str]:
    """Return why a dual write may leave rows out of step, as sentences; nothing if it is in force.

    Args:
        connection: any role's.
        name: the dual write's.
        schema: the schema of its table; by default every dual write of this name must be in force.

    It is in force if the trigger is there, fires on the table and on each partition, and it and its functions are what
    they were when they were made, by their digest; and if no role's default is ``session_replication_role = replica``,
    under which triggers are silent. A session that sets this by itself, or a trigger that was switched off for a time,
    leaves no trace: only a verification of the rows finds what was written then.

    Guarantee: one statement, which reads the catalog and changes nothing; also on a connection in autocommit mode.
    """
    told: list[str] = connection.execute(text(faults_sql(name, schema).replace(":", r"\:"))).scalar_one()
    return told
