"""SQL as its words: enough to see what a statement makes, takes away or writes, without a parser's grammar.

Comments are left out. A word without quotes is in lower case; a text keeps its quotes, and a name in quotes too. What
a ``DO`` block does is read statement by statement; what a function does when it is called, and SQL that is put
together at run time, is not.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence

__all__ = ["in_schema", "mentions", "name_of", "pieces", "split", "statements", "table_of", "within"]

TOKEN = re.compile(
    r"""
    (?P<skip> \s+ | --[^\n]* | /\*.*?\*/ )
  | (?P<dollar> \$(?P<tag>\w*)\$ .*? \$(?P=tag)\$ )
  | (?P<text> [eE]?'(?:[^']|'')*' )
  | (?P<quoted> "(?:[^"]|"")*" )
  | (?P<word> [\w$]+ )
  | (?P<sign> :: | <> | . )
    """,
    re.VERBOSE | re.DOTALL,
)

DEFAULT_SCHEMA = "public"

BLOCK_WORDS = frozenset({"begin", "then", "else", "loop"})
"""After these a statement of PL/pgSQL begins."""


def words(sql: str) -> Iterator[str]:
    """Yield the words and signs of SQL."""
    for token in TOKEN.finditer(sql):
        if token["skip"] is None:
            yield token[0].lower() if token["word"] else token[0]


def statements(sql: str) -> Iterator[list[str]]:
    """Yield the words of each statement, those within a ``DO`` block too."""
    for statement in split(list(words(sql)), ";"):
        body = _body(statement) if statement[:1] == ["do"] else None
        if body is None:
            yield statement
        else:
            yield from _in_block(body)


def _body(statement: Sequence[str]) -> str | None:
    for word in statement:
        if word.startswith("$") and word.endswith("$"):
            return word.split("$", 2)[2].rsplit("$", 2)[0]
    return None


def _in_block(body: str) -> Iterator[list[str]]:
    for piece in split(list(words(body)), ";"):
        starts = [place + 1 for place, word in enumerate(piece) if word in BLOCK_WORDS]
        # the word CASE has its own THEN and ELSE: what follows them is no statement
        for start in starts or [0]:
            if piece[start:]:
                yield piece[start:]


def split(tokens: Sequence[str], at: str) -> list[list[str]]:
    """Return what stands between signs that are within no parentheses."""
    found: list[list[str]] = [[]]
    depth = 0
    for sign in tokens:
        depth += (sign == "(") - (sign == ")")
        if sign == at and depth == 0:
            found.append([])
        else:
            found[-1].append(sign)
    return [part for part in found if part]


def within(tokens: Sequence[str], start: int = 0) -> list[str]:
    """Return what stands in the first parentheses from a place on; empty where there are none."""
    depth, found = 0, list[str]()
    for sign in tokens[start:]:
        depth -= sign == ")"
        if depth > 0:
            found.append(sign)
        elif found or sign == ")":
            break
        depth += sign == "("
    return found


def pieces(tokens: Sequence[str], start: int = 0) -> list[list[str]]:
    """Return what the first parentheses from a place on list."""
    return split(within(tokens, start), ",")


def name_of(tokens: Sequence[str]) -> str:
    """Return the name that begins here, without its schema and its quotes; empty where there is none."""
    return _parts(tokens)[-1]


def table_of(tokens: Sequence[str]) -> str:
    """Return the table whose name begins here, as :func:`in_schema` calls it; empty where there is none."""
    *schemas, name = _parts(tokens)
    return in_schema(name, schemas[-1] if schemas else None)


def in_schema(name: str, schema: str | None) -> str:
    """Return what a table is called here: with its schema, unless that is public, whatever the search path."""
    return name if schema in {None, DEFAULT_SCHEMA} else f"{schema}.{name}"


def mentions(text: str, table: str) -> bool:
    """Return whether a text in lower case has a name that is the table's, or begins as it does."""
    schema, _, name = table.lower().rpartition(".")
    before = rf'(?<![\w."])"?{re.escape(schema or DEFAULT_SCHEMA)}"?\s*\.\s*"?'
    bare = "" if schema else r'|(?<![\w."])"?'
    return re.search(f"(?:{before}{bare}){re.escape(name)}", text) is not None


def _parts(tokens: Sequence[str]) -> list[str]:
    parts = [""]
    for place, sign in enumerate(tokens):
        if place % 2 and sign != ".":
            break
        if place % 2 == 0:
            parts.append(sign[1:-1].replace('""', '"') if sign.startswith('"') else sign)
    return parts[1:] or parts
