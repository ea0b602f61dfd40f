"""The constraints of a table as conditions on rows that wait beside it: which of them it would refuse.

A condition is SQL on ``s``, a row that waits, and ``p``, the row of the table that it means, if there is one. What a
type examines before a value leaves Python is not examined again. What no condition finds, the server finds.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from sqlalchemy import CheckConstraint, Column, ForeignKeyConstraint, TextClause
from sqlalchemy.dialects import postgresql
from sqlalchemy.types import String

from dataarch.database.error_mapping import CONSTRAINT_KINDS, CONSTRAINTS
from dataarch.errors import ConstraintError
from dataarch.models.types import Checked
from dataarch.repositories.bulk.target import Target, Unique

__all__ = ["ALONE", "DIALECT", "TENANT", "Rule", "in_bytes", "quoted", "rules_of", "sql_of", "table_name"]

TENANT = "%(tenant)s::uuid"
ALONE = "Correct the row; it cost the others nothing."

DIALECT = postgresql.dialect()  # type: ignore[no-untyped-call]  # SQLAlchemy's own
PREPARER = DIALECT.identifier_preparer

NOT_NULL, FOREIGN_KEY, UNIQUE, CHECK = "23502", "23503", "23505", "23514"


@dataclass(frozen=True, slots=True)
class Rule:
    """One constraint.

    Attributes:
        state: the SQLSTATE that the server refuses a row with.
        broken: the condition in SQL that a row breaks it.
        join: what must be joined for that, if anything.
        constraint: its name; None for NOT NULL.
        column: the column it is about, if it is about one.
        unique: what must be unique, if it is about that.
    """

    state: str
    broken: str
    join: str = ""
    constraint: str | None = None
    column: str | None = None
    unique: Unique | None = None

    def error(self, target: Target) -> ConstraintError:
        """Return the error for a row that breaks it; no value is in it."""
        kind, what = CONSTRAINT_KINDS[self.state]
        kind = CONSTRAINTS.get(self.constraint or "", kind)
        by = self.constraint or f"column {self.column}"
        names = ", ".join(c.name for c in self.unique.columns) if self.unique else ""
        key = f" The key is ({names})." if names else ""
        return kind(
            f"The row was refused by {by} of {target.table.name}: {what}.{key}",
            hint=ALONE,
            table=target.table.name,
            column=self.column,
            constraint=self.constraint,
            sqlstate=self.state,
        )


def rules_of(target: Target) -> tuple[Rule, ...]:
    """Return the rules in the order in which they count: the first that a row breaks is why it is refused."""
    return (*_present(target), *_checks(target), *_references(target), *_uniques(target))


# ── names and values in SQL ───────────────────────────────────────────────────────────────────────────────────────


def quoted(name: str) -> str:
    """Return a name as SQL reads it, and as psycopg leaves it."""
    return '"' + name.replace('"', '""').replace("%", "%%") + '"'


def table_name(target: Target) -> str:
    """Return the table's name as SQL reads it."""
    return str(PREPARER.format_table(target.table)).replace("%", "%%")


def sql_of(expression: Any) -> str:
    """Return an expression of the model as SQL, as psycopg leaves it."""
    if isinstance(expression, str):
        return "'" + expression.replace("'", "''").replace("%", "%%") + "'"
    if isinstance(expression, TextClause):
        return expression.text.replace("%", "%%")
    made = expression.compile(dialect=DIALECT, compile_kwargs={"literal_binds": True, "include_table": False})
    # compiled for psycopg, so that % is doubled already
    return str(made)


def in_bytes(column: Column[Any], owner: str = "") -> str:
    """Return a column to be put in order by: of text by its bytes, which is quick and the same for everybody."""
    name = f"{owner}{quoted(column.name)}"
    return f'{name} COLLATE "C"' if isinstance(column.type.dialect_impl(DIALECT), String) or _is_text(column) else name


def _is_text(column: Column[Any]) -> bool:
    return isinstance(getattr(column.type, "impl", None), String)


def value_of(target: Target, column: Column[Any]) -> str:
    """Return the value that a row will have in a column, wherever it comes from."""
    if column.name == "tenant_id":
        return TENANT
    if column in target.given:
        return f"s.{quoted(column.name)}"
    new = f"s.{quoted(column.name)}" if column in target.filled else _default(column)
    if not target.key:
        return new
    return f"CASE WHEN {_is_there(target)} THEN p.{quoted(column.name)} ELSE {new} END"


def _default(column: Column[Any]) -> str:
    default: Any = column.server_default
    arg = getattr(default, "arg", None)
    return "NULL" if arg is None else sql_of(arg)


def _is_there(target: Target) -> str:  # noqa: ARG001  # every table of a tenant has the column
    return "p.tenant_id IS NOT NULL"


# ── the kinds of constraints ──────────────────────────────────────────────────────────────────────────────────────


def _present(target: Target) -> Iterator[Rule]:
    for column in target.key:
        if column.nullable:
            yield Rule(NOT_NULL, f"s.{quoted(column.name)} IS NULL", column=column.name)
    for column in target.required:
        yield Rule(NOT_NULL, f"NOT ({_is_there(target)})" if target.key else "true", column=column.name)


def _checks(target: Target) -> Iterator[Rule]:
    table = target.table
    brought = {f"{c.name}_valid" for c in table.columns if isinstance(c.type, Checked)}
    found = [one for one in table.constraints if isinstance(one, CheckConstraint)]
    declared = [(str(one.name), sql_of(one.sqltext)) for one in sorted(found, key=lambda one: str(one.name))]
    for check, condition in (*declared, *target.checks):
        if check.removeprefix(f"ck_{table.name}_") in brought:
            continue
        meant = [c for c in table.columns if re.search(rf"\b{re.escape(c.name)}\b", condition) and c.computed is None]
        if not any(column in target.given or not target.key for column in meant):
            continue
        values = ", ".join(f"{value_of(target, column)} AS {quoted(column.name)}" for column in meant)
        broken = f"(SELECT ({condition}) IS FALSE FROM (SELECT {values}) AS {quoted(table.name)})"
        yield Rule(CHECK, broken, constraint=check, column=meant[0].name if len(meant) == 1 else None)


def _references(target: Target) -> Iterator[Rule]:
    found = (one for one in target.table.constraints if isinstance(one, ForeignKeyConstraint))
    for number, reference in enumerate(sorted(found, key=lambda one: str(one.name))):
        own = [element.parent for element in reference.elements]
        others = [column for column in own if column.name != "tenant_id"]
        # deferred: whether it holds is known at the end; to itself: the other row may come with the same portion
        if reference.deferrable or reference.referred_table is target.table:
            continue
        if others and not any(column in target.given for column in others):
            continue
        alias = f"r{number}"
        pairs = [(value_of(target, e.parent), f"{alias}.{quoted(e.column.name)}") for e in reference.elements]
        name = PREPARER.format_table(reference.referred_table).replace("%", "%%")
        join = f"LEFT JOIN {name} AS {alias} ON {' AND '.join(f'{there} = {value}' for value, there in pairs)}"
        given = [f"{value_of(target, column)} IS NOT NULL" for column in others]
        broken = " AND ".join([*given, f"{pairs[0][1]} IS NULL"])
        column = others[0].name if others else "tenant_id"
        yield Rule(FOREIGN_KEY, broken, join, str(reference.name), column)


def _uniques(target: Target) -> Iterator[Rule]:
    identity = [quoted(column.name) for column in target.identity]
    for number, unique in enumerate(target.others):
        alias = f"u{number}"
        pairs = [f"{alias}.{quoted(column.name)} = {value_of(target, column)}" for column in unique.columns]
        whose = [f"{alias}.tenant_id = {TENANT}"]
        if target.key:
            mine = ", ".join(f"p.{name}" for name in identity)
            its = ", ".join(f"{alias}.{name}" for name in identity)
            pairs.append(f"({its}) IS DISTINCT FROM ({mine})")
        join = f"LEFT JOIN {table_name(target)} AS {alias} ON {' AND '.join([*whose, *pairs])}"
        name, column = unique.name, unique.columns[-1].name
        yield Rule(UNIQUE, f"{alias}.tenant_id IS NOT NULL", join, name, column, unique)
