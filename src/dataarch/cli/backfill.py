"""``dataarch backfill``: what was registered, running it, stopping it, and comparing every row."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Annotated

import typer
from sqlalchemy import Engine

from dataarch.cli.backfill_progress import shown_backfill
from dataarch.cli.backfill_tables import (
    backfill_described,
    backfill_table,
    differences_table,
    failure_table,
    verified_described,
)
from dataarch.cli.operator import operator_settings
from dataarch.cli.pipeline_input import AsJson
from dataarch.cli.pipeline_tables import print_json
from dataarch.cli.terminal import console, plain, say_error
from dataarch.database.embedded import embedded_settings
from dataarch.database.engine import owner_engine
from dataarch.errors import ConfigurationError, NotVerified, shown
from dataarch.rollout.backfill import Limits, Options, Outcome, Pace
from dataarch.rollout.backfill import pause as pause_backfill
from dataarch.rollout.backfill import resume as resume_backfill
from dataarch.rollout.backfill import run as run_backfill
from dataarch.rollout.backfill import verify as verify_backfill
from dataarch.rollout.backfill.session import session
from dataarch.rollout.backfill.standing import failures_of, standing

__all__ = ["app"]

app = typer.Typer(help="Backfills: list, run, pause, resume, verify.", no_args_is_help=True)

MOST_FAILURES = 20
MOST_WORKERS = 32
LIMITS = ("lag", "transaction", "waiting", "active", "patience")

Name = Annotated[str, typer.Argument(metavar="NAME", help="The backfill's name, as `list` shows it.")]
Names = Annotated[list[str] | None, typer.Argument(metavar="[NAME]...", help="Backfills; all, if none is named.")]
Workers = Annotated[int, typer.Option("--workers", min=1, max=MOST_WORKERS, help="Connections that work at once.")]
Millis = Annotated[int, typer.Option("--batch-ms", min=1, max=10_000, help="Milliseconds that a batch should take.")]
Again = Annotated[bool, typer.Option("--again", help="From the beginning; what is right already is not written.")]
Limit = Annotated[
    list[str] | None,
    typer.Option(
        "--limit",
        metavar="WHAT=NUMBER",
        help="Wait above this: lag=10 (seconds of a replica), transaction=3600 (age in seconds), waiting=10 (sessions "
        "for locks), active=N (sessions at work); patience=60 (seconds without a lock or a server); none for no limit.",
    ),
]


@app.command("list")
def list_backfills(names: Names = None, *, as_json: AsJson = False) -> None:
    """Show where backfills stand, and which rows could not be filled."""
    with _engine() as engine, session(engine, "list") as connection:
        found = standing(connection, names or ())
        failures = {one.name: failures_of(connection, one.name, MOST_FAILURES) for one, _ in found if one.failures}
    if as_json:
        print_json([backfill_described(one, totals, failures.get(one.name, [])) for one, totals in found])
        return
    console().print(backfill_table(found) if found else "No backfill is registered.")
    for one, _ in found:
        if one.failures:
            console().print(failure_table(one, failures[one.name]))
        elif one.differing:
            console().print(differences_table(one.name, one.differences))


@app.command()
def run(
    name: Name,
    *,
    workers: Workers = 1,
    batch_ms: Millis = 20,
    limit: Limit = None,
    again: Again = False,
    as_json: AsJson = False,
) -> None:
    """Fill the rows, from where it was stopped; others may run the same backfill at the same time."""
    options = Options(workers, Pace(seconds=batch_ms / 1000), _limits(limit or ()), again)
    with _engine(workers) as engine, shown_backfill(console(), "filled", quiet=as_json) as on_progress:
        try:
            done = run_backfill(engine, name, options, on_progress=on_progress)
        except KeyboardInterrupt:
            if again:
                say_error(f"With --again it would begin anew. Go on with: dataarch backfill run {name}")
            raise
    _show(done, as_json=as_json)


@app.command()
def pause(name: Name) -> None:
    """Let those who run it wait after their batch, wherever they are."""
    with _engine() as engine:
        pause_backfill(engine, name)
    console().print(plain(f"{name} is paused; go on with: dataarch backfill resume {name}"), soft_wrap=True)


@app.command()
def resume(name: Name) -> None:
    """Let those who run it go on; it starts nobody."""
    with _engine() as engine:
        busy = resume_backfill(engine, name).busy
    after = "goes on." if busy else f"is no longer paused; nobody runs it: dataarch backfill run {name}"
    console().print(plain(f"{name} {after}"), soft_wrap=True)


@app.command()
def verify(name: Name, *, as_json: AsJson = False) -> None:
    """Compare every row with what the backfill makes of it; exit with 1 where one differs."""
    with _engine() as engine, shown_backfill(console(), "compared", quiet=as_json) as on_progress:
        found = verify_backfill(engine, name, on_progress=on_progress)
    if as_json:
        print_json(verified_described(found))
    elif not found.differing:
        said = f"{name} is verified: {found.compared:,} of {found.rows:,} rows are concerned, and none differs."
        console().print(plain(said), soft_wrap=True, highlight=False)
    else:
        console().print(differences_table(name, found.differences))
    if found.differing:
        raise NotVerified(
            f"{found.differing:,} of {found.compared:,} rows differ, so {name} is not verified.",
            hint=f"Find out who writes them, then run: dataarch backfill run {name} --again.",
        )


@contextmanager
def _engine(workers: int = 1) -> Iterator[Engine]:
    # one that watches, and at the end one more while it stays open
    enough = {"pool_size": workers + 3, "pool_overflow": 0}
    engine = owner_engine(embedded_settings(operator_settings(), start=False).model_copy(update=enough))
    try:
        yield engine
    finally:
        engine.dispose()


def _limits(given: list[str] | tuple[str, ...]) -> Limits:
    found = Limits()
    for one in given:
        what, sign, number = one.partition("=")
        try:
            value = None if number.lower() == "none" else float(number)
        except ValueError:
            value = -1.0
        if (
            what not in LIMITS
            or not sign
            or (value is not None and not value >= 0)
            or (what, value) == ("patience", None)
        ):
            raise ConfigurationError(
                f"{shown(one)} is no limit.", hint=f"Write {', '.join(LIMITS)} = a number.", value=one
            )
        found = replace(found, **{what: value})  # type: ignore[arg-type]  # the names were looked at
    return found


def _show(done: Outcome, *, as_json: bool) -> None:
    if as_json:
        print_json({name: getattr(done, name) for name in done.__slots__})
    else:
        rate = done.seen / done.seconds if done.seconds else 0.0
        console().print(
            plain(
                f"{done.name}: {done.seen:,} rows looked at, {done.changed:,} changed, in {done.batches:,} batches and "
                f"{done.seconds:.1f} seconds, {rate:,.0f} rows/s"
                if done.batches or done.failed
                else f"{done.name}: nothing was left to do."
            ),
            soft_wrap=True,
            highlight=False,
        )
        if done.changed and not done.failed:
            console().print(plain(f"Compare every row: dataarch backfill verify {done.name}"), soft_wrap=True)
    if done.failed:
        say_error(
            f"{done.failed:,} rows could not be filled. See why: dataarch backfill list {done.name}. "
            f"Correct them, then run it again."
        )
        raise typer.Exit(1)
