"""What a select reads, and what it is called: told by the statement itself, as it is compiled.

Whatever stands in the SQL that is sent has passed the compiler: the tables of joins, of subqueries, of WITH, of
relationships, of criteria that were added. So none is missed, and what may read something else is refused.
"""

from __future__ import annotations

import inspect
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any

from sqlalchemy import CompoundSelect, Select, Table, TextClause, types
from sqlalchemy import inspect as inspected
from sqlalchemy.dialects.postgresql import psycopg
from sqlalchemy.exc import InvalidRequestError
from sqlalchemy.orm import Bundle
from sqlalchemy.sql import visitors
from sqlalchemy.sql.selectable import TextualSelect

from dataarch.caching.fingerprints import fingerprint
from dataarch.caching.forms import Forms, values_of
from dataarch.caching.pure_functions import PURE_FUNCTIONS
from dataarch.errors import InvalidValue, shown

__all__ = ["Asked", "asked"]

HARMLESS = re.compile(r"\*|\d+")
"""Literal SQL that reads nothing: what ``count(*)`` and EXISTS are made with."""

TEMPORAL = (types.DateTime, types.Date, types.Time)

BY_KIND = "Or remember it by a kind that says what it reads: db.cache.define(Kind(…, reads=(…,)))."


@dataclass(frozen=True, slots=True)
class Asked:
    """A select with its values.

    Attributes:
        name: the same for the same question, in every process.
        tables: what it reads.
    """

    name: str
    tables: tuple[Table, ...]


def asked(statement: Any) -> Asked:
    """Return what a select is called and what it reads.

    Raises:
        InvalidValue: its result may depend on more than the rows of tables that it names, or it is no select; the
            message says what to do.
    """
    _refuse_what_is_no_select(statement)
    form, cached = _FORMS.of(statement, partial(_form_of, statement))
    return Asked(fingerprint(form.name, list(form.values(cached))), form.tables)


def _refuse(which: str, why: str, hint: str = BY_KIND, value: object = None) -> InvalidValue:
    return InvalidValue(f"A query {which} cannot be remembered: {why}.", hint=hint, value=value)


def _refuse_what_is_no_select(statement: Any) -> None:
    if isinstance(statement, TextClause | TextualSelect):
        raise _refuse("written as text", "it does not say which tables it reads", f"Use select(). {BY_KIND}")
    if not isinstance(statement, Select | CompoundSelect):
        raise _refuse(
            f"that is no select but {type(statement).__name__}",
            "only what is read can be",
            "Give select(…), or union(…) of them; execute what is none.",
        )
    if "schema_translate_map" in statement.get_execution_options():
        raise _refuse("with a schema_translate_map", "it reads other tables than it names")


def _refuse_what_is_no_columns(statement: Any) -> None:
    for described in getattr(statement, "column_descriptions", ()):
        _refuse_entities(described["expr"])
    for part in visitors.iterate(statement):
        # sqlalchemy.ext.compiler leaves this mark
        if hasattr(type(part), "_compiler_dispatcher"):
            name = type(part).__name__
            raise _refuse(f"with a {name} in it", "@compiles writes that as SQL of any kind", value=name)


def _refuse_entities(selected: Any) -> None:
    if isinstance(selected, Bundle):
        raise _refuse("with a Bundle in it", "its rows come back flat", f"Select the columns of {selected.name}.")
    about = inspected(selected, raiseerr=False)
    if about is not None and (getattr(about, "is_mapper", False) or getattr(about, "is_aliased_class", False)):
        name = about.mapper.class_.__name__
        raise _refuse(
            f"for whole {name} objects",
            "one that no session knows would lose what is written to it, and load nothing",
            f"Select columns: select({name}.…, {name}.…), or select({name}.__table__) for all of them.",
            name,
        )


# ── forms ─────────────────────────────────────────────────────────────────────────────────────────────────────────


@dataclass(frozen=True, slots=True)
class _Form:
    """What is the same of all statements that differ in nothing but their values."""

    name: str
    tables: tuple[Table, ...]
    compiled: _Compiler
    temporal: frozenset[str]

    def values(self, cached: Any) -> Iterator[tuple[str, Any]]:
        """Give the parameters by their names in the SQL."""
        try:
            parameters = values_of(self.compiled, cached)
        except InvalidRequestError as missing:
            hint = "Give it one: statement.params(name=value)."
            raise _refuse("with a parameter that has no value", missing.args[0].lower(), hint) from None
        for name, value in sorted(parameters.items()):
            if name in self.temporal and _has_text(value):
                raise _refuse(
                    f"with the text {shown(value)} as an instant",
                    "some such texts tell the time",
                    "Give a datetime, date or time.",
                    value,
                )
            yield name, value


_FORMS: Forms[_Form] = Forms()


def _form_of(statement: Any, cached: Any) -> _Form:
    _refuse_what_is_no_columns(statement)
    compiled = _Compiler(_Dialect(), statement, cache_key=cached)
    if not compiled.read:
        raise _refuse("that reads no table", "nothing would ever make it invisible", "Execute it.", compiled.string)
    columns = [[column.key, _type_name(column.type)] for column in statement.selected_columns]
    return _Form(
        fingerprint(compiled.string, columns),
        tuple(table for _, table in sorted(compiled.read.items())),
        compiled,
        frozenset(name for name, bind in compiled.binds.items() if _temporal(bind.type)),
    )


def _type_name(type_: Any) -> list[Any]:
    """Return what tells a type apart from others: what its constructor was given.

    The SQL does not always tell: the same number is minor units or an amount of money.
    """
    given = (getattr(type_, name, None) for name in inspect.signature(type(type_)).parameters)
    kind = type(type_)
    return [
        f"{kind.__module__}.{kind.__qualname__}",
        *(_type_name(one) if isinstance(one, types.TypeEngine) else repr(one) for one in given),
    ]


def _temporal(type_: Any) -> bool:
    return isinstance(_plain(type_), TEMPORAL)


def _plain(type_: Any) -> Any:
    """Return SQLAlchemy's own type behind one of ours."""
    return getattr(type_, "impl_instance", type_)


def _has_text(value: object) -> bool:
    if isinstance(value, str):
        return True
    return isinstance(value, Iterable) and not isinstance(value, bytes) and any(_has_text(one) for one in value)


# ── the compiler ──────────────────────────────────────────────────────────────────────────────────────────────────

_Dialect: Any = psycopg.dialect
_Base: Any = _Dialect.statement_compiler


class _Compiler(_Base):  # type: ignore[misc]  # which class it is depends on the dialect
    """The dialect's compiler, which also notes each table that it writes down, and refuses what may read others."""

    def __init__(self, *given: Any, **named: Any) -> None:
        # compiling happens in there
        self.read: dict[str, Table] = {}
        super().__init__(*given, **named)

    def visit_table(self, table: Any, *given: Any, **named: Any) -> Any:
        if not isinstance(table, Table):
            raise _refuse(f"from table({table.name!r})", "nothing is known of it but the name", "Use the model.")
        # the ORM's statements have an annotated copy of it
        self.read[table.fullname] = table.metadata.tables[table.fullname]
        return super().visit_table(table, *given, **named)

    def visit_function(self, func: Any, *given: Any, **named: Any) -> Any:
        name = str(func.name).lower()
        known = name in PURE_FUNCTIONS and tuple(func.packagenames) in {(), ("pg_catalog",)}
        if not known:
            called = ".".join((*func.packagenames, name))
            raise _refuse(
                f"that calls {called}()",
                "it may give another result without any row being written, or read tables that nobody sees in here",
                f"Call it in Python and give its result as a value. {BY_KIND}",
                called,
            )
        return super().visit_function(func, *given, **named)

    def visit_sequence(self, sequence: Any, **_: Any) -> Any:
        raise _refuse(f"that takes numbers from {sequence.name}", "each is taken once", "Execute it.", sequence.name)

    def visit_textclause(self, textclause: Any, *_: Any, **__: Any) -> Any:
        raise _refuse(
            f"with the text {shown(textclause.text)} in it",
            "nobody knows what it reads",
            f"Write it with columns, values and operators. {BY_KIND}",
            textclause.text,
        )

    def visit_textual_select(self, taf: Any, *_: Any, **__: Any) -> Any:
        return self.visit_textclause(taf.element)

    def visit_column(self, column: Any, *given: Any, **named: Any) -> Any:
        if column.is_literal and not HARMLESS.fullmatch(column.name):
            raise _refuse(
                f"with literal_column({column.name!r}) in it",
                "nobody knows what it reads",
                f"Write it with columns, values and operators. {BY_KIND}",
                column.name,
            )
        return super().visit_column(column, *given, **named)

    def visit_cast(self, cast: Any, **named: Any) -> Any:
        if _temporal(cast.type) and isinstance(_plain(cast.clause.type), types.String):
            raise _refuse("that casts text to an instant", "'now' is such a text", "Give a datetime, or use to_date().")
        return super().visit_cast(cast, **named)

    def get_statement_hint_text(self, hint_texts: Any) -> Any:
        raise _refuse(f"with the hint {shown(' '.join(hint_texts))}", "it may be any SQL", "Leave it out.")

    def for_update_clause(self, *_: Any, **__: Any) -> Any:
        raise _refuse("that locks rows", "who is served from the cache has locked none", "Execute it.")

    def visit_insert(self, insert_stmt: Any, *_: Any, **__: Any) -> Any:
        raise _writes(insert_stmt)

    def visit_update(self, update_stmt: Any, *_: Any, **__: Any) -> Any:
        raise _writes(update_stmt)

    def visit_delete(self, delete_stmt: Any, *_: Any, **__: Any) -> Any:
        raise _writes(delete_stmt)


def _writes(statement: Any) -> InvalidValue:
    table = getattr(statement.table, "name", None)
    return _refuse(f"that writes to {table}", "it has to be carried out each time", "Execute it.", table)
