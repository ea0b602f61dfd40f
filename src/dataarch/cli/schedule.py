"""``dataarch pipeline schedule``: what is due of pipelines, run once each, and how the system's clock calls for it."""

from __future__ import annotations

import getpass
import json
import sys
from datetime import datetime
from pathlib import Path
from typing import Annotated, Any
from zoneinfo import ZoneInfo

import typer
from rich.console import Console
from rich.table import Column, Table

from dataarch.caching.database import Database
from dataarch.cli.schedule_input import schedules_of
from dataarch.cli.schedule_units import Call
from dataarch.cli.terminal import plain, say_error
from dataarch.clock import utcnow
from dataarch.database.settings import Settings
from dataarch.errors import ConfigurationError, DataArchError
from dataarch.pipelines.failure import said
from dataarch.pipelines.schedulers.run_due import Ran, past_of, run_due, tenant_of_schedule
from dataarch.pipelines.schedulers.schedule import MOST_COUNTED, Past, Schedule, Standing, standing

__all__ = ["app"]

app = typer.Typer(
    help="Schedules of pipelines: list them, run what is due, and let a clock do so.", no_args_is_help=True
)

Module = Annotated[str, typer.Argument(metavar="MODULE", help="Where they are declared, as shop.feeds.")]
Only = Annotated[list[str] | None, typer.Option("--pipeline", help="Only those of this pipeline.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON, for programs.")]
Crontab = Annotated[bool, typer.Option("--cron", help="A line for a crontab, instead of units of systemd.")]
User = Annotated[str | None, typer.Option("--user", help="Who it runs as; otherwise, who asks.")]
Variables = Annotated[Path, typer.Option("--env-file", help="The file that has the settings.")]


@app.command("list")
def list_schedules(module: Module, *, only: Only = None, as_json: AsJson = False) -> None:
    """Show when each pipeline ran last and what became of it, when it runs next, and how many runs were missed."""
    now = utcnow()
    schedules = schedules_of(module, only)
    with Database(Settings.load()) as db:
        found = [(one, *_stands(db, one, now)) for one in schedules]
    if as_json:
        typer.echo(json.dumps([_described(*one) for one in found], indent=2, default=str))
    else:
        Console().print(_table(found))


@app.command("run-due")
def run_what_is_due(module: Module, *, only: Only = None) -> None:
    """Run what is due now, each once; call it every minute. Exits with 1 where a run has failed."""
    schedules = schedules_of(module, only)
    console = Console(soft_wrap=True)
    number = failed = 0
    with Database(Settings.load()) as db:
        for ran in run_due(db, schedules):
            number += 1
            failed += ran.failed
            _tell(console, ran)
    if not number and console.is_terminal:
        console.print("Nothing is due.")
    if failed:
        raise typer.Exit(1)


@app.command()
def timer(
    context: typer.Context,
    module: Module,
    *,
    only: Only = None,
    crontab: Crontab = False,
    user: User = None,
    variables: Variables = Path("/etc/dataarch.env"),
) -> None:
    """Print what lets systemd, or cron, run what is due; change it as you like, and paste it."""
    schedules_of(module, only)
    program = Path(sys.executable).with_name("dataarch")
    command = [str(program) if program.exists() else "dataarch", *_words(context.parent), "run-due", module]
    for name in only or ():
        command += ["--pipeline", name]
    call = Call(
        module=module,
        command=tuple(command),
        folder=Path.cwd(),
        variables=variables.absolute(),
        user=user or getpass.getuser(),
        name="-".join(["dataarch", *module.split("."), *(only or ())]),
    )
    typer.echo(call.crontab() if crontab else call.units(), nl=False)


def _words(context: Any) -> list[str]:
    """Return the words that lead to a group of commands, without the program's own."""
    words: list[str] = []
    while context is not None and context.parent is not None:
        words.insert(0, context.info_name)
        context = context.parent
    return words


# ── what is due ───────────────────────────────────────────────────────────────────────────────────────────────────


def _stands(db: Database, schedule: Schedule, now: datetime) -> tuple[Past, Standing]:
    try:
        past = past_of(db, tenant_of_schedule(db, schedule), schedule)
    except ConfigurationError:
        past = Past(state="no such tenant")
    return past, standing(schedule, past, now)


def _tell(console: Console, ran: Ran) -> None:
    """Print what became of a run in one line; what went wrong, on stderr."""
    schedule = ran.schedule
    which = f"{schedule.pipeline.name} for {schedule.tenant}"
    if ran.due is not None:
        which += f", due {_shown(ran.due, schedule)}"
    if ran.busy:
        console.print(plain(f"{which}: it is running already; the next call looks again."))
    elif ran.error is not None:
        say_error(f"{which}: {ran.error if isinstance(ran.error, DataArchError) else said(ran.error)}")
    elif ran.outcome is not None:
        counts = ran.outcome.counts
        numbers = [f"{getattr(counts, name):,} {name}" for name in counts.__slots__ if getattr(counts, name)]
        nothing = f"nothing to read: {ran.nothing}" if ran.nothing else "nothing new"
        console.print(plain(f"{which}: {', '.join(numbers) or nothing} (run {ran.outcome.run_id})"))
        for failed in ran.outcome.failed:
            say_error(f"{which}: {failed.error}")


# ── the table ─────────────────────────────────────────────────────────────────────────────────────────────────────


def _table(found: list[tuple[Schedule, Past, Standing]]) -> Table:
    table = Table("pipeline", "for", "when", "last run", "next run", Column("missed", justify="right"))
    for schedule, past, now in found:
        last = past.killed or past.done
        following = _shown(now.next, schedule)
        table.add_row(
            plain(schedule.pipeline.name),
            plain(schedule.tenant),
            plain(f"{schedule.cron} · {schedule.zone}"),
            plain(f"{_shown(last, schedule)} {past.state}" if last else past.state or "never"),
            f"now, for {_shown(now.due, schedule)}{' again' if now.again else ''}" if now.due else following,
            f"{now.missed:,}{' or more' if now.missed == MOST_COUNTED else ''}",
        )
    return table


def _described(schedule: Schedule, past: Past, now: Standing) -> dict[str, Any]:
    return {
        "pipeline": schedule.pipeline.name,
        "tenant": schedule.tenant,
        "cron": schedule.cron,
        "zone": schedule.zone,
        "last": past.killed or past.done,
        "state": past.state,
        "due": now.due,
        "again": now.again,
        "next": now.next,
        "missed": now.missed,
    }


def _shown(time: datetime, schedule: Schedule) -> str:
    """Return a time on the clocks of its schedule."""
    local = time if schedule.zone == "UTC" else time.astimezone(ZoneInfo(schedule.zone))
    return f"{local:%Y-%m-%d %H:%M} {local:%Z}"
