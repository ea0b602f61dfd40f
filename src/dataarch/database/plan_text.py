"""A plan as people read it: a tree of steps, with what each did."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import groupby
from typing import NamedTuple

from dataarch.database.plan_nodes import PlanNode

__all__ = ["Fact", "tree"]

CONDITIONS = ("Index Cond", "Recheck Cond", "Hash Cond", "Merge Cond", "Join Filter", "Filter", "One-Time Filter")
KEYS = ("Sort Key", "Presorted Key", "Group Key", "Conflict Arbiter Indexes")
ORDINARY_JOIN = "Inner"


class Fact(NamedTuple):
    """A name and what there is to say of it."""

    name: str
    value: str


def tree(root: PlanNode) -> Iterator[str]:
    """Give the lines of a plan; partitions that had nothing to read share one."""
    yield _line(root)
    yield from _below(root, "")


def _below(node: PlanNode, indent: str) -> Iterator[str]:
    groups = list(_groups(node.nodes))
    for said in _details(node):
        yield f"{indent}{'│' if groups else ' '}    {said}"
    for number, group in enumerate(groups, 1):
        last = number == len(groups)
        yield f"{indent}{'└─' if last else '├─'} {_line(group[0]) if len(group) == 1 else _shared(group)}"
        if len(group) == 1:
            yield from _below(group[0], f"{indent}{'   ' if last else '│  '}")


def _groups(nodes: Sequence[PlanNode]) -> Iterator[list[PlanNode]]:
    """Give the steps one by one, and together those of one kind that found nothing to do one after another."""

    def alike(numbered: tuple[int, PlanNode]) -> object:
        number, node = numbered
        scan = _idle_scan(node)
        if scan is None:
            return number
        return scan.table, node.never_executed, tuple((one.kind, one.index) for one in node.walk())

    for _, group in groupby(enumerate(nodes), key=alike):
        yield [node for _, node in group]


def _idle_scan(node: PlanNode) -> PlanNode | None:
    """Return the scan of the one partition that a step is about, if neither it nor anything below has done anything."""
    scans = [one for one in node.walk() if one.is_partition]
    return scans[0] if len(scans) == 1 and all(one.idle for one in node.walk() if one.ran or one.facts) else None


def _shared(group: Sequence[PlanNode]) -> str:
    scan = _idle_scan(group[0]) or group[0]
    why = "never executed" if scan.never_executed else "nothing to read"
    return f"{scan.kind} on {len(group)} partitions of {scan.table}{_using(scan)}  ({why})"


def _line(node: PlanNode) -> str:
    name = node.details.get("Subplan Name")
    join = node.details.get("Join Type", ORDINARY_JOIN)
    parts = [
        f"{name}: " if name else "",
        "Parallel " if node.details.get("Parallel Aware") else "",
        node.kind,
        f" {join}" if join != ORDINARY_JOIN else "",
        _where(node),
        _using(node),
        f"  ({_measures(node)})",
    ]
    return "".join(parts)


def _where(node: PlanNode) -> str:
    what = node.relation or node.details.get("Function Name") or node.details.get("CTE Name")
    return f" on {what}" if what else ""


def _using(node: PlanNode) -> str:
    backward = " backward" if node.details.get("Scan Direction") == "Backward" else ""
    return f" using {node.index}{backward}" if node.index else ""


def _measures(node: PlanNode) -> str:
    if node.never_executed:
        return "never executed"
    if not node.ran:
        return f"{_count(node.rows_expected, 'row')} expected, cost {node.details.get('Total Cost', 0):,.0f}"
    said = [f"{_count(node.rows, 'row')}, {node.rows_expected * node.loops:,} expected"]
    if node.removed:
        said.append(f"{node.removed:,} removed")
    if node.loops > 1:
        said.append(f"{node.loops:,} loops")
    said.append(_count(node.buffers.touched, "page"))
    if "Actual Total Time" in node.details:
        said.append(f"{node.milliseconds:.2f} ms")
    return ", ".join(said)


def _count(count: int, what: str) -> str:
    return f"{count:,} {what}{'' if count == 1 else 's'}"


def _details(node: PlanNode) -> Iterator[str]:
    for key in CONDITIONS:
        if key in node.details:
            yield f"{key}: {node.details[key]}"
    for key in KEYS:
        if key in node.details:
            yield f"{key}: {', '.join(node.details[key])}"
    if node.details.get("Sort Space Type") == "Disk":
        yield f"Sorted on disk: {node.details['Sort Space Used']:,} kB"
    if node.details.get("Subplans Removed"):
        yield f"Subplans Removed: {node.details['Subplans Removed']}"
