"""What the models declare, in the same words as what the revisions make."""

from __future__ import annotations

from collections.abc import Iterator

from sqlalchemy import ForeignKeyConstraint, Table, UniqueConstraint

from dataarch.rollout.checks.catalog import ForeignKey, IndexMade, Key
from dataarch.rollout.checks.tokens import in_schema

__all__ = ["model_foreign_keys", "model_indexes", "model_keys"]


def model_indexes(table: Table) -> Iterator[IndexMade]:
    """Yield the indexes of a model's table."""
    for index in sorted(table.indexes, key=lambda one: str(one.name)):
        options = index.dialect_options["postgresql"]
        classes = options["ops"] or {}
        keys = tuple(
            tuple(word for word in (column.name, classes.get(column.name, "")) if word) for column in index.columns
        )
        yield IndexMade(
            str(index.name),
            in_schema(table.name, table.schema),
            options["using"] or "btree",
            keys,
            unique=bool(index.unique),
            concurrently=False,
        )


def model_keys(table: Table) -> Iterator[Key]:
    """Yield the primary and unique keys of a model's table."""
    name = in_schema(table.name, table.schema)
    if table.primary_key.columns:
        yield Key(name, tuple(column.name for column in table.primary_key.columns), primary=True)
    for constraint in table.constraints:
        if isinstance(constraint, UniqueConstraint):
            yield Key(name, tuple(column.name for column in constraint.columns), primary=False)
    for index in table.indexes:
        if index.unique:
            yield Key(name, tuple(column.name for column in index.columns), primary=False)


def model_foreign_keys(table: Table) -> Iterator[ForeignKey]:
    """Yield the foreign keys of a model's table."""
    for constraint in table.constraints:
        if isinstance(constraint, ForeignKeyConstraint):
            action = " ".join(
                f"{when} {what.lower()}"
                for when, what in (("on delete", constraint.ondelete), ("on update", constraint.onupdate))
                if what
            )
            *schemas, referred, _ = constraint.elements[0].target_fullname.split(".")
            schema = ".".join(schemas) or table.metadata.schema
            name, columns = in_schema(table.name, table.schema), tuple(constraint.column_keys)
            yield ForeignKey(name, columns, in_schema(referred, schema), tuple(action.split()))
