"""``op.require_verified``: the gate before a contract step."""

from __future__ import annotations

from typing import Any

from alembic import op
from alembic.autogenerate import renderers
from alembic.autogenerate.api import AutogenContext
from alembic.operations import MigrateOperation, Operations

from dataarch.rollout.backfill.gate import refusal_sql, require
from dataarch.rollout.operations.statements import run

__all__ = ["RequireVerifiedOp", "require_verified"]


@Operations.register_operation("require_verified")
class RequireVerifiedOp(MigrateOperation):
    """Refuse to go on before a backfill is verified; there is nothing to reverse."""

    def __init__(self, name: str, *, at_once: int = 0) -> None:
        self.name = name
        self.at_once = at_once

    @classmethod
    def require_verified(cls, operations: Operations, name: str, *, at_once: int = 0) -> None:
        """Refuse, as :func:`require_verified` says."""
        operations.invoke(cls(name, at_once=at_once))

    def to_diff_tuple(self) -> tuple[Any, ...]:
        """Return the difference as Alembic's comparison shows it."""
        return ("require_verified", self.name)


@renderers.dispatch_for(RequireVerifiedOp)
def _render(context: AutogenContext, operation: RequireVerifiedOp) -> str:
    limit = f", at_once={operation.at_once}" if operation.at_once else ""
    return f"{context.opts['alembic_module_prefix']}require_verified({operation.name!r}{limit})"


@Operations.implementation_for(RequireVerifiedOp)
def _require(operations: Operations, operation: RequireVerifiedOp) -> None:
    if operations.get_context().as_sql:
        run(operations, refusal_sql(operation.name))
    else:
        require(operations.get_bind(), operation.name, at_once=operation.at_once)


def require_verified(name: str, *, at_once: int = 0) -> None:
    """Go on only if a backfill has filled every row, and every row was compared since.

    The first line of a contract revision: what follows takes the old form away, and what was not carried over is lost.

    Args:
        name: the backfill's, as it was given to :func:`start_backfill`.
        at_once: a table with at most so many rows need not have been backfilled: it is filled and compared here, and
            its writers wait until the revision ends. With ``--sql`` it counts for nothing.

    Raises:
        NotVerified: it was never registered or run, has not finished, rows could not be filled or differ, it is not
            verified, was run or changed since, or the dual write of its name is no longer in force. The message says
            which rows, and the commands to run.
        PrivilegeMissing: a policy of row-level security would hide rows.

    Guarantee: changes nothing, but for ``at_once``. Until the revision ends no run of the backfill begins. A table
    without rows passes.
    """
    op.invoke(RequireVerifiedOp(name, at_once=at_once))
