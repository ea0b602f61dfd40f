"""PostgreSQL in a folder: made, started, asked and ended."""

from __future__ import annotations

import hashlib
import os
import shlex
import signal
import time
from pathlib import Path

import psycopg

from dataarch.database.embedded.account import run
from dataarch.database.embedded.binaries import PostgresPrograms, find_postgres
from dataarch.database.embedded.cluster import create_cluster
from dataarch.database.embedded.folder import Site, open_log, quoted_end
from dataarch.database.embedded.processes import command_of, end, is_ours, works_in
from dataarch.database.embedded.status import ADMIN_ROLE, DATABASE, OWNER_ROLE, PORT, POSTGRES_SOCKETS
from dataarch.errors import EmbeddedServerError

__all__ = ["answering_version", "bring_up", "shut_down"]

START_PATIENCE = 60
"""Seconds until a server that recovers from a crash must answer."""

ORPHAN_PATIENCE = 8.0
"""Seconds that the children of a killed server may take to notice and leave its shared memory."""

LOCK_FILE_EXISTS = "F0001"
"""SQLSTATE of both "lock file already exists" and "pre-existing shared memory block is still in use"."""

NOT_DURABLE = {"fsync": "off", "synchronous_commit": "off", "full_page_writes": "off"}


def bring_up(site: Site, *, lock: int, durable: bool) -> str:
    """Start PostgreSQL unless it answers already, and return its version once it does; the caller holds the lock.

    Raises:
        EmbeddedServerError: it cannot be made or started; the message quotes the end of its log.

    Guarantee: idempotent; nothing half-made is left by a kill at any moment, and no other server is ended or harmed.
    """
    version = answering_version(site)
    if version is None:
        programs = find_postgres(site.account)
        create_cluster(site, programs, lock=lock, durable=durable)
        version = _started(site, programs, durable=durable)
    try:
        _bootstrap(site)
    except psycopg.Error as refused:
        raise EmbeddedServerError(
            f"PostgreSQL runs in {site.folder}, but role {OWNER_ROLE} and its database cannot be made: {refused}",
            hint=f"See {site.postgres_log}.",
        ) from refused
    return version


def answering_version(site: Site) -> str | None:
    """Return the version of the server if it is ours and answers, for example ``18.6``; None otherwise.

    Guarantee: starts and changes nothing.
    """
    if _running_pid(site.data) is None or not site.sockets_are_private():
        return None
    try:
        with _connection(site) as connection:
            version = connection.info.parameter_status("server_version") or ""
    except psycopg.OperationalError:
        return None
    return version.split()[0]


def shut_down(site: Site) -> None:
    """End PostgreSQL if it runs: in order, or if that takes more than 30 seconds at once (it then recovers next time).

    Raises:
        EmbeddedServerError: it does not end.

    Guarantee: idempotent; only a process that bears the token of this data directory gets a signal.
    """
    pid = _running_pid(site.data)
    if pid is None:
        return
    if not end(pid, _token(site.data), [(signal.SIGINT, 30.0), (signal.SIGQUIT, 10.0)]):
        raise EmbeddedServerError(
            f"PostgreSQL in {site.data} (process {pid}) does not end.",
            hint=f"See {site.postgres_log}; end the process yourself if you must.",
        )


# ── started ───────────────────────────────────────────────────────────────────────────────────────────────────────


def _started(site: Site, programs: PostgresPrograms, *, durable: bool) -> str:
    deadline = time.monotonic() + ORPHAN_PATIENCE
    while True:
        if (version := _waited_for(site)) is not None:
            return version
        shut_down(site)
        _clear_leftovers(site)
        said = _launch(site, programs, durable=durable)
        if said is None and (version := answering_version(site)) is not None:
            return version
        if LOCK_FILE_EXISTS not in (said or "") or time.monotonic() > deadline:
            raise EmbeddedServerError(
                f"PostgreSQL did not start in {site.folder}. Its log ends with:\n{quoted_end(said or '')}\n",
                hint=f"The whole log is {site.postgres_log}.",
            )
        time.sleep(0.25)


def _waited_for(site: Site) -> str | None:
    """Wait for a server of ours that runs and does not answer yet; None if none runs, or its socket was removed."""
    deadline = time.monotonic() + START_PATIENCE
    without_socket = time.monotonic() + 1.0
    while (pid := _running_pid(site.data)) is not None:
        if (version := answering_version(site)) is not None:
            return version
        if not (site.sockets / POSTGRES_SOCKETS[0]).exists() and time.monotonic() > without_socket:
            return None
        if time.monotonic() > deadline:
            raise EmbeddedServerError(
                f"PostgreSQL in {site.folder} runs (process {pid}), but did not answer in {START_PATIENCE} seconds.",
                hint=f"It may be recovering: see {site.postgres_log} and try again, or stop it.",
            )
        time.sleep(0.05)
    return None


def _launch(site: Site, programs: PostgresPrograms, *, durable: bool) -> str | None:
    """Start the server; return None, or what its log says if it did not start."""
    log = open_log(site.postgres_log)
    try:
        before = os.fstat(log).st_size
        # The data directory goes through PGDATA: pg_ctl would hand an argument to a shell inside double quotes.
        started = run(
            [
                programs.path("pg_ctl"),
                "start",
                "-w",
                "-s",
                "-t",
                str(START_PATIENCE),
                "-o",
                _options(site, durable=durable),
            ],
            account=site.account,
            timeout=START_PATIENCE + 10,
            environment={"PGDATA": str(site.data)},
            streams=(log, log),
        )
    finally:
        os.close(log)
    if started.returncode == 0:
        return None
    return site.postgres_log.read_bytes()[before:].decode(errors="replace")


def _options(site: Site, *, durable: bool) -> str:
    settings = {
        "cluster_name": _token(site.data),
        "listen_addresses": "",
        "port": str(PORT),
        "unix_socket_directories": str(site.sockets),
        "unix_socket_permissions": "0700",
        "log_line_prefix": "%m [%p] %e ",
        **({} if durable else NOT_DURABLE),
    }
    return " ".join(f"-c {shlex.quote(f'{name}={value}')}" for name, value in settings.items())


def _clear_leftovers(site: Site) -> None:
    """Remove what a killed server left and PostgreSQL would stumble over; nothing of ours runs here any more.

    PostgreSQL still refuses to start beside a server that uses the data: it looks for its shared memory by the inode.
    """
    pid = _recorded_pid(site.data)
    if pid is not None and _is_foreign_server_here(pid, site.data):
        raise EmbeddedServerError(
            f"A PostgreSQL that dataarch did not start uses {site.data} (process {pid}).",
            hint=f"End it, for example with `pg_ctl stop -D {shlex.quote(str(site.data))}`, and start again.",
        )
    (site.data / "postmaster.pid").unlink(missing_ok=True)
    site.clear_sockets(POSTGRES_SOCKETS)


def _is_foreign_server_here(pid: int, data: Path) -> bool:
    return "postgres" in (command_of(pid) or "") and works_in(pid, data)


# ── asked ─────────────────────────────────────────────────────────────────────────────────────────────────────────


def _connection(site: Site) -> psycopg.Connection[tuple[object, ...]]:
    # What is not said here, libpq would take from PGHOSTADDR, PGOPTIONS or PGSSLMODE.
    return psycopg.connect(
        host=str(site.sockets),
        hostaddr="",
        options="",
        sslmode="disable",
        port=PORT,
        user=ADMIN_ROLE,
        dbname="postgres",
        connect_timeout=5,
        autocommit=True,
        application_name="dataarch embedded",
    )


def _bootstrap(site: Site) -> None:
    with _connection(site) as connection:
        if not connection.execute("SELECT 1 FROM pg_roles WHERE rolname = %s", [OWNER_ROLE]).fetchone():
            connection.execute(f"CREATE ROLE {OWNER_ROLE} LOGIN CREATEROLE")
        if not connection.execute("SELECT 1 FROM pg_database WHERE datname = %s", [DATABASE]).fetchone():
            connection.execute(f"CREATE DATABASE {DATABASE} OWNER {OWNER_ROLE}")


def _running_pid(data: Path) -> int | None:
    pid = _recorded_pid(data)
    return pid if pid is not None and is_ours(pid, _token(data)) else None


def _recorded_pid(data: Path) -> int | None:
    try:
        return int((data / "postmaster.pid").read_text(errors="replace").split("\n", 1)[0])
    except (FileNotFoundError, NotADirectoryError, ValueError):
        return None


def _token(data: Path) -> str:
    """Return what only a server of this very directory bears in its command line.

    The system identifier tells it from every other cluster, the inode from every copy of this one; a directory that
    was moved keeps both.
    """
    found = data.stat()
    identifier = (data / "global" / "pg_control").read_bytes()[:8].hex()
    return f"dataarch_{hashlib.sha256(f'{identifier}:{found.st_dev}:{found.st_ino}'.encode()).hexdigest()[:24]}"
