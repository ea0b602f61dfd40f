"""A revision's operations as the code of its two functions, by Alembic's own renderer."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from alembic.autogenerate import render_op_text
from alembic.autogenerate.api import AutogenContext
from alembic.ddl.postgresql import PostgresqlImpl
from alembic.operations import MigrateOperation
from alembic.runtime.migration import MigrationContext
from sqlalchemy import ClauseElement, TextClause
from sqlalchemy.dialects import postgresql

from dataarch.rollout import operations as registered
from dataarch.rollout.drafting.draft import Draft
from dataarch.rollout.drafting.layout import laid_out

__all__ = ["Code"]

OPTIONS = {
    "sqlalchemy_module_prefix": "sa.",
    "alembic_module_prefix": "op.",
    "user_module_prefix": None,
    "render_as_batch": False,
    "render_item": None,
}

OURS = tuple(name for name in registered.__all__ if name.islower())

REGISTERED = "import dataarch.rollout.operations  # noqa: F401  # so that op has its directives"


class _AsWritten(PostgresqlImpl):
    """Alembic's PostgreSQL, which would take the escape from text that is to be text again in the file."""

    # a name of its own: it stands in for nobody's PostgreSQL
    __dialect__ = "dataarch_revisions"

    def render_ddl_sql_expr(
        self,
        expr: ClauseElement,
        is_server_default: bool = False,  # noqa: FBT001, FBT002  # Alembic's signature
        is_index: bool = False,  # noqa: FBT001, FBT002
        **kw: Any,
    ) -> str:
        """Return an expression as code has it between quotes."""
        if isinstance(expr, TextClause):
            return expr.text
        return super().render_ddl_sql_expr(expr, is_server_default=is_server_default, is_index=is_index, **kw)


class Code:
    """The code of one revision, and what it has to import."""

    def __init__(self, draft: Draft) -> None:
        rendering = _context()
        comments = [f"# dataarch: allow {rule}: {reason}" for rule, reason in draft.allows.items()]
        self.upgrade = "\n    ".join([*comments, _body(rendering, draft.up)])
        self.downgrade = _body(rendering, draft.down)
        said = self.upgrade + self.downgrade
        ours = any(f"op.{name}(" in said for name in OURS)
        # a section of its own for what is not SQLAlchemy's, as formatters of imports have it
        sections = ["\n".join(sorted(rendering.imports)), f"\n{REGISTERED}" if ours else ""]
        self.imports = "".join(f"{section}\n" for section in sections if section)


def _context() -> AutogenContext:
    # another style would double each percent sign
    dialect = postgresql.dialect(paramstyle="named")  # type: ignore[no-untyped-call]
    context = MigrationContext.configure(dialect=dialect)
    context.impl = _AsWritten(dialect, None, False, None, None, {})  # noqa: FBT003  # Alembic's signature
    return AutogenContext(context, opts={**context.opts, **OPTIONS}, autogenerate=False)


def _body(context: AutogenContext, operations: Sequence[MigrateOperation]) -> str:
    """Return the lines of a function, all but the first of them indented: a template indents that one."""
    return laid_out("\n".join(render_op_text(context, one) for one in operations), indent=4).strip()
