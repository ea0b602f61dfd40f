"""``dataarch partitions``: look at the partitions of tables, make them, retire them, and bring them back."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from dataclasses import replace
from functools import partial
from itertools import count
from pathlib import Path
from typing import Annotated

import typer
from sqlalchemy import Table as SqlTable

from dataarch.caching.database import Database
from dataarch.cli.operator import operator_settings
from dataarch.cli.partition_input import partitioned_tables, period, seconds
from dataarch.cli.partition_tables import maintained_table, partition_table, plan_table
from dataarch.cli.terminal import console, plain, say_error
from dataarch.clock import utcnow
from dataarch.database.settings import Settings
from dataarch.errors import ConfigurationError, DataArchError, InvalidPartitioning, SchemaNotMigrated
from dataarch.models.partitioning import Policy
from dataarch.partitions.archive import read_archive
from dataarch.partitions.blueprint import blueprint_of
from dataarch.partitions.catalog import partitions_of
from dataarch.partitions.maintenance import Maintained, Maintenance
from dataarch.partitions.quoting import qualified
from dataarch.partitions.restore import Restored
from dataarch.partitions.restore_script import restore_script
from dataarch.partitions.script import script_of
from dataarch.partitions.steps import Plan
from dataarch.partitions.survey import declared, row_counts

__all__ = ["app"]

app = typer.Typer(help="Partitions by time: list, plan, maintain, retire, restore.", no_args_is_help=True)

Tables = Annotated[list[str] | None, typer.Argument(help="Partitioned tables; all of them, if none is named.")]
OneTable = Annotated[str | None, typer.Option("--table", help="The table; needed where there are several.")]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Print the SQL instead of running it.")]
ArchiveDir = Annotated[Path | None, typer.Option(help="Folder of the archives; otherwise DATAARCH_ARCHIVE_DIR.")]
Premake = Annotated[int | None, typer.Option(help="Periods made ahead, instead of the model's number.")]
Keep = Annotated[int | None, typer.Option(help="Whole periods kept, instead of the model's number.")]
Every = Annotated[str | None, typer.Option(help="Go on for ever, once every 90s, 30m, 1h or 1d.")]
Periods = Annotated[
    list[str] | None, typer.Option("--period", help="Make this one too, as 2026-11 where months are kept.")
]
Without = Annotated[list[str] | None, typer.Option(help="Leave out a column that the table has no longer.")]
Count = Annotated[bool, typer.Option("--count", help="Count the rows instead of estimating them.")]


@app.command("list")
def list_partitions(tables: Tables = None, *, count: Count = False) -> None:
    """Show each partition with its bounds, rows, size, indexes and policy."""
    with Database(operator_settings()) as db, db.maintenance() as connection:
        for table in partitioned_tables(db.settings, tables):
            found = partitions_of(connection, qualified(table))
            if not found:
                raise SchemaNotMigrated(f"There is no partitioned table {table.fullname} in this database.")
            counted = row_counts(connection, found) if count else None
            console().print(partition_table(table.fullname, found, counted))


@app.command()
def plan(tables: Tables = None, *, premake: Premake = None, keep: Keep = None) -> None:
    """Show what `maintain` would do, and why something cannot be done."""
    with Database(operator_settings()) as db:
        for table in partitioned_tables(db.settings, tables):
            found = _maintenance(db, table, premake=premake, keep=keep).plan()
            if found.steps or found.problems:
                console().print(plan_table(table.fullname, found))
            else:
                console().print(f"{table.fullname}: every partition is there already.")


@app.command()
def maintain(
    tables: Tables = None,
    *,
    every: Every = None,
    archive_dir: ArchiveDir = None,
    premake: Premake = None,
    keep: Keep = None,
    dry_run: DryRun = False,
) -> None:
    """Make the partitions that are due, retire those that are no longer kept, and finish what was begun."""
    pause = None if every is None else seconds(every)

    def once() -> None:
        with Database(operator_settings()) as db:
            _each(
                db,
                tables,
                lambda table: _maintenance(db, table, archive_dir=archive_dir, premake=premake, keep=keep),
                dry_run=dry_run,
            )

    if pause is None or dry_run:
        once()
        return
    _over_and_over(once, pause)


@app.command()
def ensure(
    tables: Tables = None,
    *,
    periods: Periods = None,
    premake: Premake = None,
    dry_run: DryRun = False,
) -> None:
    """Make the partitions that are due, and those of the periods that are named; retire none."""
    with Database(operator_settings()) as db:
        for table in partitioned_tables(db.settings, tables):
            wanted = [period(one, declared(table).grain) for one in periods or ()]
            work = _maintenance(db, table, premake=premake)
            if dry_run:
                _print_sql(db, table, work.plan(also=wanted, retiring=False))
            else:
                _show(table, _watched(work, partial(Maintenance.attempt, also=wanted, retiring=False)))


@app.command()
def retire(
    partitions: Annotated[list[str], typer.Argument(help="Names of partitions, as `list` shows them.")],
    *,
    table: OneTable = None,
    archive_dir: ArchiveDir = None,
    dry_run: DryRun = False,
) -> None:
    """Detach partitions, archive them, and drop or keep them, as the model's policy says."""
    with Database(operator_settings()) as db:
        work = _maintenance(db, _one(db.settings, table), archive_dir=archive_dir)
        if dry_run:
            _print_sql(db, work.table, work.plan_retirement(partitions))
        else:
            _show(work.table, _watched(work, partial(Maintenance.retire, names=partitions)))


@app.command()
def restore(
    files: Annotated[list[Path], typer.Argument(help="Archives that `retire` or `maintain` wrote.")],
    *,
    without: Without = None,
    dry_run: DryRun = False,
) -> None:
    """Bring archives back as partitions; rows of what was deleted meanwhile stay out."""
    with Database(operator_settings()) as db:
        tables = {table.name: table for table in partitioned_tables(db.settings)}
        for file in files:
            parent = read_archive(file).of.parent
            if parent not in tables:
                raise ConfigurationError(f"{file} is of the table {parent}, which no model declares.", value=str(file))
            if dry_run:
                with db.maintenance() as connection:
                    _print(restore_script(connection, tables[parent], file, without=without or ()))
                continue
            back = _maintenance(db, tables[parent]).restore(file, without=without or ())
            console().print(_restored(back))


def _restored(back: Restored) -> str:
    orphans = f" {back.orphans:,} stayed out: what they refer to is gone." if back.orphans else ""
    again = f" {back.written_again:,} had been written again, and stay as they are." if back.written_again else ""
    return f"{back.partition} has {back.rows:,} rows again.{orphans}{again}"


def _one(settings: Settings, name: str | None) -> SqlTable:
    found = partitioned_tables(settings, None if name is None else [name])
    if len(found) > 1:
        raise ConfigurationError(
            "There are several partitioned tables.",
            hint=f"Say which: --table {found[0].fullname}, or {', '.join(one.fullname for one in found[1:])}.",
        )
    return found[0]


def _maintenance(
    db: Database,
    table: SqlTable,
    *,
    archive_dir: Path | None = None,
    premake: int | None = None,
    keep: int | None = None,
) -> Maintenance:
    own = declared(table).policy
    try:
        policy = Policy(
            premake=own.premake if premake is None else premake,
            keep=own.keep if keep is None else keep,
            archive=own.archive,
            drop=own.drop,
        )
    except InvalidPartitioning as wrong:
        raise ConfigurationError(wrong.message, value=wrong.value) from None
    given = db.settings
    folder = archive_dir or given.archive_dir
    return Maintenance(db, table, policy=policy, archive_dir=folder, patience=given.maintenance_patience)


def _each(
    db: Database, names: list[str] | None, maintenance: Callable[[SqlTable], Maintenance], *, dry_run: bool
) -> None:
    """Maintain each table; what is wrong with one is said, and does not stop the others."""
    wrong: list[DataArchError] = []
    for table in partitioned_tables(db.settings, names):
        try:
            if dry_run:
                _print_sql(db, table, maintenance(table).plan())
            else:
                work = maintenance(table)
                _show(table, _watched(work, Maintenance.attempt))
        except DataArchError as error:
            wrong.append(error)
    for another in wrong[1:]:
        say_error(str(another))
    if wrong:
        raise wrong[0]


def _over_and_over(once: Callable[[], None], pause: float) -> None:
    """Do it for ever: what goes wrong is said, and may pass; only settings that are wrong at the start end the loop.

    A folder of archives that is away for a while (a share that is not mounted) raises what a wrong setting raises.
    """
    for attempt in count(1):
        console().print(f"{utcnow():%Y-%m-%d %H:%M:%S} UTC", end=" ")
        try:
            once()
        except DataArchError as error:
            if attempt == 1 and isinstance(error, ConfigurationError):
                raise
            say_error(str(error))
        time.sleep(pause)


def _print_sql(db: Database, table: SqlTable, plan: Plan) -> None:
    partitioning = declared(table)
    with db.maintenance() as connection:
        blueprint = blueprint_of(connection, table, partitioning.column)
    for step in plan.steps:
        _print(script_of(step, blueprint, partitioning.grain))
    for problem in plan.problems:
        say_error(str(problem))


def _print(script: Iterable[str]) -> None:
    for statement in script:
        typer.echo(statement if statement.startswith("--") else f"{statement};")


def _show(table: SqlTable, done: Maintained) -> None:
    """Print what was done; raise the first of the problems, if there are any."""
    if done.made or done.retired or done.moved:
        console().print(maintained_table(table.fullname, done))
    elif not done.problems:
        console().print(f"{table.fullname}: every partition is there already.")
    for problem in done.problems[1:]:
        say_error(str(problem))
    if done.problems:
        raise done.problems[0]


def _watched(work: Maintenance, do: Callable[[Maintenance], Maintained]) -> Maintained:
    """Do it, and say on a terminal what takes time."""
    if not console().is_terminal:
        return do(work)
    with console().status(plain(f"looking at {work.table.fullname}")) as status:
        return do(replace(work, say=lambda said: status.update(plain(said))))
