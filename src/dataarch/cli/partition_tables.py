"""Partitions, plans and what a maintenance did, as tables for a terminal."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

from rich.table import Table
from rich.text import Text

from dataarch.cli.terminal import plain
from dataarch.partitions.catalog import Partition
from dataarch.partitions.maintenance import Maintained
from dataarch.partitions.script import described
from dataarch.partitions.steps import Plan

__all__ = ["maintained_table", "partition_table", "plan_table"]

KILOBYTE = 1024


def partition_table(title: str, partitions: list[Partition], counts: dict[str, int] | None) -> Table:
    """Return the partitions of a table; rows are the statistics' estimate where they were not counted."""
    table = Table("partition", "from (UTC)", "to (UTC)", title=title, title_justify="left")
    for heading in ("rows", "size"):
        table.add_column(heading, justify="right")
    for heading in ("indexes", "policy", "state"):
        table.add_column(heading)
    for one in partitions:
        table.add_row(
            plain(one.name),
            _bound(one.lower, unbounded="everything before", one=one),
            _bound(one.upper, unbounded="everything after", one=one),
            f"{counts[one.name]:,}" if counts else _estimate(one),
            _size(one.size_bytes),
            "yes" if one.indexed else "[bold red]MISSING[/]",
            _policy(one),
            _state(one),
        )
    return table


def _estimate(one: Partition) -> str:
    return "?" if one.row_estimate is None else f"~{one.row_estimate:,}"


def _bound(instant: datetime | None, *, unbounded: str, one: Partition) -> str:
    if one.is_default:
        return "DEFAULT"
    return unbounded if instant is None else f"{instant:%Y-%m-%d %H:%M}".removesuffix(" 00:00")


def _policy(one: Partition) -> str:
    if not one.guarded:
        return "[bold red]MISSING[/]"
    return "yes" if one.isolated else "none"


def _state(one: Partition) -> str:
    if one.detach_pending:
        return "[bold yellow]half detached[/]"
    return plain((one.mark or {}).get("state", "")).plain


def _size(size: int) -> str:
    for unit in ("kB", "MB", "GB"):
        size, shown = size // KILOBYTE, size / KILOBYTE
        if shown < KILOBYTE:
            return f"{shown:.0f} {unit}" if unit == "kB" else f"{shown:.1f} {unit}"
    return f"{shown / KILOBYTE:.1f} TB"


def plan_table(title: str, plan: Plan) -> Table:
    """Return the steps of a plan, and what is in the way."""
    table = Table("step", "what", title=title, title_justify="left")
    for number, step in enumerate(plan.steps, 1):
        table.add_row(str(number), plain(described(step)))
    for problem in plan.problems:
        table.add_row("[bold red]!![/]", plain(problem))
    return table


def maintained_table(title: str, done: Maintained) -> Table:
    """Return what a maintenance did."""
    table = Table("partitions made", "rows moved", "retired", "archives", title=title, title_justify="left")
    table.add_row(
        _lines(done.made),
        f"{done.moved:,}",
        _lines(done.retired),
        _lines(done.archives),
    )
    return table


def _lines(names: Sequence[object]) -> Text:
    return Text("\n").join(plain(name) for name in names or ("none",))
