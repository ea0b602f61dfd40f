"""The pair of servers of one folder: started, stopped and asked together."""

from __future__ import annotations

import os
import signal
import subprocess
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from types import TracebackType
from typing import Self

from dataarch.database.embedded import postgres, valkey
from dataarch.database.embedded.binaries import find_psql
from dataarch.database.embedded.folder import Site, explained, known_site, locked, prepare, settled_site
from dataarch.database.embedded.status import DATABASE, OWNER_ROLE, PORT, POSTGRES_SOCKETS, VALKEY_SOCKET, ServerStatus
from dataarch.database.settings import Settings
from dataarch.errors import EmbeddedServerError

__all__ = ["EmbeddedServer", "embedded_settings"]


class EmbeddedServer:
    """PostgreSQL and Valkey for development, in one folder, reached through Unix sockets only.

    Args:
        folder: where the data and the logs are; made if it is missing.
        durable: False trades safety at a power cut for speed, for tests. It takes effect when PostgreSQL starts.

    Example::

        with EmbeddedServer(Path(".dataarch")) as server:
            print(server.status().owner_url)

    Guarantee: several processes may use the same folder at once; no port is taken; no file or permission outside the
    folder is changed, except folders of our own in the places for temporary files.
    """

    def __init__(self, folder: Path, *, durable: bool = True) -> None:
        self.folder = folder.expanduser().resolve()
        self.durable = durable

    def start(self) -> ServerStatus:
        """Start what does not run yet and return when both servers answer.

        Raises:
            EmbeddedServerError: a program is missing, the folder cannot be used, or a server does not start.

        Guarantee: idempotent; safe to call from several processes and again after a kill at any moment. The servers
        go on running when this process ends.
        """
        with explained(self.folder, "started"):
            prepare(self.folder)
            with locked(self.folder) as lock:
                site = settled_site(self.folder)
                try:
                    version = postgres.bring_up(site, lock=lock, durable=self.durable)
                    valkey.bring_up(site)
                except EmbeddedServerError:
                    _tidy(site)
                    raise
        return ServerStatus.of(self.folder, sockets=site.sockets, version=version, valkey_running=True)

    def stop(self) -> None:
        """Stop both servers.

        Raises:
            EmbeddedServerError: the folder cannot be read, or a server does not end.

        Guarantee: idempotent; only processes that are proven to be of this folder are ended.
        """
        if not self.folder.is_dir():
            return
        with explained(self.folder, "stopped"), locked(self.folder):
            site = known_site(self.folder)
            if site is None:
                return
            valkey.shut_down(site)
            postgres.shut_down(site)
            site.clear_sockets([*POSTGRES_SOCKETS, VALKEY_SOCKET])
            _tidy(site)

    def status(self) -> ServerStatus:
        """Return what runs and how to reach it. Guarantee: starts, makes and changes nothing."""
        with explained(self.folder, "asked"):
            site = known_site(self.folder)
            if site is None:
                return ServerStatus.of(self.folder, sockets=self.folder, version=None, valkey_running=False)
            version = postgres.answering_version(site)
            answers = valkey.answers(site)
        return ServerStatus.of(self.folder, sockets=site.sockets, version=version, valkey_running=answers)

    def psql(self, arguments: Sequence[str]) -> int:
        """Run psql as the owner on the database, in the caller's terminal, and return its exit code.

        Raises:
            EmbeddedServerError: the server does not run, or there is no psql.
        """
        with explained(self.folder, "asked"):
            site = known_site(self.folder)
            if site is None or postgres.answering_version(site) is None:
                raise EmbeddedServerError(
                    f"No PostgreSQL runs in {self.folder}.", hint="Start it with `dataarch server start`."
                )
            kept = {name: value for name, value in os.environ.items() if name not in {"PGHOSTADDR", "PGSERVICE"}}
            target = {"PGHOST": str(site.sockets), "PGPORT": str(PORT), "PGUSER": OWNER_ROLE, "PGDATABASE": DATABASE}
            with _interrupts_left_to_the_child():
                called = [find_psql(), *arguments]
                return subprocess.run(called, env={**kept, **target}, check=False).returncode  # noqa: S603

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()


def embedded_settings(settings: Settings, *, start: bool) -> Settings:
    """Return the settings with the URLs of the embedded servers, where none names a database.

    Args:
        start: True starts the servers of ``settings.server_dir``; False uses them only if PostgreSQL runs there.

    Raises:
        EmbeddedServerError: the servers cannot be started.

    Guarantee: settings that name a server, be it for the owner alone, come back unchanged, and so do others where
    nothing runs or is started.
    """
    if settings.database_url is not None or settings.owner_url is not None:
        return settings
    server = EmbeddedServer(settings.server_dir)
    status = server.start() if start else server.status()
    if not status.postgres_running:
        return settings
    found = {"database_url": status.database_url, "owner_url": status.owner_url}
    if settings.redis_url is None:
        found["redis_url"] = status.redis_url
    return settings.model_copy(update=found)


def _tidy(site: Site) -> None:
    # A folder for sockets that is gone, or that a server still uses, stays as it is.
    with suppress(OSError):
        site.sockets.rmdir()


@contextmanager
def _interrupts_left_to_the_child() -> Iterator[None]:
    # Ctrl-C in psql cancels a statement; it must not end us and, with us, psql.
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGINT, lambda *_: None)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)
