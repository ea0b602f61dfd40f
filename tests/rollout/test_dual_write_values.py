"""A dual write as a value: what it refuses without a server, and which names it finds in expressions."""

from __future__ import annotations

from typing import Any

import pytest

from dataarch.errors import InvalidChange
from dataarch.rollout.dual_write import DualWrite
from dataarch.rollout.dual_write.expressions import names_in


@pytest.mark.parametrize(
    ("expression", "names"),
    [
        ("a", {"a"}),
        ("Full_Name || ' ' || \"Last\"", {"full_name", "Last"}),
        ("upper(a)", {"a"}),
        ("upper (a)::text", {"a"}),
        ("app.suffix(a.b, c)", {"c"}),
        ('"we ""said"" so" + 1e5', {'we "said" so'}),
        ("'a' || E'b\\' c' || 'it''s d' || $$e$$ || $x$ f $$ g $x$ || h", {"h"}),
        ("a -- b\n + c /* d\n e */", {"a", "c"}),
        ("straße + ÄRGER", {"straße", "Ärger"}),
        ("lower", {"lower"}),
    ],
)
def test_names_that_may_be_columns_are_found(expression: str, names: set[str]) -> None:
    assert names_in(expression) >= names
    assert names_in(expression) - names <= {"e5"}


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({}, "names no column"),
        ({"forward": {"a": "b"}, "backward": {"a": "c"}}, "has a in both forms"),
        ({"forward": {"a": "b"}, "on_conflict": "newest"}, "cannot let 'newest' win"),
        ({"forward": {"a": "b"}, "name": "x" * 51}, "wrong length"),
        ({"forward": {"a": "b"}, "name": ""}, "wrong length"),
        ({"forward": {"a": " "}}, "has no expression for a"),
        ({"forward": {"a": "'$bounded$'"}}, "cannot be sent"),
        ({"forward": {"": "b"}}, "cannot be sent"),
    ],
)
def test_what_can_work_nowhere_is_refused_without_a_server(given: dict[str, Any], said: str) -> None:
    with pytest.raises(InvalidChange, match=said) as refused:
        DualWrite(**{"name": "in_step", "table": "t", **given})
    assert refused.value.table == "t"
    assert refused.value.hint


def test_it_is_a_value() -> None:
    one, other = (DualWrite("in_step", "t", {"b": "a"}, {"a": "b"}) for _ in range(2))
    assert one == other
    assert one.create_sql() == other.create_sql()
    given = {"b": "a"}
    kept = DualWrite("in_step", "t", given, {"a": "b"})
    given["c"] = "a"
    assert kept == one
    assert one.consistent_sql() == '("b" IS NOT DISTINCT FROM (a\n)) OR ("a" IS NOT DISTINCT FROM (b\n))'
