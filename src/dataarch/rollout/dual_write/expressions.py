"""Which names an SQL expression may mean as columns, without a server."""

from __future__ import annotations

import re
from collections.abc import Iterator

__all__ = ["names_in"]

TOKEN = re.compile(
    r"""
      (?P<comment>--[^\n]*|/\*.*?\*/)
    | (?P<escaped>\b[eE]'(?:[^'\\]|\\.|'')*')
    | (?P<text>'(?:[^']|'')*')
    | (?P<dollar>\$(?P<tag>(?:[^\W\d]\w*)?)\$.*?\$(?P=tag)\$)
    | (?P<quoted>"(?:[^"]|"")+")
    | (?P<bare>[^\W\d][\w$]*)
    | (?P<number>\d\w*)
    | (?P<cast>::)
    | (?P<mark>[^\s])
    """,
    re.VERBOSE | re.DOTALL,
)
"""PostgreSQL, "Lexical Structure", as far as names can be told from all else."""

FOLDED = {upper: upper + 32 for upper in range(ord("A"), ord("Z") + 1)}
"""What the server makes of a name without quotes: letters of other alphabets stay as they are."""


def names_in(expression: str) -> frozenset[str]:
    """Return the names in an expression that may be columns, as the catalog spells them.

    Left out is what is no column for certain: names of functions, of types behind ``::``, and what stands beside a dot.
    Some are left in that are no columns either, keywords for example: the server tells which columns there are.
    """
    tokens = [("", ""), *_tokens(expression), ("", "")]
    return frozenset(
        name
        for (_, before), (kind, name), (_, after) in zip(tokens, tokens[1:], tokens[2:], strict=False)
        if kind == "name" and before not in {".", "::"} and after not in {".", "("}
    )


def _tokens(expression: str) -> Iterator[tuple[str, str]]:
    for found in TOKEN.finditer(expression):
        if found["quoted"]:
            yield "name", found["quoted"][1:-1].replace('""', '"')
        elif found["bare"]:
            yield "name", found["bare"].translate(FOLDED)
        elif not found["comment"]:
            yield "other", found[0]
