"""Runs, sources, rejects and origins of rows as tables for a terminal, and as JSON takes them."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict
from datetime import datetime
from typing import Any

import typer
from rich.console import Console
from rich.table import Column, Table
from rich.text import Text

from dataarch.cli.terminal import plain
from dataarch.models import PipelineReject, PipelineRun, PipelineSource
from dataarch.pipelines.lineage import Origin
from dataarch.pipelines.outcome import Outcome

__all__ = [
    "REJECT_FIELDS",
    "origin_table",
    "outcome_described",
    "print_json",
    "reject_described",
    "reject_table",
    "run_described",
    "run_table",
    "show_outcome",
    "show_reasons",
    "source_described",
    "source_table",
]

MOST_REASONS = 20
"""Reasons that are shown; one that tells the line is as frequent as broken lines are."""

SHORTENED = 60
REJECT_FIELDS = (
    "source", "number", "stage", "field", "constraint", "reason", "form", "record", "rejected_at", "replayed_by",
)  # fmt: skip
NUMBERS = ("read", "loaded", "updated", "unchanged", "rejected", "removed")


def print_json(found: object) -> None:
    """Print what is found as JSON; ids and times are text."""
    typer.echo(json.dumps(found, indent=2, default=str))


def show_outcome(console: Console, outcome: Outcome, slug: str, elsewhere: int) -> None:
    """Show what became of all records, why some were rejected, and what to do about them.

    Args:
        console: the terminal.
        outcome: of the run.
        slug: of the tenant that it was for.
        elsewhere: how many rejects are kept with other tenants.
    """
    counts = outcome.counts
    if not counts.read and not outcome.failed:
        console.print(plain(f"Nothing new. Run {outcome.run_id}."), soft_wrap=True)
        return
    table = Table(*(Column(heading, overflow="fold") for heading in NUMBERS), title=plain(f"run {outcome.run_id}"))
    table.add_row(*(f"{getattr(counts, name):,}" for name in NUMBERS))
    console.print(table)
    rate = counts.read / outcome.seconds if outcome.seconds else 0.0
    console.print(f"{outcome.seconds:.1f} seconds, {rate:,.0f} rows/s", highlight=False)
    if counts.rejected:
        show_reasons(console, outcome)
        console.print(
            plain(f"Look at them: dataarch pipeline rejects {outcome.run_id} --tenant {slug}"), soft_wrap=True
        )
    if elsewhere:
        console.print(
            f"{elsewhere:,} of them wait with the tenants that they are of: look at them, and replay them, with the"
            " --tenant of each.",
            soft_wrap=True,
        )


def show_reasons(console: Console, outcome: Outcome) -> None:
    """Show why records were rejected, and how many for each reason."""
    table = Table("stage", "field", "reason", Column("records", justify="right", overflow="fold"), title="rejected")
    shown = outcome.reasons.most_common(MOST_REASONS)
    for (stage, field, reason), count in shown:
        table.add_row(plain(stage), plain(field), plain(reason), f"{count:,}")
    console.print(table)
    if rest := outcome.reasons.total() - sum(count for _, count in shown):
        console.print(f"… and {rest:,} for other reasons.")


def outcome_described(outcome: Outcome, elsewhere: int) -> dict[str, Any]:
    """Return what became of a run, as JSON takes it."""
    return {
        "run": outcome.run_id,
        **asdict(outcome.counts),
        "rejected_elsewhere": elsewhere,
        "sources": outcome.sources,
        "seconds": round(outcome.seconds, 3),
        "reasons": [
            {"stage": stage, "field": field, "reason": reason, "records": count}
            for (stage, field, reason), count in outcome.reasons.most_common()
        ],
        "failed": [{"source": failed.source, "error": failed.error.message} for failed in outcome.failed],
    }


def run_table(runs: Sequence[PipelineRun]) -> Table:
    """Return runs, as they are given."""
    table = Table(Column("started (UTC), run", no_wrap=True), Column("records", justify="right", no_wrap=True))
    table.add_column("pipeline, state", overflow="fold")
    for run in runs:
        numbers = [f"{getattr(run, name):,} {name:<9}" for name in NUMBERS if getattr(run, name)]
        again = f"\nreplay of\n{run.replay_of}" if run.replay_of else ""
        error = f": {run.error}" if run.error else ""
        table.add_row(
            f"{_time(run.started_at)}\n{run.id}{again}",
            "\n".join(numbers) or "none",
            Text("\n").join((plain(run.pipeline), plain(f"{run.state}{error}"))),
        )
    return table


def run_described(run: PipelineRun) -> dict[str, Any]:
    """Return a run, as JSON takes it."""
    return {
        "run": run.id,
        "pipeline": run.pipeline,
        "version": run.pipeline_version,
        "dataarch": run.dataarch_version,
        "state": run.state,
        "started_at": run.started_at,
        "finished_at": run.finished_at,
        "scheduled_for": run.scheduled_for,
        "replay_of": run.replay_of,
        **{name: getattr(run, name) for name in NUMBERS},
        "error": run.error,
    }


def source_table(sources: Sequence[PipelineSource]) -> Table:
    """Return how far sources are read."""
    table = Table("pipeline", Column("source", overflow="fold"))
    for heading in ("records", "bytes"):
        table.add_column(heading, justify="right", overflow="fold")
    for heading in ("read to its end", "last read (UTC)"):
        table.add_column(heading)
    for one in sources:
        whole = "yes" if one.ended_at else "no"
        table.add_row(
            plain(one.pipeline), plain(one.source), f"{one.records:,}", f"{one.bytes:,}", whole, _time(one.updated_at)
        )
    return table


def source_described(source: PipelineSource) -> dict[str, Any]:
    """Return how far a source is read, as JSON takes it."""
    names = ("pipeline", "source", "records", "bytes", "checksum", "ended_at", "begun_by", "run_id", "updated_at")
    return {name: getattr(source, name) for name in names}


def reject_table(rejects: Sequence[PipelineReject]) -> Table:
    """Return rejects, their records shortened; a column in which nothing would stand is left out."""
    columns = {
        "source": [one.source for one in rejects],
        "record": [f"{one.number:,}" for one in rejects],
        "stage": [one.stage for one in rejects],
        "field": [one.field or "" for one in rejects],
        "constraint": [one.constraint_name or "" for one in rejects],
        "reason": [one.reason for one in rejects],
        "as extracted": [_shortened(one.record) for one in rejects],
    }
    shown = {heading: cells for heading, cells in columns.items() if any(cells)}
    table = Table(*(Column(heading, overflow="fold") for heading in shown))
    for row in zip(*shown.values(), strict=True):
        table.add_row(*map(plain, row))
    return table


def reject_described(reject: PipelineReject) -> dict[str, Any]:
    """Return a reject, as JSON takes it."""
    return {
        "source": reject.source,
        "number": reject.number,
        "stage": reject.stage,
        "field": reject.field,
        "constraint": reject.constraint_name,
        "reason": reject.reason,
        "form": reject.form,
        "record": json.loads(reject.record),
        "rejected_at": reject.rejected_at,
        "replayed_by": reject.replayed_by,
    }


def origin_table(origins: Sequence[Origin]) -> Table:
    """Return where a row comes from: for each write, what is known of it in lines."""
    table = Table("pipeline", "source", Column("what", no_wrap=True), Column("", overflow="fold"))
    for one in origins:
        facts = {
            "run": one.run_id,
            "replay of": one.replay_of,
            "version": f"{one.pipeline_version} (dataarch {one.dataarch_version})",
            "table": one.table,
            "record": f"{one.record:,}",
            "batch's bytes": f"{one.first_byte:,} to {one.first_byte + one.bytes:,}" if one.bytes else None,
            "SHA-256": one.checksum,
            "extracted": one.extracted_at,
            "transformed": one.transformed_at,
            "loaded": one.loaded_at,
        }
        for number, (what, fact) in enumerate((what, fact) for what, fact in facts.items() if fact is not None):
            table.add_row(*("", "") if number else (plain(one.pipeline), plain(one.source)), what, plain(fact))
        table.add_section()
    return table


def _shortened(record: str) -> str:
    return record if len(record) <= SHORTENED else f"{record[: SHORTENED - 1]}…"


def _time(instant: datetime) -> str:
    return f"{instant:%Y-%m-%d %H:%M:%S}"
