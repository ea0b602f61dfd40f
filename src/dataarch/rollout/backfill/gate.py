"""The gate before a contract step: what a backfill must have proven, and what is said where it has not."""

from __future__ import annotations

from collections.abc import Sequence

from sqlalchemy import Connection

from dataarch.errors import BackfillChanged, InvalidChange, NotVerified
from dataarch.partitions.quoting import ident, literal
from dataarch.rollout.backfill.at_once import fill_at_once
from dataarch.rollout.backfill.books import SCHEMA, Record, record_of
from dataarch.rollout.backfill.session import one_row, seeing_all, send
from dataarch.rollout.dual_write import faults, faults_sql

__all__ = ["refusal_sql", "require"]

MOST_SHOWN = 5


def require(connection: Connection, name: str, *, at_once: int = 0) -> None:
    """Return if every row was verified and stays so; else refuse.

    Args:
        connection: in the transaction of the contract step. Until it ends, no run of the backfill begins.
        name: the backfill's.
        at_once: a table with at most so many rows that is not verified is filled and compared here; writers wait.

    Raises:
        NotVerified: it was never registered or run, has not finished, rows could not be filled or differ, it is not
            verified, was run or changed since, or the dual write that kept rows in step is no longer in force.
        PrivilegeMissing: a policy of row-level security would hide rows.

    A table without rows has nothing that could differ, and passes: a new database goes through all revisions at once.
    """
    try:
        record = record_of(connection, name)
    except InvalidChange as missing:
        raise NotVerified(f"{missing.message} So nothing was compared.", hint=missing.hint) from None
    except BackfillChanged as changed:
        raise NotVerified(changed.message, hint=changed.hint, table=changed.table) from None
    send(connection, f"SELECT FROM {SCHEMA}.backfills WHERE name = {literal(name)} FOR SHARE")
    if _is_empty(connection, record):
        return
    found = (refused(record) for refused in (_unfinished, _failures, _differing, _unverified))
    if said := next(filter(None, found), None):
        if at_once and fill_at_once(connection, record, at_once):
            return
        raise NotVerified(f"{said[0]}.", hint=said[1], table=record.table_name)
    if record.dual_write and (why := faults(connection, name)):
        raise NotVerified(
            f"The backfill {name} is no ground to go on: {_not_in_force(name)}: {' '.join(why)}",
            hint=_in_force_again(name),
            table=record.table_name,
        )


def refusal_sql(name: str) -> str:
    """Return a DO block that refuses as :func:`require` does, for scripts; it knows no ``at_once``."""
    of = literal(name)
    return f"""
DO $gate$
DECLARE
    found record;
    row_security_before text := current_setting('row_security');
    empty boolean;
    why text;
    hint text := {literal(f"Run: {_commands(name)}.")};
    asked record;
BEGIN
    IF to_regclass('{SCHEMA}.backfills') IS NULL THEN
        why := 'it was never registered';
    ELSE
        SELECT *, (SELECT count(*) FROM {SCHEMA}.backfill_failures AS f WHERE f.name = b.name) AS failures
            INTO found FROM {SCHEMA}.backfills AS b WHERE name = {of} FOR SHARE;
        IF found.name IS NULL THEN
            why := 'it was never registered';
        ELSE
            PERFORM set_config('row_security', 'off', true);
            EXECUTE format('SELECT NOT EXISTS (SELECT FROM %I.%I)', found.schema_name, found.table_name) INTO empty;
            PERFORM set_config('row_security', row_security_before, true);
            why := CASE WHEN empty THEN NULL
                WHEN found.started_at IS NULL THEN 'it was never run'
                WHEN found.finished_at IS NULL THEN 'it has not finished'
                WHEN found.failures > 0 THEN format('%s rows could not be filled', found.failures)
                WHEN found.differing > 0 THEN format('%s rows differ: %s', found.differing, found.differences)
                WHEN found.verified_at IS NULL OR found.verified_digest IS DISTINCT FROM found.digest
                    THEN 'it is not verified' END;
            IF why IS NULL AND found.dual_write AND NOT empty THEN
                EXECUTE {literal(faults_sql(name))} INTO asked;
                IF asked.told <> '{{}}' THEN
                    why := {literal(f"{_not_in_force(name)}: ")} || array_to_string(asked.told, ' ');
                    hint := {literal(_in_force_again(name))};
                END IF;
            END IF;
        END IF;
    END IF;
    IF why IS NOT NULL THEN
        RAISE EXCEPTION USING ERRCODE = 'DA020',
            MESSAGE = format('The backfill %s is no ground to go on: %s', {of}, why),
            HINT = hint;
    END IF;
END
$gate$
""".strip()


def _is_empty(connection: Connection, record: Record) -> bool:
    with seeing_all(connection):
        return bool(
            one_row(connection, f"SELECT NOT EXISTS (SELECT FROM {ident(record.table_name, record.schema_name)})")[0]
        )


Refusal = tuple[str, str] | None
"""What is wrong, and what to do."""


def _unfinished(record: Record) -> Refusal:
    if record.finished_at is not None:
        return None
    what = "was never run" if record.started_at is None else "has not finished"
    return f"The backfill {record.name} {what}", f"Run: {_commands(record.name)}."


def _failures(record: Record) -> Refusal:
    if not record.failures:
        return None
    what = f"The backfill {record.name} could not fill {record.failures:,} rows of {record.table_name}"
    return what, f"`dataarch backfill list {record.name}` says why. Correct them, then run: {_commands(record.name)}."


def _differing(record: Record) -> Refusal:
    if not record.differing:
        return None
    of = f"{record.differing:,} of {record.verified_rows:,} rows of {record.table_name}"
    what = f"{of} are not what the backfill {record.name} makes of them: {described(record.differences)}"
    return what, f"Run: {_commands(record.name, '--again')}."


def _unverified(record: Record) -> Refusal:
    if record.verified_at is not None and record.verified_digest == record.digest:
        return None
    return f"The backfill {record.name} has not been verified since it last ran", f"Run: {_verify(record.name)}."


def described(differences: Sequence[object]) -> str:
    """Return the first differences as a message has them."""
    said = []
    for one in differences[:MOST_SHOWN]:
        assert isinstance(one, dict)  # noqa: S101  # we have written them
        key = ", ".join(map(str, one["key"]))
        if one.get("reason"):
            said.append(f"key ({key}): {one['reason']}")
            continue
        pairs = zip(one["columns"], one["found"], one["expected"], strict=True)
        said.append(
            f"key ({key}): " + ", ".join(f"{name} is {found!r}, not {wanted!r}" for name, found, wanted in pairs)
        )
    return "; ".join(said) + ("; …" if len(differences) > MOST_SHOWN else "")


def _commands(name: str, option: str = "") -> str:
    return f"dataarch backfill run {_shell(name)}{' ' + option if option else ''} && {_verify(name)}"


def _verify(name: str) -> str:
    return f"dataarch backfill verify {_shell(name)}"


def _not_in_force(name: str) -> str:
    return f"the dual write {name} is no longer in force, so rows may have come to differ since they were compared"


def _in_force_again(name: str) -> str:
    return f"Put it in force again; then run: {_commands(name, '--again')}."


def _shell(name: str) -> str:
    return name if name.replace("_", "").replace("-", "").isalnum() else "'" + name.replace("'", "'\\''") + "'"
