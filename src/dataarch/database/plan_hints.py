"""What looks wrong in a plan, and what to do about it."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

from dataarch.database.plan_nodes import Catalog, PlanNode

__all__ = ["Hint", "hints_of"]

MANY_ROWS = 1000
"""Rows that are read and not wanted; fewer are nobody's concern."""

FAR_OFF = 100
"""How many times more or fewer rows than expected make another plan likely."""

TEXT = re.compile(r"'(?:[^']|'')*'")
SEARCH = re.compile(
    r"\(?(?P<column>\w+)\)?(?:::\w+)? (?P<operator>@>|<@|@@|@\?|&&|\?[|&]?|\^@|!?~~\*?|!?~\*?|->>?|#>>?)(?= )"
)
"""A column and an operator that is not leakproof; see "Row Security Policies" in PostgreSQL's manual."""

NUMERIC = re.compile(r"(?P<column>\w+) (?P<operator>=|<=?|>=?|<>) ''::numeric")

WRITTEN = {"~~": "LIKE", "!~~": "NOT LIKE", "~~*": "ILIKE", "!~~*": "NOT ILIKE"}
"""Operators as people write them."""

FOR_JSON = "Search through find_activity(), or a function like it: SECURITY DEFINER, with the tenant in its condition"
FOR_OTHERS = "Narrow the rows by a condition of uuid, text =, bigint or timestamptz that an index begins with"


@dataclass(frozen=True, slots=True)
class Hint:
    """Something that looks wrong.

    Attributes:
        table: the table as the schema has it; None where it is about no table.
        message: what, and why.
        advice: what to do about it.
    """

    table: str | None
    message: str
    advice: str

    def __str__(self) -> str:
        return f"{self.message} {self.advice}"


def hints_of(root: PlanNode, catalog: Catalog) -> tuple[Hint, ...]:
    """Return what looks wrong in a plan, each thing once."""
    nodes = [node for node in root.walk() if not node.never_executed]
    found: dict[Hint, None] = {}
    for table in dict.fromkeys(node.table for node in nodes if node.table is not None):
        of_table = [node for node in nodes if node.table == table]
        for hint in _of_table(table, of_table, catalog):
            found[hint] = None
    for hint in (*_estimates(nodes), *_spilled(root)):
        found[hint] = None
    return tuple(found)


def _of_table(table: str, nodes: list[PlanNode], catalog: Catalog) -> Iterator[Hint]:
    searches = [node for node in nodes if node.facts is not None and node.facts.guarded and _not_leakproof(node)]
    if searches and _unwanted(searches) >= MANY_ROWS:
        yield _leaky(table, searches[0], catalog)
    scans = [node for node in nodes if node.kind == "Seq Scan" and node.filters]
    unwanted = _unwanted(scans)
    if unwanted >= MANY_ROWS and not searches:
        there = [f"{one.name} ({', '.join(one.columns)})" for one in catalog.available if one.table == table]
        yield Hint(
            table,
            f"{table} is read from one end to the other, {unwanted:,} rows in vain.",
            f"Give a condition that one of its indexes begins with, or make one: it has {', '.join(there) or 'none'}.",
        )
    if any(_unknown(node, catalog) for node in nodes):
        yield Hint(table, f"{table} has parts without statistics.", f"Run ANALYZE {table}.")


def _unknown(node: PlanNode, catalog: Catalog) -> bool:
    """Return whether a step reads rows of which there are no statistics; partitions made ahead have none, nor rows."""
    facts = node.facts
    if facts is None or facts.name not in catalog.tables or facts.rows is not None:
        return False
    return node.rows + node.removed >= MANY_ROWS if node.ran else not node.is_partition


def _leaky(table: str, node: PlanNode, catalog: Catalog) -> Hint:
    column, operator = _not_leakproof(node)[0]
    written = WRITTEN.get(operator, operator)
    idle = [one.name for one in catalog.available if one.table == table and column in one.columns]
    there = f" {idle[0]} is there, and cannot be used." if idle and node.index not in idle else ""
    json = operator in {"@>", "<@", "?", "?|", "?&", "->", "->>", "#>", "#>>", "@?", "@@"}
    return Hint(
        table,
        f"{column} {written} is asked of each row: under row-level security only leakproof operators can use an"
        f" index, and {written} is none.{there}",
        f"{FOR_JSON if json else FOR_OTHERS}.",
    )


def _not_leakproof(node: PlanNode) -> list[tuple[str, str]]:
    """Return the columns and operators of a step's filter that no index can serve under row-level security."""
    plain = [TEXT.sub("''", condition) for condition in node.filters]
    return [
        (found["column"], found["operator"])
        for condition in plain
        for form in (SEARCH, NUMERIC)
        for found in form.finditer(condition)
    ]


def _unwanted(nodes: list[PlanNode]) -> int:
    """Return how many rows are read in vain: those that were, or those that are expected to be."""
    if any(node.ran for node in nodes):
        return sum(node.removed for node in nodes)
    rows = sum(node.facts.rows or 0 for node in nodes if node.facts is not None)
    return max(0, rows - sum(node.rows_expected for node in nodes))


def _estimates(nodes: list[PlanNode]) -> Iterator[Hint]:
    for node in nodes:
        expected = max(1, node.rows_expected * node.loops)
        if node.facts is None or not node.ran or max(expected, node.rows) < MANY_ROWS:
            continue
        if node.rows > expected * FAR_OFF:
            yield Hint(
                node.table,
                f"{node.rows:,} rows came from {node.relation}, and {expected:,} were expected.",
                f"Run ANALYZE {node.relation}.",
            )


def _spilled(root: PlanNode) -> Iterator[Hint]:
    if root.buffers.temp_written:
        yield Hint(
            None,
            f"{root.buffers.temp_written:,} pages were written to disk because they did not fit in work_mem.",
            "Ask for fewer rows or columns, or raise work_mem for this statement: SET LOCAL work_mem = '64MB'.",
        )
