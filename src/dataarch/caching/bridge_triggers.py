"""Triggers that tell of what others write: psql, another program, a function of the database.

A statement on a table tells, at its commit, which rows it wrote, while they are few; else of which tenants; else that
something was written in the table. What belongs to a partitioned table may be written to a partition directly, where
the table's own statement triggers are silent: so there each row tells whose it is, and the server says the same thing
once a transaction.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from sqlalchemy import CHAR, Connection, Enum, Integer, String, Table, Uuid
from sqlalchemy.types import TypeEngine

from dataarch.models.declared import qualified
from dataarch.models.tenancy import tenant_column

__all__ = ["CHANNEL", "bridge_functions", "bridge_triggers", "partitions_in"]

CHANNEL = "dataarch_cache"
"""Where it is told; see PostgreSQL, "NOTIFY"."""

MOST_ROWS = 16
"""Rows of a statement that are told one by one."""

MOST_TENANTS = 64
"""Tenants of a statement that are told one by one."""

LONGEST = 7900
"""Bytes of what is told; the server takes less than 8000."""

PREFIX = "dataarch_cache_"
TRUNCATE, ROWS = f"{PREFIX}truncate", f"{PREFIX}row"
SEEN = {
    "INSERT": "NEW TABLE AS written",
    "UPDATE": "OLD TABLE AS removed NEW TABLE AS written",
    "DELETE": "OLD TABLE AS removed",
}
NAMES = (*(f"{PREFIX}{event.lower()}" for event in SEEN), TRUNCATE, ROWS)

SAME_AS_TEXT = (Uuid, Integer, String)
"""Types whose values have one text, the same here and on the server."""

# TG_ARGV: the table's name; the columns of its tenant and of its key, or nothing. No percent sign: drivers read it
STATEMENT = f"""
CREATE OR REPLACE FUNCTION dataarch_cache.tell() RETURNS trigger
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    all_rows text := '(' || CASE TG_OP WHEN 'INSERT' THEN 'SELECT * FROM written' WHEN 'DELETE' THEN
        'SELECT * FROM removed' ELSE 'SELECT * FROM written UNION ALL SELECT * FROM removed' END || ') AS r';
    whose text := CASE WHEN TG_ARGV[1] = '' THEN '' ELSE '''tenant'', ' || TG_ARGV[1] || ', ' END;
    what text[];
    rows int8;
BEGIN
    IF TG_OP = 'TRUNCATE' THEN
        PERFORM pg_notify('{CHANNEL}', jsonb_build_object('table', TG_ARGV[0])::text);
        RETURN NULL;
    END IF;
    EXECUTE 'SELECT count(*) FROM (SELECT FROM ' || all_rows || ' LIMIT {2 * MOST_ROWS + 1}) AS s' INTO rows;
    IF rows = 0 THEN
        RETURN NULL;
    END IF;
    IF rows <= {2 * MOST_ROWS} AND TG_ARGV[2] <> '' THEN
        EXECUTE 'SELECT array_agg(DISTINCT jsonb_build_object(''table'', $1, ' || whose
            || '''key'', jsonb_build_array(' || TG_ARGV[2] || '))::text) FROM ' || all_rows
        INTO what USING TG_ARGV[0];
        IF cardinality(what) > {MOST_ROWS} OR (SELECT max(octet_length(one)) > {LONGEST} FROM unnest(what) AS one) THEN
            what := NULL;
        END IF;
    END IF;
    IF what IS NULL AND TG_ARGV[1] <> '' THEN
        EXECUTE 'SELECT array_agg(jsonb_build_object(''table'', $1, ''tenant'', t)::text) FROM (SELECT DISTINCT '
            || TG_ARGV[1] || ' AS t FROM ' || all_rows || ' LIMIT {MOST_TENANTS + 1}) AS s'
        INTO what USING TG_ARGV[0];
    END IF;
    IF what IS NULL OR cardinality(what) > {MOST_TENANTS} THEN
        what := ARRAY[jsonb_build_object('table', TG_ARGV[0])::text];
    END IF;
    PERFORM pg_notify('{CHANNEL}', one) FROM unnest(what) AS one;
    RETURN NULL;
END
$$
"""

# no SET: it would double the time that a row takes
ROW = f"""
CREATE OR REPLACE FUNCTION dataarch_cache.tell_row() RETURNS trigger
LANGUAGE plpgsql
AS $$
BEGIN
    IF TG_ARGV[1] = '' THEN
        PERFORM pg_catalog.pg_notify('{CHANNEL}', pg_catalog.jsonb_build_object('table', TG_ARGV[0])::pg_catalog.text);
        RETURN NULL;
    END IF;
    IF TG_OP <> 'DELETE' THEN
        PERFORM pg_catalog.pg_notify(
            '{CHANNEL}', pg_catalog.jsonb_build_object('table', TG_ARGV[0], 'tenant', NEW.tenant_id)::pg_catalog.text);
    END IF;
    IF TG_OP <> 'INSERT' THEN
        PERFORM pg_catalog.pg_notify(
            '{CHANNEL}', pg_catalog.jsonb_build_object('table', TG_ARGV[0], 'tenant', OLD.tenant_id)::pg_catalog.text);
    END IF;
    RETURN NULL;
END
$$
"""

SHAPE = """
SELECT quote_ident(nspname) || '.' || quote_ident(relname)
FROM pg_partition_tree(%s) AS tree
JOIN pg_class ON pg_class.oid = tree.relid JOIN pg_namespace ON pg_namespace.oid = relnamespace
WHERE tree.level > 0 AND relkind <> 'f'
ORDER BY tree.level, relname
"""


def bridge_functions() -> list[str]:
    """Return the SQL of the functions that the triggers call. Guarantee: it can be run again."""
    revoked = [f"REVOKE ALL ON FUNCTION dataarch_cache.{name}() FROM PUBLIC" for name in ("tell", "tell_row")]
    return [STATEMENT.strip(), ROW.strip(), *revoked]


def bridge_triggers(table: Table, partitions: Iterable[str] | None = None, *, drop: bool = False) -> list[str]:
    """Return the SQL of the triggers of one table.

    Args:
        table: the table.
        partitions: names of its partitions as they stand in SQL; None where it is not partitioned.
        drop: take them away instead.

    Guarantee: it can be run again. Each CREATE waits for whoever writes in the table, and each DROP for whoever uses
    it; give them a ``lock_timeout``.
    """
    places = [qualified(table.name, table.schema), *(partitions or ())]
    if drop:
        # those of rows go with the table's own
        names = [(place, name) for place in places for name in (NAMES if place == places[0] else (TRUNCATE,))]
        return [f"DROP TRIGGER IF EXISTS {name} ON {place}" for place, name in names]
    told = f"FOR EACH STATEMENT {_call('tell', table.fullname, *_columns(table))}"
    truncates = [f"CREATE OR REPLACE TRIGGER {TRUNCATE} AFTER TRUNCATE ON {place} {told}" for place in places]
    if partitions is not None:
        owner = tenant_column(table)
        whose = "tenant_id" if owner is not None and owner.name == "tenant_id" else ""
        each = f"FOR EACH ROW {_call('tell_row', table.fullname, whose)}"
        rows = f"CREATE OR REPLACE TRIGGER {ROWS} AFTER INSERT OR UPDATE OR DELETE ON {places[0]} {each}"
        return [rows, *truncates]
    statements = (
        f"CREATE OR REPLACE TRIGGER {PREFIX}{event.lower()} AFTER {event} ON {places[0]} REFERENCING {seen} {told}"
        for event, seen in SEEN.items()
    )
    return [*statements, *truncates]


def partitions_in(connection: Connection, table: Table) -> list[str] | None:
    """Return the partitions that a table has now, as they stand in SQL; None where it is not partitioned."""
    name = qualified(table.name, table.schema)
    kind = connection.exec_driver_sql("SELECT relkind FROM pg_class WHERE oid = to_regclass(%s)", (name,)).scalar()
    if kind != "p":
        return None
    return list(connection.exec_driver_sql(SHAPE, (name,)).scalars())


def _columns(table: Table) -> tuple[str, str]:
    """Return a table's tenant and the rest of its key, as lists of columns in SQL; nothing where it has no such."""
    owner = tenant_column(table)
    whose = "" if owner is None else qualified(owner.name)
    key = [column for column in table.primary_key if column is not owner]
    plain = key and all(_same_as_text(column.type) for column in key)
    return whose, ", ".join(f"{qualified(column.name)}::text" for column in key) if plain else ""


def _same_as_text(kind: TypeEngine[object]) -> bool:
    return isinstance(kind, SAME_AS_TEXT) and not isinstance(kind, CHAR | Enum)


def _call(function: str, *arguments: str) -> str:
    given: Sequence[str] = ["'" + one.replace("'", "''") + "'" for one in arguments]
    return f"EXECUTE FUNCTION dataarch_cache.{function}({', '.join(given)})"
