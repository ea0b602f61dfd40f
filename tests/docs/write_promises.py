"""Write docs/promises.md anew: each promise with the tests that are named after it. Run by ``make promises``.

The wording of a promise is what stands on the page already.
"""

from __future__ import annotations

import ast
import re
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
PAGE = ROOT / "docs" / "promises.md"
INTRODUCTION = """# Promises and their tests

Each promise is kept when the tests named after it pass on PostgreSQL 15 and 18. One without a test is not made yet.
"""


def wording() -> dict[str, str]:
    """Return each promise's words, by number, from the page."""
    return dict(sorted(re.findall(r"^(?:## |- )(M\d\d) (.+)$", PAGE.read_text(), re.MULTILINE)))


def named_tests() -> Iterator[tuple[str, Path]]:
    """Yield the name of every test and the file that it stands in."""
    for file in sorted((ROOT / "tests").rglob("test_*.py")):
        for node in ast.walk(ast.parse(file.read_text())):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and node.name.startswith("test_"):
                yield node.name, file.relative_to(ROOT)


def tests_by_promise() -> dict[str, list[str]]:
    """Return the lines that name the tests of each promise."""
    found: dict[str, list[str]] = defaultdict(list)
    for name, path in named_tests():
        if name.startswith("test_m"):
            for number in re.findall(r"(?<=_)m(\d\d)(?=_)", name):
                found[f"M{number}"].append(f"- `{name}` in [{path}](../{path})")
    return found


def page() -> str:
    """Return the page as it should be."""
    words, tests = wording(), tests_by_promise()
    kept = ["\n".join([f"## {number} {words[number]}", "", *tests[number], ""]) for number in words if tests[number]]
    open_ones = [f"- {number} {words[number]}" for number in words if not tests[number]]
    return "\n".join([INTRODUCTION, *kept, "## Not yet", "", *open_ones, ""])


if __name__ == "__main__":
    PAGE.write_text(page())
