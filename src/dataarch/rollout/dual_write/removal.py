"""Take a dual write away."""

from __future__ import annotations

from dataarch.partitions.quoting import ident, literal
from dataarch.rollout.dual_write.marks import MARK, UNMAKEABLE, drop_functions

__all__ = ["removal"]


def removal(name: str, table: str, schema: str | None = None) -> str:
    """Return a block of PL/pgSQL that takes away a dual write's trigger and functions, those that are still there.

    Where there is neither trigger nor function, it raises.
    """
    whose = literal(ident(table, schema))
    return f"""
DECLARE
    place regclass := {whose}::regclass;
    one text;
    found_any boolean := false;
BEGIN
    IF EXISTS (SELECT FROM pg_catalog.pg_trigger
               WHERE tgrelid = place AND tgname = {literal(name)} AND tgparentid = 0
                 AND pg_catalog.obj_description(oid, 'pg_trigger') LIKE {literal(MARK + "%")}) THEN
        EXECUTE pg_catalog.format('DROP TRIGGER %I ON %s', {literal(name)}, place);
        found_any := true;
    END IF;
    {drop_functions(name)}
        found_any := true;
    END LOOP;
    IF NOT found_any THEN
        RAISE EXCEPTION USING
            ERRCODE = '{UNMAKEABLE}',
            MESSAGE = {literal(f"there is no dual write {name} on {table}")},
            HINT = 'It was dropped before, or is on another table.';
    END IF;
END;
""".strip()
