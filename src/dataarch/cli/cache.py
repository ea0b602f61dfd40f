"""``dataarch cache``: look at the cache, forget, wait for its gate, and bridge what others write."""

from __future__ import annotations

import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from types import FrameType
from typing import Annotated
from uuid import UUID

import typer
from sqlalchemy import Connection, Table, text

from dataarch.caching.bridge import Bridge
from dataarch.caching.bridge_triggers import bridge_functions, bridge_triggers, partitions_in
from dataarch.caching.database import Database
from dataarch.caching.gate import View
from dataarch.caching.keys import cache_key
from dataarch.caching.store import MemoryStore, Store, StoreFailed
from dataarch.cli.cache_tables import counts_table, server_table
from dataarch.cli.operator import operator_settings
from dataarch.cli.partition_input import metadata_of, seconds
from dataarch.cli.terminal import console, plain
from dataarch.clock import utcnow
from dataarch.errors import CacheUnreachable, ConfigurationError, SchemaNotMigrated
from dataarch.models.declared import qualified

__all__ = ["app"]

app = typer.Typer(help="The cache: stats, clear, open, triggers, listen.", no_args_is_help=True)

Tables = Annotated[list[str] | None, typer.Argument(help="Tables; all that the models have, if none is named.")]
Drop = Annotated[bool, typer.Option("--drop", help="Take the triggers away instead.")]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Print the SQL instead of running it.")]
Tenant = Annotated[str | None, typer.Option(help="Forget all that was made from this tenant's rows.")]
Kind = Annotated[str | None, typer.Option(help="Forget all values of this kind.")]
Everything = Annotated[bool, typer.Option("--all", help="Forget everything.")]
Timeout = Annotated[str, typer.Option(help="Give up after 90s, 30m, 1h.")]

LOOK = 0.05
"""Seconds between two looks at the gate."""

PATIENCE = 5.0
"""Seconds until the gate must have been seen."""

OLDEST = text(
    "SELECT pid, coalesce(nullif(application_name, ''), usename, '?') FROM pg_stat_activity"
    " WHERE backend_xid IS NOT NULL AND pid <> pg_backend_pid() ORDER BY age(backend_xid) DESC LIMIT 1"
)
"""The transaction that the gate waits for, if it waits for one."""


@app.command()
def stats() -> None:
    """Show what all processes have counted, the gate, and the cache's servers."""
    with _database() as db:
        store, view = _store(db), _view(db)
        try:
            facts = store.about()
        except StoreFailed as fault:
            console().print(f"The gate is {view.state}: what is asked for comes from the database.")
            raise _unreachable(fault) from None
        console().print(server_table(view.state, facts))
        with suppress(StoreFailed):
            # a server that is not believed yet has counted nothing
            console().print(counts_table(store.counts()))


@app.command()
def clear(*, tenant: Tenant = None, kind: Kind = None, everything: Everything = False) -> None:
    """Make invisible at once what is remembered of a tenant, of a kind, or at all."""
    if sum((tenant is not None, kind is not None, everything)) != 1:
        raise ConfigurationError(
            "It must be said what to forget, and one thing at a time.", hint="Give --tenant ID, --kind NAME or --all."
        )
    owner = None if tenant is None else _tenant(tenant)
    if kind is not None:
        cache_key(kind)
    with _database() as db:
        _store(db)
        view = _view(db)
        if owner is not None:
            db.cache.invalidate_tenant(owner)
        elif kind is not None:
            db.cache.invalidate_kind(kind)
        else:
            db.cache.invalidate_all()
    what = f"tenant {owner}" if owner else f"kind {kind}" if kind else "everything"
    console().print(plain(f"Forgotten: {what}. The gate was {view.state}."))


@app.command(name="open")
def open_gate(*, timeout: Timeout = "60s") -> None:
    """Wait until the cache may be read: after an outage, or before load comes."""
    deadline = time.monotonic() + seconds(timeout)
    with _database() as db, _progress() as tell:
        store = _store(db)
        _view(db)
        while not (view := db.cache.fencing.gate.view()).readable:
            tell(f"the gate is {view.state}")
            if time.monotonic() > deadline:
                raise CacheUnreachable(f"The gate is still {view.state} after {timeout}.", hint=_reason(db, store))
            time.sleep(LOOK)
    console().print("The gate is open: the cache is read.")


@app.command()
def triggers(tables: Tables = None, *, drop: Drop = False, dry_run: DryRun = False) -> None:
    """Let tables tell `listen` what is written by others than this library; can be run again."""
    with _database() as db:
        chosen = _chosen(db.settings.models, tables)
        with db.owner() as session:
            each = [_trigger_sql(session.connection(), table, drop=drop) for table in chosen]
        for statements in each if drop else (bridge_functions(), *each):
            if dry_run:
                typer.echo("".join(f"{statement};\n" for statement in statements), nl=False)
            else:
                _carry_out(db, statements)
    if not dry_run:
        done = "tell nothing any more" if drop else "tell what is written; now let `dataarch cache listen` run"
        console().print(f"{len(each)} tables {done}.", soft_wrap=True)


@app.command()
def listen() -> None:
    """Forget what others write, as the triggers tell it, until Ctrl-C; see `triggers`."""
    total = 0
    with _database() as db, _progress() as tell:
        _store(db)

        def heard(count: int) -> None:
            nonlocal total
            total += count
            if console().is_terminal:
                tell(f"{total:,} changes heard")

        def say(said: str) -> None:
            console().print(plain(f"{utcnow():%Y-%m-%d %H:%M:%S} UTC  {said}"), soft_wrap=True)

        with suppress(KeyboardInterrupt), _ended_by(signal.SIGTERM):
            Bridge(db, metadata_of(db.settings.models), say=say, heard=heard).run()
    console().print(f"Not listening any more; {total:,} changes were heard.")


# ── what they need ────────────────────────────────────────────────────────────────────────────────────────────────


def _database() -> Database:
    return Database(operator_settings())


def _store(db: Database) -> Store:
    """Return the store that the settings name; raises :class:`ConfigurationError` where it is none of a command's."""
    store = db.cache.fencing.store
    if store is None:
        raise ConfigurationError(
            "No cache is known: DATAARCH_REDIS_URL is not set and no embedded server runs here.",
            hint="Set it, for example to redis://localhost:6379/0, or run `dataarch server start`.",
        )
    if isinstance(store, MemoryStore):
        raise ConfigurationError("A cache of memory:// is each process's own, so that a command sees nothing of it.")
    return store


def _view(db: Database) -> View:
    """Return the gate; raises what the database says where it cannot be asked."""
    deadline = time.monotonic() + PATIENCE
    while (view := db.cache.fencing.gate.view()).state == "unknown" and time.monotonic() < deadline:
        # an answer that came too late to be relied on is no reason to complain
        with db.owner() as session:
            session.execute(text("SELECT public.cache_gate(NULL)"))
    return view


def _unreachable(fault: StoreFailed) -> CacheUnreachable:
    return CacheUnreachable(f"The cache does not answer: {str(fault).rstrip('.')}.")


def _tenant(written: str) -> UUID:
    try:
        return UUID(written)
    except ValueError:
        raise ConfigurationError(
            f"{written!r} is not the id of a tenant.", hint="Give a UUID.", value=written
        ) from None


def _reason(db: Database, store: Store) -> str:
    """Say what keeps the gate from opening."""
    try:
        store.contact()
    except StoreFailed as fault:
        return str(_unreachable(fault))
    with db.owner() as session:
        oldest = session.execute(OLDEST).one_or_none()
    if oldest is None:
        return "Run it again with a longer --timeout."
    return f"It waits for transactions that are older: the oldest is of process {oldest[0]} ({oldest[1]})."


def _chosen(models: str, names: list[str] | None) -> list[Table]:
    known = {table.fullname: table for table in metadata_of(models).sorted_tables}
    for name in names or ():
        if name not in known:
            raise ConfigurationError(
                f"{name!r} is no table of {models}.", hint=f"There are: {', '.join(known)}.", value=name
            )
    return [known[name] for name in names] if names else list(known.values())


def _trigger_sql(connection: Connection, table: Table, *, drop: bool) -> list[str]:
    name = qualified(table.name, table.schema)
    if connection.exec_driver_sql("SELECT to_regclass(%s)", (name,)).scalar() is None:
        raise SchemaNotMigrated(f"There is no table {table.fullname} in this database.", table=table.fullname)
    return bridge_triggers(table, partitions_in(connection, table), drop=drop)


def _carry_out(db: Database, statements: list[str]) -> None:
    """Run statements in one transaction that waits for no lock longer than the settings say."""
    with db.owner() as session:
        connection = session.connection()
        patience = round(db.settings.lock_timeout * 1000)
        for statement in (f"SET LOCAL lock_timeout = {patience}", *statements):
            connection.exec_driver_sql(statement)


@contextmanager
def _progress() -> Iterator[Callable[[str], None]]:
    """Give what tells how far it is: in place on a terminal, else a line whenever it says something new."""
    if console().is_terminal:
        with console().status("looking") as status:
            yield lambda said: status.update(plain(said))
        return
    last = ""

    def tell(said: str) -> None:
        nonlocal last
        if said != last:
            console().print(plain(said), soft_wrap=True)
            last = said

    yield tell


@contextmanager
def _ended_by(number: signal.Signals) -> Iterator[None]:
    """Let a signal do what Ctrl-C does."""

    def interrupt(_number: int, _frame: FrameType | None) -> None:
        raise KeyboardInterrupt

    before = signal.signal(number, interrupt)
    try:
        yield
    finally:
        signal.signal(number, before)
