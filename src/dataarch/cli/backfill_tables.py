"""Backfills, their failures and differences as tables for a terminal, and as JSON takes them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

from rich.table import Column, Table

from dataarch.cli.terminal import plain
from dataarch.rollout.backfill.books import Record, Totals
from dataarch.rollout.backfill.standing import Failure
from dataarch.rollout.backfill.verify import Verified

__all__ = ["backfill_described", "backfill_table", "differences_table", "failure_table", "verified_described"]


def backfill_table(found: Sequence[tuple[Record, Totals]]) -> Table:
    """Return where backfills stand."""
    table = Table(Column("backfill, table", overflow="fold"), "state", Column("rows", justify="right"))
    table.add_column("changed", justify="right")
    table.add_column("failed", justify="right")
    table.add_column("verified (UTC)")
    for one, totals in found:
        rows = f"{totals.seen:,}"
        if one.finished_at is None and one.estimated_rows:
            rows += f"\nof about\n{max(one.estimated_rows, totals.seen):,}"
        table.add_row(
            plain(one.name) + "\n" + plain(f"{one.schema_name}.{one.table_name}"),
            one.state,
            rows,
            f"{totals.changed:,}",
            f"{one.failures:,}",
            _time(one.verified_at),
        )
    return table


def failure_table(one: Record, failures: Sequence[Failure]) -> Table:
    """Return rows that could not be filled, and what the server said."""
    title = plain(f"{one.name}: {len(failures):,} of {one.failures:,} rows that could not be filled")
    table = Table("table", Column("key", overflow="fold"), "SQLSTATE", Column("reason", overflow="fold"), title=title)
    for failure in failures:
        table.add_row(plain(failure.table), plain(", ".join(failure.key)), failure.sqlstate, plain(failure.reason))
    return table


def differences_table(name: str, differences: Sequence[Mapping[str, Any]]) -> Table:
    """Return the first rows that differ, a line for each column that does."""
    table = Table("table", Column("key", overflow="fold"), "column", title=plain(f"{name}: the first that differ"))
    for heading in ("is", "should be"):
        table.add_column(heading, overflow="fold")
    for one in differences:
        place = (plain(one["table"]), plain(", ".join(one["key"])))
        if "reason" in one:
            table.add_row(*place, "", "", plain(f"fails: {one['reason']}"))
            continue
        triples = list(zip(one["columns"], one["found"], one["expected"], strict=True))
        for column, found, expected in [each for each in triples if each[1] != each[2]] or triples:
            table.add_row(*place, plain(column), plain(_shown(found)), plain(_shown(expected)))
    return table


def backfill_described(one: Record, totals: Totals, failures: Sequence[Failure]) -> dict[str, Any]:
    """Return where a backfill stands, as JSON takes it."""
    return {
        "name": one.name,
        "table": f"{one.schema_name}.{one.table_name}",
        "sets": dict(one.definition.sets),
        "where": one.definition.where,
        "matches": one.definition.matches,
        "state": one.state,
        "estimated": one.estimated_rows,
        "seen": totals.seen,
        "changed": totals.changed,
        "batches": totals.batches,
        "ranges": totals.ranges,
        "ranges_left": totals.open,
        "registered_at": one.registered_at,
        "started_at": one.started_at,
        "finished_at": one.finished_at,
        "verified_at": one.verified_at,
        "verified_rows": one.verified_rows,
        "checksum": one.checksum,
        "differing": one.differing,
        "differences": list(one.differences),
        "failed": one.failures,
        "failures": [
            {"table": each.table, "key": each.key, "sqlstate": each.sqlstate, "reason": each.reason}
            for each in failures
        ],
    }


def verified_described(found: Verified) -> dict[str, Any]:
    """Return what a verification has found, as JSON takes it."""
    return {name: getattr(found, name) for name in found.__slots__}


def _shown(value: str | None) -> str:
    return "NULL" if value is None else value


def _time(instant: datetime | None) -> str:
    return "" if instant is None else f"{instant.astimezone(UTC):%Y-%m-%d %H:%M:%S}"
