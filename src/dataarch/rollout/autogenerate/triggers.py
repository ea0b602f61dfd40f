"""Compare the triggers that the models declare with those in the database."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Any

from alembic.operations import MigrateOperation
from sqlalchemy import text

from dataarch.models.declared import Trigger, qualified
from dataarch.rollout.autogenerate.objects import CreateObjectOp, DropObjectOp, ReplaceObjectOp
from dataarch.rollout.autogenerate.run import Run
from dataarch.rollout.autogenerate.scratch import asked, like
from dataarch.rollout.dual_write.marks import MARK
from dataarch.rollout.operations.statements import verbatim

__all__ = ["compare_triggers"]

# servers differ in how they name the temporary schema
TRIGGERS = """
SELECT nspname AS schema, relname AS relation, tgname AS name, tgconstraint <> 0 AS is_constraint,
       replace(pg_get_triggerdef(pg_trigger.oid), ' ON ' || quote_ident(nspname) || '.', ' ON pg_temp.') AS whole,
       quote_ident(tgname) AS quoted, ' ON pg_temp.' || quote_ident(relname) || ' ' AS place
FROM pg_trigger
JOIN pg_class ON pg_class.oid = tgrelid
JOIN pg_namespace ON pg_namespace.oid = relnamespace
WHERE NOT tgisinternal
"""

THERE = text(
    TRIGGERS
    + " AND NOT relispartition AND nspname <> 'information_schema' AND nspname !~ '^pg_'"
    + " AND coalesce(obj_description(pg_trigger.oid, 'pg_trigger'), '') NOT LIKE :dual_write"
    + " ORDER BY nspname, relname, tgname"
)

ASKED = text(TRIGGERS + " AND tgrelid = to_regclass(:relation)")


@dataclass(frozen=True, slots=True)
class Stored:
    """A trigger in the server's own words."""

    schema: str
    table: str
    name: str
    timing: str
    action: str
    constraint: bool

    @property
    def identity(self) -> tuple[str, str, str]:
        """What no other trigger has."""
        return (self.schema, self.table, self.name)

    @property
    def words(self) -> tuple[str, str, bool]:
        """What two triggers of one name are compared by."""
        return (self.timing, self.action, self.constraint)


def compare_triggers(run: Run) -> None:
    """Propose triggers that are missing, changed, or undeclared where the project removes those.

    New ones come after the tables and functions that they need; those that go, before.
    """
    there = {one.identity: one for one in _there(run)}
    declared = [one for one in run.declared if isinstance(one, Trigger)]
    for one in declared:
        run.last(*_change(run, one, there.get(_identity(run, one))))
    wanted = {_identity(run, one) for one in declared}
    gone = [one for one in there.values() if one.identity not in wanted and _goes(run, one)]
    run.first(*(DropObjectOp(_declaration(run, one)) for one in gone))


def _there(run: Run) -> list[Stored]:
    found = (_stored(row) for row in run.connection.execute(THERE, {"dual_write": f"{MARK}%"}))
    return [one for one in found if run.compared(one.schema) and run.named(one.name, "trigger", one.schema, one.table)]


def _change(run: Run, declared: Trigger, stored: Stored | None) -> Iterator[MigrateOperation]:
    if stored is None:
        yield CreateObjectOp(declared)
        return
    answer = _as_stored(run, declared, stored)
    if answer is None or answer.words != stored.words:
        yield ReplaceObjectOp(declared, _declaration(run, stored))


def _goes(run: Run, stored: Stored) -> bool:
    schema = None if stored.schema == run.catalog.default_schema else stored.schema
    patterns = run.context.opts.get("dataarch_remove_undeclared", ())
    # it would go with its table, and not come back with it
    return (schema, stored.table) in run.dropped or any(fnmatchcase(stored.name, pattern) for pattern in patterns)


def _identity(run: Run, declared: Trigger) -> tuple[str, str, str]:
    return (declared.schema or run.catalog.default_schema, declared.table, declared.name)


def _declaration(run: Run, stored: Stored) -> Trigger:
    schema = None if stored.schema == run.catalog.default_schema else stored.schema
    return Trigger(stored.name, stored.table, stored.timing, stored.action, schema, stored.constraint)


def _as_stored(run: Run, declared: Trigger, stored: Stored) -> Stored | None:
    """Return a trigger in the server's own words; None if what it names is not there."""

    def question() -> Stored:
        table = like(run.connection, stored.table, qualified(stored.table, stored.schema))
        tried = Trigger(declared.name, stored.table, declared.timing, declared.action, "pg_temp", declared.constraint)
        for statement in tried.create_sql():
            run.connection.execute(verbatim(statement))
        return _stored(run.connection.execute(ASKED, {"relation": table}).one())

    return asked(run.connection, question)


def _stored(row: Any) -> Stored:
    head, _, action = row.whole.partition(row.place)
    timing = head.split(f"TRIGGER {row.quoted} ", 1)[1]
    return Stored(row.schema, row.relation, row.name, timing, action, row.is_constraint)
