"""``dataarch pipeline``: run one, see what became of every record, and load what was rejected once it is mended."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated
from uuid import UUID

import typer
from sqlalchemy import func, select

from dataarch.caching.database import Database
from dataarch.cli import schedule
from dataarch.cli.pipeline_input import AsJson, Tenant, id_of, pipeline_named, sources_of, tenant_named
from dataarch.cli.pipeline_progress import shown_progress
from dataarch.cli.pipeline_rejects import write_csv, write_json_lines
from dataarch.cli.pipeline_tables import (
    outcome_described,
    print_json,
    reject_table,
    run_described,
    run_table,
    show_outcome,
    source_described,
    source_table,
)
from dataarch.cli.terminal import console, plain, say_error
from dataarch.database.settings import Settings
from dataarch.errors import ConfigurationError, UnknownRun
from dataarch.models import PipelineReject, PipelineRun, PipelineSource
from dataarch.pipelines.outcome import Outcome
from dataarch.pipelines.process import made_for_loading
from dataarch.pipelines.replay import replay as replay_rejects
from dataarch.pipelines.runner import run as run_pipeline
from dataarch.pipelines.work import BATCH

__all__ = ["app"]

app = typer.Typer(help="Pipelines: run, runs, sources, rejects, replay.", no_args_is_help=True)
app.add_typer(schedule.app, name="schedule")

MOST = 20
"""Rows of a table, unless somebody asks for more."""

Named = Annotated[str, typer.Argument(metavar="MODULE:NAME", help="The pipeline, as PRODUCTS in shop/feeds.py.")]
Given = Annotated[
    str | None, typer.Argument(metavar="[SOURCE]", help="A file, a folder or a pattern; a query needs none.")
]
OfRun = Annotated[str, typer.Argument(metavar="RUN", help="The run's id, as `runs` shows it.")]
Batch = Annotated[int, typer.Option("--batch", min=1, help="Records of a transaction at the most.")]
Parameters = Annotated[
    list[str] | None,
    typer.Option(
        "--param",
        metavar="NAME[:TYPE]=VALUE",
        help="A parameter of a query, as text or of a type: text, integer, decimal, date, time or uuid. Repeat it.",
    ),
]
Limit = Annotated[int, typer.Option("--limit", min=1, help="How many are shown at the most.")]
All = Annotated[bool, typer.Option("--all", help="Show those too that were replayed.")]
Csv = Annotated[Path | None, typer.Option("--csv", help="Write all of them to this file as CSV.")]
JsonLines = Annotated[Path | None, typer.Option("--jsonl", help="Write all of them to this file as JSON Lines.")]


@app.command()
def run(
    named: Named,
    source: Given = None,
    *,
    tenant: Tenant,
    parameters: Parameters = None,
    batch: Batch = BATCH,
    as_json: AsJson = False,
) -> None:
    """Read what is new of a source, load it, and account for every record; goes on where it was stopped."""
    pipeline = pipeline_named(named)
    given, sources = sources_of(pipeline, source, parameters or ())
    with Database(Settings.load()) as db:
        tenant_id = tenant_named(db, tenant)
        with shown_progress(console(), sources, quiet=as_json) as on_progress, made_for_loading():
            outcome = run_pipeline(db, pipeline, given, tenant_id=tenant_id, batch=batch, on_progress=on_progress)
        elsewhere = _elsewhere(db, outcome, tenant_id)
    _show(outcome, tenant, elsewhere, as_json=as_json)


@app.command()
def replay(
    of_run: OfRun,
    *,
    tenant: Tenant,
    named: Annotated[str, typer.Option("--pipeline", metavar="MODULE:NAME", help="The pipeline, mended.")],
    batch: Batch = BATCH,
    as_json: AsJson = False,
) -> None:
    """Take a tenant's rejects of a run through its pipeline again, and load what passes now; each is loaded once."""
    run_id = id_of(of_run, "run")
    pipeline = pipeline_named(named)
    with Database(Settings.load()) as db:
        tenant_id = tenant_named(db, tenant)
        with shown_progress(console(), [], quiet=as_json) as on_progress, made_for_loading():
            outcome = replay_rejects(db, pipeline, run_id, tenant_id=tenant_id, batch=batch, on_progress=on_progress)
        elsewhere = _elsewhere(db, outcome, tenant_id)
    _show(outcome, tenant, elsewhere, as_json=as_json)


@app.command()
def runs(
    name: Annotated[str | None, typer.Argument(metavar="[PIPELINE]", help="Only those of this pipeline.")] = None,
    *,
    tenant: Tenant,
    limit: Limit = MOST,
    as_json: AsJson = False,
) -> None:
    """Show the latest runs: when they began, how they ended, and what became of their records."""
    wanted = select(PipelineRun).order_by(PipelineRun.started_at.desc(), PipelineRun.id.desc()).limit(limit)
    if name is not None:
        wanted = wanted.where(PipelineRun.pipeline == name)
    with Database(Settings.load()) as db, db.tenant(tenant_named(db, tenant)) as session:
        found = session.scalars(wanted).all()
    if as_json:
        print_json([run_described(one) for one in found])
    elif found:
        console().print(run_table(found))
    else:
        console().print("No run yet.")


@app.command()
def sources(*, tenant: Tenant, as_json: AsJson = False) -> None:
    """Show how far each source is read."""
    wanted = select(PipelineSource).order_by(PipelineSource.pipeline, PipelineSource.source)
    with Database(Settings.load()) as db, db.tenant(tenant_named(db, tenant)) as session:
        found = session.scalars(wanted).all()
    if as_json:
        print_json([source_described(one) for one in found])
    elif found:
        console().print(source_table(found))
    else:
        console().print("No source was read yet.")


@app.command()
def rejects(
    of_run: OfRun,
    *,
    tenant: Tenant,
    limit: Limit = MOST,
    replayed: All = False,
    csv: Csv = None,
    jsonl: JsonLines = None,
) -> None:
    """Show what a run has rejected and why, or write all of it to a file."""
    if csv is not None and jsonl is not None:
        raise ConfigurationError("One file is written at a time.", hint="Give --csv or --jsonl, not both.")
    run_id = id_of(of_run, "run")
    wanted = select(PipelineReject).where(PipelineReject.run_id == run_id)
    if not replayed:
        wanted = wanted.where(PipelineReject.replayed_by.is_(None))
    ordered = wanted.order_by(PipelineReject.source, PipelineReject.number)
    with Database(Settings.load()) as db, db.tenant(tenant_named(db, tenant)) as session:
        if session.get(PipelineRun, (session.tenant_id, run_id)) is None:
            raise UnknownRun(f"This tenant has no run {run_id}.", hint="List its runs: dataarch pipeline runs.")
        if (file := csv or jsonl) is not None:
            rows = session.scalars(ordered.execution_options(yield_per=100))
            count = write_csv(file, rows) if csv else write_json_lines(file, rows)
            console().print(plain(f"{count:,} rejects are in {file}"), soft_wrap=True)
            return
        found = session.scalars(ordered.limit(limit)).all()
        total = session.scalars(select(func.count()).select_from(wanted.subquery())).one()
    console().print(reject_table(found) if found else "No reject waits to be mended.")
    if total > len(found):
        console().print(f"{len(found):,} of {total:,}; all of them: --csv FILE or --jsonl FILE.", soft_wrap=True)


def _elsewhere(db: Database, outcome: Outcome, tenant_id: UUID) -> int:
    """Return how many rejects are kept with other tenants: those that only the database refused there."""
    with db.tenant(tenant_id) as session:
        return outcome.counts.rejected - session.get_one(PipelineRun, (tenant_id, outcome.run_id)).rejected


def _show(outcome: Outcome, slug: str, elsewhere: int, *, as_json: bool) -> None:
    """Show what became of a run; exit with 1 where a source could not be read to its end."""
    if as_json:
        print_json(outcome_described(outcome, elsewhere))
    else:
        show_outcome(console(), outcome, slug, elsewhere)
    for failed in outcome.failed:
        say_error(str(failed.error))
    if outcome.failed:
        raise typer.Exit(1)
