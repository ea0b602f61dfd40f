"""How a dual write's objects are told from others in the catalog, and whether they are as they were made."""

from __future__ import annotations

from dataarch.partitions.quoting import literal

__all__ = ["DIGEST", "MARK", "UNMAKEABLE", "drop_functions", "mark_of"]

MARK = "dataarch dual write"
"""What the comments on its trigger and its functions begin with."""

UNMAKEABLE = "DA009"
"""SQLSTATE of a change that this table does not allow."""

DIGEST = """
pg_catalog.encode(pg_catalog.sha256(pg_catalog.convert_to(pg_catalog.concat_ws(E'\\n',
    tgtype, tgattr, tgqual IS NULL, tgnargs,
    (SELECT pg_catalog.string_agg(
        proname || ' ' || coalesce(pg_catalog.pg_get_function_sqlbody(pg_proc.oid), prosrc), E'\\n'
        ORDER BY proname COLLATE "C")
     FROM pg_catalog.pg_proc
     WHERE pg_proc.oid = tgfoid
        OR pronamespace = (SELECT relnamespace FROM pg_catalog.pg_class WHERE pg_class.oid = tgrelid)
           AND pg_catalog.obj_description(pg_proc.oid, 'pg_proc') = '{mark} ' || tgname)
), 'UTF8')), 'hex')
""".strip().replace("{mark}", MARK)
"""What a trigger does, in 64 characters, over ``pg_trigger``; asked with a search path of pg_catalog alone.

A trigger says in its comment what it was when it was made.
"""


def drop_functions(name: str) -> str:
    """Return PL/pgSQL that drops the functions of a dual write of the schema of ``place``, one after the other.

    It needs a variable ``one``; what is to be done after each stands behind it, before ``END LOOP``.
    """
    return f"""FOR one IN
        SELECT oid::regprocedure FROM pg_catalog.pg_proc
        WHERE pronamespace = (SELECT relnamespace FROM pg_catalog.pg_class WHERE oid = place)
          AND pg_catalog.obj_description(oid, 'pg_proc') = {literal(mark_of(name))}
    LOOP
        EXECUTE 'DROP FUNCTION ' || one;"""


def mark_of(name: str) -> str:
    """Return the comment on each function of a dual write."""
    return f"{MARK} {name}"
