"""Operations that revisions are written with and that Alembic renders none or another code for."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from itertools import chain
from textwrap import indent

from alembic.autogenerate import render_op_text, renderers
from alembic.autogenerate.api import AutogenContext
from alembic.operations import MigrateOperation
from alembic.operations.ops import CreateCheckConstraintOp, ExecuteSQLOp
from sqlalchemy.sql.elements import conv

__all__ = ["Again", "Alone", "Check", "Sql", "untouched"]

PARAMETER = re.compile(r"(?<![:\w\\]):(?=\w+(?!:))")
"""What SQLAlchemy takes for a parameter in text."""


def untouched(sql: str) -> str:
    """Return SQL so that SQLAlchemy, which is given it as text, finds no parameter in it."""
    return PARAMETER.sub(r"\:", sql)


class Alone(MigrateOperation):
    """Operations outside of a transaction, as ``CONCURRENTLY`` needs it; what the revision did before is committed."""

    def __init__(self, *operations: MigrateOperation) -> None:
        self.operations = operations


@dataclass(frozen=True, slots=True)
class Again:
    """Operations of a way down that commits in its middle; killed there, it is run again from its beginning.

    Attributes:
        first: in the revision's transaction, which is tried again until it gets its locks; each does no harm again.
        then: outside of it, where each is tried again by itself.
    """

    first: tuple[MigrateOperation, ...]
    then: tuple[MigrateOperation, ...]

    @staticmethod
    def together(parts: Iterable[Again]) -> tuple[MigrateOperation, ...]:
        """Return the operations of several, in an order in which none asks for a strong lock after a commit."""
        all_of_them = list(parts)
        return tuple(chain(*(one.first for one in all_of_them), *(one.then for one in all_of_them)))


@renderers.dispatch_for(Alone)
def _render_alone(context: AutogenContext, operation: Alone) -> str:
    lines = "\n".join(render_op_text(context, one) for one in operation.operations)
    return f"with op.get_context().autocommit_block():\n{indent(lines, '    ')}"


class Sql(ExecuteSQLOp):
    """A statement for which Alembic has no directive."""

    def __init__(self, statement: str) -> None:
        self.statement = untouched(statement)
        super().__init__(self.statement)


@renderers.dispatch_for(Sql)
def _render_sql(_context: AutogenContext, operation: Sql) -> str:
    return f"op.execute({operation.statement!r})"


class Check(CreateCheckConstraintOp):
    """A CHECK, which Alembic 1.18 renders no code for."""

    def __init__(self, name: str, table: str, condition: str, *, schema: str | None, valid: bool) -> None:
        self.condition = untouched(condition)
        self.valid = valid
        options = {} if valid else {"postgresql_not_valid": True}
        super().__init__(conv(name), table, self.condition, schema=schema, **options)


@renderers.dispatch_for(Check)
def _render_check(_context: AutogenContext, operation: Check) -> str:
    name = str(operation.constraint_name)
    given = [f"op.f({name!r})", repr(operation.table_name), repr(operation.condition)]
    given += [] if operation.schema is None else [f"schema={operation.schema!r}"]
    given += [] if operation.valid else ["postgresql_not_valid=True"]
    return f"op.create_check_constraint({', '.join(given)})"
