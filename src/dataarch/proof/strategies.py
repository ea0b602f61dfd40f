"""Hypothesis strategies for rows that must be accepted, derived from the models themselves."""

from __future__ import annotations

import re
import string
from collections.abc import Callable, Mapping
from datetime import UTC, datetime, timedelta, timezone
from decimal import Decimal
from itertools import accumulate, chain, product
from typing import Any

from hypothesis import assume
from hypothesis import strategies as st
from hypothesis.strategies import SearchStrategy
from sqlalchemy import BigInteger, Uuid
from sqlalchemy.sql.schema import Column, Table
from sqlalchemy.types import TypeEngine

from dataarch.models.base import new_id
from dataarch.models.types import (
    BIGINT_MOST,
    SLUG_LONGEST,
    Choice,
    CurrencyCode,
    Email,
    Json,
    Money,
    Sha256,
    Slug,
    Text,
    UtcDateTime,
)
from dataarch.proof.judge import Judge, Row, checks, stored, written

__all__ = ["emails", "instants", "json_values", "ledgers", "rows", "values"]

LONG = 20_000
"""Characters of the longest text that is drawn; the violations try the very end of what a column takes."""

LOWER = string.ascii_lowercase
characters = st.characters(exclude_categories=["Cs"], exclude_characters="\x00")


def _text(kind: Text) -> SearchStrategy[str]:
    longest = min(kind.most, LONG)
    return st.text(characters, min_size=kind.least, max_size=min(kind.most, 20)) | st.sampled_from(
        ["é" * longest, "\U0001f5c4" * longest, " ", "\N{BYTE ORDER MARK}", "'; --"]
    )


def _slug(_kind: Slug) -> SearchStrategy[str]:
    word = st.text(LOWER + string.digits, min_size=1, max_size=SLUG_LONGEST)
    return st.lists(word, min_size=1, max_size=4).map("-".join).filter(lambda slug: len(slug) <= SLUG_LONGEST)


def emails() -> SearchStrategy[str]:
    """Give addresses in the dot-atom form of RFC 5321, as they are stored."""
    atom = st.text(LOWER + string.digits + "!#$%&'*+/=?^_`{|}~-", min_size=1, max_size=20)
    local = st.lists(atom, min_size=1, max_size=3).map(".".join)
    label = st.text(LOWER + string.digits, min_size=1, max_size=20)
    top = st.sampled_from(["com", "example.org", "museum", "xn--p1ai"])
    return st.builds("{}@{}.{}".format, local, label, top)


def instants() -> SearchStrategy[datetime]:
    """Give aware datetimes in any zone, whose instant lies in the years 1 to 9999 in UTC too."""
    offsets = st.integers(-14 * 60, 14 * 60).map(lambda minutes: timezone(timedelta(minutes=minutes)))
    inside = st.datetimes(datetime(1, 1, 2), datetime(9999, 12, 30), timezones=st.timezones() | offsets)  # noqa: DTZ001  # the zone is drawn
    ends = [datetime.min.replace(tzinfo=UTC), datetime.max.replace(tzinfo=UTC)]
    return inside | st.sampled_from(ends)


def json_values() -> SearchStrategy[Any]:
    """Give JSON values that jsonb can hold."""
    whole = st.integers(-(10**40), 10**40)
    words = st.text(characters)
    leaves = st.none() | st.booleans() | whole | st.floats(allow_nan=False, allow_infinity=False) | words
    return st.recursive(leaves, lambda inner: st.lists(inner) | st.dictionaries(words, inner), max_leaves=20)


def _money(kind: Money) -> SearchStrategy[Decimal]:
    return st.integers(kind.least, BIGINT_MOST).map(lambda minor: Decimal(f"{minor}E-{kind.scale}"))


BY_TYPE: Mapping[type[TypeEngine[Any]], Callable[[Any], SearchStrategy[Any]]] = {
    Text: _text,
    Slug: _slug,
    Money: _money,
    Choice: lambda kind: st.sampled_from(kind.words),
    Email: lambda _kind: emails(),
    Sha256: lambda _kind: st.text("0123456789abcdef", min_size=64, max_size=64),
    CurrencyCode: lambda _kind: st.text(string.ascii_uppercase, min_size=3, max_size=3),
    UtcDateTime: lambda _kind: instants(),
    Json: lambda _kind: json_values(),
    Uuid: lambda _kind: st.builds(new_id),
    # half of bigint, so that a CHECK may add two of them up
    BigInteger: lambda _kind: st.integers(-(BIGINT_MOST // 2), BIGINT_MOST // 2) | st.integers(-3, 3),
}


def values(column: Column[Any]) -> SearchStrategy[Any]:
    """Give Python values that a column accepts, None where it may be NULL.

    Raises:
        LookupError: nobody has said what a column of this type accepts.
    """
    for kind in type(column.type).__mro__:
        if (strategy := BY_TYPE.get(kind)) is not None:
            some = strategy(column.type)
            return st.none() | some if column.nullable else some
    raise LookupError(f"{column}: no strategy is known for {column.type!r}; add its type to dataarch.proof.strategies.")


@st.composite
def rows(draw: st.DrawFn, table: Table, judge: Judge) -> Row:
    """Give rows of Python values that no CHECK of a table refuses; computed columns are left out.

    What depends on one column is made to fit. What ties columns together the database decides: it judges combinations
    of a few values for each column, and one that it accepts is drawn.

    Columns with a default of the server are sometimes left out; not those that a CHECK ties to others, because nobody
    knows the default before.
    """
    row = {column.name: draw(values(column)) for column in written(table)}
    [broken] = judge.broken(table, [stored(table, row)])
    tied = _tied(table)
    for columns in tied:
        conditions = {
            name: condition for name, condition in checks(table).items() if _named(table, condition) & columns
        }
        if broken & conditions.keys():
            tried = draw(_combinations([table.columns[name] for name in row if name in columns]))
            verdicts = judge.ask(table, [stored(table, some) for some in tried], conditions)
            fitting = [some for some, verdict in zip(tried, verdicts, strict=True) if False not in verdict.values()]
            assume(fitting)
            row |= draw(st.sampled_from(fitting))
    assume(judge.accepted(table, [stored(table, row)]))
    bound = set().union(*tied)
    spare = [one.name for one in written(table) if one.server_default is not None and one.name not in bound]
    left_out = draw(st.sets(st.sampled_from(spare))) if spare else set()
    return {name: value for name, value in row.items() if name not in left_out}


def _named(table: Table, condition: str) -> set[str]:
    return set(re.findall(r"[a-z_]+", condition)) & {column.name for column in written(table)}


def _tied(table: Table) -> list[set[str]]:
    """Return the columns that CHECKs tie together, set by set; the sets have no column in common."""
    tied: list[set[str]] = []
    for names in (_named(table, condition) for condition in checks(table).values()):
        if len(names) > 1:
            near = [some for some in tied if some & names]
            tied = [*(some for some in tied if not some & names), names.union(*near)]
    return tied


@st.composite
def _combinations(draw: st.DrawFn, columns: list[Column[Any]]) -> list[dict[str, Any]]:
    """Give combinations of values for columns that CHECKs tie together; numbers share a small pool."""
    one, other = draw(st.integers(1, 10**6)), draw(st.integers(1, 10**6))
    pools: dict[str, list[Any]] = {}
    for column in columns:
        if isinstance(column.type, BigInteger):
            pools[column.name] = [0, one, other, one - other]
        elif isinstance(column.type, Choice):
            pools[column.name] = list(column.type.words)
        else:
            pools[column.name] = [draw(values(column)), draw(values(column))]
    return [dict(zip(pools, chosen, strict=True)) for chosen in product(*pools.values())]


def ledgers(most: int = 6) -> SearchStrategy[list[int]]:
    """Give changes of stock, one after the other, none of them 0, that never leave less than nothing."""
    amounts = st.integers(-(10**9), 10**9).filter(bool)
    return st.lists(amounts, min_size=1, max_size=most).map(_never_below_nothing)


def _never_below_nothing(changes: list[int]) -> list[int]:
    lowest = min(chain([0], accumulate(changes)))
    return changes if lowest == 0 else [-lowest, *changes]
