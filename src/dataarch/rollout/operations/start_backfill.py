"""``op.start_backfill`` and ``op.forget_backfill``."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Unpack

from alembic import op
from alembic.autogenerate import renderers
from alembic.autogenerate.api import AutogenContext
from alembic.operations import MigrateOperation, Operations

from dataarch.rollout.backfill.books import MAKE, forget_sql, register_sql
from dataarch.rollout.backfill.definition import Definition, Given
from dataarch.rollout.backfill.registration import register
from dataarch.rollout.operations.statements import run

__all__ = ["ForgetBackfillOp", "StartBackfillOp", "forget_backfill", "start_backfill"]


class _BackfillOp(MigrateOperation):
    """What both know: the definition, so that each can be reversed."""

    def __init__(self, name: str, table_name: str, *, sets: Mapping[str, str], **given: Unpack[Given]) -> None:
        self.definition = Definition.of(name, table_name, sets, **given)

    def arguments(self) -> str:
        """Return its arguments as code."""
        one = self.definition
        key = None if one.key is None else list(one.key)
        options = {"where": one.where, "matches": one.matches, "key": key, "schema": one.schema}
        said = "".join(f", {name}={value!r}" for name, value in options.items() if value is not None)
        return f"{one.name!r}, {one.table!r}, sets={dict(one.sets)!r}{said}"

    def other(self, kind: type[_BackfillOp]) -> Any:
        """Return the operation of another kind with the same definition."""
        made = kind.__new__(kind)
        made.definition = self.definition
        return made


@Operations.register_operation("start_backfill")
class StartBackfillOp(_BackfillOp):
    """Register a backfill, which ``dataarch backfill run`` then does."""

    @classmethod
    def start_backfill(
        cls, operations: Operations, name: str, table_name: str, *, sets: Mapping[str, str], **given: Unpack[Given]
    ) -> None:
        """Register a backfill, as :func:`start_backfill` says."""
        operations.invoke(cls(name, table_name, sets=sets, **given))

    def reverse(self) -> ForgetBackfillOp:
        """Return the operation that forgets it."""
        found: ForgetBackfillOp = self.other(ForgetBackfillOp)
        return found

    def to_diff_tuple(self) -> tuple[Any, ...]:
        """Return the difference as Alembic's comparison shows it."""
        return ("start_backfill", self.definition.schema, self.definition.table, self.definition.name)


@Operations.register_operation("forget_backfill")
class ForgetBackfillOp(_BackfillOp):
    """Forget a backfill and all that the books have of it."""

    @classmethod
    def forget_backfill(
        cls, operations: Operations, name: str, table_name: str, *, sets: Mapping[str, str], **given: Unpack[Given]
    ) -> None:
        """Forget a backfill, as :func:`forget_backfill` says."""
        operations.invoke(cls(name, table_name, sets=sets, **given))

    def reverse(self) -> StartBackfillOp:
        """Return the operation that registers it again."""
        found: StartBackfillOp = self.other(StartBackfillOp)
        return found

    def to_diff_tuple(self) -> tuple[Any, ...]:
        """Return the difference as Alembic's comparison shows it."""
        return ("forget_backfill", self.definition.schema, self.definition.table, self.definition.name)


@renderers.dispatch_for(StartBackfillOp)
def _render_start(context: AutogenContext, operation: StartBackfillOp) -> str:
    return f"{context.opts['alembic_module_prefix']}start_backfill({operation.arguments()})"


@renderers.dispatch_for(ForgetBackfillOp)
def _render_forget(context: AutogenContext, operation: ForgetBackfillOp) -> str:
    return f"{context.opts['alembic_module_prefix']}forget_backfill({operation.arguments()})"


@Operations.implementation_for(StartBackfillOp)
def _start(operations: Operations, operation: StartBackfillOp) -> None:
    if operations.get_context().as_sql:
        run(operations, MAKE)
        run(operations, register_sql(operation.definition))
    else:
        register(operations.get_bind(), operation.definition)


@Operations.implementation_for(ForgetBackfillOp)
def _forget(operations: Operations, operation: ForgetBackfillOp) -> None:
    run(operations, forget_sql(operation.definition.name))


def start_backfill(name: str, table_name: str, *, sets: Mapping[str, str], **given: Unpack[Given]) -> None:
    """Register a backfill: columns of a table that are to be filled from others, row by row, in small batches.

    The revision changes no row, so that it takes no time and holds no lock. ``dataarch backfill run NAME`` does the
    work, ``dataarch backfill verify NAME`` compares every row, and :func:`require_verified` is the gate in the revision
    that takes the old form away.

    Args:
        name: the backfill's own; that of the dual write which keeps new and changed rows in step, if there is one.
        table_name: a table or a partitioned table.
        sets: the columns to fill, each with an SQL expression over the columns of the row.
        given: ``where``, SQL for the rows that are concerned, which must not read a column that is filled;
            ``matches``, SQL that holds for a row that is done, by default that each column is what its expression
            gives; ``key``, the columns of a unique index of NOT NULL columns to go by, by default the primary key;
            ``schema``, the table's, by default where the search path finds it.

    Raises:
        InvalidChange: there is no such table, column or key, or an expression cannot be planned.
        BackfillChanged: another definition is registered under this name.

    Guarantee: part of the revision's transaction; registering the same backfill again changes nothing. Takes no lock
    that a reader or writer of the table would wait for.
    """
    op.invoke(StartBackfillOp(name, table_name, sets=sets, **given))


def forget_backfill(name: str, table_name: str, *, sets: Mapping[str, str], **given: Unpack[Given]) -> None:
    """Forget a backfill: its progress, its failures and what was verified. The rows stay as they are.

    Args:
        name: the backfill's.
        table_name: its table, and all that follows: so that the operation can be reversed.
        sets: as for :func:`start_backfill`.
        given: as for :func:`start_backfill`.

    Guarantee: part of the revision's transaction; idempotent. With the last backfill go the books. Who runs it stops
    with BackfillChanged.
    """
    op.invoke(ForgetBackfillOp(name, table_name, sets=sets, **given))
