"""What the cache has counted, and its servers, as tables for a terminal."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import fields

from rich.table import Table

from dataarch.caching.counters import KindStats
from dataarch.caching.store import Facts
from dataarch.cli.terminal import plain

__all__ = ["counts_table", "server_table"]

FIT = {"noeviction", "allkeys-lru", "volatile-lru"}
"""What a server may do when it is full: others remove a writer's announcement before anything else, or at random."""

EVENTS = tuple(field.name for field in fields(KindStats))
MEGABYTE = 1024 * 1024


def counts_table(counts: Mapping[tuple[str, str], int]) -> Table:
    """Return what all processes have counted, a line for each kind and one for all of them."""
    table = Table("kind", title="counted by all processes", title_justify="left")
    for heading in (*EVENTS, "hit rate"):
        table.add_column(heading, justify="right", overflow="fold")
    kinds = sorted({kind for kind, _ in counts})
    everything = {event: sum(counts.get((kind, event), 0) for kind in kinds) for event in EVENTS}
    for kind in kinds:
        _add(table, kind, {event: counts.get((kind, event), 0) for event in EVENTS})
    table.add_section()
    _add(table, "all", everything)
    return table


def _add(table: Table, name: str, counted: Mapping[str, int]) -> None:
    rate = KindStats(**counted).hit_rate
    shown = "" if rate is None else f"{rate:.1%}"
    table.add_row(plain(name), *(f"{counted[event]:,}" for event in EVENTS), shown)


def server_table(gate: str, servers: Sequence[Facts]) -> Table:
    """Return where the cache is, how full it is, and whether it is read."""
    colour = "green" if gate == "open" else "yellow"
    table = Table("server", "version", title=f"the gate is [{colour}]{gate}[/]", title_justify="left")
    table.add_column("memory", justify="right")
    table.add_column("of", justify="right")
    table.add_column("when it is full")
    for one in servers:
        full = one.policy if one.policy in FIT else f"[bold red]{one.policy}[/] (unfit)"
        most = _size(one.most) if one.most else "no limit"
        table.add_row(plain(one.address), plain(one.version), _size(one.used), most, full)
    return table


def _size(size: int) -> str:
    return f"{size / MEGABYTE:,.1f} MB"
