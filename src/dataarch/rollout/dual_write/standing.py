"""Whether a dual write is in force: there, switched on everywhere, and as it was made."""

from __future__ import annotations

from sqlalchemy import Connection, text

from dataarch.rollout.dual_write.marks import DIGEST, MARK

__all__ = ["faults", "in_force"]

FOUND = text(
    f"""
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
               ORDER BY 1
           ) AS silent
    FROM pg_catalog.pg_trigger
    JOIN pg_catalog.pg_class ON pg_class.oid = tgrelid JOIN pg_catalog.pg_namespace ON pg_namespace.oid = relnamespace
    WHERE tgname = :name AND tgparentid = 0 AND NOT tgisinternal
      AND pg_catalog.obj_description(pg_trigger.oid, 'pg_trigger') LIKE '{MARK}%'
      AND (CAST(:schema AS text) IS NULL OR nspname = :schema)
    ORDER BY 1
    """
)

REPLICAS = text(
    r"""
    SELECT DISTINCT CASE setrole WHEN 0 THEN 'all roles' ELSE pg_catalog.pg_get_userbyid(setrole) END
    FROM pg_catalog.pg_db_role_setting, pg_catalog.unnest(setconfig) AS setting
    WHERE setdatabase IN (0, (SELECT oid FROM pg_catalog.pg_database WHERE datname = pg_catalog.current_database()))
      AND setting = 'session_replication_role=replica'
    ORDER BY 1
    """
)


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

    Guarantee: reads the catalog, and changes nothing; the transaction's search path is what it was afterwards.
    """
    path = connection.scalar(text("SELECT pg_catalog.current_setting('search_path')"))
    set_path = text("SELECT pg_catalog.set_config('search_path', :path, true)")
    connection.execute(set_path, {"path": "pg_catalog"})
    found = connection.execute(FOUND, {"name": name, "schema": schema}).all()
    replicas = list(connection.execute(REPLICAS).scalars())
    connection.execute(set_path, {"path": path})
    if not found:
        return [f"There is no dual write {name}."]
    told = []
    for place, said, says, silent in found:
        told += [f"The trigger {name} does not fire on {each}." for each in silent]
        if said != says:
            told.append(f"The trigger {name} of {place}, or a function of it, was changed after it was made.")
    return told + [f"Triggers are silent for {each}: session_replication_role is replica." for each in replicas]
