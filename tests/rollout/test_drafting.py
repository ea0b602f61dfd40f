"""Names and code of revisions: never cut off, never changed by the way they are laid out."""

from __future__ import annotations

import ast

import pytest

from dataarch.rollout.drafting.directives import untouched
from dataarch.rollout.drafting.layout import laid_out
from dataarch.rollout.drafting.naming import trimmed, word

LONG = "x " * 100

CODES = {
    "short": "op.drop_column('a', 'b')",
    "many arguments": f"op.create_index('{'i' * 60}', '{'t' * 60}', ['a'], unique=False, postgresql_concurrently=True)",
    "a long list": f"op.create_index('i', 't', [{', '.join(repr('c' * 30 + str(n)) for n in range(9))}])",
    "a long mapping": f"op.start_backfill('n', 't', sets={{'a': {LONG!r}, 'b': {LONG!r}}}, key=('a',))",
    "a long word": f"op.execute({'x' * 300!r})",
    "a text that fits on a line of its own": f"op.start_backfill('n', 't', sets={{'a': 'b'}}, matches='{'x y ' * 26}')",
    "quotes": """op.execute('SELECT "a", \\'b\\', \\\\, %%')""",
    "a block": f"with op.get_context().autocommit_block():\n    op.execute({LONG!r})\n    op.drop_index('i')",
    "an assignment": "a = 1",
}


@pytest.mark.parametrize("code", CODES.values(), ids=CODES.keys())
def test_code_that_is_laid_out_is_the_same_code_and_fits(code: str) -> None:
    found = laid_out(code, indent=4)
    assert ast.dump(ast.parse("if True:\n" + found)) == ast.dump(
        ast.parse("if True:\n" + laid_out(found.strip(), indent=4))
    )
    assert ast.dump(ast.parse(code)) == ast.dump(ast.parse(laid_out(code, indent=0)))
    assert all(len(line) <= 120 for line in found.splitlines()) or "x" * 300 in code


def test_a_text_is_cut_only_where_it_fits_on_no_line_of_its_own() -> None:
    found = laid_out(CODES["a text that fits on a line of its own"], indent=4).splitlines()
    assert f'            "{"x y " * 26}"' in found


def test_names_are_never_cut_off_and_never_become_one() -> None:
    assert word("rename", "Users", "Full Name") == "rename_users_full_name"
    long = [word("rename", "t" * 60, end) for end in ("a", "b")]
    assert len(set(long)) == 2
    assert all(len(one) <= 44 for one in long)
    assert word("rename", "таблица", "x") != word("rename", "другая", "x")
    assert word("rename", "таблица", "x").isascii()
    assert trimmed("short") == "short"
    assert len({trimmed("ü" * 40 + end) for end in "ab"}) == 2
    assert all(len(trimmed("ü" * 40 + end).encode()) <= 63 for end in "ab")


def test_only_what_looks_like_a_parameter_is_escaped() -> None:
    assert untouched("a::text = ':b' AND c = :d") == r"a::text = '\:b' AND c = \:d"
