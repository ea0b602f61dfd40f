"""What a statement and its order are called: the same for the same, in every process, and another for another."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, TypeAlias

from sqlalchemy import ColumnElement, Select
from sqlalchemy.dialects import postgresql
from sqlalchemy.exc import InvalidRequestError

from dataarch.caching.fingerprints import fingerprint
from dataarch.caching.forms import Forms, values_of
from dataarch.errors import InvalidValue

__all__ = ["Question", "asked"]

DIALECT: Any = postgresql.psycopg.dialect

Statement: TypeAlias = "Select[*tuple[Any, ...]]"


class Question(NamedTuple):
    """The digests of a statement with its values, and of its order."""

    query: bytes
    order: bytes


@dataclass(frozen=True, slots=True)
class _Form:
    """What is the same of all statements that differ in nothing but their values."""

    query: str
    order: str
    compiled: Any
    names: frozenset[str]

    def question(self, cached: Any) -> Question:
        try:
            values = values_of(self.compiled, cached)
        except InvalidRequestError as missing:
            raise InvalidValue(
                f"A parameter of the statement has no value: {missing.args[0].lower()}.",
                hint="Give it one: statement.params(name=value).",
            ) from None
        mine = {name: value for name, value in values.items() if name in self.names}
        return Question(_digest(self.query, mine), _digest(self.order, values))


def asked(statement: Statement, clauses: Sequence[ColumnElement[Any]], refuse: Callable[[Statement], None]) -> Question:
    """Return what a statement and its order are called.

    Args:
        statement: without an order of its own.
        clauses: what stands in ORDER BY.
        refuse: is asked once for all statements that differ in nothing but their values; what it raises is raised.

    Raises:
        InvalidValue: a parameter has no value, or one that could mean anything.
    """
    # a wildcard: the statement as it stands is part of it, its order too
    ordered = statement.order_by(*clauses)

    def made(cached: Any) -> _Form:
        refuse(statement)
        return _form_of(statement, ordered, cached)

    form, cached = _FORMS.of(ordered, made)
    return form.question(cached)


_FORMS: Forms[_Form] = Forms()


def _form_of(statement: Statement, ordered: Statement, cached: Any) -> _Form:
    bare = statement.compile(dialect=DIALECT())
    compiled = DIALECT.statement_compiler(DIALECT(), ordered, cache_key=cached)
    return _Form(fingerprint(bare.string), fingerprint(compiled.string), compiled, frozenset(bare.params))


def _digest(name: str, values: Mapping[str, Any]) -> bytes:
    try:
        return bytes.fromhex(fingerprint(name, dict(values)))[:12]
    except InvalidValue as unknown:
        raise InvalidValue(
            f"The statement has a {type(unknown.value).__name__} as a value, and no cursor can be bound to that.",
            hint="Give text, numbers, dates, UUIDs, bytes, None, or collections of them as values.",
        ) from None
