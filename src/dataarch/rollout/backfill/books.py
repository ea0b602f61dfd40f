"""The books of backfills, in schema ``dataarch_rollout``: what each is to do, how far it is, and what it has proven.

The schema belongs to whoever runs migrations; nobody else sees it, and autogenerate leaves it alone. It is made by the
first operation that needs it, and goes with the last backfill that is forgotten.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import Connection

from dataarch.errors import BackfillChanged, DataArchError, InvalidChange
from dataarch.partitions.quoting import literal
from dataarch.rollout.backfill.definition import Definition
from dataarch.rollout.backfill.session import ask, one_row

__all__ = ["MAKE", "SCHEMA", "Record", "Totals", "all_records", "forget_sql", "record_of", "register_sql", "totals_of"]

SCHEMA = "dataarch_rollout"

MAKE = f"""
DO $books$
BEGIN
    -- two that make it at once would both find it missing
    PERFORM pg_advisory_xact_lock(hashtext('{SCHEMA}'));
    IF to_regnamespace('{SCHEMA}') IS NULL THEN
        CREATE SCHEMA {SCHEMA};
    END IF;
    IF to_regclass('{SCHEMA}.backfills') IS NULL THEN
        CREATE TABLE {SCHEMA}.backfills (
            name text PRIMARY KEY,
            schema_name text NOT NULL,
            table_name text NOT NULL,
            definition jsonb NOT NULL,
            digest text NOT NULL,
            registered_at timestamptz NOT NULL DEFAULT now(),
            runs integer NOT NULL DEFAULT 0,
            estimated_rows bigint,
            started_at timestamptz,
            paused_at timestamptz,
            finished_at timestamptz,
            dual_write boolean NOT NULL DEFAULT false,
            verified_at timestamptz,
            verified_rows bigint,
            verified_digest text,
            checksum text,
            differing bigint,
            differences jsonb
        );
        CREATE TABLE {SCHEMA}.backfill_ranges (
            name text NOT NULL REFERENCES {SCHEMA}.backfills ON DELETE CASCADE,
            number integer NOT NULL,
            leaf_schema text NOT NULL,
            leaf_name text NOT NULL,
            reached text[],
            upper text[],
            seen bigint NOT NULL DEFAULT 0,
            changed bigint NOT NULL DEFAULT 0,
            batches bigint NOT NULL DEFAULT 0,
            updated_at timestamptz,
            done_at timestamptz,
            PRIMARY KEY (name, number)
        ) WITH (fillfactor = 50);
        CREATE TABLE {SCHEMA}.backfill_failures (
            name text NOT NULL REFERENCES {SCHEMA}.backfills ON DELETE CASCADE,
            leaf_schema text NOT NULL,
            leaf_name text NOT NULL,
            key text[] NOT NULL,
            sqlstate text NOT NULL,
            reason text NOT NULL,
            failed_at timestamptz NOT NULL DEFAULT now(),
            PRIMARY KEY (name, leaf_schema, leaf_name, key)
        );
        CREATE TABLE {SCHEMA}.backfill_chunks (
            name text NOT NULL REFERENCES {SCHEMA}.backfills ON DELETE CASCADE,
            number integer NOT NULL,
            leaf_schema text NOT NULL,
            leaf_name text NOT NULL,
            last text[] NOT NULL,
            rows bigint NOT NULL,
            differing bigint NOT NULL,
            checksum text NOT NULL,
            PRIMARY KEY (name, number)
        );
    END IF;
END
$books$
""".strip()

COLUMNS = """name, schema_name, table_name, definition::text, digest, runs, estimated_rows, registered_at, started_at,
    paused_at, finished_at, dual_write, verified_at, verified_rows, verified_digest, checksum, differing,
    differences::text, (SELECT count(*) FROM dataarch_rollout.backfill_failures AS f WHERE f.name = b.name) AS failures,
    EXISTS (SELECT FROM pg_locks WHERE locktype = 'advisory' AND granted AND objsubid = 2
            AND database = (SELECT oid FROM pg_database WHERE datname = current_database())
            AND classid = hashtext('dataarch.backfill')::bit(32)::bigint::oid
            AND objid = hashtext(name)::bit(32)::bigint::oid) AS busy"""


@dataclass(frozen=True, slots=True)
class Record:
    """A backfill as the books have it; the fields are the columns of ``backfills``.

    Attributes:
        runs: how often it was begun; what is verified holds for that number of runs alone.
        dual_write: whether a dual write of the same name was in force when it ran or was verified.
        failures: rows that could not be filled.
        busy: whether somebody runs or verifies it at this moment.
    """

    name: str
    schema_name: str
    table_name: str
    definition: Definition
    digest: str
    runs: int
    estimated_rows: int | None
    registered_at: datetime
    started_at: datetime | None
    paused_at: datetime | None
    finished_at: datetime | None
    dual_write: bool
    verified_at: datetime | None
    verified_rows: int | None
    verified_digest: str | None
    checksum: str | None
    differing: int | None
    differences: Sequence[Mapping[str, Any]]
    failures: int
    busy: bool

    @property
    def state(self) -> str:
        """One word for where it stands."""
        if self.finished_at is None:
            if self.paused_at is not None:
                return "paused"
            if self.busy:
                return "running"
            return "registered" if self.started_at is None else "stopped"
        if self.failures:
            return "failures"
        if self.verified_at is None:
            return "differs" if self.differing else "finished"
        return "verified"


@dataclass(frozen=True, slots=True)
class Totals:
    """How far all ranges are together."""

    seen: int
    changed: int
    batches: int
    open: int
    ranges: int


def record_of(connection: Connection, name: str) -> Record:
    """Return a backfill; raises :class:`InvalidChange` where none of this name is registered."""
    found = _records(connection, f"WHERE name = {literal(name)}")
    if not found:
        raise InvalidChange(
            f"There is no backfill {name}.",
            hint="`dataarch backfill list` shows those that a revision has registered with op.start_backfill.",
            value=name,
        )
    return found[0]


def all_records(connection: Connection) -> list[Record]:
    """Return all backfills, the latest first."""
    return _records(connection, "ORDER BY registered_at DESC, name")


def totals_of(connection: Connection, name: str) -> Totals:
    """Return how far a backfill is."""
    row = one_row(
        connection,
        f"SELECT coalesce(sum(seen), 0)::bigint, coalesce(sum(changed), 0)::bigint,"
        f" coalesce(sum(batches), 0)::bigint, count(*) FILTER (WHERE done_at IS NULL), count(*)"
        f" FROM {SCHEMA}.backfill_ranges WHERE name = {literal(name)}",
    )
    return Totals(*map(int, row))


def register_sql(definition: Definition) -> str:
    """Return a DO block that registers a backfill; registering the same one again changes nothing.

    A definition that differs from the one registered is refused with SQLSTATE DA021.
    """
    table = literal(_regclass(definition))
    name = literal(definition.name)
    return f"""
DO $register$
BEGIN
    INSERT INTO {SCHEMA}.backfills (name, schema_name, table_name, definition, digest)
        SELECT {name}, nspname, relname, {literal(definition.to_json())}::jsonb,
            {literal(definition.digest)}
        FROM pg_class JOIN pg_namespace ON pg_namespace.oid = relnamespace WHERE pg_class.oid = {table}::regclass
        ON CONFLICT (name) DO NOTHING;
    IF EXISTS (SELECT FROM {SCHEMA}.backfills WHERE name = {name} AND digest <> {literal(definition.digest)}) THEN
        RAISE EXCEPTION USING ERRCODE = 'DA021', MESSAGE = {literal(changed_message(definition.name))},
            HINT = {literal(CHANGED_HINT)};
    END IF;
END
$register$
""".strip()


CHANGED_HINT = "Give the new one another name, or forget the old one first: op.forget_backfill."


def changed_message(name: str) -> str:
    """Say that another definition is registered."""
    return f"The backfill {name} is registered with another definition, and what that one did is in the books"


def changed(record: Record) -> BackfillChanged:
    """Return the error for a backfill whose definition is not the one it began with."""
    return BackfillChanged(f"{changed_message(record.name)}.", hint=CHANGED_HINT, table=record.table_name)


def forget_sql(name: str) -> str:
    """Return a DO block that forgets a backfill; with the last one go the books themselves."""
    tables = ", ".join(f"{SCHEMA}.{table}" for table in ("backfill_chunks", "backfill_failures", "backfill_ranges"))
    return f"""
DO $forget$
BEGIN
    IF to_regclass('{SCHEMA}.backfills') IS NOT NULL THEN
        DELETE FROM {SCHEMA}.backfills WHERE name = {literal(name)};
        IF NOT EXISTS (SELECT FROM {SCHEMA}.backfills) THEN
            DROP TABLE {tables}, {SCHEMA}.backfills;
        END IF;
        IF NOT EXISTS (SELECT FROM pg_class WHERE relnamespace = to_regnamespace('{SCHEMA}')) AND
           NOT EXISTS (SELECT FROM pg_proc WHERE pronamespace = to_regnamespace('{SCHEMA}')) THEN
            DROP SCHEMA {SCHEMA};
        END IF;
    END IF;
END
$forget$
""".strip()


def _regclass(definition: Definition) -> str:
    parts = (definition.table,) if definition.schema is None else (definition.schema, definition.table)
    return ".".join('"' + part.replace('"', '""') + '"' for part in parts)


def _records(connection: Connection, which: str) -> list[Record]:
    if one_row(connection, f"SELECT to_regclass('{SCHEMA}.backfills') IS NULL")[0]:
        return []
    return [_record(row) for row in ask(connection, f"SELECT {COLUMNS} FROM {SCHEMA}.backfills AS b {which}")]


def _record(row: Any) -> Record:
    values = dict(row._mapping)
    name, digest = values["name"], values["digest"]
    try:
        definition = Definition.from_json(name, json.loads(values["definition"]))
    except (DataArchError, LookupError, TypeError, ValueError):
        definition = None
    if definition is None or definition.digest != digest:
        raise BackfillChanged(f"{changed_message(name)}.", hint=CHANGED_HINT, table=values["table_name"])
    values["definition"] = definition
    values["differences"] = json.loads(values["differences"] or "[]")
    return Record(**values)
