"""Compare the functions that the models declare with those in the database."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from fnmatch import fnmatchcase

from alembic.operations import MigrateOperation
from sqlalchemy import text

from dataarch.models.declared import Function, qualified
from dataarch.rollout.autogenerate.objects import CreateObjectOp, DropObjectOp, ReplaceObjectOp
from dataarch.rollout.autogenerate.run import Run
from dataarch.rollout.autogenerate.scratch import asked
from dataarch.rollout.dual_write.marks import MARK
from dataarch.rollout.operations.statements import verbatim

__all__ = ["compare_functions"]

# pg_get_functiondef() says everything: SECURITY DEFINER, SET, cost, rows, and SQL-standard bodies as they are parsed
FUNCTIONS = """
SELECT nspname AS schema, proname AS name, oidvectortypes(proargtypes) AS types,
       pg_get_function_arguments(pg_proc.oid) AS arguments, pg_get_function_result(pg_proc.oid) AS result,
       substr(whole, strpos(whole, head) + length(head)) AS definition
FROM pg_proc JOIN pg_namespace ON pg_namespace.oid = pronamespace,
LATERAL (SELECT pg_get_functiondef(pg_proc.oid)) AS says (whole),
LATERAL (SELECT quote_ident(proname) || '(' || pg_get_function_arguments(pg_proc.oid) || ')' || E'\\n') AS begins (head)
WHERE prokind = 'f'
"""

THERE = text(
    FUNCTIONS
    + """
    AND nspname <> 'information_schema' AND nspname !~ '^pg_'
    AND NOT EXISTS (SELECT FROM pg_depend
                    WHERE classid = 'pg_proc'::regclass AND objid = pg_proc.oid AND deptype = 'e')
    AND coalesce(obj_description(pg_proc.oid, 'pg_proc'), '') NOT LIKE :dual_write
    ORDER BY nspname, proname, types
    """
)

ASKED = text(FUNCTIONS + " AND pronamespace = pg_my_temp_schema() AND proname = :name")


@dataclass(frozen=True, slots=True)
class Stored:
    """A function in the server's own words."""

    schema: str
    name: str
    types: str
    arguments: str
    result: str | None
    definition: str

    @property
    def identity(self) -> tuple[str, str, str]:
        """What no other function has."""
        return (self.schema, self.name, self.types)

    def declaration(self, schema: str | None) -> Function:
        """Return the declaration that would make it."""
        return Function(self.name, self.arguments, self.definition.rstrip("\n"), schema, self.types)


def compare_functions(run: Run) -> None:
    """Propose functions that are missing, changed, or undeclared where the project removes those.

    One that can be made at once is proposed before the tables, whose defaults may call it; one that names what is not
    there yet, after them.
    """
    there = {one.identity: one for one in _there(run)}
    before: list[MigrateOperation] = []
    wanted = set()
    for declared in (one for one in run.declared if isinstance(one, Function)):
        schema = declared.schema or run.catalog.default_schema
        answer = _as_stored(run, declared, schema)
        if answer is None:
            wanted |= {identity for identity in there if identity[:2] == (schema, declared.name)}
            run.last(*_unasked(run, declared, there, schema))
            continue
        wanted.add(answer.identity)
        before += _change(run, replace(declared, types=answer.types), there.get(answer.identity), answer)
    before += [DropObjectOp(_declaration(run, one)) for one in there.values() if _undeclared(run, one, wanted)]
    run.first(*before)


def _there(run: Run) -> list[Stored]:
    found = (Stored(**row._mapping) for row in run.connection.execute(THERE, {"dual_write": f"{MARK}%"}))
    return [one for one in found if run.compared(one.schema) and run.named(one.name, "function", one.schema)]


def _change(run: Run, declared: Function, stored: Stored | None, answer: Stored) -> Iterator[MigrateOperation]:
    if stored is None:
        yield CreateObjectOp(declared)
    elif (stored.arguments, stored.result) != (answer.arguments, answer.result):
        # CREATE OR REPLACE may change neither names and defaults of arguments nor the result
        yield DropObjectOp(_declaration(run, stored))
        yield CreateObjectOp(declared)
    elif stored != answer:
        yield ReplaceObjectOp(declared, _declaration(run, stored))


def _unasked(
    run: Run, declared: Function, there: dict[tuple[str, str, str], Stored], schema: str
) -> Iterator[MigrateOperation]:
    """Yield the change to a function that names what is not there yet, so that the server cannot be asked."""
    same = [one for one in there.values() if (one.schema, one.name) == (schema, declared.name)]
    if len(same) == 1:
        yield DropObjectOp(_declaration(run, same[0]))
    yield CreateObjectOp(declared)


def _undeclared(run: Run, stored: Stored, wanted: set[tuple[str, str, str]]) -> bool:
    patterns = run.context.opts.get("dataarch_remove_undeclared", ())
    return stored.identity not in wanted and any(fnmatchcase(stored.name, pattern) for pattern in patterns)


def _declaration(run: Run, stored: Stored) -> Function:
    return stored.declaration(None if stored.schema == run.catalog.default_schema else stored.schema)


def _as_stored(run: Run, declared: Function, schema: str) -> Stored | None:
    """Return a function in the server's own words; None if what it names is not there."""

    def question() -> Stored:
        signature = f"pg_temp.{qualified(declared.name)}({declared.arguments})"
        run.connection.execute(verbatim(f"CREATE FUNCTION {signature}\n{declared.definition}"))
        row = run.connection.execute(ASKED, {"name": declared.name}).one()
        return replace(Stored(**row._mapping), schema=schema)

    return asked(run.connection, question)
