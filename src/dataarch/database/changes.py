"""What a statement changes: rows by their keys where it names them, else whole tables, else anything of the tenant."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any
from uuid import UUID
from weakref import WeakKeyDictionary

from sqlalchemy import Column, Delete, Insert, Table, TextClause, Update
from sqlalchemy.sql import ClauseElement, operators, visitors
from sqlalchemy.sql.elements import BinaryExpression, BindParameter, BooleanClauseList

from dataarch.database.row_keys import key_columns, row_key
from dataarch.models import Base
from dataarch.models.tenancy import tenant_column

__all__ = ["Change", "changes_of", "without_texts", "written_tables"]

Key = tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Change:
    """Something that was written.

    Attributes:
        table: the table, with its schema where it has one; None for any table.
        tenant_id: whose rows; None for those of any tenant, or of none.
        key: the row's primary key without its tenant; None for any number of rows.
        of_nobody: whether the table's rows belong to no tenant.
    """

    table: str | None
    tenant_id: UUID | None
    key: Key | None = None
    of_nobody: bool = False


def changes_of(statement: str, context: Any, tenant_id: UUID | None) -> Iterator[Change]:
    """Give what a statement that was carried out has changed.

    Args:
        statement: its SQL, as it was sent.
        context: SQLAlchemy's execution context.
        tenant_id: whose transaction it is, if it is one's.
    """
    compiled = None if context is None else context.compiled
    if compiled is None or isinstance(compiled.statement, TextClause):
        for name in written_tables(statement):
            yield _by_name(name, tenant_id)
        return
    for written in _written_by(compiled):
        outermost = written is compiled.statement
        yield from _by_statement(written, context if outermost else None, tenant_id)


# ── statements that SQLAlchemy made ───────────────────────────────────────────────────────────────────────────────

_WRITTEN: WeakKeyDictionary[Any, tuple[Update | Insert | Delete, ...]] = WeakKeyDictionary()


def _written_by(compiled: Any) -> tuple[Update | Insert | Delete, ...]:
    """Return the parts of a statement that write: itself, or some that a SELECT has in its WITH."""
    if not (compiled.isinsert or compiled.isupdate or compiled.isdelete or compiled.ctes):
        return ()
    found = _WRITTEN.get(compiled)
    if found is None:
        parts = visitors.iterate(compiled.statement)
        found = _WRITTEN[compiled] = tuple(one for one in parts if isinstance(one, Update | Insert | Delete))
    return found


def _by_statement(written: Update | Insert | Delete, context: Any, tenant_id: UUID | None) -> Iterator[Change]:
    if not isinstance(written.table, Table):
        yield Change(None, tenant_id)
        return
    # the ORM's statements have an annotated copy of it
    table = written.table.metadata.tables[written.table.fullname]
    owner = tenant_column(table)
    rows = None if context is None else _rows(written, table, context)
    of_nobody = owner is None
    if rows is None:
        yield Change(table.fullname, None if of_nobody else tenant_id, None, of_nobody=of_nobody)
    else:
        columns = key_columns(table)
        for row in rows:
            whose = None if owner is None else _tenant(row.get(owner.name, tenant_id))
            key = row_key(table, [row[column.name] for column in columns])
            yield Change(table.fullname, whose, key, of_nobody=of_nobody)
    if isinstance(written, Delete):
        for name in _cascades(table):
            yield Change(name, tenant_id)


def _tenant(given: object) -> UUID | None:
    """Return a tenant's id as a UUID, in whichever form it was given; None for anything else, which is any tenant."""
    try:
        return given if isinstance(given, UUID) else UUID(str(given))
    except ValueError:
        return None


def _rows(written: Update | Insert | Delete, table: Table, context: Any) -> list[dict[str, Any]] | None:
    """Return the keys of the rows that are written, by the names of their columns; None where it does not say."""
    named = _inserted(written, table) if isinstance(written, Insert) else _addressed(written, table, context.compiled)
    if not named:
        return None
    needed = [column.name for column in key_columns(table)]
    rows = [
        {name: parameters[bind] for name, bind in named.items() if parameters.get(bind) is not None}
        for parameters in context.compiled_parameters
    ]
    return rows if rows and needed and all(name in row for row in rows for name in needed) else None


def _inserted(written: Insert, table: Table) -> Mapping[str, str]:
    """Return the parameters of a new row's key, by the names of the columns; none where they do not say."""
    # a row that is there already is changed under another key than the one that was given
    if written.select is not None or written._post_values_clause is not None or written._multi_values:
        return {}
    return {column.name: column.key for column in table.primary_key}


def _addressed(written: Update | Delete, table: Table, compiled: Any) -> Mapping[str, str]:
    """Return the parameters that say which row: those that a condition on a column of the key is equal to."""
    if isinstance(written, Update) and _moves(written, table):
        return {}
    where = written.whereclause
    conditions: Sequence[ClauseElement] = []
    if isinstance(where, BooleanClauseList):
        conditions = where.clauses if where.operator is operators.and_ else []
    elif where is not None:
        conditions = [where]
    found = {}
    for condition in conditions:
        if not (isinstance(condition, BinaryExpression) and condition.operator is operators.eq):
            continue
        column, value = condition.left, condition.right
        ours = isinstance(column, Column) and column.table.description == table.description
        if ours and column.name in table.primary_key.columns and isinstance(value, BindParameter):
            found[column.name] = compiled.bind_names.get(value, value.key)
    return found


def _moves(written: Update, table: Table) -> bool:
    """Return whether a row's key is changed, so that it has two."""
    values: Mapping[Any, object] = written._values or {}
    return any(str(getattr(column, "name", column)) in table.primary_key.columns for column in values)


@lru_cache(maxsize=256)
def _cascades(table: Table) -> tuple[str, ...]:
    """Return the tables whose rows a deletion takes along, directly or not."""
    found: dict[str, Table] = {}
    waiting = [table]
    while waiting:
        gone = waiting.pop()
        for other in table.metadata.tables.values():
            for reference in other.foreign_key_constraints:
                cascades = (reference.ondelete or "").upper() in {"CASCADE", "SET NULL", "SET DEFAULT"}
                if cascades and reference.referred_table is gone and other.fullname not in found:
                    found[other.fullname] = other
                    waiting.append(other)
    return tuple(found)


# ── statements written by hand ────────────────────────────────────────────────────────────────────────────────────

TOKEN = re.compile(
    r"(?P<text>[eE]'(?:[^'\\]|\\.|'')*'|'(?:[^']|'')*'|\$(?P<tag>(?:[^\W\d]\w*)?)\$.*?\$(?P=tag)\$)"
    r"|(?P<name>\"(?:[^\"]|\"\")*\")|(?P<comment>--[^\n]*|/\*.*?\*/)",
    re.DOTALL,
)
"""What hides words and signs; a comment may look as if it began within a text, and a text within a comment."""

READS = re.compile(
    r"\s*\(*\s*(select|values|table|show|set|reset|fetch|close|declare|move|savepoint|release|rollback|explain|begin|"
    r"commit|listen|unlisten|notify|discard|lock|deallocate|prepare|analyze|vacuum)\b",
    re.IGNORECASE,
)
WRITE = re.compile(
    r"\b(?:insert\s+into|update|delete\s+from|merge\s+into|truncate(?:\s+table)?|copy|into)\s+(?:only\s+)?"
    r"(?P<name>(?:\"[^\"]+\"|\w+)(?:\s*\.\s*(?:\"[^\"]+\"|\w+))?)",
    re.IGNORECASE,
)
WORDS = re.compile(r"\b(insert|update|delete|merge|truncate|copy|into)\b", re.IGNORECASE)
REMOVAL = re.compile(r"\b(delete|truncate)\b", re.IGNORECASE)
LOCKING = re.compile(r"\bfor\s+(?:no\s+key\s+)?update\b", re.IGNORECASE)
WITH = re.compile(r"\s*with\b", re.IGNORECASE)

ANY: tuple[str | None, ...] = (None,)


@lru_cache(maxsize=1024)
def written_tables(statement: str) -> tuple[str | None, ...]:
    """Return the tables that SQL written by hand may change; None among them stands for any.

    It finds every table that the text names where one is written. What a function does that is called in a SELECT, no
    text tells: :meth:`Unit.changed` is for that.
    """
    if any("/*" in found["comment"][2:] for found in TOKEN.finditer(statement) if found["comment"]):
        # comments may be nested, which no such pattern can follow
        return ANY
    plain = LOCKING.sub(" ", without_texts(statement))
    found = {name for one in plain.split(";") if one.strip() for name in _written_in(one)}
    return ANY if None in found else tuple(sorted(name for name in found if name is not None))


def without_texts(statement: str) -> str:
    """Return SQL without comments, and with nothing in its texts."""
    return TOKEN.sub(_without_text, statement)


def _without_text(token: re.Match[str]) -> str:
    return token["name"] or (" " if token["comment"] else "''")


def _written_in(plain: str) -> tuple[str | None, ...]:
    """Return the same of one statement that has neither comments nor texts in it."""
    if not WORDS.search(plain):
        return () if READS.match(plain) or WITH.match(plain) else ANY
    names = {found["name"] for found in WRITE.finditer(plain)}
    known = {_known(name) for name in names}
    begins_well = READS.match(plain) or WITH.match(plain) or WRITE.match(plain.lstrip().lstrip("("))
    if not names or not begins_well:
        return ANY
    if None in known:
        return ANY
    written = {name for name in known if name is not None}
    if REMOVAL.search(plain):
        written |= {other for name in written for other in _cascades(Base.metadata.tables[name])}
    return tuple(written)


def _known(name: str) -> str | None:
    """Return the table of ours that a name stands for; None for one that nobody can tell."""
    parts = [part.strip() for part in name.split(".")]
    plain = [part[1:-1] if part.startswith('"') else part.lower() for part in parts]
    if len(plain) == 2 and plain[0] != "public":
        return None
    table = plain[-1]
    if table in Base.metadata.tables:
        return table
    # a partition is its table
    return next((whole for whole in Base.metadata.tables if table.startswith(f"{whole}_")), None)


def _by_name(name: str | None, tenant_id: UUID | None) -> Change:
    table = None if name is None else Base.metadata.tables[name]
    owner = None if table is None else tenant_column(table)
    if table is not None and owner is None:
        return Change(name, None, of_nobody=True)
    return Change(name, tenant_id)
