"""Operations that revisions are written with and that Alembic renders none or another code for."""

from __future__ import annotations

import re
from textwrap import indent

from alembic.autogenerate import render_op_text, renderers
from alembic.autogenerate.api import AutogenContext
from alembic.operations import MigrateOperation
from alembic.operations.ops import ExecuteSQLOp

__all__ = ["Alone", "Sql", "untouched"]

PARAMETER = re.compile(r"(?<![:\w\\]):(?=\w+(?!:))")
"""What SQLAlchemy takes for a parameter in text."""


def untouched(sql: str) -> str:
    """Return SQL so that SQLAlchemy, which is given it as text, finds no parameter in it."""
    return PARAMETER.sub(r"\:", sql)


class Alone(MigrateOperation):
    """Operations outside of a transaction, as ``CONCURRENTLY`` needs it; what the revision did before is committed."""

    def __init__(self, *operations: MigrateOperation) -> None:
        self.operations = operations


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
