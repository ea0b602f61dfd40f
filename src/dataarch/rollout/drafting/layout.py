"""Rendered code as people lay it out: double quotes, one line where it fits, else one argument a line."""

from __future__ import annotations

import ast
from collections.abc import Iterator, Sequence
from textwrap import wrap

__all__ = ["laid_out"]

WIDTH = 120

INDENT = 4


def laid_out(code: str, *, indent: int) -> str:
    """Return statements anew, each line of them indented by so many spaces.

    Args:
        code: calls, and ``with`` blocks of calls, as Alembic renders them.
        indent: spaces before each line.

    Guarantee: the same code, for Python.
    """
    return "\n".join(line for node in ast.parse(code).body for line in _statement(node, indent))


def _statement(node: ast.stmt, indent: int) -> Iterator[str]:
    if isinstance(node, ast.With):
        yield f"{' ' * indent}with {', '.join(ast.unparse(item) for item in node.items)}:"
        for inner in node.body:
            yield from _statement(inner, indent + INDENT)
    elif isinstance(node, ast.Expr):
        yield " " * indent + _fitted(node.value, indent, "")
    else:
        yield from (" " * indent + line for line in ast.unparse(node).splitlines())


def _fitted(node: ast.expr, indent: int, before: str) -> str:
    """Return an expression on one line, or on several if it would not fit behind what is before it."""
    flat = _flat(node)
    if indent + len(before) + len(flat) + 1 <= WIDTH:
        return before + flat
    if isinstance(node, ast.Constant) and isinstance(node.value, str):
        return _split(node.value, indent, before)
    if isinstance(node, ast.Call):
        arguments = [("", one) for one in node.args]
        arguments += [(f"{one.arg}=", one.value) for one in node.keywords]
        return _opened(before + _flat(node.func) + "(", arguments, ")", indent)
    if isinstance(node, ast.Dict):
        pairs = zip(node.keys, node.values, strict=True)
        return _opened(before + "{", [(f"{_flat(key)}: ", value) for key, value in pairs if key], "}", indent)
    if isinstance(node, ast.List):
        return _opened(before + "[", [("", one) for one in node.elts], "]", indent)
    return before + flat


def _opened(begin: str, parts: Sequence[tuple[str, ast.expr]], end: str, indent: int) -> str:
    inner = indent + INDENT
    lines = [" " * inner + _fitted(value, inner, before) + "," for before, value in parts]
    return "\n".join([begin, *lines, " " * indent + end])


def _split(value: str, indent: int, before: str) -> str:
    """Return a long text as several that Python joins, cut behind spaces."""
    inner = indent + INDENT
    room = WIDTH - inner - 8
    pieces = wrap(value, room, break_long_words=False, break_on_hyphens=False, drop_whitespace=False)
    if len(pieces) > 1 and inner + len(_string(value)) <= WIDTH:
        # formatters join again what fits on a line of its own
        return "\n".join([before + "(", " " * inner + _string(value), " " * indent + ")"])
    if "".join(pieces) != value or len(pieces) == 1:
        return before + _string(value)
    lines = [" " * inner + _string(piece) for piece in pieces]
    return "\n".join([before + "(", *lines, " " * indent + ")"])


def _flat(node: ast.expr) -> str:
    """Return an expression on one line."""
    if isinstance(node, ast.Constant) and isinstance(node.value, str):
        return _string(node.value)
    if isinstance(node, ast.Call):
        arguments = [_flat(one) for one in node.args] + [f"{one.arg}={_flat(one.value)}" for one in node.keywords]
        return f"{_flat(node.func)}({', '.join(arguments)})"
    if isinstance(node, ast.Attribute):
        return f"{_flat(node.value)}.{node.attr}"
    if isinstance(node, ast.List):
        return f"[{', '.join(map(_flat, node.elts))}]"
    if isinstance(node, ast.Dict):
        pairs = zip(node.keys, node.values, strict=True)
        return f"{{{', '.join(f'{_flat(key)}: {_flat(value)}' for key, value in pairs if key)}}}"
    return ast.unparse(node)


def _string(value: str) -> str:
    written = repr(value)
    if written.startswith("'") and '"' not in written:
        inner = written[1:-1].replace("\\'", "'")
        return f'"{inner}"'
    return written
