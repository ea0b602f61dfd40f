"""Operations on functions, triggers and policies: each carries the whole object, so that each can be undone.

``op.create_object(Function(…))``, ``op.drop_object(…)`` and ``op.replace_object(becomes, was)``.
"""

from __future__ import annotations

from dataclasses import fields
from typing import Any

from alembic.autogenerate import renderers
from alembic.autogenerate.api import AutogenContext
from alembic.operations import MigrateOperation, Operations

from dataarch.models.declared import Declared
from dataarch.rollout.operations.statements import verbatim

__all__ = ["CreateObjectOp", "DropObjectOp", "ReplaceObjectOp", "rendered_text"]


@Operations.register_operation("create_object")
class CreateObjectOp(MigrateOperation):
    """Make a function, a trigger or a policy."""

    def __init__(self, declared: Declared) -> None:
        self.declared = declared

    @classmethod
    def create_object(cls, operations: Operations, declared: Declared) -> None:
        """Make a function, a trigger or a policy; refused by the server if it is there already."""
        operations.invoke(cls(declared))

    def reverse(self) -> DropObjectOp:
        """Return what takes it away again."""
        return DropObjectOp(self.declared)

    def to_diff_tuple(self) -> tuple[Any, ...]:
        """Return what ``alembic check`` prints."""
        return (f"add_{self.declared.kind}", self.declared)


@Operations.register_operation("drop_object")
class DropObjectOp(MigrateOperation):
    """Take a function, a trigger or a policy away."""

    def __init__(self, declared: Declared) -> None:
        self.declared = declared

    @classmethod
    def drop_object(cls, operations: Operations, declared: Declared) -> None:
        """Take a function, a trigger or a policy away; refused by the server while something depends on it."""
        operations.invoke(cls(declared))

    def reverse(self) -> CreateObjectOp:
        """Return what makes it again."""
        return CreateObjectOp(self.declared)

    def to_diff_tuple(self) -> tuple[Any, ...]:
        """Return what ``alembic check`` prints."""
        return (f"remove_{self.declared.kind}", self.declared)


@Operations.register_operation("replace_object")
class ReplaceObjectOp(MigrateOperation):
    """Put a function, a trigger or a policy in the place of one with the same name."""

    def __init__(self, becomes: Declared, was: Declared) -> None:
        self.becomes = becomes
        self.was = was

    @classmethod
    def replace_object(cls, operations: Operations, becomes: Declared, was: Declared) -> None:
        """Put a function, a trigger or a policy in the place of one with the same name.

        A function keeps its owner and its privileges.
        """
        operations.invoke(cls(becomes, was))

    def reverse(self) -> ReplaceObjectOp:
        """Return what puts the former one back."""
        return ReplaceObjectOp(self.was, self.becomes)

    def to_diff_tuple(self) -> tuple[Any, ...]:
        """Return what ``alembic check`` prints."""
        return (f"modify_{self.becomes.kind}", self.was, self.becomes)


@Operations.implementation_for(CreateObjectOp)
def _create(operations: Operations, operation: CreateObjectOp) -> None:
    for statement in operation.declared.create_sql():
        operations.execute(verbatim(statement))


@Operations.implementation_for(DropObjectOp)
def _drop(operations: Operations, operation: DropObjectOp) -> None:
    operations.execute(verbatim(operation.declared.drop_sql()))


@Operations.implementation_for(ReplaceObjectOp)
def _replace(operations: Operations, operation: ReplaceObjectOp) -> None:
    for statement in operation.becomes.replace_sql():
        operations.execute(verbatim(statement))


@renderers.dispatch_for(CreateObjectOp)
def _render_create(context: AutogenContext, operation: CreateObjectOp) -> str:
    return f"{_prefix(context)}create_object({_rendered(context, operation.declared)})"


@renderers.dispatch_for(DropObjectOp)
def _render_drop(context: AutogenContext, operation: DropObjectOp) -> str:
    return f"{_prefix(context)}drop_object({_rendered(context, operation.declared)})"


@renderers.dispatch_for(ReplaceObjectOp)
def _render_replace(context: AutogenContext, operation: ReplaceObjectOp) -> str:
    becomes, was = (_rendered(context, one) for one in (operation.becomes, operation.was))
    return f"{_prefix(context)}replace_object(\n    becomes={becomes},\n    was={was},\n)"


def _prefix(context: AutogenContext) -> str:
    return str(context.opts["alembic_module_prefix"])


def _rendered(context: AutogenContext, declared: Declared) -> str:
    kind = type(declared).__name__
    context.imports.add(f"from dataarch.models.declared import {kind}")
    given = [(each.name, getattr(declared, each.name)) for each in fields(declared)]
    lines = "".join(f"    {name}={rendered_text(value)},\n" for name, value in given if value not in {None, False})
    return f"{kind}(\n{lines})"


def rendered_text(value: object) -> str:
    """Return a value as Python reads it, a text of several lines as one string a line.

    Alembic indents what is rendered; within triple quotes that would change the text.
    """
    if not isinstance(value, str) or "\n" not in value:
        return repr(value)
    lines = "".join(f"\n        {line!r}" for line in value.splitlines(keepends=True))
    return f"({lines}\n    )"
