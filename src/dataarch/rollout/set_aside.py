"""Keep the rows of a table that a downgrade takes away, and bring them back on the next upgrade.

A downgrade that drops a table would lose what is in it. So the table is moved, with its rows, keys and indexes, into
the schema ``dataarch_set_aside``; the upgrade that makes the table again puts the one set aside in its place. A table
without rows is dropped. To lose the rows for good: ``DROP SCHEMA dataarch_set_aside CASCADE``.
"""

from __future__ import annotations

from collections.abc import Sequence

__all__ = ["SCHEMA", "set_aside", "take_back"]

SCHEMA = "dataarch_set_aside"


def set_aside(tables: Sequence[str]) -> str:
    """Return SQL that drops tables, or moves them all aside if any of them has rows.

    Args:
        tables: names in the order in which they can be dropped.

    Partitions go with their table. Takes ACCESS EXCLUSIVE on each table; changes no row, so that its time does not
    depend on their number.
    """
    any_rows = " OR ".join(f"EXISTS (SELECT FROM public.{table})" for table in tables)  # our own names
    moves = "\n".join(f"        {_move(table, 'public', SCHEMA)}" for table in tables)
    return f"""
DO $set_aside$
DECLARE
    partition regclass;
BEGIN
    -- whoever writes now is waited for, so that no row comes between the look and the DROP
    LOCK TABLE {", ".join(f"public.{table}" for table in tables)} IN ACCESS EXCLUSIVE MODE;
    IF to_regnamespace('{SCHEMA}') IS NOT NULL OR {any_rows} THEN
        CREATE SCHEMA IF NOT EXISTS {SCHEMA};
{moves}
        RAISE NOTICE 'The rows of {", ".join(tables)} are kept in schema {SCHEMA} until the next upgrade.';
    ELSE
        DROP TABLE {", ".join(f"public.{table}" for table in tables)};
    END IF;
END
$set_aside$
"""


def take_back(tables: Sequence[str]) -> str:
    """Return SQL that replaces tables just made by those that were set aside, where there are any.

    Args:
        tables: names in the order in which they can be dropped.

    Takes ACCESS EXCLUSIVE on each table; changes no row.
    """
    moves = "\n".join(f"        {_move(table, SCHEMA, 'public')}" for table in tables)
    return f"""
DO $take_back$
DECLARE
    partition regclass;
BEGIN
    IF to_regclass('{SCHEMA}.{tables[0]}') IS NOT NULL THEN
        DROP TABLE {", ".join(f"public.{table}" for table in tables)};
{moves}
        IF NOT EXISTS (SELECT FROM pg_class WHERE relnamespace = to_regnamespace('{SCHEMA}')) THEN
            DROP SCHEMA {SCHEMA};
        END IF;
    END IF;
END
$take_back$
"""


def _move(table: str, source: str, target: str) -> str:
    return f"""FOR partition IN
            SELECT inhrelid::regclass FROM pg_inherits WHERE inhparent = '{source}.{table}'::regclass
        LOOP
            EXECUTE format('ALTER TABLE %s SET SCHEMA {target}', partition);
        END LOOP;
        ALTER TABLE {source}.{table} SET SCHEMA {target};"""
